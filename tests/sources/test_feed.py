"""Streams of payloads into a dispatcher: in order, without loss, several in one commit where several are ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from telstate import (
    Dispatcher,
    JournalError,
    NotRunning,
    Outcome,
    OutcomeKind,
    ParseError,
    Router,
    SourceGap,
    StopRequested,
)
from telstate.journals import SqliteJournal
from telstate.routing._payload import Payload
from telstate.routing._ports import Entry
from telstate.sources import FeedResult, feed, follow
from telstate.sources import _feed as module
from telstate.testing import FakeClock, Noise, simulate
from tests.calls import SESSION, js
from tests.routing import until
from tests.routing.kept import replayed, state_of
from tests.sources.live import payloads

pytestmark = pytest.mark.anyio


class CountingJournal(SqliteJournal):
    """A journal that records the size of each commit, and fails at some attempts."""

    fails_at: range | tuple[int, ...] = ()

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tries: list[int] = []
        self.kept = 0

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, or fail."""
        self.tries.append(len(entries))
        if len(self.tries) - 1 in self.fails_at:
            raise OSError(28, "No space left on device for +12025550100")
        numbers = await super().append(entries)
        self.kept += len(entries)
        return numbers


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are real ones."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)


def day(events: int) -> list[bytes]:
    """The lines of a bad day."""
    return [sent.line() for sent in islice(simulate(3, calls=events, noise=Noise.of_a_bad_day()), events)]


async def in_groups(*groups: list[Payload]) -> AsyncIterator[Payload]:
    """Yield each group at once, with a wait between groups."""
    for group in groups:
        for payload in group:
            yield payload
        await anyio.sleep(0.02)


@pytest.mark.long
async def test_feeding_equals_receiving_one_by_one(tmp_path: Path) -> None:
    """Every session is the same after a replay."""
    lines = day(700)
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "one")) as calls:
        for line in lines:
            await calls.receive(line)
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "fed")) as calls:
        groups: list[list[Payload]] = [list(lines[start : start + 70]) for start in range(0, 700, 70)]
        assert await feed(calls, in_groups(*groups)) == FeedResult(received=700, refused=0)

    def known(name: str) -> list[dict[str, Any]]:
        times = ("_at", "_s")
        sessions = state_of(replayed(tmp_path / name))
        return [{key: value for key, value in session.items() if not key.endswith(times)} for session in sessions]

    assert known("one") == known("fed")
    assert len(known("fed")) > 50


async def test_payloads_that_are_ready_share_a_commit(tmp_path: Path) -> None:
    """feed waits for no more of them."""
    journal = CountingJournal(tmp_path / "calls.db")

    async def groups() -> AsyncIterator[Payload]:
        given = 0
        for size in (1, 30, 250):
            for payload in day(size):
                yield payload
            given += size
            await until(lambda: journal.kept == given)  # noqa: B023 - it is awaited here
            await anyio.wait_all_tasks_blocked()  # until feed knows it too and has room for a whole batch again

    async with Dispatcher(Router(), journal=journal) as calls:
        await feed(calls, groups(), batch=100)
    assert journal.tries == [1, 30, 100, 100, 50]


async def test_with_a_batch_of_one_each_payload_is_kept_before_the_next(tmp_path: Path) -> None:
    """For brokers where asking for the next acknowledges the last."""
    path = tmp_path / "calls.db"

    async def broker() -> AsyncIterator[Payload]:
        for number in range(20):
            yield js("dialout-connected", f"s{number}")
            assert len(await payloads(path)) == number + 1

    journal = CountingJournal(path)
    journal.fails_at = (3, 4)
    async with Dispatcher(Router(), journal=journal) as calls:
        assert await feed(calls, broker(), batch=1) == FeedResult(20, 0)


