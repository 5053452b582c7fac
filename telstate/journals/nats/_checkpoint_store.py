"""The checkpoints of one partition: pieces, and one pointer to them, which also says who owns the partition.

All saves compare and set that one pointer, and whoever opens the partition rewrites it. So the next save of an owner before is
refused, whatever it wants to save. What is small is in the pointer itself: a partition that changes hands waits for each question.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from telstate.errors import JournalError, RevisionConflict
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._streams import Streams
from telstate.routing._ports import Base

__all__ = ["CheckpointStore"]

_PIECE = 512 * 1024
"""Bytes: NATS takes messages of up to a megabyte."""
_SMALL = 4 * 1024
"""Bytes of a checkpoint that the pointer has itself."""
_TRIES = 3
_ENGINE = "engine"
_BASE = "base"
"""The checkpoint whose events were, or may be, removed: see `Base`. It has the state of the engine's checkpoint."""


@dataclass(slots=True)
class _Kept:
    """What the pointer says of one checkpoint."""

    revision: int
    save: str
    """Part of the subjects of its pieces."""
    pieces: int
    state: str | None = None
    """The checkpoint in base64, if it is small. There are no pieces then."""


@dataclass(slots=True)
class _Pointer:
    writer: str | None = None
    """Who opened the partition last."""
    kept: dict[str, _Kept] = field(default_factory=dict)
    marks: int = 0
    """The marks that the engine's checkpoint does not have come after this message of the stream of marks."""
    marks_then: int = 0
    """Where the marks ended when that checkpoint was saved."""
    base: dict[str, Any] | None = None

    def to_json(self) -> bytes:
        kept = {key: [one.revision, one.save, one.pieces, one.state] for key, one in self.kept.items()}
        fields = {
            "v": 1,
            "writer": self.writer,
            "kept": kept,
            "marks": [self.marks, self.marks_then],
            "base": self.base,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> _Pointer:
        fields = json.loads(data)
        if fields["v"] != 1:
            raise JournalError(
                f"a newer telstate (pointer version {fields['v']}) has owned this partition: use that one"
            )
        kept = {key: _Kept(*one) for key, one in fields["kept"].items()}
        marks, marks_then = fields["marks"]
        return cls(fields["writer"], kept, marks, marks_then, fields["base"])


class CheckpointStore:
    """Saves and loads.

    Args:
        connection: open.
        streams: theirs.
        partition: which one.
        writer: a name that no other opening of the partition has.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int, writer: str) -> None:
        self._connection = connection
        self._stream = streams.names.state
        self._names = streams.names
        self._partition = partition
        self._writer = writer
        self._subject = streams.names.pointer(partition)
        self._pointer = _Pointer()
        self._seq = 0
        """The sequence number of the pointer that we wrote last."""
        self._saves = 0
        self._is_swept = False
        self._saving = asyncio.Lock()

    @property
    def marks(self) -> int:
        """Marks that the engine's checkpoint does not have come after this message."""
        return self._pointer.marks

    @property
    def base_seq(self) -> int:
        """The event of the base; 0 if there is none."""
        return 0 if self._pointer.base is None else int(self._pointer.base["seq"])

    @property
    def oldest(self) -> int:
        """The lowest number that anything known or unfinished had as of the base: below it, all is finished."""
        return 0 if self._pointer.base is None else int(self._pointer.base["oldest"])

    async def claim(self) -> None:
        """From now on, saves of whoever opened the partition before are refused."""
        while True:
            pointer, seq = await self._read_pointer()
            pointer.writer = self._writer
            try:
                await self._set(pointer, seq)
            except RevisionConflict:
                if (await self._read_pointer())[0].writer != self._writer:
                    continue  # it was saved meanwhile
                self._pointer, self._seq = await self._read_pointer()
            return

    async def look(self) -> None:
        """Read what the pointer says, without owning it."""
        self._pointer, self._seq = await self._read_pointer()

    # --- saving ---------------------------------------------------------------------------------------------------

    async def save(self, key: str, state: bytes, revision: int | None, marks: int = 0) -> int:
        """Keep a checkpoint; it replaces the last one when all of it is written.

        Args:
            key, state, revision: as for `Journal.save`.
            marks: where the marks end now.

        Raises:
            RevisionConflict: if it has another revision by now.
            PartitionLost: the same, because somebody else has opened the partition.
        """
        async with self._saving:
            self._expect(self._pointer, key, revision)
            kept = await self._write_pieces((revision or 0) + 1, state)

            def change(pointer: _Pointer) -> _Pointer:
                self._expect(pointer, key, revision)
                changed = replace(pointer, writer=self._writer, kept={**pointer.kept, key: kept})
                if key == _ENGINE:
                    # It may lack what was marked while it was taken, but nothing that was marked before the last one was saved.
                    changed.marks, changed.marks_then = pointer.marks_then, marks
                return changed

            await self._update(change, key)
            return kept.revision

    def _expect(self, pointer: _Pointer, key: str, revision: int | None) -> None:
        found = pointer.kept.get(key)
        current = None if found is None else found.revision
        if current != revision:
            raise RevisionConflict(f"checkpoint {key!r} has revision {current}, not {revision}: it was saved since")

    async def keep_base(self, base: Base, marks: int = 0) -> None:
        """Keep what a checkpoint of the engine, just saved, says about the events before it.

        Args:
            base: what it says.
            marks: where the marks end now. If nothing was finished since the checkpoint was taken, it has them all.
        """
        async with self._saving:
            known = json.dumps(sorted(base.known), separators=(",", ":")).encode()
            kept = await self._write_pieces(base.seq, known)
            fields = {"seq": base.seq, "at": base.at, "oldest": base.oldest}

            def change(pointer: _Pointer) -> _Pointer:
                changed = replace(pointer, writer=self._writer, kept={**pointer.kept, _BASE: kept}, base=fields)
                if base.is_last:
                    changed.marks = changed.marks_then = marks
                return changed

            await self._update(change, _BASE)

    async def _write_pieces(self, revision: int, state: bytes) -> _Kept:
        if len(state) <= _SMALL:
            return _Kept(revision, "", 0, b64encode(state).decode())
        self._saves += 1
        save = f"{self._writer}-{self._saves}"
        pieces = [state[start : start + _PIECE] for start in range(0, len(state) or 1, _PIECE)]
        for number, piece in enumerate(pieces):
            await self._connection.publish(self._names.piece(self._partition, save, number), piece)
        return _Kept(revision, save, len(pieces))

    async def _update(self, change: Callable[[_Pointer], _Pointer], key: str) -> None:
        """Replace the pointer, and remove the pieces of what a key had before.

        A try of ours that was cut off, or whose answer was lost, may have replaced it as well: then the change is made to that.
        """
        while True:
            before = self._pointer
            pointer = change(before)
            try:
                await self._set(pointer, self._seq)
                break
            except RevisionConflict:
                self._pointer, self._seq = await self._read_pointer()
                if self._pointer.writer != self._writer:
                    whose = f"partition {self._partition} of {self._names.prefix}"
                    raise PartitionLost(f"somebody else has opened {whose} since") from None
                if self._pointer == pointer:
                    break
        if key in before.kept:
            await self._remove(before.kept[key])

    async def _set(self, pointer: _Pointer, expected: int) -> None:
        self._seq = await self._connection.publish(self._subject, pointer.to_json(), expect_last=expected)
        self._pointer = pointer

    async def _read_pointer(self) -> tuple[_Pointer, int]:
        found = await self._connection.last(self._stream, self._subject)
        return (_Pointer(), 0) if found is None else (_Pointer.from_json(found.data), found.seq)

    async def _remove(self, kept: _Kept) -> None:
        """Let pieces be removed. Nobody waits for that: what stays is swept."""
        if kept.pieces:
            subject = self._names.piece(self._partition, kept.save, "*")
            with suppress(JournalError):
                await self._connection.send(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    async def sweep(self) -> None:
        """Remove, once, pieces that saves left behind which were cut short."""
        if self._is_swept:
            return
        async with self._saving:
            listed = await self._connection.ask(
                f"STREAM.INFO.{self._stream}", {"subjects_filter": self._names.piece(self._partition, "*", "*")}
            )
            saves = {subject.split(".")[-2] for subject in listed["state"].get("subjects") or ()}
            for save in saves - {kept.save for kept in self._pointer.kept.values()}:
                await self._remove(_Kept(0, save, 1))
            self._is_swept = True

    # --- loading --------------------------------------------------------------------------------------------------

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        for _ in range(_TRIES):
            pointer, _ = await self._read_pointer()
            kept = pointer.kept.get(key)
            if kept is None:
                return None
            state = await self._read_pieces(kept)
            if state is not None:
                return state, kept.revision
        raise JournalError(f"checkpoint {key!r} of partition {self._partition} of {self._names.prefix} lacks a piece")

    async def _read_pieces(self, kept: _Kept) -> bytes | None:
        """Return a state; None if it was replaced while it was read."""
        if kept.state is not None:
            return b64decode(kept.state)
        pieces = []
        for number in range(kept.pieces):
            found = await self._connection.last(self._stream, self._names.piece(self._partition, kept.save, number))
            if found is None:
                return None
            pieces.append(found.data)
        return b"".join(pieces)

    async def base(self) -> Base | None:
        """Return the base; None if there is none."""
        pointer, _ = await self._read_pointer()
        if pointer.base is None:
            return None
        known, state = await self.load(_BASE), await self.load(_ENGINE)
        numbers = frozenset(json.loads(known[0])) if known is not None else frozenset()
        return Base(
            pointer.base["seq"], pointer.base["at"], numbers, pointer.base["oldest"], b"" if state is None else state[0]
        )


class PartitionLost(RevisionConflict):
    """Raised when somebody else has opened the partition: what this process knows of it is outdated."""
