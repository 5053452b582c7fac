"""A journal in NATS JetStream: one partition of the stream of events, which receivers and others append to as well.

What the owner appends comes back to it by `tail`, in the order of the stream, like everybody else's events. The number of an event
is its sequence number in the stream, so numbers have gaps where other partitions' events are. The marks, the checkpoints and the dead
letters are in streams of their own.

Opening a partition takes it over: saves of whoever opened it before are refused from then on, and that journal appends nothing
more once it has noticed. It does not keep the owner before from running handlers: a lease does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from telstate.errors import JournalError, RevisionConflict
from telstate.journals.nats._checkpoint_store import CheckpointStore, PartitionLost
from telstate.journals.nats._connection import BATCH_LIMIT, Message, NatsConnection
from telstate.journals.nats._letters import Letters
from telstate.journals.nats._level import level_of
from telstate.journals.nats._marks import Marks, read_all
from telstate.journals.nats._records import message_of, record_of
from telstate.journals.nats._streams import Streams
from telstate.journals.nats._tail import Tail
from telstate.routing._log import Log
from telstate.routing._ports import Base, DeadLetter, Entry, KeptLetter, Record

__all__ = ["NatsJournal"]

_CHECKPOINT_EVERY = 2_000
IN_TRANSIT = 120.0
"""Seconds: a publisher tries for up to 90, with the time at which it received the event, and a reader may be slow to notice silence."""
_HEARTBEAT = 2.0
"""Seconds between two words of a quiet stream: each costs an idle worker with hundreds of partitions."""
_PURGE_ABOVE = 0.5
_PROBE = bytes(4096)
_SKIP_AT_ONCE = 500
_LOOK_EVERY = 5.0
"""Seconds without an event after which a reader looks whether the server came back without its last ones."""
_CHECKPOINTS_APART = 10.0
"""Seconds between two checkpoints that only make room, at least."""


class NatsJournal:
    """Keeps the events of one partition. For one dispatcher at a time, on asyncio.

    Args:
        connection: to the servers; several journals may share one. It is opened where that is needed, and never closed.
        streams: what `declare` or `find` returned.
        partition: which one, from 0.
        purge_above: once the stream is fuller than this part of its `max_bytes`, events are removed that are over as of the last
            checkpoint; else they stay as long as `keep` says. 0 to remove them after every checkpoint. Halfway from there to
            full, events of live sessions are removed, too: the checkpoint has those sessions, and a full stream takes no events.

    Raises:
        ValueError: if there is no such partition.
    """

    def __init__(
        self, connection: NatsConnection, streams: Streams, partition: int, *, purge_above: float = _PURGE_ABOVE
    ) -> None:
        if not 0 <= partition < streams.partitions:
            raise ValueError(f"partition: expected 0 to {streams.partitions - 1}, got {partition}")
        if not 0 <= purge_above <= 1:
            raise ValueError(f"purge_above: expected 0 to 1, got {purge_above}")
        self._connection = connection
        self._streams = streams
        self.partition: int = partition
        self._purge_above = purge_above
        self._names = streams.names
        self._own = streams.names.events_own(partition)
        self._all = streams.names.events_of(partition)
        self._writer = uuid4().hex[:16]
        self._sent = 0
        self._settings: dict[str, Any] | None = None
        self._is_open = False
        self._lost: str | None = None
        self._marks = Marks(connection, streams, partition)
        self._letters = Letters(connection, streams, partition)
        self._store = CheckpointStore(connection, streams, partition, self._writer)
        self._level = level_of(connection, streams)
        self._is_recovering = False
        """From `open` to the first `tail`: only then what is marked is kept in memory."""
        self._finished: set[int] | None = None
        """What is marked."""
        self._has_all_marks = False
        self._reader: Tail | None = None
        """What `read` has left open for `tail`."""
        self._following: Tail | None = None
        self._seen = 0
        """The last event that was read or appended here."""
        self._asked_at = 0.0
        """When `tend` asked for a checkpoint."""
        self._log = Log(burst=2, every=10.0)

    def __repr__(self) -> str:
        return f"<NatsJournal {self._names.prefix}, partition {self.partition}, {self._state()}>"

    def _state(self) -> str:
        return "lost" if self._lost is not None else "open" if self._is_open else "not open"

    @property
    def id(self) -> str:
        """The name of the stream, made once; the same in all partitions. With a sequence number it names an event for good."""
        return self._streams.id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that the partition began with; None before `open`."""
        return self._settings

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least."""
        return _CHECKPOINT_EVERY

    @property
    def lost(self) -> str | None:
        """Why nothing is appended or saved here any more, in words: somebody else owns the partition. None if that is not known."""
        return self._lost

    @property
    def in_transit(self) -> float | None:
        """The seconds by which the next event may be older than now. None while something may have come that was not read."""
        following = self._following
        if following is not None and (not following.is_reading or following.pending):
            return None
        return IN_TRANSIT

    @property
    def behind(self) -> int | None:
        """How many events `tail` has not brought yet, as far as its reader knows; None before it."""
        return None if self._following is None else self._following.pending

    def lose(self, reason: str) -> None:
        """Append, mark and save nothing more: called by whoever learns first that somebody else owns the partition."""
        if self._lost is None:
            self._lost = reason
            self._log.warning("journal.lost", partition=self.partition, reason=reason)

    # --- opening --------------------------------------------------------------------------------------------------

    async def open(self, settings: dict[str, Any]) -> None:
        """Take the partition over. A new one keeps `settings`.

        Raises:
            JournalError: if it is open here already, or NATS does not answer.
        """
        if self._is_open:
            raise JournalError(f"{self!r} is open already: one journal serves one dispatcher")
        await self._connection.open()
        self._settings = await self._keep_settings(settings)
        await self._store.claim()
        await self._marks.find_position()
        self._finished = self._lost = None
        self._seen = self._store.base_seq
        self._is_open = self._is_recovering = True
        try:
            marked = await self._marks_after(self._store.base_seq)
            await self._skip_lost_numbers(max([self._store.base_seq, *map(abs, marked)]))
        except BaseException:
            self._is_open = self._is_recovering = False
            raise

    async def _skip_lost_numbers(self, up_to: int) -> None:
        """Use up the numbers of events that the server has lost: new events with them would count as stepped, or as done.

        It may have lost the last ones at a power failure, while the checkpoint and the marks, in other streams, are there.
        """
        if await self._level.has_reached(up_to):
            return
        hint = "their effect on the state is kept, a replay lacks it; set sync_interval: always in the server's jetstream, or three replicas"
        self._log.error("journal.events_lost", partition=self.partition, up_to=up_to, hint=hint)
        subject = self._names.events_own("skipped")
        while not await self._level.has_reached(up_to):
            await self._connection.publish_batch(
                [Message(subject, b"", {"Nats-Msg-Id": uuid4().hex}) for _ in range(_SKIP_AT_ONCE)]
            )
        await self._connection.ask(f"STREAM.PURGE.{self._names.events}", {"filter": subject})

    async def _keep_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings that are kept; the given ones if there are none."""
        subject = self._names.head(self.partition)
        while (head := await self._connection.last(self._names.state, subject)) is None:
            try:
                await self._connection.publish(subject, json.dumps({"settings": settings}).encode(), expect_last=0)
            except RevisionConflict:
                continue  # somebody else was faster
            return settings
        kept: dict[str, Any] = json.loads(head.data)["settings"]
        return kept

    def _check_open(self) -> None:
        if self._lost is not None:
            raise JournalError(f"partition {self.partition} of {self._names.prefix} was lost: {self._lost}")
        if not self._is_open:
            raise JournalError(f"{self!r} is not open")

    # --- events ---------------------------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Publish entries, all or none, up to 1000 at a time. Returns their sequence numbers. The tail brings them back.

        Raises:
            JournalError: if they could not be stored: `StreamFull` at once if there is no room. If no answer came within 90 seconds they
                may be stored all the same. Or if the partition was lost.
        """
        self._check_open()
        seqs: list[int] = []
        for start in range(0, len(entries), BATCH_LIMIT):
            seqs += await self._append(entries[start : start + BATCH_LIMIT])
        self._seen = max([self._seen, *seqs])
        return seqs

    async def _append(self, entries: Sequence[Entry]) -> list[int]:
        after, ids = self._seen, [f"{self._writer}-{self._sent + place}" for place in range(1, len(entries) + 1)]
        self._sent += len(entries)
        messages = [message_of(self._own, entry, one, self._writer) for entry, one in zip(entries, ids, strict=True)]
        if len(messages) == 1:
            return [await self._connection.publish(*messages[0])]
        last = await self._connection.publish_batch(messages)
        first = await self._find(ids[0], after) if last is None else last - len(messages) + 1
        return list(range(first, first + len(messages)))

    async def _find(self, message_id: str, after: int) -> int:
        """Return the number of a message that is stored, but of which the answer was lost."""
        async with aclosing(read_all(self._connection, self._names.events, self._own, after)) as messages:
            async for message in messages:
                if message.headers.get("Nats-Msg-Id") == message_id:
                    return message.seq
        raise JournalError(
            "the stream has the events, but they cannot be found: whether they were taken in is not known"
        )

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the records after a sequence number that are there now, in order."""
        finished = await self._marks_after(after)
        reader = await self._take_reader(after)
        try:
            found = read_all(self._connection, self._names.events, self._all, after, tail=reader)
            async with aclosing(found) as messages:
                async for message in messages:
                    self._seen = max(self._seen, message.seq)
                    yield record_of(message, done=message.seq in finished)
        finally:
            if self._is_recovering and self._reader is None:
                self._reader = reader
            else:
                await reader.aclose()

    async def tail(self, after: int) -> AsyncGenerator[Record, None]:
        """Yield every record after a sequence number, and go on as they are appended, by whomever.

        Raises:
            JournalError: if the server came back without events that it had acknowledged: open the partition again.
        """
        self._is_recovering, self._finished = False, None
        self._following = reader = await self._take_reader(after)
        reconnects = self._connection.reconnects
        try:
            while True:
                found = await reader.next(within=_LOOK_EVERY)
                for message in found:
                    yield record_of(message)
                self._seen = max(self._seen, reader.at or 0)
                if not found and reconnects != self._connection.reconnects and self._connection.is_connected:
                    reconnects = self._connection.reconnects
                    await self._check_reached(reader.at or 0)
        finally:
            await reader.aclose()

    async def _check_reached(self, seq: int) -> None:
        """Nothing comes after an event that the server has lost until its number was used again."""
        if not await self._level.has_reached(seq):
            raise JournalError(
                f"the stream {self._names.events} ends before event {seq}, which was read: the server came back without events that"
                " it had acknowledged. Open the partition again"
            )

    async def _take_reader(self, after: int) -> Tail:
        """Return the reader that has come to this place, else a new one."""
        reader, self._reader = self._reader, None
        if reader is not None and reader.at == after:
            return reader
        if reader is not None:
            await reader.aclose()
        return Tail(self._connection, self._names.events, self._all, after, heartbeat=_HEARTBEAT)

    # --- marks ----------------------------------------------------------------------------------------------------

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done. Nothing is marked once the partition is lost: the new owner does it."""
        if not seqs or self._lost is not None:
            return
        self._check_open()
        await self._marks.write(seqs)
        if self._finished is not None:
            self._finished.update(seqs)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these are marked as done."""
        if not seqs:
            return set()
        if not self._is_open:
            await self._store.look()
        # What is below has left memory and is finished. Its marks, and the events themselves, may be gone.
        found = {seq for seq in seqs if abs(seq) < self._store.oldest}
        if len(found) < len(seqs):
            found |= (await self._marks_after(self._store.base_seq)).intersection(seqs)
        return found

    async def _marks_after(self, after: int) -> set[int]:
        """Return the marks that matter to the events after a sequence number, and to what was unfinished then."""
        if not self._is_open:
            await self._store.look()
        # Whoever only looks has no checkpoint, which knows what was marked before it.
        needs_all = not self._is_open or not self._store.base_seq or after < self._store.base_seq
        if self._finished is not None and (self._has_all_marks or not needs_all):
            return self._finished
        found = await self._marks.read(0 if needs_all else self._store.marks)
        if self._is_recovering:
            self._finished, self._has_all_marks = found, needs_all
        return found

    # --- checkpoints ----------------------------------------------------------------------------------------------

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given.

        Raises:
            RevisionConflict: if it has another revision by now, or somebody else has taken the partition over.
        """
        if self._lost is not None:
            raise PartitionLost(f"partition {self.partition} of {self._names.prefix} was lost: {self._lost}")
        self._check_open()
        try:
            return await self._store.save(key, state, revision, self._marks.position)
        except PartitionLost as error:
            self.lose(str(error))
            raise

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return await self._store.load(key)

    async def keep_base(self, base: Base) -> None:
        """Take note of a checkpoint that was just saved; where the stream is rather full, remove the events before it."""
        self._check_open()
        try:
            await self._store.keep_base(base, self._marks.position)
        except PartitionLost as error:
            self.lose(str(error))
            raise
        level = await self._level.look()
        if level >= self._purge_above:
            await self.purge(all_of_them=level >= (1 + self._purge_above) / 2)

    async def base(self) -> Base | None:
        """Return what is known of the last checkpoint: it stands for events before it, which may have been removed."""
        return await self._store.base()

    async def purge(self, *, all_of_them: bool = False) -> int:
        """Remove events that the last checkpoint has; return how many. Their marks stay as long as `keep` says.

        Args:
            all_of_them: also those of what is not over. Only a telstate that cannot read the checkpoint would need them.
        """
        up_to = self._store.base_seq + 1 if all_of_them else self._store.oldest
        if up_to < 2:
            return 0
        answer = await self._connection.ask(f"STREAM.PURGE.{self._names.events}", {"filter": self._all, "seq": up_to})
        if all_of_them and answer["purged"]:
            hint = "the stream was nearly full; raise its max_bytes, or a telstate of another version cannot go on with live calls"
            self._log.warning(
                "journal.purged_live_events", partition=self.partition, events=answer["purged"], hint=hint
            )
        return int(answer["purged"])

    async def tend(self, now: float | None) -> bool:  # noqa: ARG002 - only what is full matters
        """Return True if a checkpoint is wanted, to make room in a stream that is rather full."""
        if self._lost is None and self._is_open:
            await self._store.sweep()
        time = asyncio.get_running_loop().time()
        if self._lost is not None or not self._connection.is_connected or time < self._asked_at + _CHECKPOINTS_APART:
            return False
        if not self._purge_above or await self._level.look() < self._purge_above or self._seen <= self._store.base_seq:
            return False
        self._asked_at = time
        return True

    async def probe(self) -> None:
        """Check that events can be kept now.

        Raises:
            JournalError: if not, with the reason.
        """
        self._check_open()
        await self._level.check()
        # The server's storage may be full though the stream is not. The next owner removes this.
        await self._connection.publish(self._names.piece(self.partition, "probe", 0), _PROBE, within=0)

    # --- dead letters ---------------------------------------------------------------------------------------------

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        await self._letters.add(letters)

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters that were not dropped, or only those that somebody asked to retry."""
        async for kept in self._letters.all(retry_requested=retry_requested):
            yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to retry dead letters. Works without `open`: the owner sees it within seconds."""
        await self._letters.request_retry(numbers)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget dead letters. Works without `open`."""
        await self._letters.drop(numbers)

    async def aclose(self) -> None:
        """Let the partition go. The connection stays open."""
        self._is_open = self._is_recovering = False
        self._finished = None
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()
