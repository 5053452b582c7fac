"""Follows a file that another program writes, through rotation and truncation.

    async with Dispatcher(router, journal=SqliteJournal("calls.db")) as calls:
        await feed(calls, follow("webhooks.jsonl"))

Logs are rotated: renamed and created again, or copied and truncated. What was written between two looks at the file is read to
its end first, where it can still be found. Where lines may have been lost, a `SourceGap` is yielded instead.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from telstate.events import SourceGap
from telstate.routing._clock import SystemClock
from telstate.routing._log import Log
from telstate.routing._ports import Clock
from telstate.sources._log_lines import MAX_LINE, LogLine
from telstate.sources._splitter import LineSplitter

__all__ = ["POLL", "Follower", "follow"]

POLL = 0.25
"""Seconds between two looks at a file that has not grown."""
_CHUNK = 1 << 18
"""How many bytes are read at a time."""
_REMEMBERED = 1024
"""How many bytes before the read position are compared at each look: if they have changed, the content was replaced."""
_RECENT = 16
"""How many files that were read before are remembered."""


async def follow(
    path: str | os.PathLike[str], *, from_start: bool = True, poll: float = POLL, clock: Clock | None = None
) -> AsyncGenerator[bytes | SourceGap, None]:
    """Yield the lines of a file, and those that are written later, forever. Works on asyncio and trio; a thread reads the disk.

    If the file does not exist, or not any more, `follow` waits for it. A line is yielded once it is complete, or its file is;
    without line end and byte order mark; blank lines never. A line above 16 MiB is skipped and logged. A `SourceGap` is yielded
    where lines may be missing: the file was rotated more than once between two looks, or truncated, so that it is unknown whether
    all of it had been read. This is detected from the files beside it: rotated logs that are moved to another folder, or deleted
    at once, leave no trace. UTF-8 only.

    Args:
        path: the file.
        from_start: start with what the file holds already; otherwise with what is written from now on.
        poll: seconds between two looks at a file that has not grown.
        clock: for tests.

    Raises:
        OSError: if the file cannot be read, or is a folder or a pipe.
        ValueError: if `poll` is not above 0, or the clock has no timers.
    """
    if poll <= 0:
        raise ValueError(f"poll is a number of seconds above 0, not {poll!r}")
    clock = clock or SystemClock()
    if not clock.timers:
        raise ValueError("the clock of a recorded log never ends a wait: use follow without clock=")
    log = Log()
    follower = Follower(path, from_start=from_start)
    was_missing = False
    try:
        while True:
            found = await anyio.to_thread.run_sync(follower.look)
            if follower.missing and not was_missing:
                hint = "it does not exist, or may not be read; telstate keeps looking for it"
                log.warning("source.waiting", file=str(path), hint=hint)
            was_missing = follower.missing
            for item in found:
                if isinstance(item, SourceGap):
                    yield item
                elif item.too_long:
                    hint = f"the line is skipped: no event is longer than {MAX_LINE} bytes"
                    log.warning("source.line_too_long", file=item.file, line=item.number, bytes=item.size, hint=hint)
                else:
                    yield item.raw
            if follower.at_end:
                await clock.sleep(poll)
    finally:
        follower.close()


class Follower:
    """Reads what is new in a file, one look at a time. A look reads one chunk at most, and never waits.

    Args:
        path: the file; it need not exist yet.
        from_start: start with what it holds at the first look; otherwise with what is written after that.
    """

    def __init__(self, path: str | os.PathLike[str], *, from_start: bool = True) -> None:
        self._path = Path(path)
        self._from_start = from_start
        self._files: deque[_File] = deque()
        """The first is being read; the last is the one at `path` now, or was it last."""
        self._read: deque[tuple[int, int]] = deque(maxlen=_RECENT)
        self.at_end = False
        """True if the last look reached the end: wait before the next."""
        self.missing = False
        """True if at the last look there was no file, or none that may be read."""

    def look(self) -> list[LogLine | SourceGap]:
        """Look once: return the new lines, of one chunk at most.

        Raises:
            OSError: if the file cannot be read, or is a folder or a pipe.
        """
        self._open_current()
        self._from_start = True  # a file created later is new from its first line on
        self.at_end = not self._files
        return self._read_on(self._files[0]) if self._files else []

    def _open_current(self) -> None:
        """Open the file that is at the path now, so that it is not lost however often it is renamed before it is read."""
        self.missing = False
        try:
            if not self._files or _identity(os.stat(self._path)) != self._files[-1].identity:
                self._files.append(self._open())
        except FileNotFoundError:
            self.missing = True
        except PermissionError:
            if not self._files:
                raise
            self.missing = True  # a log rotator creates the file first, and sets its owner afterwards

    def _open(self) -> _File:
        file = _File(self._path, from_start=self._from_start)
        file.after_gap = bool(self._files) and self._is_one_missing_between(self._files[-1], file)
        self._read.append(file.identity)
        return file

    def _is_one_missing_between(self, old: _File, new: _File) -> bool:
        """Return True if a rotated file was written after the old one and never read."""
        known = {file.identity for file in (*self._files, new)}
        status = os.fstat(old.number)
        for other in _rotated(self._path):
            if not other.st_size or _identity(other) in known:
                continue
            if other.st_mtime_ns > status.st_mtime_ns:
                return True
            # Two files may have the same time. One with the time of a deleted file is that file, compressed.
            same = other.st_mtime_ns == status.st_mtime_ns and status.st_nlink > 0
            if same and _identity(other) not in self._read:
                return True
        return False

    def _read_on(self, file: _File) -> list[LogLine | SourceGap]:
        # Checked before reading: the writer uses the old file until there is something in a newer one.
        is_left = any(os.fstat(newer.number).st_size for newer in list(self._files)[1:])
        new = file.read()
        if new is None:
            return [*file.begin_again(), self._gap("was truncated: what was written shortly before may be lost")]
        if new:
            return [*file.splitter.feed(new)]
        if not is_left:
            self.at_end = True
            return []
        self._files.popleft().close()
        gaps = [self._gap("was rotated more than once between two looks")] if self._files[0].after_gap else []
        return [*file.splitter.end(), *gaps]

    def _gap(self, what: str) -> SourceGap:
        return SourceGap(reason=f"{self._path.name} {what}")

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files.clear()


class _File:
    """An open file and its read position."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self._path = path
        self._file = open(path, "rb", buffering=0, opener=_open_nonblocking)  # noqa: SIM115 - it stays open between looks
        self.number = self._file.fileno()
        status = os.fstat(self.number)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "only files can be followed; a pipe is read as standard input", str(path))
        self.identity = _identity(status)
        self.after_gap = False
        """True if a file between the previous one and this one was never opened."""
        self._at = 0 if from_start else status.st_size
        start = max(0, self._at - _REMEMBERED)
        self._before = os.pread(self.number, self._at - start, start)
        """What precedes the read position. If it has changed, the content was replaced."""
        self.splitter = LineSplitter(str(path), inside=not self._before.endswith(b"\n") and self._at > 0)

    def read(self) -> bytes | None:
        """Read what is new; None if the content was replaced."""
        data = os.pread(self.number, len(self._before) + _CHUNK, self._at - len(self._before))
        if not data.startswith(self._before) and not self._take_back(data):
            return None
        new = data[len(self._before) :]
        self._at += len(new)
        self._before = data[-_REMEMBERED:]
        return new

    def _take_back(self, data: bytes) -> bool:
        """Go back to the start of a torn last line that was cut off, as some writers do after a crash. False if it is not that."""
        torn = self.splitter.unfinished
        before = self._before[:-torn] if torn else b""
        if not before or not data.startswith(before):
            return False
        self._at -= torn
        self._before = before
        self.splitter.take_back()
        return True

    def begin_again(self) -> list[LogLine]:
        """Start from the beginning, as with another file; return the unfinished last line."""
        left = self.splitter.end()
        self._at, self._before, self.splitter = 0, b"", LineSplitter(str(self._path))
        return left

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe, which is then refused."""
    return os.open(path, flags | os.O_NONBLOCK)


def _rotated(path: Path) -> list[os.stat_result]:
    """Return the files that may once have been `path`; none if the folder cannot be listed."""
    found = []
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if _is_named_after(entry.name, path):
                with suppress(FileNotFoundError):
                    found.append(entry.stat(follow_symlinks=False))
    return found


def _is_named_after(name: str, path: Path) -> bool:
    """Return True if a file may be a rotated `path`: `calls.jsonl.1`, `calls.jsonl.2.gz`, `calls-20261121.jsonl`."""
    dated = rf"{re.escape(path.stem)}[-._]?\d.*{re.escape(path.suffix)}"
    return name.startswith((f"{path.name}.", f"{path.name}-")) or bool(re.fullmatch(dated, name))
