"""Feeds a dispatcher from an iterator of payloads: in order, in batches where several are ready, and without loss.

async with Dispatcher(router, journal=SqliteJournal("calls.db")) as calls:
    await feed(calls, follow("webhooks.jsonl"))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import anyio

from telstate.calls._outcome import Outcome
from telstate.errors import JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event, SourceGap
from telstate.events._masking import mask
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._payload import Payload

__all__ = ["FeedResult", "feed"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0
"""Seconds between two attempts of the journal; they double."""


class FeedResult(NamedTuple):
    """What `feed` returns."""

    received: int
    """How many payloads were events."""
    refused: int
    """How many were not; each is in the log."""


async def feed(
    calls: Dispatcher,
    payloads: AsyncIterable[Payload] | Iterable[Payload],
    *,
    dialect: Dialect | str | None = None,
    batch: int = 100,
) -> FeedResult:
    """Receive everything that an iterator yields, until it ends: `receive_many` for a stream.

    A payload that is not an event is counted and logged, without its content, and holds up no other. If the journal fails, its
    events are retried, with pauses that grow to half a minute, and the iterator is not asked for more.

    Args:
        calls: a dispatcher, inside its `async with`.
        payloads: payloads and events, in order. An iterator that is not async must not block: nothing else runs meanwhile.
        dialect: the dialect of the payloads; None to detect it.
        batch: how many payloads may be taken from the iterator before they are kept. Use 1 if asking for the next payload
            acknowledges the one before.

    Returns:
        How many were received and refused, once the iterator has ended.

    Raises:
        NotRunning: if the dispatcher is left meanwhile; payloads that were not kept by then were not received.
        Exception: what the iterator raises. What it yielded before is received, followed by a `SourceGap`, because events may be
            missing until you feed again.
    """
    if isinstance(payloads, (bytes, bytearray, memoryview, str, Mapping, Event)):
        raise TypeError("feed takes an iterator of payloads: for a single one, await calls.receive(payload)")
    if batch < 1:
        raise ValueError(f"batch is how many payloads may wait at a time, at least 1, not {batch!r}")
    return await _Feed(calls, payloads, dialect, batch).run()


class _Feed:
    """One run of `feed`: one task reads the iterator, another delivers what it has read."""

    def __init__(
        self,
        calls: Dispatcher,
        payloads: AsyncIterable[Payload] | Iterable[Payload],
        dialect: Dialect | str | None,
        batch: int,
    ) -> None:
        self._calls = calls
        self._payloads = payloads if isinstance(payloads, AsyncIterable) else _as_async(payloads)
        self._dialect = dialect
        self._batch = batch
        self._buffer: list[Payload] = []
        self._unkept = 0
        """How many were read and are not kept yet, those being delivered included."""
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._ended = False
        self._source_error: Exception | None = None
        self._received = self._refused = 0
        self._log = Log()

    async def run(self) -> FeedResult:
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._read)
            try:
                await self._deliver_all()
            except Exception as error:
                failed = error  # raised below, outside the task group: not in an exception group
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        if self._source_error is not None:
            reason = mask(f"{type(self._source_error).__name__}: {text_of(self._source_error)}")
            with suppress(NotRunning):  # the next start makes all live sessions uncertain anyway
                await self._deliver([SourceGap(reason=reason)])
            raise self._source_error
        return FeedResult(self._received, self._refused)

    async def _read(self) -> None:
        """Read payloads while there is room; several may come before the iterator waits."""
        try:
            async for payload in self._payloads:
                self._buffer.append(payload)
                self._unkept += 1
                self._news.set()
                while self._unkept >= self._batch:
                    self._room = anyio.Event()
                    await self._room.wait()
        except Exception as error:
            self._source_error = error
        finally:
            self._ended = True
            self._news.set()
            if isinstance(self._payloads, AsyncGenerator):
                with anyio.CancelScope(shield=True):
                    await self._payloads.aclose()

    async def _deliver_all(self) -> None:
        while self._buffer or not self._ended:
            await self._news.wait()
            self._news = anyio.Event()
            payloads, self._buffer = self._buffer, []
            await self._deliver(payloads)
            self._unkept -= len(payloads)
            self._room.set()

    async def _deliver(self, payloads: list[Payload]) -> None:
        """Deliver payloads; retry until the journal has them."""
        pause = _FIRST_PAUSE
        while payloads:
            try:
                self._count(await self._calls.receive_many(payloads, self._dialect))
            except JournalError as error:
                self._count(error.answers)
                payloads = payloads[len(error.answers) :]
                hint = "they are retried until the journal has them; the source waits meanwhile"
                facts = {"error": mask(text_of(error)), "waiting": len(payloads), "pause": pause, "hint": hint}
                self._log.error("feed.journal_failed", **facts)
                await self._calls.clock.sleep(pause)
                pause = _FIRST_PAUSE if error.answers else min(pause * 2, _LONGEST_PAUSE)
            else:
                return

    def _count(self, answers: Sequence[Outcome | ParseError]) -> None:
        for answer in answers:
            if not isinstance(answer, ParseError):
                self._received += 1
                continue
            self._refused += 1
            # Not the payload: it may be anything, and hold a phone number.
            facts = {"field": mask(answer.field)[:100], "expected": mask(answer.expected)[:200]}
            self._log.warning("feed.refused", number=self._received + self._refused, dialect=answer.dialect, **facts)


async def _as_async(payloads: Iterable[Payload]) -> AsyncIterator[Payload]:
    for payload in payloads:
        yield payload
