"""Which session each caller on hold became.

No event says so. It is derived, by the strongest evidence first, because what that takes is not free for the next:

- The session that connects on an endpoint is the caller who was forwarded to it last.
- Otherwise the one caller for whom Daily made a room is the one new dial-in of that room.
- Otherwise the one waiting caller whose number is the `sip_from` of the one new dial-in is that dial-in.

Where several callers or several dial-ins could be meant, none is linked. The dial-in to which somebody was transferred is nobody new.

All of it follows from the times of the events alone, so it is computed anew whenever one more event bears on it, and the order
of arrival does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._caller import LOST, Caller, CallerState, write
from telstate.calls._caller_matching import (
    LATE,
    ROUNDING,
    CouldBe,
    Span,
    after_limit,
    began,
    connected_time,
    forwarded_before,
    groups_of,
    is_in_another_room,
    is_near,
    may_be_of_one,
    pairs_of,
    since_called,
    slack_of,
    span_of,
)
from telstate.calls._caller_numbers import may_agree, number_key
from telstate.calls._dialin_index import DialinIndex, discard
from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._hold_limits import HoldLimits
from telstate.calls._recorder import set_rare
from telstate.calls._session import Session, rare
from telstate.events import Direction

__all__ = ["CallerLinks"]

_MOST_COMPARED = 64
"""So many callers of one number or room, and as many of its dial-ins, are compared at most: those that called last."""
_FEW = 3
"""So many callers and dial-ins are compared sooner than split into groups."""


class CallerLinks:
    """Links callers and sessions.

    Args:
        known: all callers, each with when it is forgotten.
        limits: end once a caller is connected.
        find: returns the session of an id.
        is_transferred: returns True for the far leg of a transferred caller, None for what may be one.
        changed: gets the ended sessions of which it is known only now that they were a caller on hold, or were not.
    """

    def __init__(
        self,
        known: ExpiringDict[str, Caller],
        limits: HoldLimits,
        find: Callable[[str], Session | None],
        is_transferred: Callable[[Session], bool | None],
        changed: list[Session],
    ) -> None:
        self._known = known
        self._limits = limits
        self._find = find
        self._is_transferred = is_transferred
        self._changed = changed
        self._dialins = DialinIndex()
        self._seen: dict[str, tuple[Any, ...]] = {}
        """The clues of each dial-in when it was last looked at."""
        self._spans: dict[str, Span | None] = {}
        """When a dial-in that is a caller can connect, by call id: as of when they were last looked at."""
        self._forwarded: dict[str, dict[str, None]] = {}
        """The callers forwarded to an endpoint."""
        self._waiting: dict[str, dict[str, None]] = {}
        """The callers by the key of their number."""
        self._rooms: dict[str, dict[str, None]] = {}
        """The callers for whom Daily made a room, by its name."""
        self._by_forward: dict[str, str] = {}
        """The sessions of callers that were found by their forward, by call id."""
        self._by_room: dict[str, str] = {}
        """The sessions of callers that were found by the room that Daily made for them, by call id."""
        self._taken: dict[str, str] = {}
        """The callers of all linked sessions."""
        self.now: float = 0.0
        """The current time."""

    def __len__(self) -> int:
        """Return how many callers are connected."""
        return len(self._taken)

    # --- callers and dial-ins ---------------------------------------------------------------------------------------

    def begin(self, sessions: Iterable[Session]) -> None:
        """Index the dial-ins that are known when the first caller comes. Without callers none is indexed."""
        for session in sessions:
            if session.direction is Direction.DIALIN:
                self._dialins.put(session)
                self._seen[session.session_id] = self._clues_of(session)

    def in_room(self, room: str | None) -> list[Caller]:
        """List the callers for whom Daily made a room."""
        return [self._caller(call_id) for call_id in self._rooms.get(room or "", ())]

    def enter(self, caller: Caller) -> None:
        """Find a caller by all that is known of them."""
        self._waiting.setdefault(number_key(caller.from_), {})[caller.call_id] = None
        if caller.room is not None:
            self._rooms.setdefault(caller.room, {})[caller.call_id] = None
        if caller._forward is not None:
            self._forwarded.setdefault(plain_uri(caller._forward[2]), {})[caller.call_id] = None

    def leave_number(self, caller: Caller) -> None:
        """The number of a caller is about to change."""
        discard(self._waiting, number_key(caller.from_), caller.call_id)

    def leave_endpoint(self, caller: Caller) -> None:
        """A caller is about to be forwarded to another endpoint."""
        if caller._forward is not None:
            discard(self._forwarded, plain_uri(caller._forward[2]), caller.call_id)

    def drop(self, caller: Caller) -> None:
        """A caller left memory. The session that they became keeps what it has of them."""
        self._limits.stop(caller.call_id)
        self._by_forward.pop(caller.call_id, None)
        self._by_room.pop(caller.call_id, None)
        self._spans.pop(caller.call_id, None)
        self.leave_number(caller)
        self.leave_endpoint(caller)
        discard(self._rooms, caller.room or "", caller.call_id)
        if caller.session_id is not None:
            self._taken.pop(caller.session_id, None)
        if not self._known:
            self._dialins.clear()
            self._seen.clear()

    def see(self, session: Session, now: float) -> None:
        """Something may be new of a dial-in: it may be a caller."""
        clues, seen = self._clues_of(session), self._seen.get(session.session_id)
        if seen == clues:
            return
        self._seen[session.session_id] = clues
        self.now = now
        before = self._dialins.keys.get(session.session_id)
        after = self._dialins.put(session)
        keys = (after,) if before is None or before == after else (after, before)
        time = clues[-1]
        times = (time,) if seen is None or seen[-1] == time else (time, seen[-1])
        self._rematch(
            {endpoint for _, endpoint, _ in keys} if self._forwarded else set(),
            {room for _, _, room in keys} if self._rooms else set(),
            {number for number, _, _ in keys},
            None if None in times else [(time, time) for time in times],
        )
        for caller in self._unconnected_near(session):  # a limit may have passed before this was known
            if caller.state is CallerState.GAVE_UP and self._may_be(caller, session):
                self.settle(caller)

    def _clues_of(self, session: Session) -> tuple[Any, ...]:
        """Return all of a dial-in that decides which caller it is. The last item is its time."""
        return (
            session._evidence & Evidence.CONNECTED_BY_DAILY,
            *(session.sip_from, session.sip_endpoint, session.room, session.domain_id),
            *(_is_cut(session), self._is_transferred(session), connected_time(session)),
        )

    def forget(self, session: Session) -> None:
        """A session is about to leave memory. The caller that it was stays connected; callers that it may have been stay in doubt."""
        for caller in self._unconnected_near(session):
            if not caller._in_doubt and self._may_be(caller, session):
                write(caller, "_in_doubt", True)
        self._seen.pop(session.session_id, None)
        self._dialins.remove(session.session_id)

    def _unconnected_near(self, session: Session) -> Iterator[Caller]:
        """Iterate over the callers without a session whose number or room does not say that they are not this one."""
        keys = self._dialins.keys.get(session.session_id)
        if keys is None or session.session_id in self._taken:
            return
        by_number = (*self._waiting.get(keys.number, ()), *self._waiting.get("", ())) if keys.number else self._known
        for call_id in (*by_number, *self._rooms.get(keys.room, ())):
            caller = self._caller(call_id)
            if caller.session_id is None:
                yield caller

    # --- which session they became ----------------------------------------------------------------------------------

    def match(self, caller: Caller, endpoint_before: str | None = None) -> None:
        """Compute anew what may follow from a change of a caller."""
        endpoints = {plain_uri(uri) for uri in (caller.forwarded_to, endpoint_before) if uri is not None}
        number = number_key(caller.from_)
        if number and self._forwarded:  # a dial-in from it may be them, and so not the caller who was forwarded there
            endpoints |= self._dialins.endpoints_of(number)
        after = self._span_of(caller)
        spans = {after, self._spans.get(caller.call_id, after)}
        self._spans[caller.call_id] = after
        near = None if None in spans else [span for span in spans if span is not None]
        self._rematch(endpoints, set() if caller.room is None else {caller.room}, {number}, near)
        self.settle(caller)

    @property
    def _after_limit(self) -> float:
        return after_limit(self._limits.ttl)

    def _span_of(self, caller: Caller) -> Span | None:
        return span_of(caller, self._limits.ttl + self._after_limit)

    def _rematch(
        self, endpoints: set[str], rooms: set[str], numbers: set[str], near: Collection[Span] | None = None
    ) -> None:
        """Find the callers among the dial-ins anew: by the strongest evidence first, because what it takes is not free for the next.

        If `near` says when what changed happened, only callers and dial-ins of a number around those times are compared.
        """
        touched = [entry for endpoint in endpoints for entry in self._match_endpoint(endpoint)]
        touched += [entry for room in rooms.union(room for _, room in touched) for entry in self._match_room(room)]
        for number in (freed := {number for number, _ in touched}):
            self._match_number(number)
        for number in numbers - freed:
            self._match_number(number, near)

    def _match_endpoint(self, endpoint: str) -> set[tuple[str, str]]:
        """Find the callers who were forwarded to an endpoint among its dial-ins; return the numbers and rooms to look at again."""
        forwarded = [self._caller(call_id) for call_id in self._forwarded.get(endpoint, ())]
        if not forwarded:
            return set()
        found: dict[str, str] = {}
        for session in self._in_order(self._sessions(self._dialins.at_endpoint(endpoint))):
            could_be = [caller for caller in forwarded if is_near(caller, session, self._limits.ttl)]
            if self._has_number_of_a_caller(session):  # then they are not one of another number
                could_be = [caller for caller in could_be if may_agree(caller.from_, session.sip_from)]
            caller = forwarded_before(session, could_be, found, self._limits.ttl)
            if caller is not None:
                found[caller.call_id] = session.session_id
        return self._link_firmly(self._by_forward, forwarded, found)

    def _match_room(self, room: str) -> set[tuple[str, str]]:
        """Find the callers for whom Daily made a room among its dial-ins; return the numbers and rooms to look at again."""
        if room not in self._rooms:
            return set()
        callers = [c for c in map(self._caller, self._rooms[room]) if c.call_id not in self._by_forward]
        dialins = [
            s
            for s in self._in_order(self._sessions(self._dialins.in_room(room)))
            if not self._is_taken(s.session_id, self._by_forward)
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
                touched |= {
                    (keys.number, keys.room)
                    for s in (before, after)
                    if s is not None and (keys := self._dialins.keys.get(s))
                }
                links.pop(caller.call_id, None)
                self._unlink(caller)
        for caller in callers:
            if (session_id := found.get(caller.call_id)) is not None:
                links[caller.call_id] = session_id
                self._link(caller, session_id)
            else:
                self.settle(caller)
        return touched

    def _match_number(self, number: str, near: Collection[Span] | None = None) -> None:
        """Find the callers of a number among the dial-ins that come from it, or only those near to some times."""
        if not number or number not in self._waiting:
            return
        callers = {
            call_id: self._spans[call_id]
            for call_id in self._waiting[number]
            if call_id not in self._by_forward
            and call_id not in self._by_room
            and not self._caller(call_id).is_elsewhere
        }
        dialins = {session_id: self._seen[session_id][-1] for session_id in self._dialins.of_number(number)}
        few = len(callers) + len(dialins) <= _FEW
        for some, theirs in [(callers, dialins)] if few else groups_of(callers, dialins, near):
            self._match_group([*map(self._caller, some)], self._sessions(theirs))
        for caller in map(self._caller, callers):
            if caller._expired:  # any dial-in may have been them
                self.settle(caller)

    def _match_group(self, callers: list[Caller], dialins: list[Session]) -> None:
        """Find callers of a number among dial-ins from it."""
        left = [
            session
            for session in self._in_order(dialins)
            if not self._is_taken(session.session_id, self._by_forward, self._by_room)
            and self._is_transferred(session) is False
        ]
        callers, found = self._pair_latest(callers, left, self._tests_of_numbers)
        for caller in callers:
            if caller.session_id is not None and found.get(caller.call_id) != caller.session_id:
                self._unlink(caller)
        for caller in callers:
            if (session_id := found.get(caller.call_id)) is not None:
                self._link(caller, session_id)
            else:
                self.settle(caller)

    def _pair_latest(
        self, callers: list[Caller], dialins: list[Session], tests: Iterable[CouldBe]
    ) -> tuple[list[Caller], dict[str, str]]:
        """Find the latest callers of a number or a room among its latest dial-ins; return whose sessions were looked for, and what was found.

        Each event compares all that are near to it, so a number that calls all the time would take all the time there is.
        """
        cut = {session.session_id for session in dialins[:-_MOST_COMPARED]}
        in_order = sorted(callers, key=began)
        late = in_order[-_MOST_COMPARED:]
        found = self._pair(late, dialins[-_MOST_COMPARED:], tests)
        # What the oldest of many are depends on who called before, who is not looked at: they stay what they are.
        oldest = in_order[: -_MOST_COMPARED * 3 // 4] if len(callers) > _MOST_COMPARED else []
        settled = {caller.call_id for caller in callers if caller.session_id in cut}.union(c.call_id for c in oldest)
        if not settled:
            return callers, found
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
            found |= pairs_of(others, left, could_be, self._limits.ttl + self._after_limit)
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
        return self._fits(caller, session, ROUNDING, self._after_limit)

    def _could_be_by_clocks(self, caller: Caller, session: Session) -> bool:
        """Return the same for a dial-in that seems to have connected before they called, by another clock."""
        return self._fits(caller, session, slack_of(caller, session), self._after_limit)

    @property
    def _tests_of_numbers(self) -> tuple[CouldBe, ...]:
        return self._could_be, self._could_be_late, self._could_be_by_clocks

    def _could_have_been(self, caller: Caller, session: Session) -> bool:
        """Return the same where a trunk's webhook has no time of its own, so that it may have been received late."""
        return caller.via_trunk and not caller._is_told and self._fits(caller, session, LATE, self._after_limit)

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
        keys = self._dialins.keys.get(session.session_id)
        if keys is None or is_in_another_room(caller, session) or not may_be_of_one(caller, session):
            return False
        if caller._forward is not None and keys.endpoint not in ("", plain_uri(caller._forward[2])):
            return False
        time = connected_time(session)
        began = caller.started_at if caller._forward is None else (caller.started_at or caller._forward[0])
        if time is None or began is None:
            # In a log, the lines around theirs say when they called; theirs may stand there a minute late.
            span = None if time is None or began is not None else self._spans[caller.call_id]
            is_near = (
                span is None or time is None or (span[0] <= time and (time <= span[1] or later > self._after_limit))
            )
            return is_near and (caller._number < session.opened or earlier > ROUNDING)
        until = max(began, (caller._forward and caller._forward[0]) or began) + self._limits.ttl + later
        return began - earlier <= time <= until

    def _sessions(self, session_ids: Iterable[str]) -> list[Session]:
        return [session for session_id in session_ids if (session := self._find(session_id)) is not None]

    def _in_order(self, sessions: Iterable[Session]) -> list[Session]:
        """Return sessions in the order in which they connected, without those of callers that left memory."""
        fixed = [s for s in sessions if s.pinless_call_id is None or s.pinless_call_id in self._known]
        return sorted(
            fixed,
            key=lambda s: (connected_time(s) or 0.0, 0 if connected_time(s) is not None else s.opened, s.session_id),
        )

    def _caller(self, call_id: str) -> Caller:
        return self._known[call_id][1]

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
            self.settle(self._caller(other))
        self._taken[session_id] = caller.call_id
        self._limits.stop(caller.call_id)
        write(caller, "session_id", session_id)
        self._note(session, _facts_of(caller))
        self.settle(caller)

    def _unlink(self, caller: Caller) -> None:
        """A caller is not that session after all."""
        if (session_id := caller.session_id) is None:
            return
        self._taken.pop(session_id, None)
        write(caller, "session_id", None)
        if not caller._expired and not caller.is_elsewhere:
            self._limits.resume(caller.call_id, self.now)
        session = self._find(session_id)
        if session is not None and session.pinless_call_id == caller.call_id:
            self._note(session, dict.fromkeys(_facts_of(caller)))

    def _note(self, session: Session, facts: Mapping[str, Any]) -> None:
        """Keep what is known of the caller that a session was."""
        new = {name: value for name, value in facts.items() if rare(session, name) != value}
        for name, value in new.items():
            set_rare(session, name, value)
        if new and session.ended:
            self._changed.append(session)

    def settle(self, caller: Caller) -> None:
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
        if caller._lost and state not in LOST:
            write(caller, "amended", True)
        write(caller, "state", state)
        write(caller, "ended_at", ended_at)

    def _may_have_connected(self, caller: Caller) -> bool:
        """Return whether a dial-in that nobody is known to be may have been this caller."""
        if caller._in_doubt:
            return True
        key = number_key(caller.from_)
        of_number = self._dialins.all() if not key else (*self._dialins.of_number(key), *self._dialins.of_number(""))
        candidates = map(self._find, (*of_number, *self._dialins.in_room(caller.room or "")))
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

    # --- snapshots --------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return what does not follow from callers and sessions, as JSON values."""
        return {"by_forward": dict(self._by_forward), "by_room": dict(self._by_room)}

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned, with the callers that are known. Then `begin`, if there are any."""
        self._by_forward = dict(dumped["by_forward"])
        self._by_room = dict(dumped.get("by_room", ()))
        for _, caller in self._known.values():
            self.enter(caller)
            self._spans[caller.call_id] = self._span_of(caller)
            if caller.session_id is not None:
                self._taken[caller.session_id] = caller.call_id

    def change(self) -> None:
        """Compute all spans anew: the limits changed."""
        for _, caller in self._known.values():
            self._spans[caller.call_id] = self._span_of(caller)


def _facts_of(caller: Caller) -> dict[str, Any]:
    """Return what the session of a caller keeps of them."""
    return {
        "caller": caller.from_,
        "pinless_call_id": caller.call_id,
        "held_since": caller.started_at,
        "called": caller.to,
        "caller_notes": caller.notes or None,
    }


def _is_cut(session: Session) -> bool:
    """Return whether nothing says when a session began."""
    return session.connected_at is None and session.answered_at is None
