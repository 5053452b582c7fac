"""The run itself, and the promises it checks.

Memory is the resident set of this process (`/proc/self/statm`) after `gc.collect()`: read at each tenth of the events, and
compared between a fifth and the end. The retention is a twentieth of the run, so from the first tenth on the number of
remembered calls is constant. By a fifth a checkpoint of that size was saved, for which the process grows once, by about 600
bytes for each remembered call. The number of memory blocks that Python has allocated may not grow either between the halves
of the run.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from telstate import DialoutAnswered, Dispatcher, Router, Session, Settings
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from tests.soak.calls import RATE, Arrival, arrivals, number_of

__all__ = ["SoakFailed", "copied", "soak"]

IN_FLIGHT = 256
_MEMORY = 20 * 1024 * 1024
"""Bytes by which the process may grow from a fifth of the run to its end."""
_DRAINED_WITHIN = 300.0


class SoakFailed(Exception):
    """A promise did not hold."""


class SoakClock(FakeClock):
    """The time of the events, so that hours pass in seconds."""

    def move(self, now: float) -> None:
        """Set the time, and wake the tasks that slept until then, without waiting for them."""
        self._now = max(self._now, now)
        for until, woken in self._sleepers:
            if until <= self._now:
                woken.set()


class Tally:
    """The calls of handlers, one byte for each call."""

    def __init__(self, calls: int) -> None:
        # Written here: else the process would grow when a page is first used.
        self.starts = bytearray(b"\0") * calls
        self.ends = bytearray(b"\0") * calls
        self.retired = bytearray(b"\0") * calls
        self.answered = 0

    def router(self) -> Router:
        """Handlers that only count."""
        router = Router()

        @router.on_start()
        async def start(session: Session) -> None:
            self.starts[number_of(session.session_id)] += 1

        @router.on(DialoutAnswered)
        async def answered() -> None:
            self.answered += 1

        @router.on_end()
        async def end(session: Session) -> None:
            self.ends[number_of(session.session_id)] += 1

        @router.on_retired()
        async def retired(session: Session) -> None:
            self.retired[number_of(session.session_id)] += 1

        return router

    def expect_each_once(self) -> None:
        """Check that each handler ran once for each call."""
        for name, counts in (("on_start", self.starts), ("on_end", self.ends), ("on_retired", self.retired)):
            wrong = len(counts) - counts.count(1)
            _expect(not wrong, f"{name} did not run exactly once for {wrong} of {len(counts)} calls")


async def soak(calls: int, *, durable: bool = True, retention: float | None = None) -> dict[str, Any]:
    """Run the soak; return a report.

    Args:
        calls: how many.
        durable: with a SqliteJournal, and a recovery at the end.
        retention: seconds; by default a twentieth of the run.

    Raises:
        SoakFailed: if a promise does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="telstate-soak-") as folder:
        return await _soak(calls, durable, retention or calls / RATE / 20, Path(folder))


