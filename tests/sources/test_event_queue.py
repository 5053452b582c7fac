"""The queue of live sources: `put` never blocks, the order holds, and every loss is reported."""

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
from telstate.journals import SqliteJournal
from telstate.journals.nats._errors import MessageTooLarge
from telstate.sources import _event_queue as module
from telstate.sources._event_queue import EventQueue
from tests.calls import js
from tests.sources.live import FailingJournal, GatedJournal, from_a_thread, payloads, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """These need asyncio."""
    return "asyncio"


def connected(number: int) -> dict[str, Any]:
    """The first event of session n."""
    return {"handler": "on_dialout_connected", "data": {"sessionId": f"s{number}"}}


def put(queue: EventQueue, *numbers: int) -> None:
    """Put the first events of these sessions into the queue from another thread, while the event loop is blocked."""

    def put_all() -> None:
        for number in numbers:
            queue.put("on_dialout_connected", connected(number))

    from_a_thread(put_all)


async def kept(path: Path) -> list[str]:
    """Return what a journal has: session ids, and the reasons of gaps."""
    return [
        payload["data"]["sessionId"] if "data" in payload else payload["reason"] for payload in await payloads(path)
    ]


def logged(logs: list[Any], event: str) -> list[Any]:
    """Return the log lines with this name."""
    return [log for log in logs if log["event"] == event]


@pytest.mark.parametrize(
    ("number", "journalled"), [(5_000, False), (300, True), pytest.param(5_000, True, marks=pytest.mark.long)]
)
async def test_events_keep_the_order_of_the_thread(number: int, journalled: bool, tmp_path: Path) -> None:
    """Thousands from one thread."""
    journal = SqliteJournal(tmp_path / "calls") if journalled else None
    async with Dispatcher(Router(), journal=journal) as calls:
        queue = EventQueue(calls, None, 10_000)
        queue.open()
        put(queue, *range(number))
        await queue.aclose()
        assert [session.session_id for session in calls.live()] == [f"s{n}" for n in range(number)]
    if journalled:
        assert await kept(tmp_path / "calls") == [f"s{n}" for n in range(number)]


async def test_put_wakes_an_idle_queue() -> None:
    """Every time."""
    async with Dispatcher(Router()) as calls:
        queue = EventQueue(calls, None, 10)
        queue.open()
        for number in range(50):
            await anyio.lowlevel.checkpoint()
            put(queue, number)
            await until(lambda: calls.session(f"s{number}"))  # noqa: B023 - it is waited for here
        await queue.aclose()


async def test_a_slow_journal_does_not_block_put(tmp_path: Path) -> None:
    """The thread finishes before the journal has the first event."""
    async with Dispatcher(Router(), journal=(journal := GatedJournal(tmp_path / "calls"))) as calls:
        queue = EventQueue(calls, None, 10_000)
        queue.open()
        put(queue, *range(200))
        await until(lambda: journal.asked)
        put(queue, *range(200, 400))
        assert calls.counts.get(OutcomeKind.MOVED, 0) == 0
        journal.gate.set()
        await queue.aclose()
        assert len(calls.live()) == 400


