"""The inbox: nobody who puts something in is held up, nothing changes its order, and nothing is lost in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
import trio

from telstate import Dispatcher, NotRunning, OutcomeKind, Router
from telstate.journals import JsonlJournal
from telstate.sources import _event_queue as module
from telstate.sources._event_queue import EventQueue
from tests.calls import js
from tests.sources.live import Failing, Gated, from_a_thread, payloads, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone, as these need it."""
    return "asyncio"


def connected(number: int) -> dict[str, Any]:
    """The n-th session's first event."""
    return {"handler": "on_dialout_connected", "data": {"sessionId": f"s{number}"}}


def put(inbox: EventQueue, *numbers: int) -> None:
    """Put these sessions' first events in, from another thread, while the event loop stands still."""

    def put_all() -> None:
        for number in numbers:
            inbox.put("on_dialout_connected", connected(number))

    from_a_thread(put_all)


def kept(path: Path) -> list[str]:
    """What a journal has: the sessions, and the reasons of gaps."""
    return [payload["data"]["sessionId"] if "data" in payload else payload["reason"] for payload in payloads(path)]


def told(logs: list[Any], event: str) -> list[Any]:
    """The log lines of this name."""
    return [log for log in logs if log["event"] == event]


@pytest.mark.parametrize("journalled", [False, True])
async def test_the_order_is_that_of_the_thread(journalled: bool, tmp_path: Path) -> None:
    """Five thousand from one thread."""
    journal = JsonlJournal(tmp_path / "calls") if journalled else None
    async with Dispatcher(Router(), journal=journal) as calls:
        inbox = EventQueue(calls, None, 10_000)
        inbox.open()
        put(inbox, *range(5_000))
        await inbox.aclose()
        assert [session.session_id for session in calls.live()] == [f"s{number}" for number in range(5_000)]
    if journalled:
        assert kept(tmp_path / "calls") == [f"s{number}" for number in range(5_000)]


async def test_what_comes_while_it_rests_wakes_it() -> None:
    """Each time anew."""
    async with Dispatcher(Router()) as calls:
        inbox = EventQueue(calls, None, 10)
        inbox.open()
        for number in range(50):
            await anyio.lowlevel.checkpoint()
            put(inbox, number)
            await until(lambda: calls.session(f"s{number}"))  # noqa: B023 - it is waited for here
        await inbox.aclose()


async def test_a_slow_journal_holds_up_nobody(tmp_path: Path) -> None:
    """The thread is done before the journal has taken the first."""
    async with Dispatcher(Router(), journal=(journal := Gated(tmp_path / "calls"))) as calls:
        inbox = EventQueue(calls, None, 10_000)
        inbox.open()
        put(inbox, *range(1_000))
        await until(lambda: journal.asked)
        put(inbox, *range(1_000, 2_000))
        assert calls.counts.get(OutcomeKind.MOVED, 0) == 0
        journal.gate.set()
        await inbox.aclose()
        assert len(calls.live()) == 2_000


