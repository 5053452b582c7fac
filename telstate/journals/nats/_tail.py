"""A reader of one stream: in order, without a gap, for ever.

It asks for messages in batches by the pull protocol, counts them by the consumer's own sequence, and begins anew behind the
last one whenever one is missing, the connection was lost, or not even a heartbeat was heard. nats-py's own ordered consumer loses
messages when its queue is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from telstate.errors import JournalError
from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._errors import NatsRefused, StreamFull
from telstate.routing._log import Log

__all__ = ["Tail"]

_BATCH = 512
"""So many messages are asked for at a time, once fewer than half of them are on their way."""
_EXPIRES = 60.0
_HEARTBEATS = 2.5
"""After so many heartbeats without a word it begins anew."""
_BEGIN_WITHIN = 5.0
_PAUSE = 0.2
_GRACE = 0.1
"""Seconds for what arrived while the event loop was blocked."""
_NANO = 1_000_000_000


class Tail:
    """Reads a stream from a sequence number on.

    Args:
        connection: open.
        stream: its name.
        subjects: which messages; wildcards are allowed.
        after: the sequence number after which it begins; None for the last message of each subject, and all that follow.
        heartbeat: seconds between two heartbeats of the server while nothing comes.

    It survives restarts of the server and elections. Close it with `aclose`.
    """

    def __init__(
        self,
        connection: NatsConnection,
        stream: str,
        subjects: str | Sequence[str],
        after: int | None = 0,
        *,
        heartbeat: float = 1.0,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._subjects = [subjects] if isinstance(subjects, str) else list(subjects)
        self._heartbeat = heartbeat
        self.at: int | None = after
        """The number of the last message that `next` returned."""
        self.pending: int = 0
        """How many more there are, as far as is known."""
        self.begun: int = 0
        """How often it has begun, at the start and anew."""
        self._last: int | None = after
        """The last message that arrived."""
        self._found: list[Stored] = []
        self._news = asyncio.Event()
        self._hears_no_more: Callable[[], None] | None = None
        self._consumer = self._inbox = ""
        self._count = 0
        self._asked = 0
        """How many messages were asked for and have not come."""
        self._heard = 0.0
        self._has_begun = self._has_read = False
        self._closed = False
        self._log = Log(burst=2, every=10.0)

    @property
    def is_reading(self) -> bool:
        """True unless something may be missing: since the connection was lost, or nothing is heard."""
        return self._has_begun

    async def begin(self) -> int:
        """Begin, or begin anew; return how many messages there are to read.

        Raises:
            JournalError: if the server does not answer, or refuses.
        """
        await self._end()
        self._connection.on_reconnect(self.doubt)
        await self._connection.open()
        self.begun += 1
        self._count, self._asked = 0, 0
        self._consumer, self._inbox = self._connection.new_reader()
        self._hears_no_more = self._connection.hear(self._consumer, partial(self._take, self.begun))
        self._has_begun = True
        try:
            name = f"CONSUMER.CREATE.{self._stream}.{self._consumer}"
            made = await self._connection.ask(name, self._consumer_config(), within=_BEGIN_WITHIN)
            self.pending = made["num_pending"] + len(self._found)
            self._heard = asyncio.get_running_loop().time()
            await self._ask_for_more()
            self._has_read = True
        except BaseException:
            self._has_begun = False
            raise
        return self.pending

    def _consumer_config(self) -> dict[str, object]:
        start: dict[str, object] = {"deliver_policy": "last_per_subject"}
        if self._last is not None:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        config = {
            "name": self._consumer,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "filter_subjects": self._subjects,
            "inactive_threshold": int(10 * self._heartbeat * _NANO),
            **start,
        }
        return {"stream_name": self._stream, "config": config}

    def doubt(self) -> None:
        """Begin anew at the next opportunity: something may be missing."""
        self._has_begun = False
        self._news.set()

    async def next(self, within: float | None = None) -> list[Stored]:
        """Return what came since the last call, at least one message; an empty list if nothing came within so many seconds.

        Raises:
            JournalError: if the server says at the first time that this cannot work: there is no such stream, or no permission.
        """
        loop = asyncio.get_running_loop()
        give_up = None if within is None else loop.time() + within
        while not self._found:
            if not self._has_begun and not await self._begin_anew(give_up):
                return []
            if self._asked < _BATCH // 2:
                with suppress(JournalError):  # a lost connection makes it begin anew
                    await self._ask_for_more()
            if self._found:
                break
            self._news.clear()
            silent_at = self._heard + _HEARTBEATS * self._heartbeat
            if loop.time() >= silent_at:
                await self._check_silence()
            elif give_up is not None and loop.time() >= give_up:
                return []
            else:
                await self._wait_for_news(silent_at if give_up is None else min(silent_at, give_up))
        found, self._found = self._found, []
        self.at, self.pending = found[-1].seq, found[-1].pending
        if self._asked < _BATCH // 2:
            with suppress(JournalError):
                await self._ask_for_more()
        return found

    async def _wait_for_news(self, until: float) -> None:
        timer = asyncio.get_running_loop().call_at(until, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _begin_anew(self, give_up: float | None) -> bool:
        """Begin anew, again and again; return False if that did not succeed in time."""
        while not self._closed:
            try:
                await self.begin()
            except JournalError as error:
                if isinstance(error, NatsRefused) and not isinstance(error, StreamFull) and not self._has_read:
                    raise  # it never worked. Later, as while a cluster comes back, the stream may only seem to be gone
                self._has_begun = False
                if give_up is not None and asyncio.get_running_loop().time() >= give_up:
                    return False
                self._log.warning("nats.reading_interrupted", stream=self._stream, error=str(error))
                await asyncio.sleep(_PAUSE)
            else:
                return True
        return False

    async def _check_silence(self) -> None:
        """Nothing was heard for long: the consumer is gone, or this process was busy, and what came meanwhile still waits."""
        before = self._heard
        await asyncio.sleep(_GRACE)
        if self._heard == before:
            self._has_begun = False

    async def _ask_for_more(self) -> None:
        self._asked += _BATCH
        body = {"batch": _BATCH, "expires": int(_EXPIRES * _NANO), "idle_heartbeat": int(self._heartbeat * _NANO)}
        await self._connection.send(f"CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", body, reply=self._inbox)

    def _take(self, begun: int, subject: str, reply: str, headers: Mapping[str, str], data: bytes) -> None:
        """Take what arrives: a message, whose place is in its reply subject, or a word of the server's."""
        if begun != self.begun:
            return  # it was on its way to the consumer before
        self._heard = asyncio.get_running_loop().time()
        if not reply.startswith("$JS.ACK."):
            self._heed(headers)
            return
        self._news.set()
        tokens = reply.split(".")
        seq, count, nanoseconds, pending = tokens[-4:] if len(tokens) == 9 else tokens[7:11]
        self._asked -= 1
        self._count += 1
        if int(count) != self._count:
            self._has_begun = False
        if self._has_begun:
            self._last = int(seq)
            self._found.append(Stored(self._last, int(nanoseconds) / _NANO, subject, headers, data, int(pending)))

    def _heed(self, headers: Mapping[str, str]) -> None:
        """The server says something about what was asked for: mostly that it has ended."""
        status = headers.get("Status")
        if status == "100":  # a heartbeat
            return
        self._news.set()
        if status == "408":  # it has expired: what did not come by then does not come any more
            self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages", self._asked)))
        else:  # the consumer or its server is gone
            self._has_begun = False

    async def _end(self) -> None:
        end, self._hears_no_more = self._hears_no_more, None
        if end is None:
            return
        end()
        with suppress(JournalError):
            await self._connection.send(f"CONSUMER.DELETE.{self._stream}.{self._consumer}")

    async def aclose(self) -> None:
        """Read no more."""
        self._closed = True
        self._connection.off_reconnect(self.doubt)
        await self._end()
