"""A shared journal in memory: what a message broker's stream is to several processes, `SharedLog` is to several handles."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

import anyio
from anyio.lowlevel import checkpoint

from telstate import JournalError, RevisionConflict
from telstate.routing._ports import DeadLetter, Entry, KeptLetter, Record

__all__ = ["SharedLog", "SharedMemoryJournal"]


class SharedLog:
    """What all handles share. `SharedMemoryJournal(log)` makes a handle.

    Args:
        checkpoint_every: what the handles say.
    """

    def __init__(self, *, checkpoint_every: int | None = 20) -> None:
        self.checkpoint_every = checkpoint_every
        self.id = ""
        self.settings: dict[str, Any] | None = None
        self.records: list[tuple[float, str, bytes]] = []
        self.done: set[int] = set()
        self.checkpoints: dict[str, tuple[bytes, int]] = {}
        self.letters: dict[int, KeptLetter] = {}
        self.last_letter = 0
        self.owner: object = None
        """The handle that was opened last."""
        self._appended = anyio.Event()

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Number entries, keep them, and wake every tail."""
        first = len(self.records) + 1
        self.records += [(entry.at or 0.0, entry.dialect, bytes(entry.payload)) for entry in entries]
        self._appended.set()
        self._appended = anyio.Event()
        return list(range(first, len(self.records) + 1))

    async def wait_for(self, seq: int) -> None:
        """Wait until there is a record of this number."""
        while len(self.records) < seq:
            await self._appended.wait()

    def record(self, seq: int) -> Record:
        """Return a record."""
        return Record(seq, *self.records[seq - 1], done=seq in self.done)


class SharedMemoryJournal:
    """One process's handle on a shared log. It outlives no other: `aclose` closes this handle only.

    Args:
        log: shared with other handles.
    """

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self._is_open = self._is_lost = False

    in_transit: float | None = 2.0
    """Seconds: its tail is faster, but tests append records of a time before."""

    @property
    def id(self) -> str:
        """The log's name: the same for every handle."""
        return self._log.id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings of the handle that was opened first."""
        return self._log.settings

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least."""
        return self._log.checkpoint_every

    async def open(self, settings: dict[str, Any]) -> None:
        """Make ready to append."""
        if self._is_open:
            raise JournalError("this handle is open already: one handle serves one dispatcher")
        if self._log.settings is None:
            self._log.id, self._log.settings = str(uuid4()), settings
        self._log.owner = self
        self._is_open, self._is_lost = True, False

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Publish entries. As with a broker, a tail may yield them before this returns."""
        await checkpoint()
        if not self._is_open:
            raise JournalError("this handle is not open")
        if self._is_lost:
            raise JournalError("this log was lost: another handle was opened since")
        seqs = self._log.append(entries)
        with anyio.CancelScope(shield=True):
            await checkpoint()
        return seqs

    async def tail(self, after: int) -> AsyncGenerator[Record, None]:
        """Yield every record after a sequence number, and go on as they are appended."""
        while True:
            after += 1
            await self._log.wait_for(after)
            yield self._log.record(after)

    async def probe(self) -> None:
        """Memory takes everything."""

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the records that are there now."""
        for seq in range(after + 1, len(self._log.records) + 1):
            yield self._log.record(seq)

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done."""
        if not self._is_lost:
            self._log.done.update(seqs)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these are marked as done."""
        return self._log.done.intersection(seqs)

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given."""
        await checkpoint()
        if self._log.owner is not self:
            why, self._is_lost = "was lost" if self._is_lost else "another handle was opened since", True
            raise RevisionConflict(f"checkpoint {key!r}: {why}")
        _, current = self._log.checkpoints.get(key, (b"", None))
        if current != revision:
            raise RevisionConflict(f"checkpoint {key!r} has revision {current}, not {revision}: it was saved since")
        self._log.checkpoints[key] = state, (revision or 0) + 1
        return (revision or 0) + 1

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return self._log.checkpoints.get(key)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        for letter in letters:
            self._log.last_letter += 1
            self._log.letters[self._log.last_letter] = KeptLetter(self._log.last_letter, letter, retry_requested=False)

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters, or only those that somebody asked to retry."""
        for kept in list(self._log.letters.values()):
            if kept.retry_requested or not retry_requested:
                yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to retry dead letters."""
        for number in self._log.letters.keys() & set(numbers):
            self._log.letters[number] = self._log.letters[number]._replace(retry_requested=True)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget dead letters."""
        for number in numbers:
            self._log.letters.pop(number, None)

    async def aclose(self) -> None:
        """Close this handle."""
        self._is_open = False
