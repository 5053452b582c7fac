"""Dials with an intent, by a process that dies at any time and begins again: simulated in memory, on a clock that runs fast.

Always: never two live calls for one intent, never more starts than its budget, and one result, which a further dial repeats
without a start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Literal, NamedTuple

import anyio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from telstate import Dispatcher, Event, Router, Session
from telstate.control import Attempt, Dialer, DialOutcome, DialResult, Verdict
from telstate.errors import JournalError, NoSuchSession, NotRunning
from telstate.options import PhoneDialout
from telstate.testing import FakeClock, PhoneLine, refusals
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.control.dial_setup import ROOM, _run_fast
from tests.control.fake_carrier import FakeCarrier

TIMES: dict[str, Any] = {
    "room": ROOM,
    "per_room": None,
    "pauses": [0.05],
    "find_within": 1.0,
    "find_intervals": [0.1],
    "stop_timeouts": [0.3, 0.3, 0.3],
}
numbers = count(1)


class Intention(NamedTuple):
    """One intent: what each phone does each time, how often it may be dialled, and what the program says of answers."""

    scripts: list[list[PhoneLine]]
    attempts: int
    verdicts: list[bool] | None


class Asked(NamedTuple):
    """An intent with numbers of its own."""

    numbers: list[str]
    of: Intention


class MortalControl:
    """The carrier as one process reaches it: what that asks for after its death never happens."""

    def __init__(self, carrier: FakeCarrier) -> None:
        self._carrier = carrier
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._carrier, name)

        async def ask(*arguments: Any) -> Any:
            if self.is_dead:
                raise NoSuchSession("the process is dead", status=404)
            return await method(*arguments)

        return ask


class Service:
    """The process that receives the carrier's events. While there is none, they wait, as webhooks that are sent again."""

    def __init__(self) -> None:
        self.calls: Dispatcher | None = None
        self.began = anyio.Event()

    async def receive(self, event: Event) -> None:
        """Take in an event."""
        while True:
            calls = self.calls
            try:
                if calls is not None:
                    await calls.receive(event)
                    return
            except (NotRunning, JournalError):
                self.calls = None if self.calls is calls else self.calls
            else:
                await self.began.wait()


class World:
    """A carrier, a journal, and the lives of a process."""

    def __init__(self, joins: Literal["answer", "ring"]) -> None:
        self.clock = FakeClock()
        self.carrier = FakeCarrier(self.clock, start_timeout=0.3, joins=joins)
        self.service = Service()
        self.carrier.calls = self.service  # type: ignore[assignment]
        self.log = SharedLog()

    @property
    def times(self) -> dict[str, Any]:
        """Of its dialers."""
        return TIMES

    @asynccontextmanager
    async def life(self) -> AsyncIterator[tuple[Dialer, MortalControl]]:
        """One life."""
        control: Any = MortalControl(self.carrier)
        journal: Any = SharedMemoryJournal(self.log)
        async with Dispatcher(Router(), journal=journal, control=control, clock=self.clock) as calls:
            self.service.calls = calls
            self.service.began.set()
            self.service.began = anyio.Event()
            async with Dialer(calls, **self.times) as dialer:
                yield dialer, control

    async def dial(self, dialer: Dialer, name: str, one: Asked, into: dict[str, DialResult]) -> None:
        """Dial for an intent."""
        options = [PhoneDialout(phone_number=number) for number in one.numbers]
        verdicts = one.of.verdicts

        async def confirm(_: Session, attempt: Attempt) -> Verdict:
            await self.clock.sleep(0.05)
            starts = self.carrier.requested.count(attempt.destination)
            return Verdict(bool(verdicts and verdicts[starts % len(verdicts)]), "it")

        into[name] = await dialer.dial(
            options if len(options) > 1 else options[0],
            attempts=one.of.attempts,
            ring_timeout=0.5,
            intent=name,
            confirm=None if verdicts is None else confirm,
        )

    async def live_for(self, seconds: float, each: dict[str, Asked]) -> None:
        """Dial for all intents, and die after so long."""
        done: dict[str, DialResult] = {}
        with anyio.CancelScope() as scope:
            async with self.life() as (dialer, control), anyio.create_task_group() as group:
                for number, one in each.items():
                    group.start_soon(self.dial, dialer, number, one, done)
                await self.clock.sleep(seconds)
                control.is_dead, self.service.calls = True, None
                self.log.owner = None
                scope.cancel()

    async def finish(self, each: dict[str, Asked]) -> dict[str, DialResult]:
        """Dial for all intents, to the end."""
        results: dict[str, DialResult] = {}
        async with self.life() as (dialer, _), anyio.create_task_group() as group:
            for number, one in each.items():
                group.start_soon(self.dial, dialer, number, one, results)
        return results


