"""Requests to retry dead letters: whether there is a new one is asked once for all partitions of a process.

A dispatcher looks every two seconds. With hundreds of partitions, a question for each would be most of what an idle worker does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._marks import read_all
from telstate.journals.nats._names import Names
from telstate.journals.nats._streams import Streams

__all__ = ["RetryRequests"]

_LOOK_EVERY = 1.0


class _LastRequest:
    """The number of the last request of any partition."""

    def __init__(self, connection: NatsConnection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._asking = asyncio.Lock()
        self._seq = 0
        self._is_valid_until = 0.0

    async def look(self) -> int:
        """Return it, as it was a second ago at most; 0 if there is none."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now >= self._is_valid_until:
                last = await self._connection.last(self._names.marks, self._names.again("*"))
                self._seq = 0 if last is None else last.seq
                self._is_valid_until = now + _LOOK_EVERY
        return self._seq

    def forget(self) -> None:
        """There is a new one."""
        self._is_valid_until = 0.0


class RetryRequests:
    """The requests of one partition.

    Args:
        connection: open.
        streams: theirs.
        partition: which one; `*` for all.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int | str) -> None:
        self._connection = connection
        self._stream = streams.names.marks
        self._subject = streams.names.again(partition)
        self._last = connection.shared(f"requests in {self._stream}", lambda: _LastRequest(connection, streams.names))
        self._read_up_to = 0
        self._numbers: frozenset[int] = frozenset()

    async def numbers(self) -> frozenset[int]:
        """Return the numbers of the letters that somebody asked to retry."""
        last = await self._last.look()
        if last != self._read_up_to:
            found: set[int] = set()
            async for message in read_all(self._connection, self._stream, self._subject):
                found.update(json.loads(message.data))
            self._read_up_to, self._numbers = last, frozenset(found)
        return self._numbers

    async def add(self, numbers: Sequence[int]) -> None:
        """Ask to retry letters."""
        await self._connection.publish(self._subject, json.dumps(list(numbers)).encode())
        self._last.forget()