async def test_an_overflow_leaves_one_gap_in_its_place(tmp_path: Path) -> None:
    """Events before and after it are delivered; sessions become uncertain; it is logged once."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=(journal := GatedJournal(tmp_path / "calls"))) as calls:
            queue = EventQueue(calls, None, 3)
            queue.open()
            put(queue, 0)
            await until(lambda: journal.asked)  # the first is at work, so it waits no longer
            put(queue, *range(1, 10))
            journal.gate.set()
            await until(lambda: len(calls.live()) == 4 and all(session.uncertain for session in calls.live()))
            put(queue, 10)
            await queue.aclose()
    assert await kept(tmp_path / "calls") == [
        *("s0", "s1", "s2", "s3"),
        "6 events were dropped, the source's queue was full",
        "s10",
    ]
    assert [log["limit"] for log in logged(logs, "source.queue_full")] == [3]


async def test_after_an_overflow_a_tenth_of_the_queue_must_be_free(tmp_path: Path) -> None:
    """Otherwise, under a lasting load, every other event would be a gap."""

    class Stepwise(GatedJournal):
        async def append(self, entries: Any) -> Any:
            seqs = await super().append(entries)
            self.gate = anyio.Event()
            return seqs

    async with Dispatcher(Router(), journal=(journal := Stepwise(tmp_path / "calls"))) as calls:
        queue = EventQueue(calls, None, 50)
        queue.open()
        put(queue, 0)
        await until(lambda: journal.asked == 1)
        put(queue, *range(1, 53))  # two too many
        for taken in range(1, 21):
            journal.gate.set()
            await until(lambda: journal.asked == taken + 1)  # noqa: B023 - it is waited for here
            put(queue, 100 + taken)
        gates = asyncio.create_task(_keep_open(journal))
        await queue.aclose()
        gates.cancel()
    found = await kept(tmp_path / "calls")
    assert found[:51] == [f"s{number}" for number in range(51)]
    # 51 wait with the gap; a place among 45 is free after seven were taken, and from then on one comes for each that goes.
    assert found[51:] == [
        "8 events were dropped, the source's queue was full",
        *(f"s{100 + taken}" for taken in range(7, 21)),
    ]


async def _keep_open(journal: GatedJournal) -> None:
    while True:
        journal.gate.set()
        await asyncio.sleep(0)


async def test_a_failing_journal_loses_nothing(tmp_path: Path) -> None:
    """Later events wait behind the one that is retried."""
    journal = FailingJournal(tmp_path / "calls")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
            put(queue, 0)
            await until(calls.live)
            journal.failures = 2
            put(queue, *range(1, 20))
            await queue.aclose()
            assert journal.failures == 0
    assert await kept(tmp_path / "calls") == [f"s{number}" for number in range(20)]
    assert len(logged(logs, "source.journal_failed")) == 2


async def test_an_event_that_no_journal_takes_does_not_stop_the_others(tmp_path: Path) -> None:
    """No retry helps: the log says that it is lost."""
    journal = FailingJournal(tmp_path / "calls", MessageTooLarge("larger than the server's max_payload"))
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
            journal.failures = 1
            put(queue, 0)
            await until(lambda: logged(logs, "source.event_lost"))
            put(queue, 1)
            await queue.aclose()
    assert await kept(tmp_path / "calls") == ["s1"]


async def test_leaving_delivers_what_waits() -> None:
    """Later events are ignored, and nothing is logged."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            queue = EventQueue(calls, None, 1_000)
            put(queue, 0)  # before it is opened: it waits
            queue.open()
            put(queue, *range(1, 500))
            await queue.aclose()
            put(queue, 500)
            await anyio.sleep(0.05)
            assert len(calls.live()) == 500
            with pytest.raises(NotRunning, match="make another one"):
                queue.open()
    assert logs == []


async def test_a_cancelled_block_delivers_what_waits(tmp_path: Path) -> None:
    """A scope around it is cancelled; the dispatcher goes on."""
    async with Dispatcher(Router(), journal=(journal := GatedJournal(tmp_path / "calls"))) as calls:
        queue = EventQueue(calls, None, 100)
        queue.open()
        put(queue, *range(20))
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                asyncio.get_running_loop().call_later(0.1, journal.gate.set)
                await queue.aclose()
        assert len(calls.live()) == 20


async def test_leaving_gives_up_if_the_journal_never_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the number of lost events."""
    monkeypatch.setattr(module, "_STALL_TIMEOUT", 0.2)
    journal = FailingJournal(tmp_path / "calls")
    with structlog.testing.capture_logs() as logs, anyio.fail_after(10):
        async with Dispatcher(Router(), journal=journal) as calls:
            journal.failures = 1_000_000
            queue = EventQueue(calls, None, 100)
            queue.open()
            put(queue, *range(7))
            await queue.aclose()
            journal.failures = 0
    assert [log["events"] for log in logged(logs, "source.events_lost")] == [7]


@pytest.mark.long
async def test_leaving_waits_while_a_slow_journal_makes_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout is for each event, not for all."""
    monkeypatch.setattr(module, "_STALL_TIMEOUT", 2.0)

    class Slow(SqliteJournal):
        async def append(self, entries: Any) -> Any:
            await anyio.sleep(0.15)
            return await super().append(entries)

    async with Dispatcher(Router(), journal=Slow(tmp_path / "calls")) as calls:
        queue = EventQueue(calls, None, 100)
        queue.open()
        put(queue, *range(20))
        await queue.aclose()
        assert len(calls.live()) == 20


