"""The inbox of a live source: what Daily's thread hands over is taken in one by one, in order, and never in its way.

Putting something in takes microseconds and waits for nothing: not for the journal, not for handlers, not for the event loop.
One task takes it out. What a journal could not keep is tried again, and all that came after it waits. What comes when the
inbox is full is lost, but not in silence: at its place a `SourceGap` is taken in, so that sessions become uncertain.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import anyio

from telstate.errors import JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event, SourceGap
from telstate.events._json import to_bytes
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log

__all__ = ["LIMIT", "EventQueue"]

LIMIT = 10_000
"""So many events may wait by default: as many as a dispatcher lets wait for handlers."""

_MARGIN = 10
"""A tenth of the limit must be free before a full inbox takes something again, or under a lasting load every other event
would be a gap. It loses no more than that load loses anyway."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
"""Seconds between two attempts of a journal; they double."""
_PATIENCE = 30.0
"""Seconds without a single event taken in, after which leaving waits no longer. A handler's drain is as long."""
_CUT_OFF = "it was left or cancelled while nothing could be taken in"


class _Item(NamedTuple):
    handler: str
    payload: bytes | Event


class _Missed:
    """Stands in the queue where events were lost."""

    def __init__(self) -> None:
        self.count = 1


class EventQueue:
    """Hands events to a dispatcher, on asyncio, in the order in which `put` was called, from any thread.

    Args:
        calls: who takes them in.
        client: the call client's id, which events of ours carry (`scope`): a gap then speaks of its sessions only.
        limit: how many may wait.

    Raises:
        ValueError: if the limit is below 1, or `client` is no id.
    """

    def __init__(self, calls: Dispatcher, client: str | None, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit is how many events may wait, at least 1, not {limit!r}")
        self.client = client
        self.scope: dict[str, Any] = {} if client is None else {"call_client_id": client}
        self.gap("")  # an id that no event takes is refused here, not when the first gap comes
        self._calls = calls
        self._limit = limit
        self._queue: deque[_Item | _Missed] = deque()
        self._lock = threading.Lock()  # held for a few bytecodes at a time
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = self._closed = False
        self._taken = self._in_hand = 0
        self._log = Log()

    def gap(self, reason: str) -> SourceGap:
        """Make the event that says that from here on something may be missed."""
        return SourceGap(reason=reason, **self.scope)

    def open(self) -> None:
        """Begin to take in what was put and will be put.

        Raises:
            NotRunning: if it was opened before, or the dispatcher is not open.
            RuntimeError: without a running asyncio event loop.
        """
        if self._loop is not None:
            raise NotRunning("a source runs once: make another one")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "daily-python and pipecat need asyncio: do this in a coroutine that asyncio runs"
            ) from None
        if not self._calls.is_open:
            raise NotRunning(
                "the dispatcher takes nothing in yet: enter `async with Dispatcher(router) as calls:` before the source"
            )
        self._loop = loop
        self._task = self._loop.create_task(self._run(), name="telstate source")

    def put(self, handler: str, payload: Mapping[str, Any] | Event) -> None:
        """Hand over one event, from any thread. Never waits for anybody and never raises; once closed it does nothing.

        Args:
            handler: Daily's name of what told it, for the log.
            payload: in the dialect of daily-python, or an event of ours. What becomes of it afterwards is no matter.
        """
        try:
            item = _Item(handler, payload if isinstance(payload, Event) else to_bytes(payload))
        except ParseError as error:
            self._later(self._tell_refused, handler, error)
            return
        lost = False
        with self._lock:
            if self._closed:
                return
            last = self._queue[-1] if self._queue else None
            full = isinstance(last, _Missed)
            if len(self._queue) < self._limit - full * self._limit // _MARGIN:
                self._queue.append(item)
            elif isinstance(last, _Missed):
                last.count += 1
            else:
                lost = True
                self._queue.append(_Missed())
        if last is None:  # else somebody has told it, or it is at work
            self._later(self._news.set)
        if lost:
            self._later(self._tell_full)

    def warn(self, event: str, hint: str) -> None:
        """Write a warning, from any thread: the log may be slow, so the event loop does it."""

        def write() -> None:
            self._log.warning(event, hint=hint)

        self._later(write)

    async def aclose(self) -> None:
        """Take in what still waits, then nothing more. Gives up if for 30 seconds nothing can be taken in, and says so.

        Raises:
            Exception: what ended the taking in, if it was a defect; what the log tells of it is not enough.
        """
        self._leaving = True
        if self._task is None:
            self._end("the source was never entered")
            return
        self._news.set()
        with anyio.CancelScope(shield=True):  # a program that is told to stop leaves by this way too
            try:
                before = -1
                while not self._task.done() and before < self._taken:
                    before = self._taken
                    await asyncio.wait([self._task], timeout=_PATIENCE)
            finally:
                self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)  # what hangs in a journal's thread cannot be cancelled
        self._end(_CUT_OFF)
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        why = _CUT_OFF
        try:
            while (item := await self._next()) is not None:
                await self._take(item)
                self._taken += 1
                self._in_hand = 0
        except NotRunning:
            why = "the dispatcher was closed first: leave the source's block before the dispatcher's"
        except Exception as error:
            why = f"a defect ended the source: {type(error).__name__}"
            raise
        finally:
            self._end(why)

    async def _next(self) -> _Item | _Missed | None:
        """The next one, when it comes; None once it is left and empty."""
        while True:
            self._news.clear()
            with self._lock:
                if self._queue:
                    self._in_hand = 1
                    return self._queue.popleft()
                if self._leaving:
                    return None
            await self._news.wait()

    async def _take(self, item: _Item | _Missed) -> None:
        """Have one event taken in, however often it needs to be tried."""
        if isinstance(item, _Missed):
            item = _Item("", self.gap(f"{item.count} events were dropped, the source's inbox was full"))
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._calls.receive(item.payload, Dialect.DAILY_PYTHON)
            except ParseError as error:
                self._tell_refused(item.handler, error)
            except JournalError as error:
                hint = f"it is tried again in {pause:g} s, and nothing is lost while the source has room"
                self._log.error("source.not_kept", error=str(error), waiting=len(self._queue), hint=hint)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            return

    def _end(self, why: str) -> None:
        with self._lock:
            self._closed = True
            left = len(self._queue) + self._in_hand
            self._queue.clear()
            self._in_hand = 0
        if left:
            self._log.error("source.left", events=left, why=why, hint="they are lost: ask Daily which calls live")

    def _later(self, do: Callable[..., object], *args: object) -> None:
        """Do it on the event loop. Where that has ended, there is nobody left to tell."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(do, *args)
            except RuntimeError:
                self._closed = True

    def _tell_refused(self, handler: str, error: ParseError) -> None:
        """Say what was wrong, not what came: payloads hold phone numbers."""
        hint = "Daily sent what telstate does not understand: is there a newer telstate?"
        self._log.error("source.no_event", handler=handler, field=error.field, expected=error.expected, hint=hint)

    def _tell_full(self) -> None:
        hint = "events are lost and sessions become uncertain: is the disk slow, or the event loop blocked?"
        self._log.error("source.full", limit=self._limit, hint=hint)
