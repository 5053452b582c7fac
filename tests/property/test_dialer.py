"""The dialer against a Daily that refuses, delays, and loses answers and hang-ups, over real HTTP.

Whatever befalls it: never two live calls for one intent, never more starts than the budget, every `dial` returns, and what it
says is so. Nothing here is mocked but Daily itself; all times are real, and short.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from telstate.control import DialOutcome, DialResult, PhoneDialout
from telstate.testing import FakeDaily, PhoneLine
from telstate.testing import refusals as lines
from telstate.testing._faults import App, Fault, instead, lost
from tests.control.calling import Phone, phone, until

RING_TIMEOUT = 0.15
START_TIMEOUT = 0.2
TYPES = ("dialout.connected", "dialout.answered", "dialout.stopped", "dialout.error", "participant.joined")
REFUSALS = (
    lines.TEMPORARILY_NOT_AVAILABLE,
    lines.TOO_MANY_REQUESTS,
    lines.TOO_MANY_SESSIONS,
    lines.NOT_ALLOWED,
    lines.DIALOUT_IN_PROGRESS,
)


class Intent(NamedTuple):
    """One call of `dial`."""

    script: list[PhoneLine]
    attempts: int
    cancelled_after: float | None
    natively: bool
    """Cancelled by asyncio, not by a scope."""


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
    st.builds(lambda fate, lost: PhoneLine(**fate, **lost), fates, losses | st.just({})), min_size=1, max_size=4
)
intents = st.builds(
    Intent,
    scripts,
    st.integers(1, 3),
    st.none() | st.sampled_from([0.0, 0.01, 0.05, 0.15, 0.25]),
    st.booleans(),
)
mishaps = st.lists(st.sampled_from(["done", "slow", "refused", "slow and refused", "lost"]), max_size=2)
"""What befalls the first stops of each call; later ones go well, or nobody could end anything."""
numbers = count(1)


@pytest.fixture(scope="module", params=["answer", "ring"])
def portal(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Phone]]:
    """One Daily and one program for all, on an event loop of their own; nobody knows when a dialled party joins the room."""
    quick: dict[str, Any] = {"per_room": None, "find_within": 0.4, "looks": [0.1], "stops": [0.15, 0.15, 0.15]}
    lag = 0.2 if request.param == "ring" else 0.0
    daily = FakeDaily(joins=request.param, presence_lag=lag)
    with anyio.from_thread.start_blocking_portal() as loop:
        made = phone(daily, start_timeout=START_TIMEOUT, **quick)
        with loop.wrap_async_context_manager(made) as line:
            yield loop, line


async def dial(line: Phone, room: str, number: str, intent: Intent) -> DialResult | None:
    """Dial, and perhaps give up; None if it was given up."""
    options = PhoneDialout(phone_number=number)
    dialling = line.dialer.dial(options, attempts=intent.attempts, ring_timeout=RING_TIMEOUT, room=room)
    if intent.cancelled_after is None:
        return await dialling
    if intent.natively:
        with suppress(TimeoutError):
            return await asyncio.wait_for(dialling, intent.cancelled_after)
        return None
    with anyio.move_on_after(intent.cancelled_after):
        return await dialling
    return None


def stumbling(stops: list[str]) -> Fault:
    """A rule for requests to stop."""
    told = Counter[str]()

    async def fault(app: App, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        session_id = json.loads(message["body"])["sessionId"]
        told[session_id] += 1
        stop = dict(enumerate(stops, 1)).get(told[session_id], "done")

        async def once_more() -> Any:
            return message

        if "slow" in stop:
            await anyio.sleep(0.1)
        if "refused" in stop:
            app = partial(instead(400, b'{"info": "not in SFU mode"}'), app)
        elif stop == "lost":
            app = partial(lost, app)
        await app(scope, once_more, send)

    return fault


def check(line: Phone, number: str, intent: Intent, result: DialResult | None) -> None:
    """What must be so of one intent, when its dial has returned."""
    daily, legs = line.daily, [leg for leg in line.daily.sessions if leg.destination == number]
    asked = [seen for seen in daily.seen if isinstance(seen.body, dict) and seen.body.get("phoneNumber") == number]
    assert len(asked) <= intent.attempts
    assert daily.most_at_once(number) <= 1
    if result is None:
        # What nobody ever heard of cannot be ended: its answer was lost, and no event or presence told of it.
        heard = [leg for leg in legs if leg.live and any(one.session_id == leg.session_id for one in line.calls.live())]
        assert heard == []
        return
    assert 1 <= len(result.attempts) <= intent.attempts
    assert len(asked) == len(result.attempts)
    outcomes = [attempt.outcome for attempt in result.attempts]
    assert result.outcome is outcomes[-1] or (result.answered and outcomes[-1] is not DialOutcome.UNKNOWN)
    assert all(one in ("unanswered", "refused", "failed", "answered") for one in outcomes[:-1])
    assert result.outcome in ("answered", "unknown") or "answered" not in outcomes
    live = [leg.session_id for leg in legs if leg.live]
    if result.outcome is DialOutcome.ANSWERED:
        assert result.session is not None
        assert daily.session(result.session.session_id).answered_at is not None
        assert live in ([], [result.session.session_id])
    elif result.outcome is not DialOutcome.UNKNOWN:
        assert live == []
    if len(result.attempts) < intent.attempts and result.outcome is DialOutcome.REFUSED:
        assert result.error is not None


async def play(line: Phone, each: list[Intent], stops: list[str]) -> list[DialResult | None]:
    """Dial all of them at once, in a room of their own; afterwards nothing is left of them."""
    room = f"room-{next(numbers)}"
    line.daily.host(room, max_sip_pstn_sessions_per_room=50)
    line.daily.rules[f"/rooms/{room}/dialOut/stop"] = stumbling(stops)
    called = {f"+1999{next(numbers):07}": intent for intent in each}
    results: dict[str, DialResult | None] = {}

    async def one(number: str, intent: Intent) -> None:
        line.daily.lines[number] = intent.script
        results[number] = await dial(line, room, number, intent)

    with anyio.fail_after(15):  # every dial returns
        async with anyio.create_task_group() as group:
            for number, intent in called.items():
                group.start_soon(one, number, intent)
        await until(lambda: line.dialer.sizes()["dials"] == 0)  # who was cancelled may still be ending a call
    for number, intent in called.items():
        check(line, number, intent, results[number])
    del line.daily.rules[f"/rooms/{room}/dialOut/stop"]
    line.daily.leave(room)
    await until(lambda: not [leg for leg in line.daily.live() if leg.room == room])
    assert line.dialer.sizes()["starts"] == 0
    return list(results.values())


@settings(
    max_examples=45,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(each=st.lists(intents, min_size=1, max_size=6), stops=mishaps)
@example(each=[Intent([PhoneLine(answers=None, loses={"dialout.stopped"})], 3, None, False)], stops=[])
@example(each=[Intent([PhoneLine(answer_lost=True, answers=None, loses=set(TYPES))], 3, None, False)], stops=[])
@example(each=[Intent([PhoneLine(answers=0.15, answer_after=0.3)], 2, 0.25, True)], stops=[])
@example(
    each=[Intent([PhoneLine(answers=0.2)], 3, 0.25, True), Intent([PhoneLine(answers=0.2)], 3, None, False)],
    stops=["slow"],
)
@example(each=[Intent([PhoneLine(answers=0.2)], 3, after, True) for after in (0.2, 0.25)], stops=["slow and refused"])
def test_never_two_calls_never_more_starts_and_always_an_end(
    portal: tuple[Any, Phone], each: list[Intent], stops: list[str]
) -> None:
    """Whatever the lines do, whatever is lost, whatever befalls the stops, and whoever gives up when."""
    loop, line = portal
    for result in loop.call(play, line, each, stops):
        event("given up" if result is None else str(result.outcome))
