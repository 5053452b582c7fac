"""Writes the events of another journal into the streams, once, however often it is tried.

Each event has a `Nats-Msg-Id` made of the journal's name and the event's number. The server knows those of the last two minutes
only, so the stream is read first: what is there is left out. And every write expects the stream to end where it was read, so that
nothing comes in between that was not seen: not from an import that was killed, and not from another one that runs now.

Events keep their times of receipt. Marks follow each batch, so that finished work does not run again.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, NamedTuple

from telstate.errors import DefinitionError, JournalError, RevisionConflict
from telstate.events import SourceGap
from telstate.journals.nats._connection import BATCH_LIMIT, Message, NatsConnection
from telstate.journals.nats._import_plan import EVERYWHERE, Imported, ImportPlan
from telstate.journals.nats._letters import Letters
from telstate.journals.nats._marks import Marks, read_all
from telstate.journals.nats._records import message_of
from telstate.journals.nats._streams import Streams
from telstate.routing._ports import Entry

__all__ = ["ImportResult", "Importer"]

_BYTES = 1 << 20
"""Bytes of the payloads of one batch, about."""
_BY = "import"


class ImportResult(NamedTuple):
    """What an import has written."""

    events: int
    known: int
    """Events that were there already."""
    marks: int
    letters: int


class _Waiting(NamedTuple):
    """A message that is to be written."""

    key: str
    """What stands for it in its id: the number of the event, with the partition if it goes to several."""
    seq: int
    partition: int
    message: Message


class Importer:
    """Writes one journal.

    Args:
        connection: open, with the permissions of a worker.
        streams: as declared.
        plan: which has learned everything.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, plan: ImportPlan) -> None:
        self._connection = connection
        self._streams = streams
        self._names = streams.names
        self._plan = plan
        self._prefix = f"import-{plan.journal}-"
        self._numbers: dict[str, tuple[int, int]] = {}
        """By key, the numbers of what the stream has, and their partitions."""
        self._begun: set[int] = set()
        """The events of which an earlier import has written something."""
        self._homes: dict[str, int] = {}
        """The partitions of sessions and callers of which an earlier import has written something."""
        self._last = 0
        """The stream is known up to this number."""
        self._at_once = BATCH_LIMIT
        self._waiting: list[_Waiting] = []
        self._size = 0
        self._places: dict[int, tuple[int, int]] = {}
        """By the number of an event in its journal: its number and its partition here."""
        self._marked: set[int] = set()
        self._written = self._known = self._new_marks = self._new_letters = 0

    async def begin(self) -> None:
        """Look what is there.

        Raises:
            DefinitionError: if the streams belong to a service with other settings.
            JournalError: if workers run: they would run handlers that have finished.
        """
        await self._check_workers()
        await self._keep_settings()
        await self._scan()
        self._begun = {int(key.partition("-")[0]) for key in self._numbers if not key.startswith("end-")}
        async with aclosing(read_all(self._connection, self._names.marks, self._names.done("*"))) as messages:
            async for message in messages:
                self._marked.update(json.loads(message.data))

    async def add(self, event: Imported) -> None:
        """Write an event, with others that come soon."""
        if event.places == EVERYWHERE:
            partitions = list(range(self._streams.partitions))
        else:
            partitions = list(dict.fromkeys(map(self._streams.partition, event.places)))
        if isinstance(event.entry.event, SourceGap) and event.seq in self._begun:
            self._known += 1  # whom it concerns may be known better by now, and they are doubted already
        elif len(partitions) == 1:
            await self._add(str(event.seq), event.seq, self._home_of(event, partitions[0]), event.entry)
        else:
            for partition in partitions:
                await self._add(f"{event.seq}-{partition}", event.seq, partition, event.entry)

    def _home_of(self, event: Imported, partition: int) -> int:
        """Return the partition of an event: where the session is already, if it is somewhere."""
        known = self._numbers.get(str(event.seq))
        if known is not None:
            partition = known[1]
            if event.of is not None:
                self._homes[event.of] = partition
        elif event.of in self._homes:
            partition = self._homes[event.of]
        return partition

    async def _add(self, key: str, seq: int, partition: int, entry: Entry) -> None:
        message = message_of(self._names.events_own(partition), entry, f"{self._prefix}{key}", _BY)
        self._waiting.append(_Waiting(key, seq, partition, message))
        self._size += len(message.data)
        if len(self._waiting) >= self._at_once or self._size >= _BYTES:
            await self._flush()

    async def finish(self) -> ImportResult:
        """Write what is left: a gap for the calls that are live, and the dead letters."""
        reason = "the journal of these calls was moved here: what came meanwhile may be missing"
        for partition in sorted(set(map(self._streams.partition, self._plan.live))):
            gap = SourceGap(reason=reason)
            await self._add(f"end-{self._plan.last}-{partition}", 0, partition, Entry(None, "daily-js", None, gap))
        await self._flush()
        await self._write_letters()
        return ImportResult(self._written, self._known, self._new_marks, self._new_letters)

    # --- before ---------------------------------------------------------------------------------------------------

    async def _check_workers(self) -> None:
        """Wait for a time to live where somebody may be alive: only a key that changes says so."""
        before = await self._workers()
        if not before:
            return
        await asyncio.sleep(max(ttl for _, ttl in before.values()))
        after = await self._workers()
        alive = [one for one, (seq, _) in after.items() if one not in before or before[one][0] != seq]
        if alive:
            raise JournalError(
                f"{len(alive)} of the workers of {self._names.prefix} run: stop them until the import is through, because they"
                " would run handlers that have finished"
            )

    async def _workers(self) -> dict[str, tuple[int, float]]:
        """Return, by worker that has not ended in order, the revision of its key and its time to live."""
        found = {}
        async with aclosing(read_all(self._connection, self._names.owners, self._names.worker("*"))) as keys:
            async for key in keys:
                value: dict[str, Any] = json.loads(key.data)
                if value.get("alive"):
                    found[key.subject] = key.seq, float(value.get("ttl", 10.0))
        return found

    async def _keep_settings(self) -> None:
        """Give each partition the journal's settings, as it had them at its beginning."""
        async with aclosing(read_all(self._connection, self._names.state, self._names.head("*"))) as heads:
            kept = {int(head.subject.split(".")[-2]): json.loads(head.data)["settings"] async for head in heads}
        wrong = [partition for partition, settings in kept.items() if settings != self._plan.settings]
        if wrong:
            raise DefinitionError(
                f"partition {wrong[0]} of {self._names.prefix} began with other settings than the journal, so a replay would"
                " say something else: import before the first worker starts, or into another environment"
            )
        data = json.dumps({"settings": self._plan.settings}).encode()
        for partition in sorted(set(range(self._streams.partitions)) - kept.keys()):
            await self._connection.publish(self._names.head(partition), data, expect_last=0)

    async def _scan(self) -> None:
        """Read on in the stream: up to which number it is known, and what an import has written."""
        info = await self._connection.ask(f"STREAM.INFO.{self._names.events}")
        last = int(info["state"]["last_seq"])
        found = read_all(self._connection, self._names.events, self._names.events_of("*"), self._last)
        async with aclosing(found) as messages:
            async for message in messages:
                last = max(last, message.seq)
                name = message.headers.get("Nats-Msg-Id", "")
                if name.startswith(self._prefix):
                    place = int(message.subject.split(".")[-2])
                    self._numbers[name.removeprefix(self._prefix)] = message.seq, place
        self._last = last

    # --- writing --------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Write what waits, and the marks of it."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        known = sum(one.key in self._numbers for one in waiting)
        self._known += known
        self._written += len(waiting) - known
        while missing := [one for one in waiting if one.key not in self._numbers]:
            await self._write(missing[: self._at_once])
        marks: dict[int, list[int]] = {}
        for one in waiting:
            number, _ = self._numbers[one.key]
            self._places[one.seq] = number, one.partition
            wanted = (new for new, old in ((number, one.seq), (-number, -one.seq)) if old in self._plan.done)
            marks.setdefault(one.partition, []).extend(new for new in wanted if new not in self._marked)
        for partition, numbers in marks.items():
            await Marks(self._connection, self._streams, partition).write(numbers)
            self._marked.update(numbers)
            self._new_marks += len(numbers)

    async def _write(self, some: list[_Waiting]) -> None:
        """Write messages together, if the stream still ends where it was read; else read on, and try fewer."""
        messages = [one.message for one in some]
        headers = {**(messages[0].headers or {}), "Nats-Expected-Last-Sequence": str(self._last)}
        messages[0] = messages[0]._replace(headers=headers)
        try:
            last = await self._connection.publish_batch(messages)
        except RevisionConflict:
            last = None
        if last is None:
            self._at_once = max(1, self._at_once // 2)
            await self._scan()
            return
        for number, one in enumerate(some, last - len(some) + 1):
            self._numbers[one.key] = number, one.partition
        self._last = last
        self._at_once = min(BATCH_LIMIT, 2 * self._at_once)

    async def _write_letters(self) -> None:
        letters = Letters(self._connection, self._streams, "*")
        async with aclosing(letters.all()) as found:
            there = {_mark_of(kept.letter) async for kept in found}
        for kept in self._plan.letters:
            # What no journal has as an event, or this one has not any more, has the number 0.
            number, partition = self._places.get(abs(kept.letter.seq), (0, 0))
            letter = kept.letter._replace(seq=number if kept.letter.seq > 0 else -number)
            if not number:
                letter = letter._replace(facts=None)
            if _mark_of(letter) in there:
                continue
            place = Letters(self._connection, self._streams, partition)
            await place.add([letter])
            self._new_letters += 1
            if kept.retry_requested:
                await self._request_retry(place, _mark_of(letter))

    async def _request_retry(self, place: Letters, mark: tuple[Any, ...]) -> None:
        async with aclosing(place.all()) as found:
            numbers = [kept.number async for kept in found if _mark_of(kept.letter) == mark]
        await place.request_retry(numbers)


def _mark_of(letter: Any) -> tuple[Any, ...]:
    """Return what tells a letter from others."""
    return letter.seq, letter.reason, letter.handler, letter.at, letter.detail
