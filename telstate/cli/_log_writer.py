"""The log of `telstate serve`: a thread writes it, so that a full pipe or a slow disk behind standard error never stops the service.

logging.basicConfig(handlers=[QueuedHandler(LineWriter(2))], …)
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from time import monotonic, sleep

__all__ = ["LineWriter", "QueuedHandler"]

_LINES = 10_000
"""How many lines wait at most; further ones are dropped, and counted."""
_SAY_EVERY = 5.0
"""Seconds between two lines about dropped ones while more and more are dropped."""
_LONGEST = 20_000
"""Characters of the longest line, so that the waiting ones take a bounded amount of memory."""


class LineWriter:
    """Writes lines to a file descriptor, in a thread of its own. Nothing here waits for the reader but that thread.

    Args:
        fd: the file descriptor. It is used directly: a Python file object has a lock, for which the interpreter would wait at its end.
        lines: how many may wait.
    """

    def __init__(self, fd: int, *, lines: int = _LINES) -> None:
        self._fd = fd
        self._queue: Queue[str] = Queue(lines)
        self._dropped = 0
        self._said_dropped = monotonic()
        Thread(target=self._write_all, name="telstate log", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line, or drop it if too many wait."""
        try:
            self._queue.put_nowait(line[:_LONGEST])
        except Full:
            self._dropped += 1

    def flush(self, within: float) -> None:
        """Wait until all is written, for so many seconds at most."""
        until = monotonic() + within
        while self._queue.unfinished_tasks and monotonic() < until:
            sleep(0.005)

    def _write_all(self) -> None:
        while True:
            self._write(self._queue.get())
            self._say_dropped()
            self._queue.task_done()

    def _say_dropped(self) -> None:
        if self._dropped and (self._queue.empty() or monotonic() - self._said_dropped >= _SAY_EVERY):
            dropped, self._dropped, self._said_dropped = self._dropped, 0, monotonic()
            self._write(f"telstate: {dropped} lines of the log were dropped: whoever reads it was too slow, or stopped")

    def _write(self, line: str) -> None:
        left = memoryview(f"{line}\n".encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            return  # the reader has gone: the service goes on without a log


class QueuedHandler(logging.Handler):
    """Passes log records to a `LineWriter`."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and queue its line. One that cannot be formatted is dropped: complaining could wait for the reader."""
        with suppress(Exception):
            self._writer.write(self.format(record))
