"""The dead letters of one partition: one message each, whose sequence number is the letter's number."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._errors import NatsRefused
from telstate.journals.nats._marks import read_all
from telstate.journals.nats._retry_requests import RetryRequests
from telstate.journals.nats._streams import Streams
from telstate.routing._ports import DeadLetter, KeptLetter

__all__ = ["Letters"]

_HEADERS = 1024
"""Bytes of a message that its headers may take."""
_NO_MESSAGE = 10037
_NOT_DELETED = 10057


class Letters:
    """Dead letters.

    Args:
        connection: open.
        streams: theirs.
        partition: which one; `*` to read those of all.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int | str) -> None:
        self._connection = connection
        self._names = streams.names
        self._subject = streams.names.letters(partition)
        self._unanswered: dict[bytes, str] = {}
        """The ids of letters that may be stored, or not."""
        self._requests = RetryRequests(connection, streams, partition)

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters. Adding one again because no answer came keeps it once."""
        for letter in letters:
            data = _encode(letter, self._connection.max_payload - _HEADERS)
            message_id = self._unanswered.setdefault(data, uuid4().hex)
            await self._connection.publish(self._subject, data, {"Nats-Msg-Id": message_id})
            del self._unanswered[data]

    async def all(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the letters that were not dropped, or those that somebody asked to retry."""
        requested = await self._requests.numbers()
        if retry_requested and not requested:
            return
        after = min(requested) - 1 if retry_requested else 0
        async for message in read_all(self._connection, self._names.dead, self._subject, after):
            if message.seq in requested or not retry_requested:
                yield KeptLetter(message.seq, await self._decode(message), message.seq in requested)

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again: those that there are, for a number may be used later."""
        known = [number for number in numbers if await self._has(number)]
        if known:
            await self._requests.add(known)

    async def drop(self, numbers: Sequence[int]) -> None:
        """Forget letters."""
        for number in numbers:
            if await self._has(number):
                try:
                    await self._connection.ask(
                        f"STREAM.MSG.DELETE.{self._names.dead}", {"seq": number, "no_erase": True}
                    )
                except NatsRefused as error:
                    if error.code not in {_NO_MESSAGE, _NOT_DELETED}:  # somebody else was faster
                        raise

    async def _has(self, number: int) -> bool:
        """Return True if a letter of this partition has the number."""
        if number < 1:
            return False
        found = await self._connection.get(self._names.dead, number)
        return found is not None and found.subject == self._subject

    async def _decode(self, message: Stored) -> DeadLetter:
        fields: dict[str, Any] = json.loads(zlib.decompress(message.data))
        payload = fields["payload"]
        if payload is None:  # it did not fit, and the event may be there still
            event = await self._connection.get(self._names.events, fields["seq"])
            fields["payload"] = b"" if event is None else event.data
        else:
            fields["payload"] = b64decode(payload)
        return DeadLetter(**fields)


def _encode(letter: DeadLetter, limit: int) -> bytes:
    """Write a letter so that it fits in a message: else no checkpoint could be saved any more, which waits for letters."""
    fields: dict[str, Any] = {**letter._asdict(), "payload": b64encode(letter.payload).decode()}
    data = _packed(fields)
    if len(data) > limit and letter.seq > 0:
        data = _packed({**fields, "payload": None})
    if len(data) > limit:
        data = _packed({**fields, "payload": "", "facts": None, "detail": f"{letter.detail} (too large to keep)"})
    return data


def _packed(fields: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(fields, default=str, separators=(",", ":")).encode(), 1)
