"""Following a file on an event loop, while another program writes and rotates it."""

from __future__ import annotations

import logging.handlers
import os
import threading
import time
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from telstate import LogClock, SourceGap
from telstate.sources import _follow as module
from telstate.sources._follow import follow
from telstate.sources._splitter import LineSplitter
from tests.routing import until

pytestmark = pytest.mark.anyio

LAST = b"last"


async def all_of(path: Path, *, from_start: bool = True) -> list[bytes | SourceGap]:
    """Return everything up to the last line."""
    found: list[bytes | SourceGap] = []
    with anyio.fail_after(30):
        async with aclosing(follow(path, from_start=from_start, poll=0.005)) as items:
            async for item in items:
                found.append(item)
                if item == LAST:
                    break
    return found


async def test_a_writer_in_another_thread_that_rotates(tmp_path: Path) -> None:
    """As Python's own handler does: a few hundred lines each. Nothing is missing and nothing comes twice."""
    log = tmp_path / "calls.log"

    def write() -> None:
        handler = logging.handlers.RotatingFileHandler(log, maxBytes=20_000, backupCount=1000)
        for number in range(5_000):
            handler.emit(logging.makeLogRecord({"msg": f'{{"number": {number}}}'}))
            if number % 100 == 0:
                time.sleep(0.005)
        handler.emit(logging.makeLogRecord({"msg": "last"}))
        handler.close()

    thread = threading.Thread(target=write)
    thread.start()
    found = await all_of(log)
    thread.join()
    written = [*(b'{"number": %d}' % number for number in range(5_000)), LAST]
    lines = [item for item in found if isinstance(item, bytes)]
    if len(lines) < len(written):  # a slow machine gets gaps instead
        assert SourceGap in map(type, found)
    found_lines = set(lines)
    assert lines == [line for line in written if line in found_lines]
    assert len(os.listdir(tmp_path)) > 3


async def test_a_missing_file_is_waited_for_and_logged_once(tmp_path: Path) -> None:
    """It is read from its first line."""
    log = tmp_path / "log"
    with capture_logs() as logged:
        async with anyio.create_task_group() as group:

            async def read() -> None:
                assert await all_of(log, from_start=False) == [b"a", LAST]

            group.start_soon(read)
            await until(lambda: bool(logged))
            (tmp_path / "made").write_bytes(b"a\nlast\n")
            (tmp_path / "made").rename(log)
    assert [entry["event"] for entry in logged] == ["source.waiting"]


async def test_a_line_that_is_too_long_is_skipped_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its content."""
    monkeypatch.setattr(
        module, "LineSplitter", lambda file, *, inside=False: LineSplitter(file, inside=inside, limit=10)
    )
    log = tmp_path / "log"
    log.write_bytes(b"a\n" + b"x" * 30 + b"\nlast\n")
    with capture_logs() as logged:
        assert await all_of(log) == [b"a", LAST]
    assert [(entry["event"], entry["line"], entry["bytes"]) for entry in logged] == [("source.line_too_long", 2, 31)]
    assert "xxx" not in str(logged)


async def test_a_truncated_file_yields_a_gap(tmp_path: Path) -> None:
    """Its reason names the file."""
    log = tmp_path / "log"
    log.write_bytes(b"a\nbb\n")
    with anyio.fail_after(30):
        async with aclosing(follow(log, poll=0.005)) as items:
            assert [await anext(items), await anext(items)] == [b"a", b"bb"]
            os.truncate(log, 0)
            gap = await anext(items)
            assert isinstance(gap, SourceGap)
            assert str(gap.reason).startswith("log was truncated")
            log.write_bytes(b"c\n")
            assert await anext(items) == b"c"


@pytest.mark.both_loops
async def test_leaving_at_any_time_closes_the_file(tmp_path: Path) -> None:
    """Cancelled while it waits, or between two lines."""
    log = tmp_path / "log"
    log.write_bytes(b"a\nb\n")
    before = len(os.listdir("/proc/self/fd"))
    for lines in (1, 2, 3):
        with anyio.move_on_after(0.2 if lines == 3 else 30) as scope:
            async with aclosing(follow(log, poll=0.005)) as items:
                for _ in range(lines):
                    await anext(items)
        assert scope.cancelled_caught == (lines == 3)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the loop may have opened one of its own


async def test_misuse_raises(tmp_path: Path) -> None:
    """At the first line."""
    with pytest.raises(ValueError, match="above 0"):
        await anext(follow(tmp_path / "log", poll=0))
    with pytest.raises(ValueError, match="never"):
        await anext(follow(tmp_path / "log", clock=LogClock()))
    with pytest.raises(IsADirectoryError):
        await anext(follow(tmp_path))
