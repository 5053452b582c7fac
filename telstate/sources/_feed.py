"""Whatever brings payloads, into a dispatcher: in order, several at once where several are there, and none lost.

async with Dispatcher(router, journal=SqliteJournal("calls.db")) as calls:
    await feed(calls, follow("webhooks.jsonl"))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import anyio

from telstate.errors import JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event, SourceGap
from telstate.events._masking import mask
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, text_of
from telstate.routing._payload import Payload

__all__ = ["Fed", "feed"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0
"""Seconds between two tries to keep the same events; the pauses double."""


class Fed(NamedTuple):
    """What became of all payloads."""

    received: int
    """Events that were taken in."""
    refused: int
    """Payloads that were none; each is named in the log."""


async def feed(
    calls: Dispatcher,
    payloads: AsyncIterable[Payload] | Iterable[Payload],
    *,
    dialect: Dialect | str | None = None,
    batch: int = 100,
) -> Fed:
    """Take in all that an iterator brings, until it ends: `receive_many`, for whatever comes by and by.

    A payload that is no event is counted and logged, without what it says, and holds up no other. If the journal cannot keep
    events, they are tried again, with pauses that grow to half a minute, and nothing is asked for meanwhile.

    Args:
        calls: a dispatcher, inside its `async with`.
        payloads: payloads and events, in their order. An iterator that is not async must not wait: nothing else runs then.
        dialect: how the payloads are spelled; None to find out.
        batch: how many may have left the iterator that are not kept yet. Give 1 where asking for the next payload
            acknowledges the one before.

    Returns:
        How many were taken in and refused, once the iterator has ended.

    Raises:
        NotRunning: if the dispatcher takes nothing in any more; what was not kept by then was not taken in.
        Exception: whatever the iterator raises. What it brought before is taken in, then a `SourceGap`, as events may be missed
            until somebody feeds again.
    """
    if isinstance(payloads, (bytes, bytearray, memoryview, str, Mapping, Event)):
        raise TypeError("feed takes an iterator of payloads: for a single one, await calls.receive(payload)")
    if batch < 1:
        raise ValueError(f"batch is how many payloads may wait at a time, at least 1, not {batch!r}")
    return await _Feed(calls, payloads, dialect, batch).run()


class _Feed:
    """One run: a task that asks for payloads, while this one has kept what was asked for before."""

    def __init__(
        self,
        calls: Dispatcher,
        payloads: AsyncIterable[Payload] | Iterable[Payload],
        dialect: Dialect | str | None,
        batch: int,
    ) -> None:
        self._calls = calls
        self._payloads = payloads if isinstance(payloads, AsyncIterable) else _each(payloads)
        self._dialect = dialect
        self._batch = batch
        self._brought: list[Payload] = []
        self._unkept = 0
        """How many were brought and are not kept yet, those under way included."""
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._ended = False
        self._lost: Exception | None = None
        self._received = self._refused = 0
        self._log = Log()

    async def run(self) -> Fed:
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._ask)
            try:
                await self._keep_all()
            except Exception as error:
                failed = error  # raised below, as it is and in no group
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        if self._lost is not None:
            reason = mask(f"{type(self._lost).__name__}: {text_of(self._lost)}")
            with suppress(NotRunning):  # then the next start makes everything uncertain anyway
                await self._keep([SourceGap(reason=reason)])
            raise self._lost
        return Fed(self._received, self._refused)

    async def _ask(self) -> None:
        """Ask for payloads as long as there is room; several may come before anything waits."""
        try:
            async for payload in self._payloads:
                self._brought.append(payload)
                self._unkept += 1
                self._news.set()
                while self._unkept >= self._batch:
                    self._room = anyio.Event()
                    await self._room.wait()
        except Exception as error:
            self._lost = error
        finally:
            self._ended = True
            self._news.set()
            if isinstance(self._payloads, AsyncGenerator):
                with anyio.CancelScope(shield=True):
                    await self._payloads.aclose()

    async def _keep_all(self) -> None:
        while self._brought or not self._ended:
            await self._news.wait()
            self._news = anyio.Event()
            brought, self._brought = self._brought, []
            await self._keep(brought)
            self._unkept -= len(brought)
            self._room.set()

    async def _keep(self, payloads: list[Payload]) -> None:
        """Take them in, however often the journal must be asked."""
        pause = _FIRST_PAUSE
        while payloads:
            try:
                answers = await self._calls.receive_many(payloads, self._dialect)
            except JournalError as error:
                taken, payloads = error.answers, payloads[len(error.answers) :]
                self._count(taken)
                hint = "they are tried again until the journal has them, and the source waits meanwhile"
                facts = {"error": mask(text_of(error)), "waiting": len(payloads), "pause": pause, "hint": hint}
                self._log.error("feed.journal_failed", **facts)
                await anyio.sleep(pause)
                pause = _FIRST_PAUSE if taken else min(pause * 2, _LONGEST_PAUSE)
            else:
                self._count(answers)
                return

    def _count(self, answers: Iterable[object]) -> None:
        for answer in answers:
            if not isinstance(answer, ParseError):
                self._received += 1
                continue
            self._refused += 1
            # Not what came: it may be anything, and somebody's number.
            said = {"field": mask(answer.field)[:100], "expected": mask(answer.expected)[:200]}
            self._log.warning("feed.refused", number=self._received + self._refused, dialect=answer.dialect, **said)


async def _each(payloads: Iterable[Payload]) -> AsyncIterator[Payload]:
    for payload in payloads:
        yield payload
