"""Callers on hold: who waits to be connected to a room, and which session each of them became.

A caller on hold has no session yet. The program forwards them to a SIP endpoint, or pipecat's transport does so by itself, and
some seconds later a dial-in connects. For a caller on a SIP trunk, Daily makes a room at once and connects them by itself. No
event says that caller and dial-in are one, so it is derived:

- The session that connects on an endpoint is the caller who was forwarded to it last.
- Otherwise the one caller for whom Daily made a room is the one new dial-in of that room.
- Otherwise the one waiting caller whose number is the `sip_from` of the one new dial-in is that dial-in.

Where several callers or several dial-ins could be meant, none is linked. The dial-in to which somebody was transferred is nobody new.

What is derived follows from the times of the events alone, so it is computed anew whenever one more event bears on it, and the order
of arrival does not matter. A caller who gets to no session is lost: they gave up, or could not be forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from telstate.calls._address import is_anonymous, is_one_address, plain_uri
from telstate.calls._caller import ELSEWHERE, HERE, Caller, CallerState, write
from telstate.calls._caller_matching import (
    AFTER_LIMIT,
    LATE,
    ROUNDING,
    CouldBe,
    began,
    connected_time,
    differ,
    forwarded_before,
    is_in_another_room,
    is_near,
    may_be_of_one,
    pairs_of,
    since_called,
    slack_of,
    waits_since,
)
from telstate.calls._caller_numbers import may_agree, number_key
from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._notes import add_notes
from telstate.calls._recorder import bounded, set_rare
from telstate.calls._session import Session, rare
from telstate.calls._settings import Settings
from telstate.calls._timers import Limit
from telstate.events import DeadlinePassed, Direction, ForwardRefused, PinlessForwarded, SipTrunkIncoming
from telstate.events._base import is_time
from telstate.events._sessionless import WaitingCaller

__all__ = ["Callers"]

HOLD_DEADLINE = "hold"
"""The deadline that only notifies."""
HOLD_LIMIT = "hold-limit"
"""The limit after which a caller is lost."""
_RINGBACK = 15.0
"""Seconds within which webhooks without a call id are about one call in a room. Daily gives up after 12."""
_LONGEST_ROOM = 1000
"""Of a room's name in place of a call id, which is at most 1024 characters long."""
_MOST_COMPARED = 64
"""So many callers of one number or room, and as many of its dial-ins, are compared at most: those that called last."""
_LOST = (CallerState.GAVE_UP, CallerState.FAILED)


class _Keys(NamedTuple):
    """Under which keys a dial-in is found; empty where that is unknown."""

    number: str
    endpoint: str
    room: str