async def test_a_dispatcher_that_is_left_first_is_reported() -> None:
    """Nothing raises; the log has the loss and its cause."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
        put(queue, 0, 1, 2)
        await until(lambda: logged(logs, "source.events_lost"))
        put(queue, 3)
        await queue.aclose()
    (left,) = logged(logs, "source.events_lost")
    assert left["events"] == 3
    assert "leave the source's block before" in left["why"]


async def test_shut_down_delivers_what_waits() -> None:
    """Events that come while the block ends are delivered too."""
    with structlog.testing.capture_logs() as logs, anyio.fail_after(5):
        async with Dispatcher(Router()) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
            try:
                calls.shut_down()
                put(queue, 0, 1)
                await anyio.sleep_forever()
            finally:
                await queue.aclose()
    assert len(calls.live()) == 2
    assert not logged(logs, "source.events_lost")


async def test_an_unreadable_payload_is_skipped_and_its_content_not_logged() -> None:
    """The log has the field, not its value."""
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router()) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
            circle: dict[str, Any] = {"handler": "on_dialin_stopped"}
            circle["data"] = circle
            queue.put("on_dialin_ready", {"handler": "on_dialin_ready", "data": {"number": "+12025550101"}})
            queue.put("on_dialin_stopped", circle)
            put(queue, 1)
            await queue.aclose()
            assert len(calls.live()) == 1
    refused = logged(logs, "source.unreadable")
    assert {log["handler"] for log in refused} == {"on_dialin_ready", "on_dialin_stopped"}
    assert "2025550101" not in repr(logs)


async def test_changing_a_payload_after_put_has_no_effect() -> None:
    """Other handlers get the same dict, and may change it."""
    async with Dispatcher(Router()) as calls:
        queue = EventQueue(calls, None, 100)
        queue.open()
        payload = connected(1)
        queue.put("on_dialout_connected", payload)
        payload["data"]["sessionId"] = "other"
        await queue.aclose()
        assert [session.session_id for session in calls.live()] == ["s1"]


async def test_an_unexpected_error_is_logged_and_raised() -> None:
    """It ends the source, and is raised where its block is left."""

    class Broken(Dispatcher):
        async def receive(self, *_: Any) -> Any:
            raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        async with Broken(Router()) as calls:
            queue = EventQueue(calls, None, 100)
            queue.open()
            put(queue, 1, 2)
            with pytest.raises(ZeroDivisionError):
                await queue.aclose()
    (left,) = logged(logs, "source.events_lost")
    assert (left["events"], left["why"]) == (2, "an unexpected error ended the source: ZeroDivisionError")


async def test_a_gap_with_a_client_concerns_only_its_sessions() -> None:
    """Other sessions are not uncertain."""
    async with Dispatcher(Router()) as calls:
        for session_id, client in (("a", "one"), ("b", "two")):
            await calls.receive(js("dialout-connected", session_id, callClientId=client))
        queue = EventQueue(calls, "one", 100)
        queue.open()
        queue.put("", queue.gap("it left"))
        await queue.aclose()
        assert {session.session_id: session.uncertain for session in calls.live()} == {"a": True, "b": False}


async def test_opening_before_the_dispatcher_raises() -> None:
    """Not only when the source is left, and everything is lost."""
    with pytest.raises(NotRunning, match="before the source"):
        EventQueue(Dispatcher(Router()), None, 1).open()


def test_wrong_arguments_raise_at_once() -> None:
    """Not when the first gap comes; trio is detected."""
    calls = Dispatcher(Router())
    with pytest.raises(ValueError, match="at least 1"):
        EventQueue(calls, None, 0)
    with pytest.raises(ValueError, match="at least 1 character"):
        EventQueue(calls, "", 1)

    async def on_trio() -> None:
        EventQueue(calls, None, 1).open()

    with pytest.raises(RuntimeError, match="need asyncio"):
        trio.run(on_trio)
