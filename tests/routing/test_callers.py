"""Callers on hold in a dispatcher: who waits, who is lost, and what a restart makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import (
    Caller,
    DailyError,
    DeadlinePassed,
    DefinitionError,
    Dispatcher,
    ForwardingFailed,
    ForwardRefused,
    PinlessDialin,
    Router,
    Settings,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from tests.calls import js
from tests.calls.test_callers import FROM, TO, URI, connected, hold, ready, stopped
from tests.routing import until
from tests.routing.kept import replayed
from tests.routing.test_acting import GatedControl

pytestmark = pytest.mark.anyio


def router_with(lost: list[Caller]) -> Router:
    """Return a router that collects the callers who are lost."""
    router = Router()

    @router.on_caller_lost()
    async def gone(caller: Caller, calls: Dispatcher) -> None:
        assert calls.waiting() == [] or caller not in calls.waiting()
        lost.append(caller)

    return router


async def held(calls: Dispatcher, call_id: str = "p") -> PinlessDialin:
    """Receive a caller on hold."""
    event = (await calls.receive(hold(call_id))).event
    assert isinstance(event, PinlessDialin)
    return event


async def test_a_caller_who_gives_up_is_lost_once() -> None:
    """When the hold limit has passed; a handler of deadlines learns of both limits."""
    lost: list[Caller] = []
    deadlines: list[tuple[str, str | None]] = []
    router, clock = router_with(lost), FakeClock()

    @router.on(DeadlinePassed)
    async def passed(event: DeadlinePassed) -> None:
        deadlines.append((event.deadline, event.call_id))

    async with Dispatcher(router, settings=Settings(hold_deadline=30), clock=clock) as calls:
        await held(calls)
        assert [caller.call_id for caller in calls.waiting()] == ["p"]
        for seconds in (31, 600, 600, 7200):
            await clock.advance(seconds)
            await calls.idle()
    assert deadlines == [("hold", "p"), ("hold-limit", "p")]
    assert [(caller.call_id, caller.from_, caller.to, caller.state) for caller in lost] == [("p", FROM, TO, "gave-up")]


@pytest.mark.parametrize("hours", [0.3, 3, 50])
async def test_who_gave_up_while_the_program_was_down_is_lost(tmp_path: Path, hours: float) -> None:
    """However long that was, also longer than callers are remembered. Once."""
    lost: list[Caller] = []
    async with Dispatcher(router_with(lost), journal=SqliteJournal(tmp_path / "calls.db"), clock=FakeClock()) as calls:
        await held(calls)
        begun = calls.clock.now()
        assert begun is not None
    for later in (hours, hours + 4):
        journal, clock = SqliteJournal(tmp_path / "calls.db"), FakeClock(begun + 3600 * later)
        async with Dispatcher(router_with(lost), journal=journal, clock=clock) as calls:
            await until(lambda: lost)
            await calls.idle()
    assert [(caller.call_id, caller.state) for caller in lost] == [("p", "gave-up")]


async def test_a_connected_caller_is_not_lost() -> None:
    """Forwarded by this program, or by pipecat's transport."""
    lost: list[Caller] = []
    clock = FakeClock()
    async with Dispatcher(router_with(lost), control=GatedControl(), clock=clock) as calls:
        await calls.receive(ready())
        await calls.forward(await held(calls), URI)
        await clock.advance(1)
        await calls.receive(connected("a"))
        await calls.receive({**hold("q"), "From": "+12025550199"})
        await calls.receive({"handler": "on_dialin_connected", "data": {"sessionId": "b", "sipFrom": "+12025550199"}})
        await clock.advance(5000)
        await calls.idle()
        assert [one.pinless_call_id for one in calls.sessions()] == ["p", "q"]
    assert lost == []


async def test_a_refused_forward_is_an_event(tmp_path: Path) -> None:
    """The program gets Daily's error, and the journal has it."""
    lost: list[Caller] = []
    path, control = tmp_path / "calls", GatedControl()
    control.error = ForwardingFailed("nobody is there", status=404)
    async with Dispatcher(router_with(lost), journal=SqliteJournal(path), control=control) as calls:
        event = await held(calls)
        with pytest.raises(ForwardingFailed):
            await calls.forward(event, URI)
        await calls.idle()
        assert [(caller.state, caller.error) for caller in lost] == [("failed", "nobody is there")]
        control.error = None
        await calls.forward(event, URI)
        assert calls.waiting() == lost
        assert lost[0].amended
    (known,) = replayed(path).unconnected()
    assert (known.state, known.error) == ("forwarded", "nobody is there")