async def _soak(calls: int, durable: bool, retention: float, folder: Path) -> dict[str, Any]:
    settings = Settings(retention=retention, key_ttl=retention, parked_ttl=retention)
    tally, source = Tally(calls), arrivals(calls)
    events = _Counted(source, 4 * calls // 10)  # every call has four events
    clock = SoakClock(1_790_000_000.0)
    path = folder / "calls"
    journal = SqliteJournal(path) if durable else None
    report: dict[str, Any] = {"calls": calls, "durable": durable, "retention_s": retention}
    async with Dispatcher(tally.router(), journal=journal, settings=settings, clock=clock) as dispatcher:
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(IN_FLIGHT):
                group.start_soon(_receive, dispatcher, clock, events)
        await dispatcher.idle()
        seconds = time.perf_counter() - started
        gc.collect()
        grown = _resident() - events.memory[1]
        report |= {"events": events.count, "seconds": round(seconds, 1), "events_per_s": round(events.count / seconds)}
        report |= {"rss_at_each_tenth_mb": [_mb(size) for size in events.memory], "rss_growth_mb": _mb(grown)}
        report["python_blocks_at_each_tenth"] = events.blocks
        report["sizes_at_the_end_of_the_run"] = {key: size for key, size in dispatcher.sizes().items() if size}
        counts, at = dispatcher.counts, clock.now()
        _expect(sum(counts.values()) == events.count, f"{events.count} events have outcomes {counts}")
        _expect(not dispatcher.live(), f"{len(dispatcher.live())} calls did not end")
        if journal is not None:
            copied(path, folder / "copy")
        clock.move(at + 3 * retention + 1)
        with anyio.fail_after(_DRAINED_WITHIN):
            while any(dispatcher.sizes().values()):  # noqa: ASYNC110 - as a monitor outside the service would
                await anyio.sleep(0.01)
        sizes = dispatcher._sequencer.engine.sizes()
        _expect(not any(sizes.values()), f"the engine remembers {sizes}")
        _expect(sum(dispatcher.counts.values()) == events.count, "the outcomes of limits were counted with the events'")
    tally.expect_each_once()
    report["memory_holds"] = grown < _MEMORY and min(events.blocks[5:]) < 1.05 * min(events.blocks[:5])
    report |= {"outcomes": {str(kind): count for kind, count in counts.items()}}
    report["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if journal is not None:
        report |= await _recover(SqliteJournal(folder / "copy" / "calls"), calls, SoakClock(at), counts)
    return report


class _Counted:
    """Counts the events as they are taken, and reads the memory at each tenth of them."""

    def __init__(self, source: Iterator[Arrival], tenth: int) -> None:
        self._source = source
        self._tenth = tenth
        self.count = 0
        self.memory: list[int] = []
        self.blocks: list[int] = []
        """Memory blocks that Python has allocated: they distinguish a leak from fragmentation."""

    def __iter__(self) -> Iterator[Arrival]:
        return self

    def __next__(self) -> Arrival:
        one = next(self._source)
        self.count += 1
        if self.count % self._tenth == 0:
            gc.collect()
            self.memory.append(_resident())
            self.blocks.append(sys.getallocatedblocks())
        return one


async def _receive(dispatcher: Dispatcher, clock: SoakClock, events: _Counted) -> None:
    for one in events:
        clock.move(one.at)
        await dispatcher.receive(one.payload)
        await checkpoint()  # as a server's I/O does: else a waiting task's event is overtaken by hours of others


async def _recover(journal: SqliteJournal, calls: int, clock: SoakClock, counts: object) -> dict[str, Any]:
    """Start on what a crash left behind, and measure how long that takes."""
    again = Tally(calls)
    gc.collect()
    started = time.perf_counter()
    async with Dispatcher(again.router(), journal=journal, clock=clock) as dispatcher:
        seconds = time.perf_counter() - started
        _expect(dispatcher.counts == counts, f"recovered {dispatcher.counts}, not {counts}")
        _expect(not dispatcher.live(), "calls came back to life")
        since = dispatcher._sequencer.seq - dispatcher._run.checkpoints._saved
        await dispatcher.idle()
        handled_again = sum(again.starts) + sum(again.ends) + sum(again.retired)
    return {
        "recovery_s": round(seconds, 2),
        "recovered_without_checkpoint": since,
        "handlers_run_again": handled_again,
    }


def copied(path: Path, folder: Path) -> Path:
    """Copy a journal as a crash would leave it.

    Another process copies: closing one of SQLite's files in this process would drop its locks on the file.
    """
    folder.mkdir()
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            subprocess.run(["cp", str(source), str(folder)], check=True)
    return folder / path.name


def _resident() -> int:
    """The resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _mb(size: int) -> float:
    return round(size / 1024 / 1024, 1)


def _expect(promise: bool, otherwise: str) -> None:
    if not promise:
        raise SoakFailed(otherwise)