async def test_no_more_than_a_batch_is_read_ahead(tmp_path: Path) -> None:
    """However fast they come."""
    path, asked = tmp_path / "calls.db", 0

    async def source() -> AsyncIterator[Payload]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield js("dialout-connected", f"s{number}")
            if number % 3 == 0:
                await anyio.lowlevel.checkpoint()

    class SlowJournal(CountingJournal):
        """A slow journal that records how far the iterator has read ahead."""

        most = 0

        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            await anyio.sleep(0.005)
            self.most = max(self.most, asked - sum(self.tries))
            return await super().append(entries)

    journal = SlowJournal(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        assert await feed(calls, source(), batch=7) == FeedResult(100, 0)
    assert journal.most == 7


async def test_unreadable_payloads_are_counted_and_logged_without_content() -> None:
    """Events around them are received."""
    bad: list[Any] = [b'{"tel": "+12025550100', {"action": "+12025550100"}, {"action": {"+12025550100": 1}}, 5, b""]
    async with Dispatcher(Router()) as calls:
        with capture_logs() as logged:
            fed = await feed(calls, [js("dialout-connected"), *bad, js("dialout-answered")])
        assert calls.counts[OutcomeKind.MOVED] == 2
    assert fed == FeedResult(received=3, refused=4)  # an unknown type is an event
    assert [(entry["event"], entry["number"]) for entry in logged] == [
        ("feed.refused", number) for number in (2, 4, 5, 6)
    ]
    assert "5550" not in str(logged)


async def test_local_events_are_accepted_as_objects_only() -> None:
    """As bytes they might be a request from outside."""
    stop = StopRequested(session_id=SESSION)
    async with Dispatcher(Router()) as calls:
        assert await feed(calls, [js("dialout-answered"), stop, stop.to_json()]) == FeedResult(2, 1)


async def test_the_dialect_can_be_given() -> None:
    """Then it is not detected."""
    async with Dispatcher(Router()) as calls:
        assert await feed(calls, [js("dialout-answered")], dialect="webhook") == FeedResult(0, 1)


@pytest.mark.parametrize("lane_limit", [1000, 20], ids=["in one commit", "in many"])
async def test_a_failing_journal_is_retried(tmp_path: Path, lane_limit: int) -> None:
    """Nothing is lost or doubled, the order holds, and each unreadable payload is counted once."""
    path = tmp_path / "calls.db"
    lines: list[Payload] = []
    for number in range(300):
        lines += (
            [js("dialout-connected", f"s{number}"), b"{"] if number % 3 == 0 else [js("dialout-answered", f"s{number}")]
        )
    journal = CountingJournal(path)
    journal.fails_at = (0, 1, 3, 7, 8, 9, 12, 20)
    async with Dispatcher(Router(), journal=journal, lane_limit=lane_limit) as calls:
        with capture_logs() as logged:
            assert await feed(calls, in_groups(lines[:150], lines[150:])) == FeedResult(received=300, refused=100)
    assert [payload["sessionId"] for payload in await payloads(path)] == [f"s{number}" for number in range(300)]
    refused = [entry["number"] for entry in logged if entry["event"] == "feed.refused"]
    assert refused == [number for number, payload in enumerate(lines, 1) if payload == b"{"][:20]
    failed = [entry for entry in logged if entry["event"] == "feed.journal_failed"]
    assert len(failed) == len([number for number in journal.fails_at if number < len(journal.tries)]) >= 3
    assert "+12025550100" not in str(logged)


async def test_answers_of_a_failed_batch_are_counted_as_they_are() -> None:
    """They are not parsed again, and only the rest is retried."""
    batches: list[list[Payload]] = []

    class Failing(Dispatcher):
        """Answers the first payload of the first batch, then fails."""

        async def receive_many(self, payloads: Iterable[Payload], dialect: Any = None) -> list[Outcome | ParseError]:
            batches.append(list(payloads))
            if len(batches) > 1:
                return await super().receive_many(batches[-1], dialect)
            error = JournalError("the disk is full")
            error.answers = (ParseError("id", "an id", None),)
            raise error

    first, second = js("dialout-connected", "s1"), js("dialout-connected", "s2")
    async with Failing(Router()) as calls:
        assert await feed(calls, [first, second]) == FeedResult(received=1, refused=1)
    assert batches == [[first, second], [second]]


async def test_pauses_follow_the_clock_of_the_dispatcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry waits until the fake clock is advanced."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 60.0)
    journal, clock = CountingJournal(tmp_path / "calls.db"), FakeClock()
    journal.fails_at = (0,)
    async with Dispatcher(Router(), journal=journal, clock=clock) as calls, anyio.create_task_group() as group:
        group.start_soon(feed, calls, [js("dialout-connected")])
        await until(lambda: len(journal.tries) == 1)
        await clock.advance(59)
        assert len(journal.tries) == 1
        await clock.advance(1)
        await until(lambda: calls.session(SESSION) is not None)


async def test_the_pauses_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the longest pause; here a hundredth of a second."""
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.01)
    journal = CountingJournal(tmp_path / "calls.db")
    journal.fails_at = range(6)
    async with Dispatcher(Router(), journal=journal) as calls:
        with capture_logs() as logged:
            await feed(calls, [js("dialout-connected")])
    assert [entry["pause"] for entry in logged if "pause" in entry] == [0.001, 0.002, 0.004, 0.008, 0.01, 0.01]


async def test_a_failing_iterator_leaves_a_gap(tmp_path: Path) -> None:
    """After everything that it yielded, also if the journal must be retried; then its exception is raised."""
    path = tmp_path / "calls.db"

    async def source() -> AsyncIterator[Payload]:
        yield js("dialout-connected")
        yield js("dialout-answered")
        raise ConnectionResetError("by +12025550100")

    journal = CountingJournal(path)
    journal.fails_at = (0, 2)
    async with Dispatcher(Router(), journal=journal) as calls:
        with pytest.raises(ConnectionResetError):
            await feed(calls, source())
        session = calls.session(SESSION)
        assert session is not None
        assert session.uncertain
    assert [payload["action"] for payload in await payloads(path)] == [
        "dialout-connected",
        "dialout-answered",
        "source-gap",
    ]
    assert (await payloads(path))[-1]["reason"] == "ConnectionResetError: by +12•••••••00"


async def test_a_failing_sync_iterator_leaves_a_gap() -> None:
    """As an async one does."""

    def source() -> Iterator[Payload]:
        yield js("dialout-connected")
        raise OSError("the disk broke")

    async with Dispatcher(Router()) as calls:
        with pytest.raises(OSError, match="broke"):
            await feed(calls, source())
        session = calls.session(SESSION)
        assert session is not None
        assert session.uncertain


async def test_a_closed_dispatcher_ends_it(tmp_path: Path) -> None:
    """Its exception is in no group, and the iterator is closed."""
    closed = False

    async def source() -> AsyncIterator[Payload]:
        nonlocal closed
        try:
            while True:
                yield js("dialout-connected")
        finally:
            closed = True

    calls = Dispatcher(Router())
    with pytest.raises(NotRunning):
        await feed(calls, source())
    assert closed


@pytest.mark.both_loops
async def test_it_can_be_cancelled_at_any_time(tmp_path: Path) -> None:
    """While it waits for the source, and for the journal; the iterator is closed, and what was kept stays."""
    for fails_at, expected in ((range(0), 1), (range(1_000_000), 0)):
        path = tmp_path / f"{expected}.db"
        journal, closed = CountingJournal(path), False
        journal.fails_at = fails_at

        async def source() -> AsyncIterator[Payload]:
            nonlocal closed
            try:
                yield js("dialout-connected")
                await anyio.sleep_forever()
            finally:
                closed = True

        async with Dispatcher(Router(), journal=journal) as calls, anyio.create_task_group() as group:
            group.start_soon(feed, calls, source())
            await until(lambda journal=journal, expected=expected: len(journal.tries) > 1 - expected)  # type: ignore[misc]
            await calls.idle()
            group.cancel_scope.cancel()
        assert closed
        assert len(await payloads(path)) == expected


async def test_misuse_raises_with_advice() -> None:
    """At once."""
    async with Dispatcher(Router()) as calls:
        single: list[Any] = [b"{}", "{}", {}, StopRequested(session_id="s")]
        for payload in single:
            with pytest.raises(TypeError, match=r"await calls\.receive"):
                await feed(calls, payload)
        with pytest.raises(ValueError, match="at least 1"):
            await feed(calls, [], batch=0)
        assert await feed(calls, []) == FeedResult(0, 0)


async def test_following_a_rotated_and_truncated_file_into_a_failing_journal(tmp_path: Path) -> None:
    """All of it together."""
    log, path = tmp_path / "log", tmp_path / "calls.db"
    log.write_bytes(b"")
    journal = CountingJournal(path)
    journal.fails_at = range(2, 10_000, 3)
    lines = [b'{"action":"dialout-connected","sessionId":"s%d"}\n' % number for number in range(300)]

    async with Dispatcher(Router(), journal=journal) as calls, anyio.create_task_group() as group:
        group.start_soon(lambda: feed(calls, follow(log, poll=0.005), batch=10))
        for number, line in enumerate(lines):
            with log.open("ab") as file:
                file.write(line)
            if number == 0:
                await until(lambda: calls.session("s0") is not None, 30)
            if number == 100:
                log.rename(tmp_path / "log.1")
            if number == 200:
                await until(lambda: calls.session("s200") is not None, 30)
                log.write_bytes(b"")
                await until(lambda: all(session.uncertain for session in calls.live()), 30)
        await until(lambda: calls.session("s299") is not None, 30)
        group.cancel_scope.cancel()
    received = [payload.get("sessionId", payload["action"]) for payload in await payloads(path)]
    assert received == [f"s{number}" for number in range(201)] + ["source-gap"] + [
        f"s{number}" for number in range(201, 300)
    ]
    assert SourceGap(reason=(await payloads(path))[201]["reason"]).reason
