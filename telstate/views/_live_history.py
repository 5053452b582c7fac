"""The latest outcomes of a dispatcher, for the readers of the live stream. One history serves all of them.

A reader has a place in it, and no queue of its own: one that is slow costs nothing, and is dropped once the outcomes that it has not read are
gone. The history begins with the first reader, and is kept for some minutes after the last one left, so that a reader who comes back
finds what happened meanwhile. While there is none, the dispatcher does no more work than without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from time import monotonic
from typing import Protocol

import anyio

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.routing._dispatcher import Dispatcher
from telstate.views._live_messages import HEARTBEAT, LiveEvent, message, record_message

__all__ = ["Companion", "LiveHistory"]

_VERSION = 1
"""Of the messages. It rises when a client that reads them would misread the new ones."""
_MOST_EVENTS = 1_000
_MOST_BYTES = 8 * 1024 * 1024
"""Of the encoded outcomes."""
_KEPT = 300.0
"""Seconds after the last reader left."""
_HEARTBEAT_AFTER = 15.0
"""Seconds without a message."""


class Companion(Protocol):
    """Adds its own messages to the stream of one reader. None of them has an event's id."""

    every: float
    """Seconds after which it is asked what is due."""

    async def begin(self) -> None:
        """The stream begins."""

    def end(self) -> None:
        """The reader left."""

    def greeting(self) -> Iterator[bytes]:
        """Yield what comes after `hello`."""

    def snapshot(self) -> Iterator[bytes]:
        """Yield what comes after the live calls as they are now."""

    def before(self, event: LiveEvent) -> Iterator[bytes]:
        """Yield what comes before an outcome."""

    def due(self) -> Iterator[bytes]:
        """Yield what is due now."""


class LiveHistory:
    """Follows a dispatcher from now on. An `Observer`.

    Args:
        calls: the dispatcher, inside its `async with`.
        numbers: phone numbers, SIP users and names are sent in full.
        clock: returns seconds that never fall.

    Raises:
        NotRunning: outside the `async with`.
    """

    def __init__(self, calls: Dispatcher, *, numbers: bool, clock: Callable[[], float] = monotonic) -> None:
        self._calls = calls
        self._numbers = numbers
        self._clock = clock
        self._events: deque[LiveEvent] = deque()
        self._first = 0
        """The place of the oldest outcome that is still there; places are counted from the beginning."""
        self._bytes = 0
        self._news = anyio.Event()
        self._readers = 0
        self._left_at = clock()
        self.is_over: bool = False
        """True once it follows no more."""
        self._journal_id, _, last = calls.last_event_id.rpartition(":")
        self._before = int(last)
        """The number of the event before the oldest outcome that is still there."""
        self._stop_observing = calls.observe(self)

    def stepped(self, outcome: Outcome) -> None:
        """Keep an outcome, and wake the readers."""
        if not self._readers and self._clock() - self._left_at > _KEPT:
            self.close()
            return
        self._events.append(LiveEvent(self._calls, outcome))
        if len(self._events) > _MOST_EVENTS:
            self._drop_oldest()
        self.wake()

    def closed(self) -> None:
        """The dispatcher was left: end all readers."""
        self.is_over = True
        self.wake()

    def close(self) -> None:
        """Follow no more."""
        self._stop_observing()
        self.closed()

    async def read(
        self, last_event_id: str | None, is_ended: Callable[[], bool], companion: Companion | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the messages of one reader, until something ends it: then the last message says why.

        Args:
            last_event_id: the last event that the reader has seen already; None if it has seen none.
            is_ended: returns True if the reader's server stops. Call `wake` then.
            companion: adds its own messages.
        """
        if companion is not None:
            await companion.begin()
        self._readers += 1
        try:
            place = None if last_event_id is None else self._place_after(last_event_id)
            is_resumed = place is not None
            facts = {"version": _VERSION, "numbers": self._numbers, "resumed": is_resumed}
            yield message("hello", {**facts, "missed": last_event_id is not None and not is_resumed})
            for part in () if companion is None else companion.greeting():
                yield part
            if place is None:
                place, position = self._end, self._calls.last_event_id
                for part in self._snapshot(companion):
                    yield part
                yield message("live", {}, position)
            while not (self.is_over or is_ended()):
                if place < self._first:
                    text = f"this reader is {self._end - place} events behind: connect again, with Last-Event-ID"
                    yield message("end", {"reason": "too-slow", "text": text})
                    return
                if place < self._end:
                    event = self._events[place - self._first]
                    place += 1
                    for part in () if companion is None else companion.before(event):
                        yield part
                    for part in self._messages(event):
                        yield part
                elif companion is not None:
                    await self._has_news(companion.every)
                elif not await self._has_news(_HEARTBEAT_AFTER):
                    yield HEARTBEAT
                if companion is not None:
                    for part in companion.due():
                        yield part
            yield message("end", {"reason": "stopping", "text": "the service stops"})
        finally:
            self._readers -= 1
            self._left_at = self._clock()
            if companion is not None:
                companion.end()

    def _snapshot(self, companion: Companion | None) -> Iterator[bytes]:
        """Yield the calls as they are now."""
        known: list[Session | Caller] = [*self._calls.live(), *self._calls.waiting()]
        for one in known:
            yield record_message(self._calls, one, numbers=self._numbers)
        yield from () if companion is None else companion.snapshot()

    def _messages(self, event: LiveEvent) -> Iterator[bytes]:
        """Yield the records of the other sessions that an event changed, as they are by now, then its outcome.

        Only the last message has the event's id: a reader that got less is sent all of it again.
        """
        before = event.size
        encoded = event.encode(numbers=self._numbers)
        self._count(event.size - before)
        for session in event.changed:
            yield record_message(self._calls, session, numbers=self._numbers)
        yield encoded

    async def _has_news(self, within: float) -> bool:
        """Wait for the next outcome. Return False where none came within so many seconds."""
        with anyio.move_on_after(within):
            await self._news.wait()
            return True
        return False

    def wake(self) -> None:
        """Let the readers look for outcomes, and whether they are ended."""
        news, self._news = self._news, anyio.Event()
        news.set()

    @property
    def _end(self) -> int:
        """The place of the next outcome."""
        return self._first + len(self._events)

    def _place_after(self, event_id: str) -> int | None:
        """Return the place after an event; None if the next one has left the history, or the event is of another journal, or unknown."""
        journal_id, _, number = event_id.rpartition(":")
        if journal_id != self._journal_id or not number.isdecimal() or len(number) > 18:
            return None
        seq = int(number)
        newest = self._events[-1].seq if self._events else self._before
        if not self._before <= seq <= newest:
            return None
        return self._first + sum(event.seq <= seq for event in self._events)

    def _count(self, size: int) -> None:
        """Count the bytes of an outcome that was encoded just now."""
        self._bytes += size
        while self._bytes > _MOST_BYTES and len(self._events) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._first += 1
        self._before = oldest.seq
        self._bytes -= oldest.size