fates = st.one_of(
    st.sampled_from([0.05, 0.2, 0.45, 0.55]).map(lambda at: {"answers": at}),
    st.just({"answers": 0.05, "talks": 0.3}),
    st.just({"answers": None}),
    st.just({"busy": True}),
    st.just({"fails": 0.1}),
    st.sampled_from([refusals.TEMPORARILY_NOT_AVAILABLE, refusals.INTERNATIONAL_NOT_SUPPORTED]).map(
        lambda refusal: {"refuses": refusal}
    ),
)
losses = st.fixed_dictionaries(
    {},
    optional={
        "answer_after": st.sampled_from([0.1, 0.4]),
        "answer_lost": st.just(True),
        "start_lost": st.just(True),
        "loses": st.frozensets(st.sampled_from(["dialout.connected", "dialout.answered", "dialout.stopped"])),
    },
)
lines = st.builds(lambda fate, loss: PhoneLine(**fate, **loss), fates, losses | st.just({}))
scripts = st.lists(lines, min_size=1, max_size=4)
verdicts = st.none() | st.lists(st.booleans(), min_size=1, max_size=3)
intentions = st.lists(
    st.builds(Intention, st.lists(scripts, min_size=1, max_size=2), st.integers(1, 3), verdicts), min_size=1, max_size=4
)
lives = st.lists(st.sampled_from([0.0, 0.02, 0.06, 0.12, 0.3, 0.5, 0.6, 0.9, 1.5]), max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(joins=st.sampled_from(["answer", "ring"]), deaths=lives, asked=intentions)
def test_an_intent_is_reached_at_most_once(
    joins: Literal["answer", "ring"], deaths: list[float], asked: list[Intention]
) -> None:
    """For any lines and losses, and deaths at any time."""
    each = {f"order {next(numbers)}": Asked([f"+1999{next(numbers):07}" for _ in one.scripts], one) for one in asked}

    async def main() -> None:
        world = World(joins)
        for one in each.values():
            for number, script in zip(one.numbers, one.of.scripts, strict=True):
                world.carrier.lines[number] = script
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                world.carrier.group = group
                group.start_soon(_run_fast, world.clock)
                for seconds in deaths:
                    await world.live_for(seconds, each)
                results = await world.finish(each)
                started = list(world.carrier.requested)
                again = await world.finish(each)
                group.cancel_scope.cancel()
        assert world.carrier.requested == started
        for name, one in each.items():
            check(world, one, results[name], again[name])

    anyio.run(main)


def check(world: World, one: Asked, result: DialResult, again: DialResult) -> None:
    """Check what must hold of one intent."""
    event(str(result.outcome))
    carrier, unknown = world.carrier, any(attempt.outcome is DialOutcome.UNKNOWN for attempt in result.attempts)
    for number in one.numbers:
        assert carrier.most_at_once(number) <= 1
        starts = sum(attempt.destination == number for attempt in result.attempts)
        assert carrier.requested.count(number) <= starts <= one.of.attempts
    assert again.outcome is result.outcome
    assert [attempt[:4] for attempt in again.attempts] == [attempt[:4] for attempt in result.attempts]
    assert all(attempt.started_at is not None for attempt in result.attempts)
    live = [leg.session_id for number in one.numbers for leg in carrier.live(number)]
    if result:
        assert again
        assert again.session.session_id == result.session.session_id
        assert carrier.session(result.session.session_id).answered_at is not None
        assert unknown or live in ([], [result.session.session_id])
    elif not unknown:
        assert live == []
    if one.of.verdicts is not None and result and not unknown:
        (reached,) = [attempt for attempt in result.attempts if attempt.outcome is DialOutcome.ANSWERED]
        assert reached.verdict == "it"
