"""A journal that cannot keep events: the log says why, once and then now and then, and the dispatcher is not ready until it can."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import Dispatcher, JournalError, Router
from telstate.journals import MemoryJournal, SqliteJournal
from telstate.routing import Entry
from telstate.routing import _journal_health as health
from telstate.testing import FakeClock
from tests.calls import js
from tests.routing import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look every fiftieth of a second, not every second."""
    monkeypatch.setattr("telstate.routing._self_checks._EVERY", 0.02)


async def refused(calls: Dispatcher, times: int) -> list[str]:
    """Receive events that cannot be kept; return why."""
    errors = list[str]()
    for number in range(times):
        with pytest.raises(JournalError) as info:
            await calls.receive(js("dialout-connected", f"refused-{number}", text="x" * 9000))
        errors.append(str(info.value))
    return errors


@asynccontextmanager
async def full(journal: SqliteJournal) -> AsyncIterator[None]:
    """No page of the database is left: SQLite's own error of a full disk."""
    assert journal._database is not None
    execute = journal._database.execute
    pages = await journal._disk.run(lambda: execute("PRAGMA page_count").fetchone()[0])
    await journal._disk.run(lambda: execute(f"PRAGMA max_page_count={pages}"))
    yield
    await journal._disk.run(lambda: execute("PRAGMA max_page_count=1000000"))


@asynccontextmanager
async def locked(journal: SqliteJournal) -> AsyncIterator[None]:
    """Somebody else holds a transaction on the database."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.both_loops
@pytest.mark.parametrize(("trouble", "words"), [(full, "full"), (locked, "locked")])
async def test_the_reason_is_logged_once_and_readiness_comes_back(
    trouble: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another event: a service that is not ready may get none. What was refused is counted."""
    monkeypatch.setattr("telstate.routing._journal_health._SAY_EVERY", 600.0)  # however slow the machine is
    journal = SqliteJournal(tmp_path / "calls.db", busy=0.01)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal) as calls:
            await calls.receive(js("dialout-connected", "kept"))
            assert calls.not_ready is None
            async with trouble(journal):  # type: ignore[operator]
                errors = await refused(calls, 30)
                assert calls.not_ready is not None
                assert calls.not_ready.startswith("the journal cannot keep events: ")
                assert words in calls.not_ready
                await anyio.sleep(0.2)  # several probes, which must not take it for mended
                assert calls.not_ready is not None
            assert all(words in error for error in errors)
            await until(lambda: calls.not_ready is None)
            await calls.receive(js("dialout-connected", "kept later"))
    (line,) = [log for log in logs if log["event"] == "journal.cannot_keep_events"]
    assert words in line["reason"]
    (again,) = [log for log in logs if log["event"] == "journal.keeps_events_again"]
    assert again["refused"] == 30
    (repeated,) = [log for log in logs if log["event"] == "log.repeated" and log["name"] == line["event"]]
    assert repeated["times"] == 29


async def test_an_event_that_is_kept_ends_the_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At once, not only after a probe."""
    monkeypatch.setattr("telstate.routing._self_checks._PROBE_EVERY", 1_000_000)
    journal = SqliteJournal(tmp_path / "calls.db", busy=0.01)
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal) as calls:
            async with locked(journal):
                await refused(calls, 1)
            assert calls.not_ready is not None
            await calls.receive(js("dialout-connected"))
            assert calls.not_ready is None


class Broken(MemoryJournal):
    """A journal that needs no waiting, and fails."""

    broken = True

    def append_now(self, entry: Entry) -> int:
        """Fail."""
        if self.broken:
            raise OSError(28, "No space left on device")
        return super().append_now(entry)

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Fail as well."""
        if self.broken:
            raise OSError(28, "No space left on device")
        return await super().save(key, state, revision)


async def test_a_journal_that_needs_no_waiting_fails_in_the_same_way() -> None:
    """In `receive` and in `receive_many`."""
    journal = Broken()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            await refused(calls, 1)
            with pytest.raises(JournalError):
                await calls.receive_many([js("dialout-connected", "a"), js("dialout-connected", "b")])
            assert "No space left on device" in str(calls.not_ready)
            journal.broken = False
            await until(lambda: calls.not_ready is None)
    assert next(log for log in logs if log["event"] == "journal.keeps_events_again")["refused"] == 3


class Slow(SqliteJournal):
    """A journal whose disk hangs until it is let go."""

    gate: anyio.Event

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Hang, then append."""
        await self.gate.wait()
        return await super().append(entries)


async def test_a_journal_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing has failed, and nothing is kept."""
    monkeypatch.setattr(health, "_HANGS_AFTER", 0.1)
    journal = Slow(tmp_path / "calls.db")
    journal.gate = anyio.Event()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal) as calls, anyio.create_task_group() as group:
            group.start_soon(calls.receive, js("dialout-connected"))
            await until(lambda: calls.not_ready is not None)
            assert re.search(
                r"the journal has not answered for \d+ seconds: its disk or its server hangs", str(calls.not_ready)
            )
            await anyio.sleep(0.2)
            journal.gate.set()
            await until(lambda: calls.not_ready is None)
    assert [log["event"] for log in logs] == ["journal.hangs"]
