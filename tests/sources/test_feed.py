"""Payloads that come by and by, into a dispatcher: in order, none lost, and several in one commit where they are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from telstate import Dispatcher, NotRunning, OutcomeKind, Router, SourceGap, StopRequested
from telstate.journals import SqliteJournal
from telstate.routing._payload import Payload
from telstate.routing._ports import Entry
from telstate.sources import _feed as module
from telstate.sources._feed import Fed, feed
from telstate.sources._follow import follow
from telstate.testing import Noise, simulate
from tests.calls import SESSION, js
from tests.routing import until
from tests.routing.kept import actions, lines_at, replayed, state_of

pytestmark = pytest.mark.anyio


class Failing(SqliteJournal):
    """A journal that tells how many events each of its commits had, and fails at some of the tries."""

    fails_at: range | tuple[int, ...] = ()

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tries: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, or fail."""
        self.tries.append(len(entries))
        if len(self.tries) - 1 in self.fails_at:
            raise OSError(28, "No space left on device for +12025550100")
        return await super().append(entries)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are real ones."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)


def day(events: int) -> list[bytes]:
    """A bad day's lines."""
    return [sent.line() for sent in islice(simulate(3, calls=events, noise=Noise.of_a_bad_day()), events)]


async def slowly(*groups: list[Payload]) -> AsyncIterator[Payload]:
    """Each group at once, with a wait between."""
    for group in groups:
        for payload in group:
            yield payload
        await anyio.sleep(0.02)


def kept(path: Path) -> list[dict[str, Any]]:
    """What the journal has."""
    return actions("sqlite", path)


async def test_it_is_the_same_as_one_after_another(tmp_path: Path) -> None:
    """Every session, and what a replay ends with."""
    lines = day(700)
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "one")) as calls:
        for line in lines:
            await calls.receive(line)
    async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "fed")) as calls:
        groups: list[list[Payload]] = [list(lines[start : start + 70]) for start in range(0, 700, 70)]
        assert await feed(calls, slowly(*groups)) == Fed(received=700, refused=0)

    def known(name: str) -> list[dict[str, Any]]:
        times = ("_at", "_s")
        sessions = state_of(replayed("sqlite", tmp_path / name))
        return [{key: value for key, value in session.items() if not key.endswith(times)} for session in sessions]

    assert known("one") == known("fed")
    assert len(known("fed")) > 50


async def test_what_is_there_together_shares_a_commit(tmp_path: Path) -> None:
    """And nobody waits for more."""
    journal = Failing(tmp_path / "calls.db")
    groups: list[list[Payload]] = [[*day(size)] for size in (1, 30, 250)]
    async with Dispatcher(Router(), journal=journal) as calls:
        await feed(calls, slowly(*groups), batch=100)
    assert journal.tries[:4] == [1, 30, 100, 100]
    assert sum(journal.tries) == 281


async def test_with_a_batch_of_one_nothing_is_asked_for_before_the_last_is_kept(tmp_path: Path) -> None:
    """Brokers are told so by the asking."""
    path = tmp_path / "calls.db"

    async def broker() -> AsyncIterator[Payload]:
        for number in range(20):
            yield js("dialout-connected", f"s{number}")
            assert len(kept(path)) == number + 1

    journal = Failing(path)
    journal.fails_at = (3, 4)
    async with Dispatcher(Router(), journal=journal) as calls:
        assert await feed(calls, broker(), batch=1) == Fed(20, 0)


