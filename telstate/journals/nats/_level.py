"""How full the stream of the events is: asked of the server now and then, once for all partitions of a process."""

from __future__ import annotations

import asyncio

from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import StreamFull
from telstate.journals.nats._streams import Streams

__all__ = ["StreamLevel", "level_of"]

_ASK_EVERY = 5.0
_ROOM = 64 * 1024
"""Bytes that must be free before a full stream counts as one that takes events again."""


class StreamLevel:
    """How full one stream is.

    Args:
        connection: open.
        streams: theirs.
    """

    def __init__(self, connection: NatsConnection, streams: Streams) -> None:
        self._connection = connection
        self._stream = streams.names.events
        self._asked_at = -_ASK_EVERY
        self._asking = asyncio.Lock()
        self._bytes, self._max_bytes = 0, -1
        self._last_seq = 0
        self._reconnects = connection.reconnects

    @property
    def part(self) -> float:
        """The part of its limit that it has, when it was looked at last; 0 if it has no limit."""
        return self._bytes / self._max_bytes if self._max_bytes > 0 else 0.0

    async def look(self, *, now: bool = False) -> float:
        """Return `part`, asked anew if that is some seconds ago, or at once.

        Raises:
            JournalError: if the server does not answer.
        """
        loop = asyncio.get_running_loop()
        stale = loop.time() if now else loop.time() - _ASK_EVERY
        if self._asked_at <= stale:
            async with self._asking:
                if self._asked_at <= stale:  # else somebody has asked while this one waited
                    self._asked_at = loop.time()
                    info = await self._connection.ask(f"STREAM.INFO.{self._stream}")
                    self._bytes, self._max_bytes = info["state"]["bytes"], info["config"]["max_bytes"]
                    self._last_seq = info["state"]["last_seq"]
        return self.part

    async def last_seq(self) -> int:
        """Return the number of the stream's last message.

        Raises:
            JournalError: if the server does not answer.
        """
        await self.look(now=True)
        return self._last_seq

    async def has_reached(self, seq: int) -> bool:
        """Return True if the stream has had a message of this number. After a restart the server may have lost it."""
        if self._last_seq < seq or self._reconnects != self._connection.reconnects:
            self._reconnects = self._connection.reconnects
            await self.look(now=True)
        return self._last_seq >= seq

    async def check(self) -> None:
        """Raise `StreamFull` if it has no room now."""
        await self.look(now=True)
        if 0 < self._max_bytes < self._bytes + _ROOM:
            hint = "raise max_bytes; partitions with an owner remove what their checkpoints have"
            raise StreamFull(f"the stream {self._stream} is full: {self._bytes} of {self._max_bytes} bytes; {hint}")


def level_of(connection: NatsConnection, streams: Streams) -> StreamLevel:
    """Return the level that all journals of a connection share."""
    return connection.shared(f"level of {streams.names.events}", lambda: StreamLevel(connection, streams))
