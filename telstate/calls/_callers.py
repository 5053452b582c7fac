"""Callers on hold: who waits to be connected to a room, and what became of them.

A caller on hold has no session yet. The program forwards them to a SIP endpoint, or pipecat's transport does so by itself, and
some seconds later a dial-in connects. For a caller on a SIP trunk, Daily makes a room at once and connects them by itself. No
event says that caller and dial-in are one: `_caller_links.py` finds out. A caller who gets to no session is lost: they gave up, or could
not be forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from telstate.calls._address import is_anonymous, is_one_address
from telstate.calls._caller import ELSEWHERE, HERE, LOST, Caller, CallerState, write
from telstate.calls._caller_links import CallerLinks
from telstate.calls._caller_matching import differ
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._hold_limits import HoldLimits
from telstate.calls._notes import add_notes
from telstate.calls._recorder import bounded, set_rare
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._timers import Limit
from telstate.events import DeadlinePassed, ForwardRefused, PinlessForwarded, SipTrunkIncoming
from telstate.events._base import is_time
from telstate.events._sessionless import WaitingCaller

__all__ = ["Callers"]

_RINGBACK = 15.0
"""Seconds within which webhooks without a call id are about one call in a room. Daily gives up after 12."""
_LONGEST_ROOM = 1000
"""Of a room's name in place of a call id, which is at most 1024 characters long."""