async def test_no_more_than_a_batch_is_ever_asked_for_and_not_kept(tmp_path: Path) -> None:
    """However fast they come."""
    path, asked = tmp_path / "calls.db", 0

    async def source() -> AsyncIterator[Payload]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield js("dialout-connected", f"s{number}")
            if number % 3 == 0:
                await anyio.lowlevel.checkpoint()

    class Watching(Failing):
        """A slow one, that looks how many were asked for meanwhile."""

        most = 0

        async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
            await anyio.sleep(0.005)
            self.most = max(self.most, asked - sum(self.tries))
            return await super().append(entries)

    journal = Watching(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        assert await feed(calls, source(), batch=7) == Fed(100, 0)
    assert journal.most == 7


async def test_what_is_no_event_is_counted_and_named_without_what_it_says() -> None:
    """And stops nothing."""
    bad: list[Any] = [b'{"tel": "+12025550100', {"action": "+12025550100"}, {"action": {"+12025550100": 1}}, 5, b""]
    async with Dispatcher(Router()) as calls:
        with capture_logs() as logged:
            fed = await feed(calls, [js("dialout-connected"), *bad, js("dialout-answered")])
        assert calls.counts[OutcomeKind.MOVED] == 2
    assert fed == Fed(received=3, refused=4)  # a type that nobody knows is an event
    assert [(entry["event"], entry["number"]) for entry in logged] == [
        ("feed.refused", number) for number in (2, 4, 5, 6)
    ]
    assert "5550" not in str(logged)


async def test_what_only_this_side_knows_comes_as_an_object() -> None:
    """In its place among the others; as bytes it may be somebody's request."""
    stop = StopRequested(session_id=SESSION)
    async with Dispatcher(Router()) as calls:
        assert await feed(calls, [js("dialout-answered"), stop, stop.to_json()]) == Fed(2, 1)


async def test_the_dialect_may_be_told() -> None:
    """Then it is not guessed."""
    async with Dispatcher(Router()) as calls:
        assert await feed(calls, [js("dialout-answered")], dialect="webhook") == Fed(0, 1)


@pytest.mark.parametrize("lane_limit", [1000, 20], ids=["in one commit", "in many"])
async def test_a_journal_that_fails_is_asked_again(tmp_path: Path, lane_limit: int) -> None:
    """Nothing is lost, nothing comes twice, the order holds, and what is no event is counted once."""
    path = tmp_path / "calls.db"
    lines: list[Payload] = []
    for number in range(300):
        lines += (
            [js("dialout-connected", f"s{number}"), b"{"] if number % 3 == 0 else [js("dialout-answered", f"s{number}")]
        )
    journal = Failing(path)
    journal.fails_at = (0, 1, 3, 7, 8, 9, 12, 20)
    async with Dispatcher(Router(), journal=journal, lane_limit=lane_limit) as calls:
        with capture_logs() as logged:
            assert await feed(calls, slowly(lines[:150], lines[150:])) == Fed(received=300, refused=100)
    assert [payload["sessionId"] for payload in kept(path)] == [f"s{number}" for number in range(300)]
    refused = [entry["number"] for entry in logged if entry["event"] == "feed.refused"]
    assert refused == [number for number, payload in enumerate(lines, 1) if payload == b"{"]
    failed = [entry for entry in logged if entry["event"] == "feed.journal_failed"]
    assert len(failed) == len([number for number in journal.fails_at if number < len(journal.tries)]) >= 3
    assert "+12025550100" not in str(logged)


async def test_the_pauses_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To half a minute and no further; here, to a hundredth of a second."""
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.01)
    journal = Failing(tmp_path / "calls.db")
    journal.fails_at = range(6)
    async with Dispatcher(Router(), journal=journal) as calls:
        with capture_logs() as logged:
            await feed(calls, [js("dialout-connected")])
    assert [entry["pause"] for entry in logged] == [0.001, 0.002, 0.004, 0.008, 0.01, 0.01]


async def test_a_source_that_is_lost_leaves_a_gap(tmp_path: Path) -> None:
    """After all that it brought, and also if the journal must be asked twice; then its own exception goes on."""
    path = tmp_path / "calls.db"

    async def source() -> AsyncIterator[Payload]:
        yield js("dialout-connected")
        yield js("dialout-answered")
        raise ConnectionResetError("by +12025550100")

    journal = Failing(path)
    journal.fails_at = (0, 2)
    async with Dispatcher(Router(), journal=journal) as calls:
        with pytest.raises(ConnectionResetError):
            await feed(calls, source())
        session = calls.session(SESSION)
        assert session is not None
        assert session.uncertain
    assert [payload["action"] for payload in kept(path)] == ["dialout-connected", "dialout-answered", "source-gap"]
    assert kept(path)[-1]["reason"] == "ConnectionResetError: by +12•••••••00"


async def test_an_iterator_that_is_not_async_may_fail_too() -> None:
    """The same."""

    def source() -> Iterator[Payload]:
        yield js("dialout-connected")
        raise OSError("the disk broke")

    async with Dispatcher(Router()) as calls:
        with pytest.raises(OSError, match="broke"):
            await feed(calls, source())
        session = calls.session(SESSION)
        assert session is not None
        assert session.uncertain


async def test_a_dispatcher_that_closes_ends_it(tmp_path: Path) -> None:
    """With its own exception and in no group; the iterator is closed."""
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


async def test_it_can_be_cancelled_at_any_time(tmp_path: Path) -> None:
    """While it waits for the source, and while it waits for the journal; the iterator is closed, what was kept stays."""
    for fails_at, expected in ((range(0), 1), (range(1_000_000), 0)):
        path = tmp_path / f"{expected}.db"
        journal, closed = Failing(path), False
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
        assert len(kept(path)) == expected


async def test_misuse_is_told() -> None:
    """At once, and what to do instead."""
    async with Dispatcher(Router()) as calls:
        single: list[Any] = [b"{}", "{}", {}, StopRequested(session_id="s")]
        for payload in single:
            with pytest.raises(TypeError, match=r"await calls\.receive"):
                await feed(calls, payload)
        with pytest.raises(ValueError, match="at least 1"):
            await feed(calls, [], batch=0)
        assert await feed(calls, []) == Fed(0, 0)


async def test_a_file_that_is_followed_into_a_journal_that_fails(tmp_path: Path) -> None:
    """All of it together: rotated and cut under way, and the disk full now and then."""
    log, path = tmp_path / "log", tmp_path / "calls.db"
    log.write_bytes(b"")
    journal = Failing(path)
    journal.fails_at = range(2, 10_000, 3)
    lines = [b'{"action":"dialout-connected","sessionId":"s%d"}\n' % number for number in range(300)]

    async def has(number: int) -> None:
        name = f'"s{number}"'.encode()
        await until(lambda: any(name in line for line in lines_at("sqlite", path)), 30)

    async with Dispatcher(Router(), journal=journal) as calls, anyio.create_task_group() as group:
        group.start_soon(lambda: feed(calls, follow(log, poll=0.005), batch=10))
        for number, line in enumerate(lines):
            with log.open("ab") as file:
                file.write(line)
            if number == 0:
                await has(0)
            if number == 100:
                log.rename(tmp_path / "log.1")
            if number == 200:
                await has(200)
                log.write_bytes(b"")
                await until(lambda: any(b"source-gap" in line for line in lines_at("sqlite", path)), 30)
        await has(299)
        group.cancel_scope.cancel()
    told = [payload.get("sessionId", payload["action"]) for payload in kept(path)]
    assert told == [f"s{number}" for number in range(201)] + ["source-gap"] + [
        f"s{number}" for number in range(201, 300)
    ]
    assert SourceGap(reason=kept(path)[201]["reason"]).reason