class Callers:
    """All callers on hold, and those that got to a session or were lost, for their retention.

    Args:
        settings: how long and how many are remembered, and the limits.
        find: returns the session of an id.
        sessions: returns all sessions.
        is_transferred: returns True for the far leg of a transferred caller, None for what may be one.
    """

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], Session | None],
        sessions: Callable[[], Iterator[Session]],
        is_transferred: Callable[[Session], bool | None],
    ) -> None:
        self.known: ExpiringDict[str, Caller] = ExpiringDict(settings.retention, settings.max_parked)
        self._find = find
        self._sessions = sessions
        self._is_transferred = is_transferred
        self._limit = Limit(settings.hold_limit)
        self._deadline = None if settings.hold_deadline is None else Limit(settings.hold_deadline)
        self._forwarded: dict[str, dict[str, None]] = {}
        """The callers forwarded to an endpoint."""
        self._waiting: dict[str, dict[str, None]] = {}
        """The callers by the key of their number."""
        self._rooms: dict[str, dict[str, None]] = {}
        """The callers for whom Daily made a room, by its name."""
        self._arrived: dict[str, dict[str, None]] = {}
        """The dial-ins by endpoint. As all about dial-ins, only while there are callers."""
        self._from: dict[str, dict[str, None]] = {}
        """The dial-ins by the key of the number that they come from; empty if that is unknown."""
        self._into: dict[str, dict[str, None]] = {}
        """The dial-ins by their room."""
        self._keys: dict[str, _Keys] = {}
        """The keys under which a dial-in stands there."""
        self._seen: dict[str, tuple[Any, ...]] = {}
        """What was known of a dial-in when it was last looked at."""
        self._by_forward: dict[str, str] = {}
        """The sessions of callers that were found by their forward, by call id."""
        self._by_room: dict[str, str] = {}
        """The sessions of callers that were found by the room that Daily made for them, by call id."""
        self._taken: dict[str, str] = {}
        """The callers of all linked sessions."""
        self._now = 0.0

    # --- questions ------------------------------------------------------------------------------------------------

    def find(self, call_id: str) -> Caller | None:
        """Find a caller, also one that was connected or lost, for its retention."""
        return self.known.find(call_id)

    def of(self, event: WaitingCaller) -> Caller | None:
        """Find the caller of an event, as `find`."""
        if event.call_id is not None or not isinstance(event, SipTrunkIncoming):
            return self.find(event.call_id or "")
        callers = self._without_call_id(event.room)
        own = next((caller for caller in callers if _is_one_call(caller, event, _told_time_of(event))), None)
        return own or (callers[-1] if callers else None)

    def unconnected(self) -> list[Caller]:
        """List the callers that got to no session, in order of first sight."""
        found = [
            caller
            for _, caller in self.known.values()
            if caller.state is not CallerState.CONNECTED and not caller.is_elsewhere
        ]
        return sorted(found, key=lambda caller: caller._number)

    def waiting(self) -> list[Caller]:
        """List the callers that are on hold, or forwarded and not connected yet, in order of first sight."""
        return [c for c in self.unconnected() if c.state in (CallerState.WAITING, CallerState.FORWARDED)]

    def sizes(self) -> dict[str, int]:
        """Count what is remembered."""
        return {
            "callers": len(self.known) - len(self._taken),
            "connected_callers": len(self._taken),
            "hold_limits": sum(len(limit.ends) for limit in self.limits()),
        }

    # --- what happens to callers ----------------------------------------------------------------------------------

    def hold(self, event: WaitingCaller, number: int, received_at: float | None, now: float) -> bool:
        """Somebody waits. Return False if they are known from a trunk's webhook already, which came under another id."""
        told_at = _told_time_of(event)
        at = received_at if told_at is None else told_at
        call_id = event.call_id or self._room_as_id(event, at)
        if call_id is None:
            return True
        caller = self._get(call_id, number, now)
        is_repeated = caller.via_trunk
        _discard(self._waiting, number_key(caller.from_), call_id)
        known = {
            "from_": bounded(event.from_ or None),
            "to": bounded(event.to or None),
            "call_domain": bounded(event.call_domain or None),
        }
        if isinstance(event, SipTrunkIncoming):
            known.update(room=event.room, _domain_id=event.domain_id)
            write(caller, "via_trunk", True)
        for name, value in known.items():
            before = getattr(caller, name)
            if value is not None and (before is None or (is_anonymous(before) and not is_anonymous(value))):
                write(caller, name, value)
        _note_start(caller, at, is_told=told_at is not None)
        self._waiting.setdefault(number_key(caller.from_), {})[call_id] = None
        if caller.room is not None:
            self._rooms.setdefault(caller.room, {})[call_id] = None
        self._match(caller)
        return not is_repeated

    def forward(self, event: PinlessForwarded, number: int, at: float | None, now: float) -> Caller:
        """Daily accepted to connect a caller to an endpoint."""
        caller = self._get(event.call_id, number, now)
        if event.held is not None:
            self._take_over(caller, event.held)
        elif event.handed_over and caller._where == HERE and is_one_address(caller.forwarded_to, event.sip_endpoint):
            return caller  # a log of all partitions has both events
        forward = (at, number, bounded(event.sip_endpoint))
        before = caller._forward
        if before is None or _is_later(forward, before):
            if before is not None:
                _discard(self._forwarded, plain_uri(before[2]), event.call_id)
            write(caller, "_forward", forward)
            write(caller, "_expired", False)
            self._forwarded.setdefault(plain_uri(forward[2]), {})[event.call_id] = None
            if caller.session_id is None:
                self._start_limits(caller, now)
            if event.handed_over:
                write(caller, "_where", ELSEWHERE)
                self._stop_limits(caller.call_id)
            self._match(caller, None if before is None else before[2])
        return caller

    def _take_over(self, caller: Caller, held: Mapping[str, Any]) -> None:
        """Take over a caller who waited in another partition, with what that knows of them."""
        _discard(self._waiting, number_key(caller.from_), caller.call_id)
        for name, key in (("from_", "from"), ("to", "to"), ("call_domain", "callDomain")):
            value = held.get(key)
            if getattr(caller, name) is None and isinstance(value, str):
                write(caller, name, bounded(value))
        started_at, notes = held.get("startedAt"), held.get("notes")
        if is_time(started_at):
            _note_start(caller, started_at, is_told=True)
        if isinstance(notes, dict) and not caller.notes:
            with suppress(ValueError):
                write(caller, "notes", add_notes({}, notes))
        write(caller, "_where", HERE)
        self._waiting.setdefault(number_key(caller.from_), {})[caller.call_id] = None

    def refuse(self, event: ForwardRefused, number: int, at: float | None, now: float) -> Caller:
        """Daily refused to forward a caller. An accepted forward outweighs it: after that they are not on hold any more."""
        caller = self._get(event.call_id, number, now)
        error = bounded(event.error or "the forward was refused")
        if caller.error is None or (at or 0.0, error) < (caller._refused_at or 0.0, caller.error):
            write(caller, "error", error)
            write(caller, "_refused_at", at)
        self._match(caller)
        if caller.state is CallerState.FAILED:
            self._stop_limits(caller.call_id)
        return caller

    def pass_limit(self, event: DeadlinePassed, call_id: str) -> Caller | None:
        """A limit passed; return its caller, or None if it does not run any more."""
        limit = self._limit if event.deadline == HOLD_LIMIT else self._deadline
        caller = self.find(call_id)
        if limit is None or caller is None or limit.ends.get(call_id) != event.due_at:
            return None
        if limit is self._limit:
            self._stop_limits(call_id)
            write(caller, "_expired", True)
            self._settle(caller)
        else:
            limit.ends.pop(call_id)
        return caller

    def annotate(self, call_id: str, notes: Mapping[str, Any]) -> Caller | None:
        """Keep notes about a caller, also on the session that they became. Return None if the caller is unknown.

        Raises:
            ValueError: if they would be too long together with the known ones.
        """
        caller = self.find(call_id)
        if caller is None:
            return None
        session = self._find(caller.session_id or "")
        if session is not None:
            add_notes(session.notes, notes)
        write(caller, "notes", add_notes(caller.notes, notes))
        if session is not None:
            set_rare(session, "caller_notes", caller.notes)
        return caller

    def note_lost(self, caller: Caller) -> bool:
        """Return True once for a caller that is lost."""
        if caller._lost or caller.state not in _LOST:
            return False
        write(caller, "_lost", True)
        return True

    def _room_as_id(self, event: WaitingCaller, at: float | None) -> str | None:
        """Return the id of a trunk's caller whose call has none: their room. Where that is used again, the time is added."""
        if not isinstance(event, SipTrunkIncoming) or event.room is None:
            return None
        known = next((caller for caller in self._without_call_id(event.room) if _is_one_call(caller, event, at)), None)
        if known is not None:
            return known.call_id
        room = event.room[:_LONGEST_ROOM].rstrip()
        return room if room not in self.known else f"{room} {at or 0:.0f}"

    def _without_call_id(self, room: str | None) -> list[Caller]:
        """List the callers in a room whose calls have no id."""
        plain = (room or "")[:_LONGEST_ROOM].rstrip()
        callers = map(self._caller, self._rooms.get(room or "", ()))
        return [caller for caller in callers if caller.call_id == plain or caller.call_id.startswith(f"{plain} ")]

    def _get(self, call_id: str, number: int, now: float) -> Caller:
        self._now = now
        caller = self.known.find(call_id)
        if caller is None:
            if not self.known:
                for session in self._sessions():
                    self._index(session)
            caller = Caller(call_id, number)
            self._waiting.setdefault("", {})[call_id] = None
            self._start_limits(caller, now)
        self.known.put(call_id, caller, now)
        return caller

    # --- which session they became --------------------------------------------------------------------------------

    def see(self, session: Session, now: float) -> None:
        """Something may be new of a dial-in: it may be a caller."""
        facts = (
            session._evidence & Evidence.CONNECTED_BY_DAILY,
            *(session.sip_from, session.sip_endpoint, session.room, session.domain_id),
            *(session.connected_at, session.started_at, _is_cut(session), self._is_transferred(session)),
        )
        if self._seen.get(session.session_id) == facts:
            return
        self._seen[session.session_id] = facts
        self._now = now
        before = self._keys.get(session.session_id)
        after = self._index(session)
        keys = (after,) if before is None or before == after else (after, before)
        self._rematch(
            {endpoint for _, endpoint, _ in keys} if self._forwarded else set(),
            {room for _, _, room in keys} if self._rooms else set(),
            {number for number, _, _ in keys},
        )

    def forget(self, session: Session) -> None:
        """A session is about to leave memory. A caller that it was stays connected; that it may have been one is kept too."""
        for caller in self._unconnected_near(session):
            if not caller._in_doubt and self._may_be(caller, session):
                write(caller, "_in_doubt", True)
        self._seen.pop(session.session_id, None)
        self._unindex(session.session_id)

    def _unconnected_near(self, session: Session) -> Iterator[Caller]:
        """Iterate over the callers without a session whose number or room does not say that they are not this one."""
        keys = self._keys.get(session.session_id)
        if keys is None or session.session_id in self._taken:
            return
        by_number = (*self._waiting.get(keys.number, ()), *self._waiting.get("", ())) if keys.number else self.known
        for call_id in (*by_number, *self._rooms.get(keys.room, ())):
            caller = self._caller(call_id)
            if caller.session_id is None:
                yield caller

    def _unindex(self, session_id: str) -> None:
        keys = self._keys.pop(session_id, None)
        if keys is not None:
            _discard(self._from, keys.number, session_id)
            _discard(self._arrived, keys.endpoint, session_id)
            _discard(self._into, keys.room, session_id)

    def _index(self, session: Session) -> _Keys:
        session_id = session.session_id
        if session.direction is not Direction.DIALIN:
            return _Keys("", "", "")
        endpoint = "" if session.sip_endpoint is None else plain_uri(session.sip_endpoint)
        keys = _Keys(number_key(session.sip_from), endpoint, session.room or "")
        if self._keys.get(session_id) != keys:
            self._unindex(session_id)
            self._keys[session_id] = keys
            self._from.setdefault(keys.number, {})[session_id] = None
            if endpoint:
                self._arrived.setdefault(endpoint, {})[session_id] = None
            if keys.room:
                self._into.setdefault(keys.room, {})[session_id] = None
        return keys

    def _match(self, caller: Caller, endpoint_before: str | None = None) -> None:
        """Compute anew what may follow from a change of a caller."""
        endpoints = {plain_uri(uri) for uri in (caller.forwarded_to, endpoint_before) if uri is not None}
        number = number_key(caller.from_)
        if number:  # a dial-in from it may be them, and so not the caller who was forwarded there
            endpoints |= {self._keys[session_id].endpoint for session_id in self._from.get(number, ())}
        self._rematch(endpoints, set() if caller.room is None else {caller.room}, {number})
        self._settle(caller)

    def _rematch(self, endpoints: set[str], rooms: set[str], numbers: set[str]) -> None:
        """Find the callers among the dial-ins anew: by the strongest evidence first, because what it takes is not free for the next."""
        touched = [entry for endpoint in endpoints for entry in self._match_endpoint(endpoint)]
        touched += [entry for room in rooms.union(room for _, room in touched) for entry in self._match_room(room)]
        for number in numbers.union(number for number, _ in touched):
            self._match_number(number)

    def _match_endpoint(self, endpoint: str) -> set[tuple[str, str]]:
        """Find the callers who were forwarded to an endpoint among its dial-ins; return the numbers and rooms to look at again."""
        forwarded = [self._caller(call_id) for call_id in self._forwarded.get(endpoint, ())]
        if not forwarded:
            return set()
        found: dict[str, str] = {}
        for session in self._dialins(self._arrived.get(endpoint, ())):
            could_be = [caller for caller in forwarded if is_near(caller, session, self._limit.ttl)]
            if self._has_number_of_a_caller(session):  # then they are not one of another number
                could_be = [caller for caller in could_be if may_agree(caller.from_, session.sip_from)]
            caller = forwarded_before(session, could_be, found, self._limit.ttl)
            if caller is not None:
                found[caller.call_id] = session.session_id
        return self._link_firmly(self._by_forward, forwarded, found)

    def _match_room(self, room: str) -> set[tuple[str, str]]:
        """Find the callers for whom Daily made a room among its dial-ins; return the numbers and rooms to look at again."""
        if room not in self._rooms:
            return set()
        callers = [c for c in map(self._caller, self._rooms[room]) if c.call_id not in self._by_forward]
        dialins = [
            s for s in self._dialins(self._into.get(room, ())) if not self._is_taken(s.session_id, self._by_forward)
        ]
        callers, found = self._pair_latest(
            callers, dialins, (self._could_be, self._could_be_late, self._could_have_been)
        )
        return self._link_firmly(self._by_room, callers, found)

    def _link_firmly(
        self, links: dict[str, str], callers: list[Caller], found: Mapping[str, str]
    ) -> set[tuple[str, str]]:
        """Link callers to what was found, and keep that in `links`; return the numbers and rooms that it concerns."""
        touched = set()
        for caller in callers:
            before, after = links.get(caller.call_id), found.get(caller.call_id)
            if before != after:
                touched.add((number_key(caller.from_), caller.room or ""))
                touched |= {(self._keys[s].number, self._keys[s].room) for s in (before, after) if s in self._keys}
                links.pop(caller.call_id, None)
                self._unlink(caller)
        for caller in callers:
            if (session_id := found.get(caller.call_id)) is not None:
                links[caller.call_id] = session_id
                self._link(caller, session_id)
            else:
                self._settle(caller)
        return touched

    def _match_number(self, number: str) -> None:
        """Find the callers of a number among the dial-ins that come from it."""
        if not number or number not in self._waiting:
            return
        by_forward, by_room = self._by_forward, self._by_room
        callers = [
            caller
            for call_id in self._waiting[number]
            if call_id not in by_forward
            and call_id not in by_room
            and not (caller := self._caller(call_id)).is_elsewhere
        ]
        dialins = [
            session
            for session in self._dialins(self._from.get(number, ()))
            if not self._is_taken(session.session_id, by_forward, by_room) and self._is_transferred(session) is False
        ]
        callers, found = self._pair_latest(callers, dialins, self._tests_of_numbers)
        for caller in callers:
            if caller.session_id is not None and found.get(caller.call_id) != caller.session_id:
                self._unlink(caller)
        for caller in callers:
            if (session_id := found.get(caller.call_id)) is not None:
                self._link(caller, session_id)
            else:
                self._settle(caller)

    def _pair_latest(
        self, callers: list[Caller], dialins: list[Session], tests: Iterable[CouldBe]
    ) -> tuple[list[Caller], dict[str, str]]:
        """Find the latest callers of a number or a room among its latest dial-ins; return whose sessions were looked for, and what was found.

        Each event compares them all, so a number that calls all the time would take all the time there is.
        """
        if len(callers) <= _MOST_COMPARED:
            return callers, self._pair(callers, dialins[-_MOST_COMPARED:], tests)
        in_order = sorted(callers, key=began)
        found = self._pair(in_order[-_MOST_COMPARED:], dialins[-_MOST_COMPARED:], tests)
        # What the oldest of them are depends on who called before, who is not looked at: they stay what they are.
        settled = {caller.call_id for caller in in_order[: -_MOST_COMPARED * 3 // 4]}
        found = {one: session for one, session in found.items() if not {one, self._taken.get(session)} & settled}
        return [caller for caller in callers if caller.call_id not in settled], found

    def _pair(self, callers: list[Caller], dialins: list[Session], tests: Iterable[CouldBe]) -> dict[str, str]:
        """Find callers among dial-ins by one test after the other: what one finds is not free for the next."""
        found: dict[str, str] = {}
        dialins = since_called(callers, dialins)
        for could_be in tests:
            others = [caller for caller in callers if caller.call_id not in found]
            taken = set(found.values())
            left = [session for session in dialins if session.session_id not in taken]
            if not others or not left:
                break
            found |= pairs_of(others, left, could_be, self._limit.ttl + AFTER_LIMIT)
        return found

    def _has_number_of_a_caller(self, session: Session) -> bool:
        """Return whether a dial-in can be a caller whose number it has."""
        others = map(self._caller, self._waiting.get(number_key(session.sip_from), ()))
        return any(self._could_be(other, session) for other in others)

    def _is_taken(self, session_id: str, *by: Mapping[str, str]) -> bool:
        """Return whether a session is a caller who was found by such evidence."""
        call_id = self._taken.get(session_id)
        return call_id is not None and any(links.get(call_id) == session_id for links in by)

    def _could_be(self, caller: Caller, session: Session) -> bool:
        """Return whether a dial-in can be this caller: the time fits, and neither number, endpoint nor room contradict."""
        return self._fits(caller, session, ROUNDING, ROUNDING)

    def _could_be_late(self, caller: Caller, session: Session) -> bool:
        """Return the same for a dial-in that seems to have connected after the limit."""
        return self._fits(caller, session, ROUNDING, AFTER_LIMIT)

    def _could_be_by_clocks(self, caller: Caller, session: Session) -> bool:
        """Return the same for a dial-in that seems to have connected before they called, by another clock."""
        return self._fits(caller, session, slack_of(caller, session), AFTER_LIMIT)

    @property
    def _tests_of_numbers(self) -> tuple[CouldBe, ...]:
        return self._could_be, self._could_be_late, self._could_be_by_clocks

    def _could_have_been(self, caller: Caller, session: Session) -> bool:
        """Return the same where a trunk's webhook has no time of its own, so that it may have been received late."""
        return caller.via_trunk and not caller._is_told and self._fits(caller, session, LATE, AFTER_LIMIT)

    def _could_have_begun(self, caller: Caller, session: Session) -> bool:
        """Return the same for a dial-in of which nothing says when it began: its end, for example, may be long after that."""
        return _is_cut(session) and self._fits(caller, session, ROUNDING, float("inf"))

    def _fits(self, caller: Caller, session: Session, earlier: float, later: float) -> bool:
        """Return whether a dial-in can be this caller.

        Args:
            caller: who waits.
            session: the dial-in.
            earlier: so many seconds may it have connected before they are said to have called.
            later: so many seconds may it have connected after their limit.
        """
        keys = self._keys.get(session.session_id)
        if keys is None or is_in_another_room(caller, session) or not may_be_of_one(caller, session):
            return False
        if caller._forward is not None and keys.endpoint not in ("", plain_uri(caller._forward[2])):
            return False
        time = connected_time(session)
        began = caller.started_at if caller._forward is None else (caller.started_at or caller._forward[0])
        if time is None or began is None:
            return caller._number < session.opened or earlier > ROUNDING
        until = max(began, (caller._forward and caller._forward[0]) or began) + self._limit.ttl + later
        return began - earlier <= time <= until

    def _dialins(self, session_ids: Iterable[str]) -> list[Session]:
        """Return sessions in the order in which they connected, without those of callers that left memory."""
        sessions = [session for session_id in session_ids if (session := self._find(session_id)) is not None]
        fixed = [s for s in sessions if s.pinless_call_id is None or s.pinless_call_id in self.known]
        return sorted(
            fixed,
            key=lambda s: (connected_time(s) or 0.0, 0 if connected_time(s) is not None else s.opened, s.session_id),
        )

    def _caller(self, call_id: str) -> Caller:
        return self.known[call_id][1]

    def _link(self, caller: Caller, session_id: str) -> None:
        """A caller became a session."""
        session = self._find(session_id)
        if session is None:
            return
        if caller.session_id is not None and caller.session_id != session_id:
            self._unlink(caller)
        other = self._taken.get(session_id)
        if other is not None and other != caller.call_id:  # found by their number, and given way to by the forward
            self._unlink(self._caller(other))
            self._settle(self._caller(other))
        self._taken[session_id] = caller.call_id
        self._stop_limits(caller.call_id)
        write(caller, "session_id", session_id)
        for name, value in _facts_of(caller).items():
            if rare(session, name) != value:
                set_rare(session, name, value)
        self._settle(caller)

    def _unlink(self, caller: Caller) -> None:
        """A caller is not that session after all."""
        if (session_id := caller.session_id) is None:
            return
        self._taken.pop(session_id, None)
        write(caller, "session_id", None)
        if not caller._expired and not caller.is_elsewhere:
            self._limit.start(caller.call_id, self._now)
        session = self._find(session_id)
        if session is not None and session.pinless_call_id == caller.call_id:
            for name in _facts_of(caller):
                set_rare(session, name, None)

    def _settle(self, caller: Caller) -> None:
        """Derive the state of a caller."""
        ended_at = None
        if caller.session_id is not None:
            state = CallerState.CONNECTED
            session = self._find(caller.session_id)
            ended_at = caller.ended_at if session is None else connected_time(session)
        elif caller.error is not None and caller._forward is None:
            state, ended_at = CallerState.FAILED, caller._refused_at
        elif caller._expired:
            state = CallerState.UNKNOWN if self._may_have_connected(caller) else CallerState.GAVE_UP
        else:
            state = CallerState.WAITING if caller._forward is None else CallerState.FORWARDED
        if caller._lost and state not in _LOST:
            write(caller, "amended", True)
        write(caller, "state", state)
        write(caller, "ended_at", ended_at)

    def _may_have_connected(self, caller: Caller) -> bool:
        """Return whether a dial-in that nobody is known to be may have been this caller."""
        if caller._in_doubt:
            return True
        key = number_key(caller.from_)
        of_number = self._keys if not key else (*self._from.get(key, ()), *self._from.get("", ()))
        candidates = map(self._find, (*of_number, *self._into.get(caller.room or "", ())))
        return any(session is not None and self._may_be(caller, session) for session in candidates)

    def _may_be(self, caller: Caller, session: Session) -> bool:
        """Return whether a dial-in is nobody known, and may be this caller."""
        return (
            session.session_id not in self._taken
            and session.pinless_call_id is None
            and not self._is_transferred(session)
            and any(
                could_be(caller, session)
                for could_be in (*self._tests_of_numbers, self._could_have_been, self._could_have_begun)
            )
        )

    # --- time -----------------------------------------------------------------------------------------------------

    def limits(self) -> list[Limit]:
        """List the limits."""
        return [self._limit] if self._deadline is None else [self._limit, self._deadline]

    def next_due(self) -> float | None:
        """Return when the next limit passes."""
        return min((due for limit in self.limits() if (due := limit.next_due()) is not None), default=None)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Return every limit that is due at `now`."""
        named = [(HOLD_LIMIT, self._limit)] + ([] if self._deadline is None else [(HOLD_DEADLINE, self._deadline)])
        return [
            DeadlinePassed(call_id=call_id, deadline=name, due_at=max(due, 0.0))
            for name, limit in named
            for call_id, due in limit.due(now)
        ]

    def overdue(self, now: float | None) -> list[DeadlinePassed]:
        """Return the hold limits that passed by the times of the events: in a log without timers, at its end.

        The times decide, not when the limits began: a log may have its lines in any order.
        """
        if now is None:
            return []
        return [
            DeadlinePassed(call_id=call_id, deadline=HOLD_LIMIT, due_at=max(due, 0.0))
            for call_id, due in self._limit.ends.items()
            if (since := waits_since(self._caller(call_id))) is not None and since + self._limit.ttl <= now
        ]

    def _start_limits(self, caller: Caller, now: float) -> None:
        """Begin to wait for a caller's session; a forward begins it anew, and the deadline is for those not forwarded yet."""
        self._limit.start(caller.call_id, now)
        if self._deadline is not None:
            if caller._forward is None:
                self._deadline.start(caller.call_id, now)
            else:
                self._deadline.ends.pop(caller.call_id, None)

    def _stop_limits(self, call_id: str) -> None:
        for limit in self.limits():
            limit.ends.pop(call_id, None)

    def expire(self, now: float) -> list[Caller]:
        """Forget the callers that are due; return those that got to no session."""
        due = [call_id for call_id, _ in self.known.due(now)]
        for call_id in due:
            if self._limit.ends.get(call_id, now) < now:  # in a log without timers
                write(self._caller(call_id), "_expired", True)
                self._settle(self._caller(call_id))
        return self._drop(due)

    def trim(self) -> list[Caller]:
        """Forget the oldest callers above the limit; return those that got to no session."""
        return self._drop(self.known.above_limit())

    def retire(self) -> list[Caller]:
        """Forget the callers that are lost, and return them: at the end of a log."""
        settled = (*_LOST, CallerState.UNKNOWN)
        return self._drop([call_id for call_id, (_, caller) in self.known.items() if caller.state in settled])

    def change(self, settings: Settings) -> None:
        """Use other settings, for callers that wait already too. A new deadline is for later ones."""
        self.known.change(settings.retention, settings.max_parked)
        self._limit.change(settings.hold_limit)
        if settings.hold_deadline is None:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = Limit(settings.hold_deadline)
        else:
            self._deadline.change(settings.hold_deadline)

    def _drop(self, call_ids: Iterable[str]) -> list[Caller]:
        dropped = [caller for call_id in list(call_ids) if (caller := self.known.take(call_id)) is not None]
        for caller in dropped:
            self._stop_limits(caller.call_id)
            self._by_forward.pop(caller.call_id, None)
            self._by_room.pop(caller.call_id, None)
            _discard(self._waiting, number_key(caller.from_), caller.call_id)
            _discard(self._rooms, caller.room or "", caller.call_id)
            if caller._forward is not None:
                _discard(self._forwarded, plain_uri(caller._forward[2]), caller.call_id)
            if caller.session_id is not None:
                self._taken.pop(caller.session_id, None)
        if not self.known:
            self._keys.clear()
            self._seen.clear()
            self._from.clear()
            self._arrived.clear()
            self._into.clear()
        return [caller for caller in dropped if caller.session_id is None and not caller.is_elsewhere]

    # --- snapshots ------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values. What is derived is not among them."""
        return {
            "known": [[call_id, due, caller.dump()] for call_id, due, caller in self.known.dump()],
            "by_forward": dict(self._by_forward),
            "by_room": dict(self._by_room),
            "limit": dict(self._limit.ends),
            "deadline": None if self._deadline is None else dict(self._deadline.ends),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned with the same settings."""
        self.known.load((call_id, due, Caller.load(caller)) for call_id, due, caller in dumped["known"])
        self._by_forward = dict(dumped["by_forward"])
        self._by_room = dict(dumped.get("by_room", ()))
        self._limit.ends = dict(dumped["limit"])
        if self._deadline is not None:
            self._deadline.ends = dict(dumped["deadline"])
        if not self.known:
            return
        for _, caller in self.known.values():
            self._waiting.setdefault(number_key(caller.from_), {})[caller.call_id] = None
            if caller.room is not None:
                self._rooms.setdefault(caller.room, {})[caller.call_id] = None
            if caller._forward is not None:
                self._forwarded.setdefault(plain_uri(caller._forward[2]), {})[caller.call_id] = None
            if caller.session_id is not None:
                self._taken[caller.session_id] = caller.call_id
        for session in self._sessions():
            self._index(session)


def _facts_of(caller: Caller) -> dict[str, Any]:
    """Return what the session of a caller keeps of them."""
    return {
        "caller": caller.from_,
        "pinless_call_id": caller.call_id,
        "held_since": caller.started_at,
        "called": caller.to,
        "caller_notes": caller.notes or None,
    }


def _told_time_of(event: WaitingCaller) -> float | None:
    """Return when they called, as far as Daily says so. A trunk's webhook may have only the time at which it was sent."""
    return event.sent_at if event.occurred_at is None else event.occurred_at


def _note_start(caller: Caller, at: float | None, *, is_told: bool) -> None:
    """Note when they called: Daily's time outweighs that of a receipt; of two the earlier one counts."""
    if at is None or (caller._is_told and not is_told):
        return
    if caller.started_at is None or (is_told and not caller._is_told) or at < caller.started_at:
        write(caller, "started_at", at)
        write(caller, "_is_told", is_told)


def _is_one_call(caller: Caller, event: SipTrunkIncoming, at: float | None) -> bool:
    """Return whether a webhook of this time is about this caller, if neither has a call id."""
    if differ(caller._domain_id, event.domain_id):
        return False
    return at is None or caller.started_at is None or abs(caller.started_at - at) <= _RINGBACK


def _is_later(forward: tuple[float | None, int, str], other: tuple[float | None, int, str]) -> bool:
    """Return whether one forward of a caller is later than another; of two at one time the texts decide."""
    if forward[0] is None or other[0] is None:
        return forward[1] >= other[1]
    return (forward[0], forward[2]) > (other[0], other[2])


def _is_cut(session: Session) -> bool:
    """Return whether nothing says when a session began."""
    return session.connected_at is None and session.answered_at is None


def _discard(index: dict[str, dict[str, None]], key: str, value: str) -> None:
    values = index.get(key)
    if values is not None:
        values.pop(value, None)
        if not values:
            del index[key]
