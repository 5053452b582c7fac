"""The queue of a live source: takes events from Daily's thread without blocking it, and delivers them one by one, in order.

`put` takes microseconds and waits for nothing: not for the journal, not for handlers, not for the event loop. One task delivers.
If the journal fails, the event is retried, and later events wait behind it. Events that come while the queue is full are lost, and
a `SourceGap` is delivered in their place, so that sessions become uncertain.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import anyio

from telstate.errors import EventTooLarge, JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event, SourceGap
from telstate.events._json import to_bytes
from telstate.routing._id_scopes import IdScope
from telstate.routing._log import Log
from telstate.routing._ports import EventSink

__all__ = ["LIMIT", "EventQueue"]

LIMIT = 10_000
"""How many events may wait by default: as many as a dispatcher lets wait for handlers."""

_MARGIN = 10
"""After an overflow, a tenth of the limit must be free before the queue accepts events again. Otherwise, under a lasting load, every
other event would be a gap. No more events are lost than that load loses anyway."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
"""Seconds between two attempts of a journal; they double."""
_STALL_TIMEOUT = 30.0
"""Seconds without a single delivery after which `aclose` gives up: as long as a dispatcher's drain."""
_STALLED = "the source was left or cancelled while no event could be delivered"


class _Item(NamedTuple):
    handler: str
    payload: bytes | Event


class _Dropped:
    """A place in the queue where events were lost."""

    def __init__(self) -> None:
        self.count = 1


