"""Lines of a log that are about no known session, and may turn out to be a call's: by an id, an endpoint, a room or a client that a session
has that comes later."""

from __future__ import annotations

from collections.abc import Iterable

from telstate.calls._address import plain_uri
from telstate.calls._engine import Engine
from telstate.calls._session import Session
from telstate.events import Event, SessionAnnotated
from telstate.events._base import Subject

__all__ = ["KINDS", "Key", "WaitingLines", "ids_of", "keys_of_event", "waiting_keys"]

Key = tuple[str, str]
"""A kind of id, and the id."""

_MOST_KEYS = 50_000
_MOST_OF_A_KEY = 100


class WaitingLines:
    """The last lines of each key, of the keys that were heard of last."""

    def __init__(self) -> None:
        self._lines: dict[Key, dict[str, int]] = {}

    def add(self, key: Key, line: int, what: str = "") -> None:
        """Keep a line.

        Args:
            key: by which it is found.
            line: its number.
            what: a later line with the same takes its place; by default each is kept.
        """
        lines = self._lines.pop(key, {})
        name = what or str(line)
        lines.pop(name, None)
        lines[name] = line
        if len(lines) > _MOST_OF_A_KEY:
            del lines[next(iter(lines))]
        self._lines[key] = lines
        if len(self._lines) > _MOST_KEYS:
            del self._lines[next(iter(self._lines))]

    def find(self, key: Key) -> Iterable[int]:
        """Return the lines of a key. They stay: they may be about several sessions."""
        return self._lines.get(key, {}).values()

    def forget(self, key: Key) -> None:
        """Forget the lines of a key."""
        self._lines.pop(key, None)


KINDS = ("session", "sip", "user", "room", "client", "endpoint", "to")
"""What `ids_of` has, in its order."""


def ids_of(session: Session) -> tuple[str | None, ...]:
    """Return by what lines without a session are found to be about a session: see `KINDS`."""
    endpoint, to = session.sip_endpoint, session.destination
    return (
        session.session_id,
        session.sip_call_id,
        session.user_id,
        session.room,
        session.call_client_id,
        endpoint and plain_uri(endpoint),
        to and plain_uri(to),
    )


def keys_of_event(event: Event) -> list[Key]:
    """Return by what a live session is found that an event without a session concerns. A caller on hold has ids of their own."""
    subject = type(event)._subject
    if subject is Subject.CALLER or isinstance(event, SessionAnnotated):
        return []
    if event.sip_call_id is not None:
        return [("sip", event.sip_call_id)]
    if subject is Subject.SESSION and isinstance(to := getattr(event, "destination", None), str):
        return [("to", plain_uri(to))]
    ids = {"room": event.room, "client": event.call_client_id}
    keys = [(kind, one) for kind, one in ids.items() if one is not None]
    if subject is Subject.ENDPOINT:
        keys.append(("endpoint", _endpoint_of(event)))
    elif subject is Subject.UNKNOWN:
        extra = event.model_extra or {}
        named = (extra.get(name) for name in ("session_id", "sessionId", "participant_id"))
        keys += [("session", one) for one in named if isinstance(one, str)]
    return keys


def waiting_keys(event: Event, engine: Engine) -> list[tuple[Key, str]]:
    """Return by what a later session finds an event that has none, and what makes an earlier line of that key needless."""
    subject = type(event)._subject
    if event.session_id is not None:
        return [(("session", event.session_id), "")]
    if event.sip_call_id is not None:
        return [(("sip", event.sip_call_id), "")]
    if subject is Subject.CALLER:
        caller_id = _caller_id(event, engine)
        return [] if caller_id is None else [(("caller", caller_id), "")]
    if subject is Subject.ENDPOINT:
        uri = _endpoint_of(event)
        in_room = [] if event.room is None else [(("ready", event.room), uri)]
        return [(("endpoint", uri), uri), *in_room]
    if subject in (Subject.ROOM, Subject.CLIENT):
        ids = {"ended": event.room, "left": event.call_client_id}
        return [((kind, one), "") for kind, one in ids.items() if one is not None]
    if (call_id := getattr(event, "call_id", None)) is not None:  # a note or a limit
        return [(("caller", call_id), "")]
    if isinstance(event, SessionAnnotated) and event.user_id is not None:
        return [(("user", event.user_id), "")]
    return []


def _endpoint_of(event: Event) -> str:
    return plain_uri(getattr(event, "sip_endpoint", ""))


def _caller_id(event: Event, engine: Engine) -> str | None:
    """Return the id of a caller on hold. One on a trunk may have none of Daily's."""
    if (call_id := getattr(event, "call_id", None)) is not None:
        return str(call_id)
    caller = engine.caller_of(event)  # type: ignore[arg-type]
    return None if caller is None else caller.call_id