@pytest.mark.parametrize(
    "error",
    [UnknownResult("?"), TemporarilyNotAvailable("later", status=429), DailyError("down", status=503)],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_have_been_done_or_can_be_tried_again_is_no_refusal(error: DailyError) -> None:
    """The caller still waits, as far as is known."""
    lost: list[Caller] = []
    control = GatedControl()
    control.error = error
    async with Dispatcher(router_with(lost), control=control) as calls:
        event = await held(calls)
        with pytest.raises(type(error)):
            await calls.forward(event, URI)
        await calls.idle()
        assert [caller.state for caller in calls.waiting()] == ["waiting"]
    assert lost == []


async def test_a_refusal_after_an_unanswered_first_request_is_none() -> None:
    """The first one may have been carried out."""
    control = GatedControl()
    control.error = ForwardingFailed("not on hold", status=404)
    control.error.repeated = True
    async with Dispatcher(Router(), control=control) as calls:
        event = await held(calls)
        with pytest.raises(ForwardingFailed):
            await calls.forward(event, URI)
        assert [caller.state for caller in calls.waiting()] == ["waiting"]


async def test_a_forward_that_the_journal_has_is_not_repeated(tmp_path: Path) -> None:
    """The process was killed before the handler had finished. It runs again, and forwards again."""
    lost: list[Caller] = []
    path, control = tmp_path / "calls", GatedControl()
    redelivered: list[bool] = []
    router = router_with(lost)
    stuck = True

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, outcome: Any, calls: Dispatcher) -> None:
        redelivered.append(outcome.redelivered)
        await calls.forward(event, URI)
        if stuck:
            await anyio.sleep_forever()

    async with Dispatcher(router, journal=SqliteJournal(path), control=control, drain=0.01) as calls:
        await calls.receive(ready())
        await calls.receive(hold())
        await until(lambda: [caller.state for caller in calls.waiting()] == ["forwarded"])
        await calls.receive(connected("a"))
        await calls.receive(stopped("a"))
    stuck = False
    control.error = ForwardingFailed("not on hold", status=404)
    async with Dispatcher(router, journal=SqliteJournal(path), control=control) as calls:
        await calls.idle()
        (session,) = calls.sessions()
        assert (session.caller, session.pinless_call_id) == (FROM, "p")
        assert calls.waiting() == []
    assert redelivered == [False, True]
    assert [request[0] for request in control.requests] == ["forward"]
    assert lost == []


async def test_a_forward_to_another_endpoint_is_sent() -> None:
    """What Daily makes of it decides; the caller stays with the forward that it accepted."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        event = await held(calls)
        await calls.forward(event, URI)
        await calls.forward(event, URI.removeprefix("sip:"))
        control.error = ForwardingFailed("not on hold", status=404)
        with pytest.raises(ForwardingFailed):
            await calls.forward(event, "sip:other@x.example")
        (caller,) = calls.waiting()
        assert (caller.state, caller.forwarded_to) == ("forwarded", URI)
    assert len(control.requests) == 2


async def test_a_handler_of_a_lost_caller_runs_after_a_crash(tmp_path: Path) -> None:
    """It did not finish. Also if the caller has left memory by then, and as a dead letter that is tried again."""
    path, lost, attempts = tmp_path / "calls", list[Caller](), list[str]()
    router = Router()

    @router.on_caller_lost()
    async def gone(caller: Caller) -> None:
        attempts.append(caller.call_id)
        if len(attempts) == 1:
            await anyio.sleep_forever()
        if len(attempts) == 2:
            raise RuntimeError("no line to the people who call back")
        lost.append(caller)

    async with Dispatcher(router, journal=SqliteJournal(path), drain=0.01) as calls:
        await calls.receive(hold())
        await calls.receive(ForwardRefused(call_id="p", sip_endpoint=URI, error="gone"))
        await until(lambda: bool(attempts))
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
        (letter,) = await calls.dead_letters.list()
        await calls.dead_letters.retry(letter.number)
        await calls.idle()
        assert await calls.dead_letters.list() == []
    assert attempts == ["p", "p", "p"]
    assert [(caller.call_id, caller.from_, caller.state, caller.error) for caller in lost] == [
        ("p", FROM, "failed", "gone")
    ]


async def test_callers_have_a_lane_each() -> None:
    """The handlers of one caller run one after another, and another caller does not wait for them."""
    router, order, gate = Router(), list[str](), anyio.Event()

    @router.on(PinlessDialin)
    async def slow(event: PinlessDialin) -> None:
        if event.call_id == "p":
            await gate.wait()
        order.append(f"{event.call_id} held")

    @router.on_caller_lost()
    async def gone(caller: Caller) -> None:
        order.append(f"{caller.call_id} lost")

    async with Dispatcher(router) as calls:
        for call_id in "pq":
            await calls.receive(hold(call_id))
            await calls.receive(ForwardRefused(call_id=call_id, sip_endpoint=URI))
        await until(lambda: len(order) == 2)
        gate.set()
    assert order == ["q held", "q lost", "p held", "p lost"]


def test_a_handler_of_lost_callers_gets_no_session() -> None:
    """There is none, so asking for one is refused where it is registered."""
    router = Router()
    with pytest.raises(DefinitionError, match="takes 'session'; available here are caller, calls"):

        @router.on_caller_lost()
        async def gone(session: object) -> None:
            """Never called."""


async def test_the_journal_replays_to_the_same_callers(tmp_path: Path) -> None:
    """With limits that passed, in a checkpoint or not."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, control=GatedControl()) as calls:
        await held(calls, "p")
        await clock.advance(700)
        await calls.forward(await held(calls, "q"), URI)
        await calls.receive(js("dialin-connected", "a", sipEndpoint=URI))
        await calls.receive({**hold("s"), "From": "+12025550190"})
        live = [caller.to_dict() for caller in calls._sequencer.engine.unconnected()]
    assert [(row["call_id"], row["state"]) for row in live] == [("p", "gave-up"), ("s", "waiting")]
    assert [caller.to_dict() for caller in replayed(path).unconnected()] == live
