"""A journal in memory: what a dispatcher uses if it is given no other. It keeps only what is unfinished."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

from telstate.errors import JournalError, RevisionConflict
from telstate.routing._log import Log
from telstate.routing._memory_outbox import MemoryOutbox
from telstate.routing._ports import DeadLetter, Entry, JournalUsage, KeptLetter, KeptNotification, Notification, Record

__all__ = ["MemoryJournal"]

_MAX_DEAD_LETTERS = 10_000
"""The oldest are dropped beyond that. Each was logged when it was added."""


class MemoryJournal:
    """Numbers the events of one process. Nothing survives `aclose`, and a record is forgotten when it is done.

    For tests, and for programs that can afford to lose their calls when they stop. A service uses `SqliteJournal`.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._forget()

    def _forget(self) -> None:
        self._id = str(uuid4())  # numbers begin at 1 again, so event ids need a new prefix
        self._settings: dict[str, Any] | None = None
        self._seq = 0
        self._unfinished: dict[int, Entry] = {}
        self._checkpoints: dict[str, tuple[bytes, int]] = {}
        self._dead_letters: dict[int, KeptLetter] = {}
        self._last_dead_letter = 0
        self._outbox = MemoryOutbox()

    @property
    def id(self) -> str:
        """The journal's own name; a new one after each `aclose`."""
        return self._id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings given to `open`; None before."""
        return self._settings

    @property
    def checkpoint_every(self) -> int | None:
        """None: nothing is ever recovered from here, so a checkpoint is of no use."""
        return None

    @property
    def usage(self) -> JournalUsage:
        """How much it keeps: what is unfinished."""
        return JournalUsage(None, len(self._unfinished), None)

    async def open(self, settings: dict[str, Any]) -> None:
        """Make ready to append.

        Raises:
            JournalError: if it is open already.
        """
        if self._is_open:
            raise JournalError("this MemoryJournal is open already: one journal serves one dispatcher")
        self._is_open, self._settings = True, settings

    def append_now(self, entry: Entry) -> int:
        """Append one entry without waiting; return its sequence number.

        Raises:
            JournalError: if the journal is not open.
        """
        if not self._is_open:
            raise JournalError("this MemoryJournal is not open")
        self._seq = seq = self._seq + 1
        self._unfinished[seq] = entry
        return seq

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append entries; return their sequence numbers."""
        return [self.append_now(entry) for entry in entries]

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the unfinished records after a sequence number, in order."""
        for seq, entry in list(self._unfinished.items()):
            if seq > after and seq in self._unfinished:
                yield Record(seq, entry.at or 0.0, entry.dialect, entry.payload, done=False)

    def done_now(self, seq: int) -> None:
        """Forget a record."""
        self._unfinished.pop(seq, None)

    async def done(self, seqs: Sequence[int]) -> None:
        """Forget these records."""
        for seq in seqs:
            self.done_now(seq)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these events are done. Retirements (below zero) are not remembered."""
        return {seq for seq in seqs if 0 < seq <= self._seq and seq not in self._unfinished}

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given; return the new revision.

        Raises:
            RevisionConflict: if it has another revision by now.
        """
        _, current = self._checkpoints.get(key, (b"", None))
        if current != revision:
            raise RevisionConflict(f"checkpoint {key!r} has revision {current}, not {revision}: it was saved since")
        new = (revision or 0) + 1
        self._checkpoints[key] = state, new
        return new

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return self._checkpoints.get(key)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters: the last 10 000."""
        for letter in letters:
            self._last_dead_letter += 1
            self._dead_letters[self._last_dead_letter] = KeptLetter(self._last_dead_letter, letter, False)
            if len(self._dead_letters) > _MAX_DEAD_LETTERS:
                del self._dead_letters[next(iter(self._dead_letters))]

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters in order, or only those that somebody asked to retry."""
        for kept in list(self._dead_letters.values()):
            if kept.number in self._dead_letters and (kept.retry_requested or not retry_requested):
                yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to retry dead letters."""
        for number in numbers:
            if number in self._dead_letters:
                self._dead_letters[number] = self._dead_letters[number]._replace(retry_requested=True)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget dead letters."""
        for number in numbers:
            self._dead_letters.pop(number, None)

    async def outbox_seq(self) -> int:
        """Return 0: nothing is ever recovered from here."""
        return 0

    async def add_messages(self, messages: Sequence[Notification]) -> None:
        """Keep messages: the last 10 000 for each target."""
        for dropped in self._outbox.add(messages):
            hint = "the receiver is away, and memory keeps no more: a SqliteJournal would"
            Log().error("notify.dropped", target=dropped.target, id=dropped.id, hint=hint)

    async def first_messages(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""
        return self._outbox.first(target, limit)

    async def postpone_message(self, number: int, attempts: int, due_at: float) -> None:
        """Try a message again later."""
        self._outbox.postpone(number, attempts, due_at)

    async def hasten_messages(self, target: str, now: float) -> None:
        """Try the first message of each lane of a target now."""
        self._outbox.hasten(target, now)

    async def remove_messages(self, numbers: Sequence[int]) -> None:
        """Forget messages."""
        self._outbox.remove(numbers)

    async def count_messages(self) -> dict[str, int]:
        """Return how many messages wait for each target."""
        return self._outbox.count()

    async def aclose(self) -> None:
        """Forget everything."""
        self._is_open = False
        self._forget()