async def test_what_does_not_fit_leaves_a_gap_at_its_place(tmp_path: Path) -> None:
    """Those before are taken in, those after too, and what lies between makes sessions uncertain. Told once."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=(journal := Gated(tmp_path / "calls"))) as calls:
            inbox = EventQueue(calls, None, 3)
            inbox.open()
            put(inbox, 0)
            await until(lambda: journal.asked)  # the first is at work, so it waits no longer
            put(inbox, *range(1, 10))
            journal.gate.set()
            await until(lambda: len(calls.live()) == 4 and all(session.uncertain for session in calls.live()))
            put(inbox, 10)
            await inbox.aclose()
    assert kept(tmp_path / "calls") == [
        *("s0", "s1", "s2", "s3"),
        "6 events were dropped, the source's inbox was full",
        "s10",
    ]
    assert [log["limit"] for log in told(logs, "source.full")] == [3]


async def test_a_full_inbox_takes_something_again_when_a_tenth_is_free(tmp_path: Path) -> None:
    """Under a load that lasts, not every other event may be a gap."""

    class Stepwise(Gated):
        async def append(self, entries: Any) -> Any:
            seqs = await super().append(entries)
            self.gate = anyio.Event()
            return seqs

    async with Dispatcher(Router(), journal=(journal := Stepwise(tmp_path / "calls"))) as calls:
        inbox = EventQueue(calls, None, 50)
        inbox.open()
        put(inbox, 0)
        await until(lambda: journal.asked == 1)
        put(inbox, *range(1, 53))  # two too many
        for taken in range(1, 21):
            journal.gate.set()
            await until(lambda: journal.asked == taken + 1)  # noqa: B023 - it is waited for here
            put(inbox, 100 + taken)
        gates = asyncio.create_task(_keep_open(journal))
        await inbox.aclose()
        gates.cancel()
    found = kept(tmp_path / "calls")
    assert found[:51] == [f"s{number}" for number in range(51)]
    # 51 wait with the gap; a place among 45 is free after seven were taken, and from then on one comes for each that goes.
    assert found[51:] == [
        "8 events were dropped, the source's inbox was full",
        *(f"s{100 + taken}" for taken in range(7, 21)),
    ]


async def _keep_open(journal: Gated) -> None:
    while True:
        journal.gate.set()
        await asyncio.sleep(0)


async def test_a_journal_that_fails_loses_nothing(tmp_path: Path) -> None:
    """What came later waits behind what could not be kept."""
    journal = Failing(tmp_path / "calls")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal) as calls:
            inbox = EventQueue(calls, None, 100)
            inbox.open()
            put(inbox, 0)
            await until(calls.live)
            journal.failures = 2
            put(inbox, *range(1, 20))
            await inbox.aclose()
            assert journal.failures == 0
    assert kept(tmp_path / "calls") == [f"s{number}" for number in range(20)]
    assert len(told(logs, "source.not_kept")) == 2


async def test_leaving_takes_in_what_waits_and_then_nothing() -> None:
    """And it does not mind who still calls; nor is there anything to log."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            inbox = EventQueue(calls, None, 1_000)
            put(inbox, 0)  # before it is opened: it waits
            inbox.open()
            put(inbox, *range(1, 500))
            await inbox.aclose()
            put(inbox, 500)
            await anyio.sleep(0.05)
            assert len(calls.live()) == 500
            with pytest.raises(NotRunning, match="make another one"):
                inbox.open()
    assert logs == []


async def test_a_block_that_is_cancelled_takes_in_what_waits_all_the_same(tmp_path: Path) -> None:
    """By a scope around it; the dispatcher goes on."""
    async with Dispatcher(Router(), journal=(journal := Gated(tmp_path / "calls"))) as calls:
        inbox = EventQueue(calls, None, 100)
        inbox.open()
        put(inbox, *range(20))
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                asyncio.get_running_loop().call_later(0.1, journal.gate.set)
                await inbox.aclose()
        assert len(calls.live()) == 20


async def test_leaving_a_journal_that_never_recovers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how many were lost."""
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    journal = Failing(tmp_path / "calls")
    with structlog.testing.capture_logs() as logs, anyio.fail_after(10):
        async with Dispatcher(Router(), journal=journal) as calls:
            journal.failures = 1_000_000
            inbox = EventQueue(calls, None, 100)
            inbox.open()
            put(inbox, *range(7))
            await inbox.aclose()
            journal.failures = 0
    assert [log["events"] for log in told(logs, "source.left")] == [7]


async def test_leaving_a_slow_journal_waits_as_long_as_it_comes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience is for each event, not for all."""
    monkeypatch.setattr(module, "_PATIENCE", 0.2)

    class Slow(JsonlJournal):
        async def append(self, entries: Any) -> Any:
            await anyio.sleep(0.05)
            return await super().append(entries)

    async with Dispatcher(Router(), journal=Slow(tmp_path / "calls")) as calls:
        inbox = EventQueue(calls, None, 100)
        inbox.open()
        put(inbox, *range(20))
        await inbox.aclose()
        assert len(calls.live()) == 20


