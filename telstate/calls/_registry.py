"""Which session an event belongs to: all known sessions and the indexes that find them.

The key is the session id. The SIP Call-ID is a second index. The destination is a third, for a dial-out that was requested and
has had no event of Daily's yet. If several sessions could be meant, none is matched: nothing here guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from operator import attrgetter
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._frozen_session import freeze_all, thaw_all
from telstate.calls._session import Session
from telstate.events import Direction, Event

__all__ = ["Registry", "destination_of"]


class Registry:
    """Sessions by id, by SIP Call-ID and by requested destination, and the links between the legs of one call."""

    def __init__(self, retention: float) -> None:
        self.live: dict[str, Session] = {}
        self.ended: ExpiringDict[str, Session] = ExpiringDict(retention)
        self._by_sip_call: dict[str, str] = {}
        """The first session of each SIP Call-ID. It holds only texts, so the garbage collector does not track it."""
        self._further_legs: dict[str, dict[str, None]] = {}
        """The other sessions of a SIP Call-ID that has several."""
        self._requested: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._links: dict[str, dict[str, bool]] = {}
        """For each session the linked ones; False for a link that was derived and may be withdrawn."""

    def get(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        session = self.live.get(session_id)
        if session is None and (ended := self.ended.get(session_id)) is not None:
            return ended[1]
        return session

    def match(self, event: Event) -> str | None:
        """Match an event that names no session by its SIP Call-ID, else by the destination that this program requested."""
        ids = self._of_sip_call(event.sip_call_id) if event.sip_call_id else ()
        found = tuple(islice(ids, 2))  # two are too many, however many there are
        if len(found) > 1:
            found = tuple(islice(self._of_direction(chain(found, ids), event), 2))
        if not found and event.direction is Direction.DIALOUT and not event.local:
            found = self._requested_by(event)
        return found[0] if len(found) == 1 else None

    def _of_direction(self, ids: Iterable[str], event: Event) -> Iterator[str]:
        for session_id in ids:
            session = self.get(session_id)
            if session is not None and event.direction in (None, session.direction):
                yield session_id

    def _requested_by(self, event: Event) -> tuple[str, ...]:
        """Find the dial-outs to the event's destination, in its room or client, that had no event of Daily's yet."""
        destination = destination_of(event)
        if destination is None:
            return ()
        key = _place(event.room, event.call_client_id, destination)
        found = self._requested.get(key, ()) if key else ()
        return tuple(
            session_id
            for session_id in found
            if (session := self.live.get(session_id)) is not None
            and (None in (event.domain_id, session.domain_id) or event.domain_id == session.domain_id)
        )

    def index_sip_call(self, session: Session) -> None:
        """Let the session be found by its SIP Call-ID, if it is known."""
        sip_call_id, session_id = session.sip_call_id, session.session_id
        if sip_call_id is None or self._by_sip_call.setdefault(sip_call_id, session_id) == session_id:
            return
        self._further_legs.setdefault(sip_call_id, {})[session_id] = None

    def _of_sip_call(self, sip_call_id: str) -> Iterator[str]:
        first = self._by_sip_call.get(sip_call_id)
        return iter(()) if first is None else chain((first,), self._further_legs.get(sip_call_id, ()))

    def _forget_sip_call(self, sip_call_id: str, session_id: str) -> None:
        further = self._further_legs.get(sip_call_id)
        if further is None:
            self._by_sip_call.pop(sip_call_id, None)
            return
        if self._by_sip_call[sip_call_id] == session_id:
            self._by_sip_call[sip_call_id] = session_id = next(iter(further))
        del further[session_id]
        if not further:
            del self._further_legs[sip_call_id]

    def index_request(self, session: Session) -> None:
        """Let a requested dial-out be found by its destination, until it has an event of Daily's."""
        for key in _places(session):
            requested = self._requested.get(key, ())
            if session.session_id not in requested:
                self._requested[key] = (*requested, session.session_id)

    def forget_request(self, session: Session) -> None:
        """Stop finding a session by its destination."""
        if self._requested:
            for key in _places(session):
                _remove(self._requested, key, session.session_id)

    def end(self, session: Session, now: float) -> None:
        """Move a session from the live ones to the ended ones."""
        if self.live.pop(session.session_id, None) is not None:
            self.ended.put(session.session_id, session, now)

    def forget(self, session: Session) -> None:
        """Remove a session that leaves memory from all indexes. The legs that it held together stay legs of one call."""
        sip_call_id, others = session.sip_call_id, list(self._links.pop(session.session_id, ()))
        if sip_call_id is not None:
            self._forget_sip_call(sip_call_id, session.session_id)
        if not others:
            return
        for other in others:
            del self._links[other][session.session_id]
        by_sip_call = self._by_sip_call.get(sip_call_id or "")
        for one, other in pairwise(others if by_sip_call is None else [*others, by_sip_call]):
            self.link(one, other)
        for other in others:
            if not self._links[other]:
                del self._links[other]

    def link(self, one: str, other: str) -> None:
        """Make two known sessions legs of one call."""
        if one != other:
            self._links.setdefault(one, {})[other] = True
            self._links.setdefault(other, {})[one] = True

    def derive_link(self, one: str, other: str) -> None:
        """Make two known sessions legs of one call, until it is withdrawn. No event says so, it follows from their events."""
        self._links.setdefault(one, {}).setdefault(other, False)
        self._links.setdefault(other, {}).setdefault(one, False)

    def withdraw_link(self, one: str, other: str) -> None:
        """Withdraw a link that was derived. One that was declared stays."""
        if self._links.get(one, {}).get(other, True):
            return
        for this, that in ((one, other), (other, one)):
            del self._links[this][that]
            if not self._links[this]:
                del self._links[this]

    def linked(self, session_id: str) -> tuple[str, ...]:
        """Return the ids of the sessions that are linked to a session. Most have none."""
        return tuple(self._links.get(session_id, ()))

    def declared(self, session_id: str) -> list[str]:
        """List the sessions that were declared to be legs of one call with a session."""
        return sorted(other for other, declared in self._links.get(session_id, {}).items() if declared)

    def legs(self, any_id: str) -> list[Session]:
        """Find all legs of a call by a session id or a SIP Call-ID, in order of first sight."""
        return self._linked_to([any_id] if self.get(any_id) is not None else self._of_sip_call(any_id))

    def other_legs(self, session: Session, most: int | None = None) -> list[Session]:
        """Find the other known legs of a session's call. Most have none, which is quick to see.

        Args:
            session: may have left memory.
            most: how many to find.
        """
        near: Iterable[str] = self.linked(session.session_id)
        if session.sip_call_id is not None and session.sip_call_id in self._further_legs:
            near = chain(near, self._of_sip_call(session.sip_call_id))
        elif not near:
            return []
        legs = self._linked_to(near, None if most is None else most + 1)
        return [leg for leg in legs if leg.session_id != session.session_id][:most]

    def _linked_to(self, session_ids: Iterable[str], most: int | None = None) -> list[Session]:
        """Follow links and SIP Call-IDs from some sessions; those included, in order of first sight."""
        to_visit = list(islice(session_ids, most))
        legs: dict[str, Session] = {}
        sip_calls = {""}
        while to_visit and len(legs) != most:
            session_id = to_visit.pop()
            session = self.get(session_id)
            if session is None or session_id in legs:
                continue
            legs[session_id] = session
            sip_call_id = session.sip_call_id or ""
            if sip_call_id not in sip_calls:
                sip_calls.add(sip_call_id)
                to_visit.extend(islice(self._of_sip_call(sip_call_id), most))
            to_visit.extend(self.linked(session_id))
        return sorted(legs.values(), key=lambda leg: leg.opened)

    def all(self) -> Iterator[Session]:
        """Iterate over all known sessions, in order of first sight."""
        return iter(
            sorted(
                [*self.live.values(), *(session for _, session in self.ended.values())],
                key=attrgetter("opened"),
            )
        )

    def sizes(self) -> dict[str, int]:
        """Count what is remembered."""
        return {
            "live": len(self.live),
            "ended": len(self.ended),
            "sip_call_ids": len(self._by_sip_call),
            "requested": len(self._requested),
            "links": len(self._links),
        }

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "live": freeze_all(self.live.values()),
            "ended": freeze_all(session for _, session in self.ended.values()),
            "dues": [due for due, _ in self.ended.values()],
            "by_sip_call": dict(self._by_sip_call),
            "further_legs": [[key, list(ids)] for key, ids in self._further_legs.items()],
            "requested": [[list(key), list(ids)] for key, ids in self._requested.items()],
            "links": [[key, declared] for key in self._links if (declared := self.declared(key))],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned."""
        self.live = {session.session_id: session for session in thaw_all(dumped["live"])}
        ended = zip(thaw_all(dumped["ended"]), dumped["dues"], strict=True)
        self.ended.load((session.session_id, due, session) for session, due in ended)
        self._by_sip_call = dict(dumped["by_sip_call"])
        self._further_legs = {key: dict.fromkeys(ids) for key, ids in dumped["further_legs"]}
        self._requested = {(key[0], key[1], key[2]): tuple(ids) for key, ids in dumped["requested"]}
        self._links = {key: dict.fromkeys(others, True) for key, others in dumped["links"]}


def destination_of(event: Event) -> str | None:
    """Return who was called according to a dial-out event; an error has it in its details."""
    destination = getattr(event, "destination", None)
    if destination is None:
        details = getattr(event, "details", None)
        destination = details.get("destination") if isinstance(details, dict) else None
    return destination if isinstance(destination, str) and destination else None


def _place(room: str | None, client: str | None, destination: str) -> tuple[str, str, str] | None:
    if room is not None:
        return ("room", room, plain_uri(destination))
    return ("client", client, plain_uri(destination)) if client is not None else None


def _places(session: Session) -> list[tuple[str, str, str]]:
    """Return the keys of a requested session: an event may carry either its room or its client."""
    if session.destination is None:
        return []
    in_room = _place(session.room, None, session.destination)
    in_client = _place(None, session.call_client_id, session.destination)
    return [place for place in (in_room, in_client) if place is not None]


def _remove(index: dict[Any, tuple[str, ...]], key: Any, session_id: str) -> None:
    left = tuple(other for other in index.get(key, ()) if other != session_id)
    if left:
        index[key] = left
    else:
        index.pop(key, None)
