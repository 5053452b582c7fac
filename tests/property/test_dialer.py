"""The dialer with a Daily that refuses, delays, and loses answers and hang-ups.

Always: never two live calls for one dial, never more starts than allowed, every `dial` returns, and its result is true. The short
part runs in memory on a fake clock; the long part runs over real HTTP in real, short times.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, Literal, NamedTuple

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from telstate import Session
from telstate.control import DialOutcome, DialResult
from telstate.errors import DailyError, UnknownResult
from telstate.options import PhoneDialout
from telstate.testing import FakeDaily, PhoneLine, refusals
from telstate.testing._faults import App, Fault, instead, lost
from tests.control.dial_setup import ROOM, DialSetup, in_memory, over_http

RING_TIMEOUT = 0.15
START_TIMEOUT = 0.2
TIMES: dict[str, Any] = {
    "per_room": None,
    "find_within": 0.4,
    "find_intervals": [0.1],
    "stop_timeouts": [0.15, 0.15, 0.15],
}
TYPES = ("dialout.connected", "dialout.answered", "dialout.stopped", "dialout.error", "participant.joined")
REFUSALS = (
    refusals.TEMPORARILY_NOT_AVAILABLE,
    refusals.TOO_MANY_REQUESTS,
    refusals.TOO_MANY_SESSIONS,
    refusals.NOT_ALLOWED,
    refusals.DIALOUT_IN_PROGRESS,
)


class Case(NamedTuple):
    """One call of `dial`."""

    script: list[PhoneLine]
    attempts: int
    cancelled_after: float | None
    by_asyncio: bool
    """Cancelled as a task, not by a cancel scope."""


fates = st.one_of(
    st.sampled_from([0.02, 0.1, 0.14, 0.16, 0.3]).map(lambda at: {"answers": at}),
    st.just({"answers": 0.02, "talks": 0.05}),
    st.just({"answers": None}),
    st.just({"busy": True}),
    st.sampled_from([0.03, 0.14, 0.16]).map(lambda at: {"gives_up": at}),
    st.sampled_from(["process error, Channel closed", "dial-out is not enabled for domain"]).map(
        lambda text: {"fails": 0.05, "error": text}
    ),
    st.sampled_from(REFUSALS).map(lambda refusal: {"refuses": refusal}),
)
losses = st.fixed_dictionaries(
    {},
    optional={
        "answer_after": st.sampled_from([0.05, 0.18, 0.3]),
        "answer_lost": st.just(True),
        "start_lost": st.just(True),
        "loses": st.frozensets(st.sampled_from(TYPES)),
        "delays": st.dictionaries(st.sampled_from(TYPES), st.sampled_from([0.05, 0.3]), max_size=2),
        "twice": st.frozensets(st.sampled_from(TYPES), max_size=2),
    },
)
scripts = st.lists(
    st.builds(lambda fate, loss: PhoneLine(**fate, **loss), fates, losses | st.just({})), min_size=1, max_size=4
)
cases = st.builds(
    Case,
    scripts,
    st.integers(1, 3),
    st.none() | st.sampled_from([0.0, 0.01, 0.05, 0.15, 0.25]),
    st.booleans(),
)
mishaps = st.lists(st.sampled_from(["done", "slow", "refused", "slow and refused", "lost"]), max_size=2)
"""What happens to the first stops of each call. Later ones succeed, or no call could be ended."""
numbers = count(1)


async def dial(phone: DialSetup, room: str, number: str, case: Case) -> DialResult | None:
    """Dial, and perhaps cancel it; None if it was cancelled."""
    options = PhoneDialout(phone_number=number)
    dialing = phone.dialer.dial(options, attempts=case.attempts, ring_timeout=RING_TIMEOUT, room=room)
    if case.cancelled_after is None:
        return await dialing
    if case.by_asyncio:
        return await as_task(phone, dialing, case.cancelled_after)
    with phone.within(case.cancelled_after):
        return await dialing
    return None


async def as_task(phone: DialSetup, dialing: Any, cancelled_after: float) -> DialResult | None:
    """Run it in a task that is cancelled after a while, as `asyncio.wait_for` does."""
    task: asyncio.Task[DialResult] = asyncio.ensure_future(dialing)

    async def cancel() -> None:
        await phone.clock.sleep(cancelled_after)
        task.cancel()

    canceller = asyncio.ensure_future(cancel())
    await asyncio.wait([task])
    canceller.cancel()
    await asyncio.wait([canceller])
    return None if task.cancelled() else task.result()


def live_sessions(phone: DialSetup) -> set[str]:
    """The calls that the program knows."""
    return {session.session_id for session in phone.calls.live()}


def check(phone: DialSetup, number: str, case: Case, result: DialResult | None, known: set[str]) -> None:
    """Check what must hold of one dial that has returned, by the calls that were known then."""
    daily, legs = phone.daily, [leg for leg in phone.daily.sessions if leg.destination == number]
    requested = starts_requested(daily, number)
    assert requested <= case.attempts
    assert daily.most_at_once(number) <= 1
    if result is None:
        # A call of which nothing is known cannot be ended: its answer was lost, and neither events nor presence showed it.
        assert [leg for leg in legs if leg.live and leg.session_id in known] == []
        return
    assert 1 <= len(result.attempts) <= case.attempts
    assert requested == len(result.attempts)
    outcomes = [attempt.outcome for attempt in result.attempts]
    assert result.outcome is outcomes[-1] or (result and outcomes[-1] is not DialOutcome.UNKNOWN)
    assert all(one in ("unanswered", "refused", "failed", "answered") for one in outcomes[:-1])
    assert result.outcome in ("answered", "unknown") or "answered" not in outcomes
    live = [leg.session_id for leg in legs if leg.live]
    assert bool(result) == (result.outcome is DialOutcome.ANSWERED)
    if result:
        assert daily.session(result.session.session_id).answered_at is not None
        assert live in ([], [result.session.session_id])
    elif result.outcome is not DialOutcome.UNKNOWN:
        assert live == []
    if len(result.attempts) < case.attempts and result.outcome is DialOutcome.REFUSED:
        assert result.error is not None


def starts_requested(daily: Any, number: str) -> int:
    """How many starts were sent, also those that were refused or lost."""
    if isinstance(daily, FakeDaily):
        bodies = [seen.body for seen in daily.seen if isinstance(seen.body, dict)]
        return sum(body.get("phoneNumber") == number for body in bodies)
    return sum(destination == number for destination in daily.requested)


async def play(phone: DialSetup, room: str, each: list[Case]) -> list[DialResult | None]:
    """Run all cases at once, each with a number of its own, and check each."""
    called = {f"+1999{next(numbers):07}": case for case in each}
    results: dict[str, DialResult | None] = {}
    known: dict[str, set[str]] = {}

    async def one(number: str, case: Case) -> None:
        phone.daily.lines[number] = case.script
        results[number] = await dial(phone, room, number, case)
        known[number] = live_sessions(phone)

    with anyio.fail_after(60):  # every dial returns
        async with anyio.create_task_group() as group:
            for number, case in called.items():
                group.start_soon(one, number, case)
        await phone.until(lambda: phone.dialer.sizes()["dials"] == 0)  # a cancelled one may still end its call
    for number, case in called.items():
        # In real time, an event may come when nobody searches for its call any more.
        heard = known[number] if isinstance(phone.daily, FakeDaily) else live_sessions(phone)
        check(phone, number, case, results[number], heard)
    assert phone.dialer.sizes()["starts"] == 0
    return list(results.values())


def hard_cases(test: Any) -> Any:
    """The examples that once failed, or that chance rarely draws."""
    silent = PhoneLine(answer_lost=True, answers=None, loses=set(TYPES))
    for each, stops in (
        ([Case([PhoneLine(answers=None, loses={"dialout.stopped"})], 3, None, False)], []),
        ([Case([silent], 3, None, False)], []),
        ([Case([PhoneLine(answers=0.15, answer_after=0.3)], 2, 0.25, True)], []),
        (
            [Case([PhoneLine(answers=0.2)], 3, 0.25, True), Case([PhoneLine(answers=0.2)], 3, None, False)],
            ["slow"],
        ),
        ([Case([PhoneLine(answers=0.2)], 3, after, True) for after in (0.2, 0.25)], ["slow and refused"]),
    ):
        test = example(each=each, stops=stops)(test)
    return test


# --- in memory --------------------------------------------------------------------------------------------------------


def with_mishaps(carrier: Any, stops: list[str]) -> None:
    """Let the first stops of each call go wrong."""
    end, tried = carrier.stop, Counter[str]()

    async def stop(session: Session) -> None:
        tried[session.session_id] += 1
        mishap = dict(enumerate(stops, 1)).get(tried[session.session_id], "done")
        if "slow" in mishap:
            await carrier._clock.sleep(0.1)
        if "refused" in mishap:
            raise DailyError("not in SFU mode", status=400)
        await end(session)
        if mishap == "lost":
            raise UnknownResult("the answer was lost")

    carrier.stop = stop


@pytest.mark.parametrize(("joins", "lag"), [("answer", 0.0), ("ring", 0.2)])
@hard_cases
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(each=st.lists(cases, min_size=1, max_size=6), stops=mishaps)
def test_never_two_calls_never_more_starts_and_always_an_end(
    joins: Literal["answer", "ring"], lag: float, each: list[Case], stops: list[str]
) -> None:
    """For any lines, losses, mishaps of stops, and cancellations at any time."""

    async def main() -> list[DialResult | None]:
        carrier = {"joins": joins, "presence_lag": lag}
        async with in_memory(start_timeout=START_TIMEOUT, carrier=carrier, **TIMES) as phone:
            with_mishaps(phone.daily, stops)
            return await play(phone, ROOM, each)

    for result in anyio.run(main):
        event("cancelled" if result is None else str(result.outcome))


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["answer", "ring"])
def portal(request: pytest.FixtureRequest) -> Iterator[tuple[Any, DialSetup]]:
    """One fake Daily and one program for all examples, on an event loop of their own."""
    lag = 0.2 if request.param == "ring" else 0.0
    daily = FakeDaily(joins=request.param, presence_lag=lag)
    with anyio.from_thread.start_blocking_portal() as loop:
        made = over_http(daily=daily, start_timeout=START_TIMEOUT, **TIMES)
        with loop.wrap_async_context_manager(made) as phone:
            yield loop, phone


def failing_stops(stops: list[str]) -> Fault:
    """A rule for stops: the first ones of each call go wrong."""
    tried = Counter[str]()

    async def fault(app: App, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        session_id = json.loads(message["body"])["sessionId"]
        tried[session_id] += 1
        mishap = dict(enumerate(stops, 1)).get(tried[session_id], "done")

        async def receive_again() -> Any:
            return message

        if "slow" in mishap:
            await anyio.sleep(0.1)
        if "refused" in mishap:
            app = partial(instead(400, b'{"info": "not in SFU mode"}'), app)
        elif mishap == "lost":
            app = partial(lost, app)
        await app(scope, receive_again, send)

    return fault


async def play_over_http(phone: DialSetup, each: list[Case], stops: list[str]) -> list[DialResult | None]:
    """Run all cases in a room of their own; afterwards nothing is left of them."""
    room = f"room-{next(numbers)}"
    phone.daily.host(room, max_sip_pstn_sessions_per_room=50)
    phone.daily.rules[f"/rooms/{room}/dialOut/stop"] = failing_stops(stops)
    results = await play(phone, room, each)
    del phone.daily.rules[f"/rooms/{room}/dialOut/stop"]
    phone.daily.leave(room)
    await phone.until(lambda: not [leg for leg in phone.daily.live() if leg.room == room])
    return results


@pytest.mark.long
@hard_cases
@settings(
    max_examples=45,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(each=st.lists(cases, min_size=1, max_size=6), stops=mishaps)
def test_over_http_too(portal: tuple[Any, DialSetup], each: list[Case], stops: list[str]) -> None:
    """With everything but Daily itself."""
    loop, phone = portal
    for result in loop.call(play_over_http, phone, each, stops):
        event("cancelled" if result is None else str(result.outcome))
