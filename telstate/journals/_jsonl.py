"""A journal in a file of JSON lines: to record, to read, to diff and to mail around.

Every line is one of those that `telstate.events._dialects.journal` describes. Appends are group commits: one write and one
fdatasync for all that came together, in a thread, so that the event loop never waits for the disk. A last line that was torn
by a crash was never acknowledged; it is cut off when the file is opened again. One process writes a file at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
from pydantic_core import from_json, to_json

from telstate.errors import JournalError, RevisionConflict
from telstate.events._dialects.journal import unwrap, wrap
from telstate.journals._disk_thread import Disk
from telstate.journals._marks import Marks
from telstate.routing._ports import DeadLetter, Entry, KeptLetter, Record

__all__ = ["JsonlJournal"]

_EVENT = re.compile(rb'\{"v":1,"seq":(\d+),')
_BATCH = 500
_HEAD = b'{"v":1,"journal":'
_DONE = re.compile(rb'\{"v":1,"done":(-?\d+)\}')


class JsonlJournal:
    """Keeps events in `path`, checkpoints beside it in `path.checkpoints`.

    Args:
        path: the file; it is made if it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: int | None = None
        self._index = _Index()
        self._size = 0
        self._disk = Disk()

    @property
    def id(self) -> str:
        """The journal's own name, from its head."""
        return self._index.id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings in its head."""
        return self._index.settings

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least."""
        return 20_000

    async def open(self, settings: dict[str, Any]) -> None:
        """Open the file for appending; a new one gets a head with `settings`.

        Raises:
            JournalError: if another process writes it, or it is no journal, or a newer telstate wrote it.
        """
        await self._disk.do(lambda: self._open(settings))

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Keep entries, all or none; on the disk on return.

        Raises:
            OSError: if the disk is full or broken. What was half written is taken back.
        """
        return await self._disk.do(lambda: self._append(entries))

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Read what was kept after a sequence number, in order, with whether it is done."""
        index = await self._known()
        lines = self._lines()
        while batch := await anyio.to_thread.run_sync(_take, lines, _BATCH):
            for line in batch:
                event = _EVENT.match(line)
                if event is not None and int(event[1]) > after:
                    yield self._record(line, index)

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done. Not synced: lost in a crash, its handlers run again."""
        await self._disk.do(lambda: self._done(seqs))

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Tell which of these are marked."""
        index = await self._known()
        return {seq for seq in seqs if seq in index.done}

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, as lines of their own."""
        await self._disk.do(lambda: self._dead(letters))

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Read the dead letters that were not dropped, or only those that somebody asked to try again."""
        index = await self._known()
        numbers = sorted(index.again if retry_requested else index.letters)
        for start in range(0, len(numbers), _BATCH):
            some = numbers[start : start + _BATCH]
            for kept in await self._disk.do(lambda some=some: self._letters(index, some)):  # type: ignore[misc]
                yield kept

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again; whoever opens the journal next to run handlers does it."""
        await self._disk.do(lambda: self._judge(numbers, "again"))

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget letters; their lines stay, as in every log."""
        await self._disk.do(lambda: self._judge(numbers, "dropped"))

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if nobody saved since `revision`.

        Raises:
            RevisionConflict: if somebody did.
        """
        return await self._disk.do(lambda: self._save(key, state, revision))

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return await self._disk.do(lambda: self._load(key))

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._disk.do(self._close)

    async def _known(self) -> _Index:
        """What the lines say: of an open journal it is known, else they are read."""
        return self._index if self._file is not None else await self._disk.do(self._scan)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _open(self, settings: dict[str, Any]) -> None:
        if self._file is not None:
            raise JournalError(f"{self.path} is open already: one journal serves one dispatcher")
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
            self._index = self._scan()
            self._cut_torn_end()
        except BaseException:
            self._close()
            raise
        if not self._size:
            self._index.id, self._index.settings = str(uuid4()), settings
            self._write([to_json({"v": 1, "journal": self._index.id, "settings": settings})], sync=True)
            _sync_folder(self.path.parent)

    def _scan(self) -> _Index:
        """Read what all whole lines say."""
        index = _Index()
        for line in self._lines():
            try:
                index.note(line)
            except (ValueError, TypeError, KeyError, IndexError):
                raise JournalError(f"{self.path} is no telstate journal, or is damaged, at {line[:60]!r}") from None
            except JournalError as error:
                raise JournalError(f"{self.path} {error}") from None
        return index

    def _cut_torn_end(self) -> None:
        assert self._file is not None  # noqa: S101
        self._size = self._index.size
        if self._size == os.fstat(self._file).st_size:
            return
        if not self._size:  # not even a head: a journal's own torn one may go, everything else is somebody's
            with self.path.open("rb") as file:
                begins = file.read(len(_HEAD))
            if not _HEAD.startswith(begins):
                raise JournalError(f"{self.path} is no telstate journal: use another file")
        os.ftruncate(self._file, self._size)

    def _append(self, entries: Sequence[Entry]) -> list[int]:
        first = self._index.seq + 1
        seqs = list(range(first, first + len(entries)))
        self._write(
            [wrap(seq, entry.at or 0.0, entry.dialect, entry.payload) for seq, entry in zip(seqs, entries, strict=True)],
            sync=True,
        )
        self._index.seq += len(entries)
        return seqs

    def _done(self, seqs: Sequence[int]) -> None:
        self._write([b'{"v":1,"done":%d}' % seq for seq in seqs], sync=False)
        for seq in seqs:
            self._index.done.add(seq)

    def _dead(self, letters: Sequence[DeadLetter]) -> None:
        lines = [to_json({"v": 1, "dead": _spelled(letter)}) for letter in letters]
        start = self._size
        self._write(lines, sync=True)
        for line in lines:
            self._index.bury(start)
            start += len(line) + 1

    def _letters(self, index: _Index, numbers: list[int]) -> list[KeptLetter]:
        found = []
        with self.path.open("rb") as file:
            for number in numbers:
                if number in index.letters:  # else it was dropped meanwhile
                    file.seek(index.letters[number])
                    found.append(KeptLetter(number, self._letter(file.readline()), number in index.again))
        return found

    def _letter(self, line: bytes) -> DeadLetter:
        try:
            told = from_json(line)["dead"]
            raw = b64decode(told.pop("base64")) if "base64" in told else told["payload"].encode()
            return DeadLetter(**{**told, "payload": raw})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise JournalError(f"{self.path} is damaged at {line[:60]!r}") from None

    def _judge(self, numbers: Sequence[int], verdict: str) -> None:
        known = [number for number in numbers if number in self._index.letters]
        self._write([to_json({"v": 1, "dead": number, "now": verdict}) for number in known], sync=True)
        for number in known:
            self._index.judge(number, verdict)

    def _write(self, lines: list[bytes], *, sync: bool) -> None:
        """Write all lines or nothing of them."""
        if self._file is None:
            raise JournalError(f"{self.path} is not open")
        data = b"".join([line + b"\n" for line in lines])
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

    def _lines(self) -> Iterator[bytes]:
        """All whole lines."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def _record(self, line: bytes, index: _Index) -> Record:
        found = unwrap(line)
        if found is None:
            raise JournalError(
                f"{self.path} is damaged at {line[:60]!r}: restore it, or move it away and begin a new one"
            )
        return Record(found.seq, found.at, found.dialect, found.payload, found.seq in index.done)

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
        return state, int(revision) if revision.isdigit() else 0  # a damaged one can be replaced like any other

    def _save(self, key: str, state: bytes, revision: int | None) -> int:
        known = self._load(key)
        if (None if known is None else known[1]) != revision:
            raise RevisionConflict(f"{key}: somebody saved revision {known and known[1]} since {revision}")
        path = self._checkpoint(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = (revision or 0) + 1
        draft = path.with_name(f"{path.name}.new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"%d\n" % new + state)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
        return new


class _Index:
    """What the lines of a journal say, but for the events themselves."""

    def __init__(self) -> None:
        self.id = ""
        self.settings: dict[str, Any] | None = None
        self.seq = 0
        self.size = 0
        """Bytes, up to the end of the last whole line."""
        self.done = Marks()
        self.letters: dict[int, int] = {}
        """Where the line of each dead letter begins, by its number."""
        self.again: set[int] = set()
        self._buried = 0

    def note(self, line: bytes) -> None:
        """Take in the next line.

        Raises:
            JournalError, ValueError, TypeError, KeyError, IndexError: if it is none that a journal can have there.
        """
        event = _EVENT.match(line)
        if event is not None and self.size:
            self.seq = int(event[1])
        elif (mark := _DONE.match(line)) is not None and self.size:
            number = int(mark[1])
            if abs(number) > self.seq:
                raise ValueError("a mark of an event that there is none of")
            self.done.add(number)
        else:
            self._note_rare(from_json(line))
        self.size += len(line)

    def _note_rare(self, record: dict[str, Any]) -> None:
        if record["v"] != 1:
            raise JournalError(f"was written by a newer telstate (version {record['v']}): use that one")
        if not self.size:
            if "journal" not in record:
                raise JournalError("has no head: it is a log, not a journal that can be appended to")
            self.id, self.settings = record["journal"], record.get("settings")
        elif isinstance(record.get("dead"), dict):
            self.bury(self.size)
        elif "dead" in record:
            self.judge(record["dead"], record["now"])
        else:
            self.seq = max(self.seq, record.get("seq", 0))

    def bury(self, start: int) -> None:
        """One more dead letter, whose line begins there."""
        self._buried += 1
        self.letters[self._buried] = start

    def judge(self, number: int, verdict: str) -> None:
        """A letter is to be tried again, or was dropped."""
        if verdict == "again":
            self.again.add(number)
        else:
            self.again.discard(number)
            self.letters.pop(number, None)


def _spelled(letter: DeadLetter) -> dict[str, Any]:
    """As JSON values; what is no text is kept to the byte all the same."""
    try:
        return {**letter._asdict(), "payload": letter.payload.decode()}
    except UnicodeDecodeError:
        return {**letter._asdict(), "payload": "", "base64": b64encode(letter.payload).decode()}


def _take(lines: Iterator[bytes], count: int) -> list[bytes]:
    return list(islice(lines, count))


def _sync_folder(folder: Path) -> None:
    """A new file is only there for good when its folder says so."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
