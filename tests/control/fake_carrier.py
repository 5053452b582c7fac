"""A `CallTransport` in memory whose calls do what their `PhoneLine` says, in the time of the dispatcher's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from anyio.abc import TaskGroup

from telstate import Dispatcher, Session
from telstate.control import RoomParticipant
from telstate.control._call_transport import presence_if_absent
from telstate.control._error_mapping import error_type_of
from telstate.errors import DailyError, NoSuchSession, UnknownResult
from telstate.events import DialoutAnswered, DialoutConnected, DialoutError, DialoutEvent, DialoutStopped, Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.routing._ports import Clock
from telstate.testing import LinePlan, PhoneLine, Refusal
from telstate.testing._phone_lines import PhoneLines
from tests.control.arrivals import Arrivals

__all__ = ["FakeCarrier", "FakeLeg"]

_BUSY_AFTER = 0.05
_TYPES: dict[str, type[DialoutEvent]] = {
    "connected": DialoutConnected,
    "answered": DialoutAnswered,
    "stopped": DialoutStopped,
    "error": DialoutError,
}


@dataclass(eq=False)
class FakeLeg:
    """One call. Times are those of the clock."""

    session_id: str
    options: Dialout
    line: PhoneLine
    started_at: float
    joined_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None

    @property
    def destination(self) -> str:
        """Who is called."""
        return self.options.destination

    @property
    def live(self) -> bool:
        """True until it ends."""
        return self.ended_at is None


class FakeCarrier:
    """Offers what tests use of `FakeDaily`: `lines`, `sessions`, `live`, `starts`, `most_at_once`.

    Args:
        clock: the dispatcher's clock.
        start_timeout: seconds; a start that is answered later is an `UnknownResult`.
        line: what numbers do that are not in `lines`.
        joins: when a call appears in the presence: at its `answer`, or when it `ring`s. Nothing documents which.
        presence_lag: seconds by which the presence is out of date.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        start_timeout: float = 20.0,
        line: LinePlan | None = None,
        joins: Literal["answer", "ring"] = "answer",
        presence_lag: float = 0.0,
    ) -> None:
        self.lines = PhoneLines(PhoneLine() if line is None else line)
        self.sessions: list[FakeLeg] = []
        """All calls, in order."""
        self.participants: tuple[RoomParticipant, ...] = ()
        """Others in the room."""
        self.before_stop: Callable[[Session], Awaitable[None]] | None = None
        """Delays or refuses a stop."""
        self.stops: list[str] = []
        """The session id of every stop."""
        self.arrivals = Arrivals()
        self.requested: list[str] = []
        """The destination of every start, also of those that were refused or lost."""
        self.calls: Dispatcher
        self.group: TaskGroup
        self._clock = clock
        self._start_timeout = start_timeout
        self._joins_at = "answered" if joins == "answer" else "connected"
        self._presence_lag = presence_lag

    def live(self, destination: str | None = None) -> list[FakeLeg]:
        """The calls that have not ended."""
        return [leg for leg in self.sessions if leg.live and destination in (None, leg.destination)]

    def starts(self, destination: str) -> int:
        """How many calls to a destination were made."""
        return sum(leg.destination == destination for leg in self.sessions)

    def most_at_once(self, destination: str | None = None) -> int:
        """The highest number of concurrent calls."""
        legs = [leg for leg in self.sessions if destination in (None, leg.destination)]
        steps = [(leg.started_at, 1) for leg in legs] + [(leg.ended_at, -1) for leg in legs if leg.ended_at is not None]
        most = now = 0
        for _, step in sorted(steps):
            now += step
            most = max(most, now)
        return most

    def session(self, session_id: str) -> FakeLeg:
        """Find a call."""
        return next(leg for leg in self.sessions if leg.session_id == session_id)

    def make(self, options: Dialout, line: PhoneLine | None = None) -> FakeLeg:
        """Make a call, without any event."""
        leg = FakeLeg(str(uuid4()), options, line or PhoneLine(answers=None), self._now())
        self.sessions.append(leg)
        return leg

    async def emit(self, name: str, leg: FakeLeg, **more: Any) -> None:
        """Send an event of a call, unless its line loses or delays it."""
        kind = _TYPES[name]
        fields = {"destination": leg.destination, "user_id": leg.options.user_id, "room": "support", **more}
        type_ = f"dialout.{name}"
        if type_ in leg.line.loses:
            return
        for _ in range(1 + (type_ in leg.line.twice)):
            event = kind(session_id=leg.session_id, **fields)
            if type_ in leg.line.delays:
                self.group.start_soon(self._emit_later, event, type_, leg.line.delays[type_])
            else:
                await self._emit_later(event, type_, 0.0)

    async def end(self, leg: FakeLeg, name: str = "stopped", **more: Any) -> None:
        """End a call."""
        if leg.live:
            leg.ended_at = self._now()
            await self.emit(name, leg, **more)

    # --- the transport ------------------------------------------------------------------------------------------------

    async def start(self, options: Dialout, room: str | None = None) -> str:  # noqa: ARG002
        """Make a call, and answer as its line says."""
        self.requested.append(options.destination)
        line = self.lines.dial(options.destination)
        if line.refuses is not None:
            await self._clock.sleep(line.answer_after)
            raise _refusal(line.refuses)
        leg = None if line.start_lost else self.make(options, line)
        if leg is not None:
            self.group.start_soon(self._play, leg)
        with self._clock.move_on_after(self._start_timeout):
            await self._clock.sleep(line.answer_after)
            if leg is not None and not line.answer_lost:
                return leg.session_id
        raise UnknownResult("the answer was lost: check before you send it again")

    async def stop(self, session: Session) -> None:
        """End a call."""
        self.stops.append(session.session_id)
        if self.before_stop is not None:
            await self.before_stop(session)
        leg = next((leg for leg in self.live() if leg.session_id == session.session_id), None)
        if leg is None:
            raise NoSuchSession("No dialout to stop", status=404)
        await self.end(leg)

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:  # noqa: ARG002
        """List the calls that have joined."""
        at = self._now() - self._presence_lag
        joined = [leg for leg in self.sessions if leg.joined_at is not None and leg.joined_at <= at]
        listed = [leg for leg in joined if leg.ended_at is None or leg.ended_at > at]
        return (*self.participants, *(RoomParticipant(leg.session_id, leg.options.user_id) for leg in listed))

    async def reconcile(self, session: Session) -> Presence:
        """As `RestControl` does."""
        if any(one.session_id == session.session_id for one in await self.presence()):
            return Presence.ALIVE
        return presence_if_absent(session, 0.0, self._clock.now())

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Do nothing."""

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Do nothing."""

    async def refer(self, session: Session, refer: Refer) -> None:
        """Do nothing."""

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Do nothing."""

    # --- the line -----------------------------------------------------------------------------------------------------

    async def _play(self, leg: FakeLeg) -> None:
        line, passed = leg.line, 0.0
        for at, step in _steps(line):
            await self._clock.sleep(at - passed)
            passed = at
            if not leg.live:
                return
            if step in (self._joins_at, "answered") and leg.joined_at is None:
                leg.joined_at = self._now()
            if step == "answered":
                leg.answered_at = self._now()
            if step in ("stopped", "error"):
                await self.end(leg, step, **({"error_msg": line.error} if step == "error" else {}))
            else:
                await self.emit(step, leg)

    async def _emit_later(self, event: DialoutEvent, type_: str, seconds: float) -> None:
        if seconds:
            await self._clock.sleep(seconds)
        await self.arrivals.turn(type_, self._clock.sleep)
        await self.calls.receive(event)
        self.arrivals.types.append(type_)

    def _now(self) -> float:
        return self._clock.now() or 0.0


def _steps(line: PhoneLine) -> list[tuple[float, str]]:
    """When each event happens, in seconds from the start."""
    steps = [(line.rings, "connected")] if line.rings is not None else []
    if line.busy:
        steps.append(((line.rings or 0.0) + _BUSY_AFTER, "stopped"))
    if line.gives_up is not None:
        steps.append((line.gives_up, "stopped"))
    if line.fails is not None:
        steps.append((line.fails, "error"))
    if line.is_answered and line.answers is not None:
        steps.append((line.answers, "answered"))
        if line.talks is not None:
            steps.append((line.answers + line.talks, "stopped"))
    return sorted(steps, key=lambda step: (step[0], list(_TYPES).index(step[1])))


def _refusal(refusal: Refusal) -> DailyError:
    text = f"{refusal.error} {refusal.info}".strip()
    kind: Any = error_type_of(text)
    if kind is DailyError and refusal.status == 429:
        kind = error_type_of("TEMPORARILY_NOT_AVAILABLE")
    made: DailyError = kind(text, status=refusal.status, error=refusal.error, info=refusal.info)
    return made