async def test_a_dispatcher_that_was_closed_first() -> None:
    """Nothing raises; what is lost is told, and whose fault it is."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            inbox = EventQueue(calls, None, 100)
            inbox.open()
        put(inbox, 0, 1, 2)
        await until(lambda: told(logs, "source.left"))
        put(inbox, 3)
        await inbox.aclose()
    (left,) = told(logs, "source.left")
    assert left["events"] == 3
    assert "leave the source's block before" in left["why"]


async def test_a_program_that_is_told_to_stop_leaves_at_once_and_loses_nothing() -> None:
    """The block is cancelled then; what comes while it ends is still taken in."""
    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with Dispatcher(Router()) as calls:
            inbox = EventQueue(calls, None, 100)
            inbox.open()
            try:
                calls.shut_down()
                put(inbox, 0, 1)
                await anyio.sleep_forever()
            finally:
                await inbox.aclose()
    assert len(calls.live()) == 2
    assert not told(logs, "source.left")


async def test_what_is_no_event_holds_up_nothing_and_is_not_logged() -> None:
    """Its field is, but not what stood in it."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            inbox = EventQueue(calls, None, 100)
            inbox.open()
            circle: dict[str, Any] = {"handler": "on_dialin_stopped"}
            circle["data"] = circle
            inbox.put("on_dialin_ready", {"handler": "on_dialin_ready", "data": {"number": "+12025550101"}})
            inbox.put("on_dialin_stopped", circle)
            put(inbox, 1)
            await inbox.aclose()
            assert len(calls.live()) == 1
    refused = told(logs, "source.no_event")
    assert {log["handler"] for log in refused} == {"on_dialin_ready", "on_dialin_stopped"}
    assert "2025550101" not in repr(logs)


async def test_what_was_put_in_cannot_be_changed_any_more() -> None:
    """Others get the same dict, and may do with it what they like."""
    async with Dispatcher(Router()) as calls:
        inbox = EventQueue(calls, None, 100)
        inbox.open()
        payload = connected(1)
        inbox.put("on_dialout_connected", payload)
        payload["data"]["sessionId"] = "other"
        await inbox.aclose()
        assert [session.session_id for session in calls.live()] == ["s1"]


async def test_a_defect_is_not_silent() -> None:
    """Whatever else the dispatcher raises ends the source, is logged, and comes out where its block is left."""

    class Broken(Dispatcher):
        async def receive(self, *_: Any) -> Any:
            raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        async with Broken(Router()) as calls:
            inbox = EventQueue(calls, None, 100)
            inbox.open()
            put(inbox, 1, 2)
            with pytest.raises(ZeroDivisionError):
                await inbox.aclose()
    (left,) = told(logs, "source.left")
    assert (left["events"], left["why"]) == (2, "a defect ended the source: ZeroDivisionError")


async def test_a_gap_speaks_of_its_client_only() -> None:
    """Where one is named."""
    async with Dispatcher(Router()) as calls:
        for session_id, client in (("a", "one"), ("b", "two")):
            await calls.receive(js("dialout-connected", session_id, callClientId=client))
        inbox = EventQueue(calls, "one", 100)
        inbox.open()
        inbox.put("", inbox.gap("it left"))
        await inbox.aclose()
        assert {session.session_id: session.uncertain for session in calls.live()} == {"a": True, "b": False}


async def test_a_dispatcher_that_is_not_open_is_told_at_once() -> None:
    """Not when the source is left, and all is lost."""
    with pytest.raises(NotRunning, match="before the source"):
        EventQueue(Dispatcher(Router()), None, 1).open()


def test_wrong_arguments_are_refused_at_once() -> None:
    """Not when the first gap comes; and trio is told from asyncio."""
    calls = Dispatcher(Router())
    with pytest.raises(ValueError, match="at least 1"):
        EventQueue(calls, None, 0)
    with pytest.raises(ValueError, match="at least 1 character"):
        EventQueue(calls, "", 1)

    async def on_trio() -> None:
        EventQueue(calls, None, 1).open()

    with pytest.raises(RuntimeError, match="need asyncio"):
        trio.run(on_trio)
