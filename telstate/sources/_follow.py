"""The lines of a file that somebody goes on writing, whatever is done to the file meanwhile.

    async with Dispatcher(router, journal=SqliteJournal("calls.db")) as calls:
        await feed(calls, follow("webhooks.jsonl"))

Logs are rotated: renamed and made anew, or copied and cut to nothing. What was written between two looks at the file is then
read to its end first, where it can still be found. Where lines may have been lost, a `SourceGap` stands in their place.
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
from telstate.sources._splitter import Splitter

__all__ = ["POLL", "Follower", "follow"]

POLL = 0.25
"""Seconds between two looks at a file in which nothing is new."""
_CHUNK = 1 << 18
"""Bytes that are read at a time."""
_REMEMBERED = 1024
"""Bytes before the place of reading that are compared at each look: if they have changed, the content is another one."""
_RECENT = 16
"""Files that were read last."""


async def follow(
    path: str | os.PathLike[str], *, from_start: bool = True, poll: float = POLL, clock: Clock | None = None
) -> AsyncGenerator[bytes | SourceGap, None]:
    """Read the lines of a file, and those that are written later, for ever. On asyncio and trio; the disk is read in a thread.

    A file that is not there, or not any more, is waited for. A line is given once it has its end, or its file has; without
    line end and byte order mark, and never a blank one. One above `MAX_LINE` is skipped and named in the log. A `SourceGap` is
    given where lines may have been lost: the file was rotated more than once between two looks, or cut to nothing, so that
    nobody can tell whether all of it had been read. That is told by what lies beside the file: rotated logs that were moved to
    another folder, or deleted at once, leave no trace. UTF-8 only.

    Args:
        path: the file.
        from_start: begin with what is in the file already; else with what is written from now on.
        poll: seconds between two looks at a file in which nothing is new.
        clock: the time to wait by; for tests.

    Raises:
        OSError: if the file cannot be read, or is a folder or a pipe.
        ValueError: if it could never look again.
    """
    if poll <= 0:
        raise ValueError(f"poll is in seconds and above 0, not {poll!r}")
    clock = clock or SystemClock()
    if not clock.timers:
        raise ValueError("a recorded log's clock never wakes who waits: use follow without clock=")
    log = Log()
    follower = Follower(path, from_start=from_start)
    waited = False
    try:
        while True:
            found = await anyio.to_thread.run_sync(follower.look)
            if follower.waits and not waited:
                hint = "there is none, or it may not be read; it is looked for again and again"
                log.warning("source.waiting", file=str(path), hint=hint)
            waited = follower.waits
            for item in found:
                if isinstance(item, SourceGap):
                    yield item
                elif item.too_long:
                    hint = f"it is skipped: no event is longer than {MAX_LINE} bytes"
                    log.warning("source.line_too_long", file=item.file, line=item.number, bytes=item.size, hint=hint)
                else:
                    yield item.raw
            if follower.rests:
                await clock.sleep(poll)
    finally:
        follower.close()


class Follower:
    """Looks at a file now and then, and tells what is new. A look reads a little, and nothing here waits.

    Args:
        path: the file; it need not be there yet.
        from_start: begin with what is in it at the first look; else with what is written after that.
    """

    def __init__(self, path: str | os.PathLike[str], *, from_start: bool = True) -> None:
        self._path = Path(path)
        self._from_start = from_start
        self._files: deque[_File] = deque()
        """The first is being read; the last has the name now, or had it last."""
        self._read: deque[tuple[int, int]] = deque(maxlen=_RECENT)
        self.rests = False
        """True if the last look came to the end: wait before the next."""
        self.waits = False
        """True if at the last look no file had the name, or none that may be read."""

    def look(self) -> list[LogLine | SourceGap]:
        """Look once: return the lines that have come, of one chunk at most.

        Raises:
            OSError: if the file cannot be read, or is a folder or a pipe.
        """
        self._see_who_has_the_name()
        self._from_start = True  # what is made later is new from its first line on
        self.rests = not self._files
        return self._read_on(self._files[0]) if self._files else []

    def _see_who_has_the_name(self) -> None:
        """Open whatever has the name now, so that it is not lost however often it is renamed before its turn comes."""
        self.waits = False
        try:
            if not self._files or _identity(os.stat(self._path)) != self._files[-1].identity:
                self._files.append(self._open())
        except FileNotFoundError:
            self.waits = True
        except PermissionError:
            if not self._files:
                raise
            self.waits = True  # whoever rotates makes the file first, and says afterwards whose it is

    def _open(self) -> _File:
        file = _File(self._path, from_start=self._from_start)
        file.after_gap = bool(self._files) and self._is_one_missing_between(self._files[-1], file)
        self._read.append(file.identity)
        return file

    def _is_one_missing_between(self, old: _File, new: _File) -> bool:
        """Look for a rotated file beside them that was written after the old one, and that nobody has read."""
        known = {file.identity for file in (*self._files, new)}
        status = os.fstat(old.number)
        for other in _rotated(self._path):
            if not other.st_size or _identity(other) in known:
                continue
            if other.st_mtime_ns > status.st_mtime_ns:
                return True
            # Two may be of the same instant. What bears the time of a file that is gone is that file, compressed.
            same = other.st_mtime_ns == status.st_mtime_ns and status.st_nlink > 0
            if same and _identity(other) not in self._read:
                return True
        return False

    def _read_on(self, file: _File) -> list[LogLine | SourceGap]:
        # Asked before reading: whoever writes goes on with the old file until there is something in a newer one.
        is_left = any(os.fstat(newer.number).st_size for newer in list(self._files)[1:])
        new = file.read()
        if new is None:
            return [*file.begin_again(), self._gap("was cut to nothing: what was written shortly before may be lost")]
        if new:
            return [*file.splitter.feed(new)]
        if not is_left:
            self.rests = True
            return []
        self._files.popleft().close()
        gaps = [self._gap("was rotated more than once between two looks")] if self._files[0].after_gap else []
        return [*file.splitter.end(), *gaps]

    def _gap(self, what: str) -> SourceGap:
        return SourceGap(reason=f"{self._path.name} {what}")

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()
        self._files.clear()


class _File:
    """An open file, and how far it has been read."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self._path = path
        self._file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 - it stays open between looks
        self.number = self._file.fileno()
        status = os.fstat(self.number)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "only files can be followed; a pipe is read as standard input", str(path))
        self.identity = _identity(status)
        self.after_gap = False
        """True if a file between the one before it and this one was never seen."""
        self._at = 0 if from_start else status.st_size
        start = max(0, self._at - _REMEMBERED)
        self._before = os.pread(self.number, self._at - start, start)
        """What stands before the place of reading. If it has changed, this is not what was read."""
        self.splitter = Splitter(str(path), inside=not self._before.endswith(b"\n") and self._at > 0)

    def read(self) -> bytes | None:
        """Read what is new; None if the content is another one."""
        data = os.pread(self.number, len(self._before) + _CHUNK, self._at - len(self._before))
        if not data.startswith(self._before) and not self._take_back(data):
            return None
        new = data[len(self._before) :]
        self._at += len(new)
        self._before = data[-_REMEMBERED:]
        return new

    def _take_back(self, data: bytes) -> bool:
        """A torn last line may be cut off, as a journal does after a crash: then go on from where that line began."""
        torn = self.splitter.unfinished
        before = self._before[:-torn] if torn else b""
        if not before or not data.startswith(before):
            return False
        self._at -= torn
        self._before = before
        self.splitter.forget()
        return True

    def begin_again(self) -> list[LogLine]:
        """Read it from its start, as another file; return what had no end."""
        left = self.splitter.end()
        self._at, self._before, self.splitter = 0, b"", Splitter(str(self._path))
        return left

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe without waiting for its other end: it is refused then."""
    return os.open(path, flags | os.O_NONBLOCK)


def _rotated(path: Path) -> list[os.stat_result]:
    """Look up the files that may once have been `path`; none where the folder cannot be listed."""
    found = []
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if _is_named_after(entry.name, path):
                with suppress(FileNotFoundError):
                    found.append(entry.stat(follow_symlinks=False))
    return found


def _is_named_after(name: str, path: Path) -> bool:
    """Tell whether a file may be a rotated `path`: `calls.jsonl.1`, `calls.jsonl.2.gz`, `calls-20261121.jsonl`."""
    dated = rf"{re.escape(path.stem)}[-._]?\d.*{re.escape(path.suffix)}"
    return name.startswith((f"{path.name}.", f"{path.name}-")) or bool(re.fullmatch(dated, name))
