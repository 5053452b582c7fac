"""A journal in memory, for a dispatcher that is given no other: it keeps only what is unfinished, and ends with the process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

from telstate.errors import JournalError, RevisionConflict
from telstate.routing._ports import DeadLetter, Entry, KeptLetter, Record

__all__ = ["MemoryJournal"]

_MAX_LETTERS = 10_000


class MemoryJournal:
    """Keeps unfinished events, checkpoints and the last 10 000 dead letters, until `aclose`."""

    checkpoint_every: int | None = None

    def __init__(self) -> None:
        self._id = ""
        self._settings: dict[str, Any] | None = None
        self._seq = self._letter = 0
        self._entries: dict[int, Entry] = {}
        self._letters: dict[int, KeptLetter] = {}
        self._checkpoints: dict[str, tuple[bytes, int]] = {}

    @property
    def id(self) -> str:
        """The journal's own name, new at each `open`."""
        return self._id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings it was opened with."""
        return self._settings

    async def open(self, settings: dict[str, Any]) -> None:
        """Begin anew, with nothing in it.

        Raises:
            JournalError: if it is open already: one journal serves one dispatcher.
        """
        if self._settings is not None:
            raise JournalError("this MemoryJournal is open already: give each dispatcher its own")
        self._id, self._settings = f"memory-{uuid4()}", settings
        self._seq = self._letter = 0
        self._letters.clear()

    def append_now(self, entry: Entry) -> int:
        """Append one entry; return its sequence number."""
        self._seq = seq = self._seq + 1
        self._entries[seq] = entry
        return seq

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append entries; return their sequence numbers."""
        return [self.append_now(entry) for entry in entries]

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the unfinished records after a sequence number."""
        for seq, entry in list(self._entries.items()):
            if seq > after:
                yield Record(seq, entry.at or 0.0, entry.dialect, entry.payload, done=False)

    def done_now(self, seq: int) -> None:
        """Forget a finished record. Retirements leave nothing to forget."""
        self._entries.pop(seq, None)

    async def done(self, seqs: Sequence[int]) -> None:
        """Forget finished records."""
        for seq in seqs:
            self.done_now(seq)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these are finished: those it does not have any more."""
        return {seq for seq in seqs if 0 < seq <= self._seq and seq not in self._entries}

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given.

        Raises:
            RevisionConflict: if somebody else saved since.
        """
        known = self._checkpoints.get(key)
        if (None if known is None else known[1]) != revision:
            raise RevisionConflict(f"{key}: somebody saved a checkpoint since revision {revision}")
        self._checkpoints[key] = (state, (revision or 0) + 1)
        return (revision or 0) + 1

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Return a checkpoint and its revision."""
        return self._checkpoints.get(key)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; of more than 10 000 the oldest go."""
        for letter in letters:
            self._letter = number = self._letter + 1
            self._letters[number] = KeptLetter(number, letter, retry_requested=False)
        while len(self._letters) > _MAX_LETTERS:
            del self._letters[next(iter(self._letters))]

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters, or those that somebody asked to retry."""
        for kept in list(self._letters.values()):
            if kept.retry_requested or not retry_requested:
                yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again."""
        for number in numbers:
            if (kept := self._letters.get(number)) is not None:
                self._letters[number] = kept._replace(retry_requested=True)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget letters."""
        for number in numbers:
            self._letters.pop(number, None)

    async def aclose(self) -> None:
        """Let go of everything but the dead letters, which can still be read."""
        self._entries.clear()
        self._checkpoints.clear()
        self._settings = None
