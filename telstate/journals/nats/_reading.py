"""All partitions of the streams as one log, or one of them as a log: what there is now, and what comes.

The order is that of the stream's numbers, so everybody who reads sees the same. Nothing is written, and no partition is taken over.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from time import time
from typing import Any
from uuid import uuid4

from telstate.errors import DefinitionError, ParseError
from telstate.events import Dialect
from telstate.events._dialects.journal import header_line, mark_line, wrap
from telstate.events._parse import parse
from telstate.journals._export import dead_letter_as_line
from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._letters import Letters
from telstate.journals.nats._marks import read_all
from telstate.journals.nats._names import Names
from telstate.journals.nats._records import is_unreadable, message_of, record_of
from telstate.journals.nats._settings import header_of_all
from telstate.journals.nats._streams import Streams, find
from telstate.journals.nats._tail import Tail
from telstate.routing._campaign_wishes import campaign_event
from telstate.routing._payload import is_own
from telstate.routing._ports import Entry, KeptLetter, Record

__all__ = ["StreamLog"]

_FROM_OUTSIDE = frozenset({Dialect.WEBHOOK, Dialect.DAILY_PYTHON})
"""Dialects that cannot spell what only an owner knows."""
_LOOK_AGAIN = 1.0


class StreamLog:
    """Reads the streams of one app in one environment as the lines of a log.

    Args:
        connection: open.
        streams: theirs.
        partition: which one; None for all.

    Raises:
        DefinitionError: if there is no such partition.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int | None = None) -> None:
        if partition is not None and not 0 <= partition < streams.partitions:
            raise DefinitionError(
                f"the streams of {streams.names.prefix} have partitions 0 to {streams.partitions - 1}, not {partition}"
            )
        self._connection = connection
        self._streams = streams
        self._names: Names = streams.names
        self._place: int | str = "*" if partition is None else partition
        self._last = 0
        self._tail: Tail | None = None

    @classmethod
    async def open(cls, connection: NatsConnection, names: Names, partition: int | None = None) -> StreamLog:
        """Look for the streams, and make a log of them.

        Raises:
            DefinitionError: if they are not declared, or there is no such partition.
            JournalError: if NATS does not answer, or lets this user read nothing.
        """
        await connection.open()
        return cls(connection, await find(connection, names, complete=False), partition)

    async def lines(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the header, then the events that are there now, in pieces."""
        yield [await self.header()]
        reader = self._reader()
        try:
            last = await self._last_event()
            while last is not None and (reader.at or 0) < last.seq:
                found = await reader.next(within=_LOOK_AGAIN)
                if found:
                    yield self._as_lines(found)
                else:  # the last one may be gone by now
                    last = await self._last_event()
        finally:
            await reader.aclose()

    async def more(self) -> list[bytes]:
        """Return the next lines without waiting for more: at first those that are there, later what came since. Empty if nothing did."""
        if self._tail is None:
            self._tail = self._reader()
            await self._tail.begin()
            return [await self.header()]
        found = await self._tail.next(within=_LOOK_AGAIN if self._tail.pending else 0)
        return self._as_lines(found)

    async def export(self) -> AsyncGenerator[list[bytes], None]:
        """Yield everything there is now: as `lines`, then the marks of what is done, then the dead letters."""
        async with aclosing(self.lines()) as pieces:
            async for piece in pieces:
                yield piece
        last = self._last  # nothing below speaks of an event that is not above
        async with aclosing(self._marks()) as marks:
            async for numbers in marks:
                yield [mark_line(number) for number in numbers if abs(number) <= last]
        async with aclosing(self.letters()) as letters:
            async for kept in letters:
                if abs(kept.letter.seq) <= last:
                    yield [dead_letter_as_line(kept)]

    async def finished(self, seqs: Iterable[int]) -> set[int]:
        """Return which of these are marked as done."""
        asked, found = frozenset(seqs), set[int]()
        async with aclosing(self._marks()) as marks:
            async for numbers in marks:
                found |= asked.intersection(numbers)
        return found

    async def _marks(self) -> AsyncGenerator[list[int], None]:
        done = self._names.done(self._place)
        async with aclosing(read_all(self._connection, self._names.marks, done)) as messages:
            async for message in messages:
                yield json.loads(message.data)

    async def aclose(self) -> None:
        """Read no more. The connection stays open."""
        if self._tail is not None:
            await self._tail.aclose()

    # --- dead letters ---------------------------------------------------------------------------------------------

    async def letters(self) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters that were not dropped."""
        async with aclosing(Letters(self._connection, self._streams, self._place).all()) as letters:
            async for kept in letters:
                yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask the owners of their partitions to try letters again."""
        for partition, some in (await self._by_partition(numbers)).items():
            await Letters(self._connection, self._streams, partition).request_retry(some)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget letters."""
        for partition, some in (await self._by_partition(numbers)).items():
            await Letters(self._connection, self._streams, partition).drop(some)

    # --- campaigns ------------------------------------------------------------------------------------------------

    async def request_campaign(self, campaign: str, wish: str) -> None:
        """Ask something of a campaign: `pause`, `resume` or `stop`. It is an event of its ledger, which its workers follow.

        No name is checked: a campaign may be paused before its first run.

        Raises:
            ValueError: if the wish is something else.
            JournalError: if the stream could not keep it.
        """
        entry = Entry(time(), Dialect.DAILY_JS, None, campaign_event(campaign, wish))
        subject = self._names.events_own(self._streams.partition(campaign))
        await self._connection.publish(*message_of(subject, entry, uuid4().hex, "campaign"))

    async def _by_partition(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number in numbers:
            letter = await self._connection.get(self._names.dead, number)
            if letter is not None:
                found.setdefault(int(letter.subject.rpartition(".")[2]), []).append(number)
        return found

    # --- lines ----------------------------------------------------------------------------------------------------

    async def header(self) -> bytes:
        """Return the first line: the settings of the partition, or those of the first one that was opened."""
        async with aclosing(read_all(self._connection, self._names.state, self._names.head(self._place))) as heads:
            settings: dict[str, Any] = {}
            async for head in heads:
                settings = json.loads(head.data)["settings"]
                break
        if self._place == "*":
            return header_of_all(self._streams.id, settings, self._streams.partitions)
        return header_line(self._streams.id, settings)

    def _reader(self) -> Tail:
        return Tail(self._connection, self._names.events, self._names.events_of(self._place))

    async def _last_event(self) -> Stored | None:
        return await self._connection.last(self._names.events, self._names.events_of(self._place))

    def _as_lines(self, found: Sequence[Stored]) -> list[bytes]:
        if found:
            self._last = found[-1].seq
        records = ((stored, record_of(stored)) for stored in found)
        return [
            wrap(record.seq, record.at, record.dialect, record.payload)
            for stored, record in records
            if not _is_no_event(stored, record)
        ]


def _is_no_event(stored: Stored, record: Record) -> bool:
    """Return True for what an owner does not take as an event: unreadable payloads, which are dead letters, and forged ones."""
    may_be_forged = record.is_received and record.dialect not in _FROM_OUTSIDE
    if not may_be_forged and not is_unreadable(stored):
        return False
    try:
        event = parse(record.payload, record.dialect)
    except ParseError:
        return is_unreadable(stored)
    return may_be_forged and is_own(event)
