"""A journal in a file of JSON lines: to record, to read, to diff and to mail around.

Every line is one of those that `telstate.events.dialects.journal` describes. Appends are group commits: one write and one
fdatasync for all that came together, in a thread, so that the event loop never waits for the disk. A last line that was torn
by a crash was never acknowledged; it is cut off when the file is opened again. One process writes a file at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread

from telstate.errors import JournalError, RevisionConflict
from telstate.routing.ports import DeadLetter, Entry, Record

__all__ = ["JsonlJournal"]

T = TypeVar("T")
_PAYLOAD = b',"payload":'


class JsonlJournal:
    """Keeps events in `path`, checkpoints beside it in `path.checkpoints`.

    Args:
        path: the file; it is made if it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: int | None = None
        self._id = ""
        self._settings: dict[str, Any] | None = None
        self._seq = 0
        self._size = 0
        self._disk = anyio.Lock()

    @property
    def id(self) -> str:
        """The journal's own name, from its head."""
        return self._id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings in its head."""
        return self._settings

    async def open(self, settings: dict[str, Any]) -> None:
        """Open the file for appending; a new one gets a head with `settings`.

        Raises:
            JournalError: if another process writes it, or it is no journal, or a newer telstate wrote it.
        """
        await self._do(lambda: self._open(settings))

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Keep entries, all or none; on the disk on return.

        Raises:
            OSError: if the disk is full or broken. What was half written is taken back.
        """
        return await self._do(lambda: self._append(entries))

    async def read(self, after: int = 0) -> AsyncIterator[Record]:
        """Read what was kept after a sequence number, in order, with whether it is done."""
        done = await anyio.to_thread.run_sync(self._done)
        lines = self._lines()
        while batch := await anyio.to_thread.run_sync(_take, lines, 500):
            for line in batch:
                record, payload = _split(line)
                if payload is not None and record["seq"] > after:
                    yield Record(record["seq"], record["at"], record["dialect"], payload, record["seq"] in done)

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark events as handled. Not synced: lost in a crash, their handlers run again."""
        text = "".join(f'{{"v":1,"done":{seq}}}\n' for seq in seqs)
        await self._do(lambda: self._write(text.encode(), sync=False))

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, as lines of their own."""
        lines = [json.dumps({"v": 1, "dead": letter._asdict()}) for letter in letters]
        await self._do(lambda: self._write("".join(f"{line}\n" for line in lines).encode(), sync=True))

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if nobody saved since `revision`.

        Raises:
            RevisionConflict: if somebody did.
        """
        return await self._do(lambda: self._save(key, state, revision))

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return await self._do(lambda: self._load(key))

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._do(self._close)

    async def _do(self, work: Callable[[], T]) -> T:
        """Do something with the disk, in a thread, one at a time; once begun it is finished, whoever is cancelled."""
        async with self._disk:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=False)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _open(self, settings: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise JournalError(
                f"{self.path} is written by another process: stop that one, or use another file"
            ) from None
        self._file = file
        try:
            self._find_end()
        except BaseException:
            self._close()
            raise
        if not self._size:
            self._id, self._settings = str(uuid4()), settings
            head = {"v": 1, "journal": self._id, "settings": settings}
            self._write((json.dumps(head) + "\n").encode(), sync=True)
            _sync_folder(self.path.parent)

    def _find_end(self) -> None:
        """Read the head and the last number, and cut off a torn last line."""
        assert self._file is not None  # noqa: S101
        size, whole = os.fstat(self._file).st_size, 0
        for line in self._lines(torn=True):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            self._note(line, first=whole == len(line))
        if whole < size:
            os.ftruncate(self._file, whole)
        self._size = whole

    def _note(self, line: bytes, *, first: bool) -> None:
        try:
            record, _ = _split(line)
            version = record["v"]
        except (ValueError, TypeError, KeyError):
            raise JournalError(f"{self.path} is no telstate journal, or is damaged, at {line[:60]!r}") from None
        if version != 1:
            raise JournalError(f"{self.path} was written by a newer telstate (version {version}): use that one")
        if first:
            if "journal" not in record:
                raise JournalError(f"{self.path} has no head: it is a log, not a journal that can be appended to")
            self._id, self._settings = record["journal"], record.get("settings")
        self._seq = max(self._seq, record.get("seq", 0))

    def _append(self, entries: Sequence[Entry]) -> list[int]:
        seqs = list(range(self._seq + 1, self._seq + 1 + len(entries)))
        lines = [wrap(seq, *entry) for seq, entry in zip(seqs, entries, strict=True)]
        self._write(b"".join(line + b"\n" for line in lines), sync=True)
        self._seq = seqs[-1] if seqs else self._seq
        return seqs

    def _write(self, data: bytes, *, sync: bool) -> None:
        """Write all of `data` or nothing of it."""
        if self._file is None:
            raise JournalError(f"{self.path} is not open")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if sync:
                os.fdatasync(self._file)
        except OSError:
            self._take_back()
            raise
        self._size += len(data)

    def _take_back(self) -> None:
        """Cut off what was half written. If even that fails, nothing may be written behind it."""
        assert self._file is not None  # noqa: S101
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._close()

    def _lines(self, *, torn: bool = False) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for line in file:
                if torn or line.endswith(b"\n"):
                    yield line

    def _done(self) -> set[int]:
        return {seq for line in self._lines() if b'"done"' in line[:20] and (seq := json.loads(line).get("done"))}

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _checkpoint(self, key: str) -> Path:
        return self.path.with_name(f"{self.path.name}.checkpoints") / key.encode().hex()

    def _load(self, key: str) -> tuple[bytes, int] | None:
        try:
            data = self._checkpoint(key).read_bytes()
        except FileNotFoundError:
            return None
        revision, _, state = data.partition(b"\n")
        return state, int(revision)

    def _save(self, key: str, state: bytes, revision: int | None) -> int:
        known = self._load(key)
        if (None if known is None else known[1]) != revision:
            raise RevisionConflict(f"{key}: somebody saved revision {known and known[1]} since {revision}")
        path = self._checkpoint(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = (revision or 0) + 1
        draft = path.with_name(f"{path.name}.new")
        with draft.open("wb") as file:
            file.write(b"%d\n" % new + state)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
        return new


def _split(line: bytes) -> tuple[dict[str, Any], bytes | None]:
    """Take a line apart into what is ours and the payload, which stays as it came, to the byte."""
    head, found, payload = line.partition(_PAYLOAD)
    if not found:
        return json.loads(line), None
    return json.loads(head + b"}"), payload.rstrip(b"\n")[:-1]


def _one_line(payload: bytes) -> bytes:
    """A payload's own line breaks are white space to JSON, and would end our line."""
    return payload.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in payload or b"\r" in payload else payload


def _take(lines: Iterator[bytes], count: int) -> list[bytes]:
    return list(islice(lines, count))


def _sync_folder(folder: Path) -> None:
    """A new file is only there for good when its folder says so."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