class EventQueue:
    """Delivers events to a sink, on asyncio, in the order in which `put` was called, from any thread.

    Args:
        calls: the dispatcher, or another sink.
        client: the call client's id, which our own events carry (`scope`): a gap then concerns only the sessions of that client.
        limit: how many events may wait.
        room: the name of the room that the client is in, which all events carry.
        ids: the scope of the session ids, if they are not global.

    Raises:
        ValueError: if the limit is below 1, or `client` or `room` is not a valid id.
    """

    def __init__(
        self,
        calls: EventSink,
        client: str | None,
        limit: int,
        room: str | None = None,
        ids: IdScope | None = None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is how many events may wait, at least 1, not {limit!r}")
        self._client: dict[str, Any] = {} if client is None else {"call_client_id": client}
        of_room = {} if room is None else {"room": room}
        self.scope: dict[str, Any] = {**self._client, **of_room}
        """What the program's own events about calls carry; `scope_keys` are the same in Daily's spelling."""
        self.scope_keys: dict[str, Any] = {**({} if client is None else {"callClientId": client}), **of_room}
        self.ids: IdScope = ids or IdScope("")
        SourceGap(**self.scope)  # refuses an invalid id here, not when the first event comes
        self._calls = calls
        self._limit = limit
        self._queue: deque[_Item | _Dropped] = deque()
        self._lock = threading.Lock()  # held for a few bytecodes at a time
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = self._closed = False
        self._delivered = self._in_progress = 0
        self._log = Log()

    def gap(self, reason: str) -> SourceGap:
        """Make the event that says that events may be missing from here on."""
        return SourceGap(reason=reason, **self._client)  # without the room: a session may be known without its room

    def open(self) -> None:
        """Start to deliver.

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
                "the dispatcher is not open: enter `async with Dispatcher(router) as calls:` before the source"
            )
        self._loop = loop
        self._task = self._loop.create_task(self._run(), name="telstate source")

    def put(self, handler: str, payload: Mapping[str, Any] | Event) -> None:
        """Queue one event, from any thread. Never waits and never raises; does nothing once closed.

        Args:
            handler: the name of Daily's callback, for the log.
            payload: in the dialect of daily-python, or an event that telstate made. It is encoded here, so you may change it afterwards.
        """
        try:
            item = _Item(handler, payload if isinstance(payload, Event) else to_bytes(payload))
        except ParseError as error:
            self._on_loop(self._log_unreadable, handler, error)
            return
        overflows = False
        with self._lock:
            if self._closed:
                return
            last = self._queue[-1] if self._queue else None
            full = isinstance(last, _Dropped)
            if len(self._queue) < self._limit - full * self._limit // _MARGIN:
                self._queue.append(item)
            elif isinstance(last, _Dropped):
                last.count += 1
            else:
                overflows = True
                self._queue.append(_Dropped())
        if last is None:  # otherwise the task is awake, or was woken
            self._on_loop(self._wake.set)
        if overflows:
            self._on_loop(self._log_full)

    @property
    def is_open(self) -> bool:
        """True until it is closed: until its source is left."""
        return not self._closed

    def warn(self, event: str, hint: str, **details: str) -> None:
        """Log a warning, from any thread. The event loop writes it: a log may be slow."""

        def write() -> None:
            self._log.warning(event, hint=hint, **details)

        self._on_loop(write)

    async def aclose(self) -> None:
        """Deliver what waits, then accept nothing more. Gives up, and logs it, if nothing can be delivered for 30 seconds.

        Raises:
            Exception: the error that ended delivery, if it was unexpected.
        """
        self._leaving = True
        if self._task is None:
            self._close("the source was never entered")
            return
        self._wake.set()
        with anyio.CancelScope(shield=True):  # a program that is shutting down comes this way too
            try:
                before = -1
                while not self._task.done() and before < self._delivered:
                    before = self._delivered
                    await asyncio.wait([self._task], timeout=_STALL_TIMEOUT)
            finally:
                self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)  # a hanging thread of a journal cannot be cancelled
        self._close(_STALLED)
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        why = _STALLED
        try:
            while (item := await self._next()) is not None:
                await self._deliver(item)
                self._delivered += 1
                self._in_progress = 0
        except NotRunning:
            why = "the dispatcher was closed first: leave the source's block before the dispatcher's"
        except Exception as error:
            why = f"an unexpected error ended the source: {type(error).__name__}"
            raise
        finally:
            self._close(why)

    async def _next(self) -> _Item | _Dropped | None:
        """Wait for the next item; None once the source is left and the queue is empty."""
        while True:
            self._wake.clear()
            with self._lock:
                if self._queue:
                    self._in_progress = 1
                    return self._queue.popleft()
                if self._leaving:
                    return None
            await self._wake.wait()

    async def _deliver(self, item: _Item | _Dropped) -> None:
        """Deliver one event; retry until the journal has it."""
        if isinstance(item, _Dropped):
            item = _Item("", self.gap(f"{item.count} events were dropped, the source's queue was full"))
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._calls.receive(item.payload, Dialect.DAILY_PYTHON)
            except ParseError as error:
                self._log_unreadable(item.handler, error)
            except EventTooLarge as error:
                self._log.error(
                    "source.event_lost", error=str(error), hint="no retry helps: raise the limit that it names"
                )
            except JournalError as error:
                hint = f"the event is retried in {pause:g} s; nothing is lost while the queue has room"
                self._log.error("source.journal_failed", error=str(error), waiting=len(self._queue), hint=hint)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            return

    def _close(self, why: str) -> None:
        with self._lock:
            self._closed = True
            left = len(self._queue) + self._in_progress
            self._queue.clear()
            self._in_progress = 0
        if left:
            self._log.error("source.events_lost", events=left, why=why, hint="ask Daily which calls are still live")

    def _on_loop(self, do: Callable[..., object], *args: object) -> None:
        """Call a function on the event loop, if it still runs."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(do, *args)
            except RuntimeError:
                self._closed = True

    def _log_unreadable(self, handler: str, error: ParseError) -> None:
        """Log what was wrong, not the payload: payloads hold phone numbers."""
        hint = "telstate cannot read this payload of Daily's: is there a newer telstate?"
        self._log.error("source.unreadable", handler=handler, field=error.field, expected=error.expected, hint=hint)

    def _log_full(self) -> None:
        hint = "events are lost and sessions become uncertain: is the disk slow, or the event loop blocked?"
        self._log.error("source.queue_full", limit=self._limit, hint=hint)
