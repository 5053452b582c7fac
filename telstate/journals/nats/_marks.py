"""Marks of what is done: lists of numbers in a stream of their own, read again only by a recovery."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence

from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._streams import Streams
from telstate.journals.nats._tail import Tail

__all__ = ["Marks", "read_all"]

_AT_ONCE = 20_000
"""Numbers in one message: two hundred kilobytes."""
_LOOK_AGAIN = 1.0


class Marks:
    """The marks of one partition.

    Args:
        connection: open.
        streams: theirs.
        partition: which one.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int) -> None:
        self._connection = connection
        self._stream = streams.names.marks
        self._subject = streams.names.done(partition)
        self.position: int = 0
        """The last message of marks that is known to be ours."""

    async def write(self, seqs: Sequence[int]) -> None:
        """Mark work as done."""
        for start in range(0, len(seqs), _AT_ONCE):
            data = json.dumps(list(seqs[start : start + _AT_ONCE]), separators=(",", ":")).encode()
            self.position = await self._connection.publish(self._subject, data)

    async def read(self, after: int = 0) -> set[int]:
        """Return what is marked, from the messages after a sequence number of the stream of marks."""
        found: set[int] = set()
        if 0 < self.position <= after:
            return found  # nothing was marked since
        async for message in read_all(self._connection, self._stream, self._subject, after):
            found.update(json.loads(message.data))
        return found

    async def find_position(self) -> None:
        """Look where the marks end now."""
        last = await self._connection.last(self._stream, self._subject)
        self.position = 0 if last is None else last.seq


async def read_all(
    connection: NatsConnection, stream: str, subject: str, after: int = 0, *, tail: Tail | None = None
) -> AsyncGenerator[Stored, None]:
    """Yield the messages that are there now: up to the last one that the stream's leader has.

    The copy of the stream that serves a reader may be behind, and what it lacks would look as if it were not there.

    Args:
        tail: reads them, and is left open behind the last one; by default one of its own.
    """
    reader = tail or Tail(connection, stream, subject, after)
    try:
        last = await connection.last(stream, subject)
        while last is not None and (reader.at or 0) < last.seq:
            found = await reader.next(within=_LOOK_AGAIN)
            for message in found:
                yield message
            if not found:  # the last one may be gone by now
                last = await connection.last(stream, subject)
    finally:
        if tail is None:
            await reader.aclose()