class Callers:
    """All callers on hold, and those that got to a session or were lost, for their retention.

    Args:
        settings: how long and how many are remembered, and the limits.
        find: returns the session of an id.
        sessions: returns all sessions.
        is_transferred: returns True for the far leg of a transferred caller, None for what may be one.
        changed: gets the ended sessions of which it is known only now that they were a caller on hold, or were not.
    """

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], Session | None],
        sessions: Callable[[], Iterator[Session]],
        is_transferred: Callable[[Session], bool | None],
        changed: list[Session],
    ) -> None:
        self.known: ExpiringDict[str, Caller] = ExpiringDict(settings.retention, settings.max_parked)
        self._find = find
        self._sessions = sessions
        self.log_at: float | None = None
        """In a log: the time of the last line that has one, 0 before any. For callers who come without a time."""
        self._undated: dict[str, None] = {}
        """The call ids of those who have come since."""
        self._limits = HoldLimits(settings)
        self.links: CallerLinks = CallerLinks(self.known, self._limits, find, is_transferred, changed)
        """Learns of dial-ins, too."""

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
            "callers": len(self.known) - len(self.links),
            "connected_callers": len(self.links),
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
        self.links.leave_number(caller)
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
        if caller.started_at is None and caller._after is None and self.log_at is not None:
            write(caller, "_after", self.log_at)
            self._undated[call_id] = None
        self.links.enter(caller)
        self.links.match(caller)
        return not is_repeated

    def date(self, at: float) -> None:
        """In a log: those who came without a time since its last line that has one called before the time of this line."""
        undated, self._undated = self._undated, {}
        for caller in map(self._caller, undated):
            write(caller, "_before", max(caller._after or at, at))
            self.links.match(caller)

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
            self.links.leave_endpoint(caller)
            write(caller, "_forward", forward)
            write(caller, "_expired", False)
            self.links.enter(caller)
            if caller.session_id is None:
                self._limits.start(caller, now)
            if event.handed_over:
                write(caller, "_where", ELSEWHERE)
                self._limits.stop(caller.call_id)
        self.links.match(caller, None if before is None else before[2])
        return caller

    def _take_over(self, caller: Caller, held: Mapping[str, Any]) -> None:
        """Take over a caller who waited in another partition, with what that knows of them."""
        self.links.leave_number(caller)
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
        self.links.enter(caller)

    def refuse(self, event: ForwardRefused, number: int, at: float | None, now: float) -> Caller:
        """Daily refused to forward a caller. An accepted forward outweighs it: after that they are not on hold any more."""
        caller = self._get(event.call_id, number, now)
        error = bounded(event.error or "the forward was refused")
        if caller.error is None or (at or 0.0, error) < (caller._refused_at or 0.0, caller.error):
            write(caller, "error", error)
            write(caller, "_refused_at", at)
        self.links.match(caller)
        if caller.state is CallerState.FAILED:
            self._limits.stop(caller.call_id)
        return caller

    def pass_limit(self, event: DeadlinePassed, call_id: str) -> Caller | None:
        """A limit passed; return its caller, or None if it does not run any more."""
        caller = self.find(call_id)
        if caller is None or not self._limits.end(event, call_id):
            return None
        if self._limits.is_last(event):
            write(caller, "_expired", True)
            self.links.settle(caller)
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
        if caller._lost or caller.state not in LOST:
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
        return [
            caller
            for caller in self.links.in_room(room)
            if caller.call_id == plain or caller.call_id.startswith(f"{plain} ")
        ]

    def _get(self, call_id: str, number: int, now: float) -> Caller:
        self.links.now = now
        caller = self.known.find(call_id)
        if caller is None:
            if not self.known:
                self.links.begin(self._sessions())
            caller = Caller(call_id, number)
            self.links.enter(caller)
            self._limits.start(caller, now)
        self.known.put(call_id, caller, now)
        return caller

    # --- time -----------------------------------------------------------------------------------------------------

    def limits(self) -> list[Limit]:
        """List the limits."""
        return self._limits.all()

    def next_due(self) -> float | None:
        """Return when the next limit passes."""
        return self._limits.next_due()

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Return every limit that is due at `now`."""
        return self._limits.passed(now)

    def overdue(self, now: float | None) -> list[DeadlinePassed]:
        """Return the limits of lost callers that passed by the times of the events: in a log without timers, at its end."""
        return [] if now is None else self._limits.overdue(now, self._caller)

    def expire(self, now: float, before: float) -> list[Caller]:
        """Forget the callers that are due; return those that got to no session.

        A caller whose hold limit came due since `before` stays for another retention: the program was down for hours, and is about to
        apply the limit.

        Args:
            now: the current time.
            before: the time of the event before.
        """
        due = []
        for call_id, _ in self.known.due(now):
            caller = self._caller(call_id)
            if self._limits.is_over(call_id, now, since=before):
                self.known.put(call_id, caller, now)
                continue
            if self._limits.is_over(call_id, now):  # in a log without timers
                write(caller, "_expired", True)
                self.links.settle(caller)
            due.append(call_id)
        return self._drop(due)

    def trim(self) -> list[Caller]:
        """Forget the oldest callers above the limit; return those that got to no session."""
        return self._drop(self.known.above_limit())

    def retire(self) -> list[Caller]:
        """Forget the callers that are lost, and return them: at the end of a log."""
        settled = (*LOST, CallerState.UNKNOWN)
        return self._drop([call_id for call_id, (_, caller) in self.known.items() if caller.state in settled])

    def change(self, settings: Settings) -> None:
        """Use other settings, for callers that wait already too. A new deadline is for later ones."""
        self.known.change(settings.retention, settings.max_parked)
        self._limits.change(settings)
        self.links.change()

    def _drop(self, call_ids: Iterable[str]) -> list[Caller]:
        dropped = [caller for call_id in list(call_ids) if (caller := self.known.take(call_id)) is not None]
        for caller in dropped:
            self._undated.pop(caller.call_id, None)
            self.links.drop(caller)
        return [caller for caller in dropped if caller.session_id is None and not caller.is_elsewhere]

    def _caller(self, call_id: str) -> Caller:
        return self.known[call_id][1]

    # --- snapshots ------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values. What is derived is not among them."""
        return {
            "known": [[call_id, due, caller.dump()] for call_id, due, caller in self.known.dump()],
            **self.links.dump(),
            **self._limits.dump(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned with the same settings."""
        self.known.load((call_id, due, Caller.load(caller)) for call_id, due, caller in dumped["known"])
        self._limits.load(dumped)
        self.links.load(dumped)
        if self.known:
            self.links.begin(self._sessions())


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
