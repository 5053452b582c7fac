"""Which dead letters the filters admit: by the call that a letter is about, and by when it was given up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._frozen_session import thaw
from telstate.errors import JournalError, ParseError
from telstate.events import Event, parse
from telstate.routing._outbox import notification_in
from telstate.routing._ports import DeadLetter, KeptLetter
from telstate.views import Selection

__all__ = ["admits", "session_record"]

_OF_EVENT = ("session_id", "sip_call_id", "call_id", "room", "destination", "origin", "sip_from")


def admits(selection: Selection, kept: KeptLetter) -> bool:
    """Return whether a dead letter is about a call that is selected, and was given up in the time.

    Raises:
        JournalError: if its session is damaged.
    """
    letter = kept.letter
    given_up = {"started_at": letter.at, "ended_at": letter.at}
    in_time = Selection(since=selection.since, until=selection.until).admits(given_up)
    return in_time and replace(selection, since=None, until=None).admits(_call_of(kept))


def session_record(kept: KeptLetter) -> dict[str, Any] | None:
    """Return the session of a dead letter as every report shows it; None if the event has none.

    Raises:
        JournalError: if it is damaged.
    """
    session = (kept.letter.facts or {}).get("session")
    try:
        return None if session is None else thaw(session.keys(), session.values()).to_dict()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise JournalError(f"the session of dead letter {kept.number} is damaged") from None


def _call_of(kept: KeptLetter) -> dict[str, Any]:
    """Return the record of what a dead letter is about: its session, its lost caller, else what the event itself says."""
    letter = kept.letter
    session, caller = session_record(kept), ((letter.facts or {}).get("outcome") or {}).get("lost_caller")
    if session is not None:
        return session
    if (message := notification_in(letter)) is not None:
        return _record_in(message.body)
    if isinstance(caller, list):
        return Caller.load(caller).to_dict()
    event = _event_of(letter)
    if event is None:
        return {}
    said = {name: getattr(event, name, None) for name in _OF_EVENT}
    return {
        **said,
        "from": getattr(event, "from_", None),
        "to": getattr(event, "to", None),
        "direction": event.direction,
    }


def _record_in(body: bytes) -> dict[str, Any]:
    """Return the record that a message tells of."""
    record: dict[str, Any] = next(iter(json.loads(body)["data"].values()))
    return record


def _event_of(letter: DeadLetter) -> Event | None:
    """Return the event of a dead letter; None where a session was retired, and of what could not be read."""
    try:
        return parse(letter.payload, letter.dialect) if letter.seq and letter.payload else None
    except ParseError:
        return None
