"""A journal in a SQLite database: the default of a service.

WAL, synchronous=FULL: an append is one transaction for all that came together, and is on the disk when it returns. Marks and
the pieces of a checkpoint are written without waiting for the disk: lost in a power failure, handlers run again. One process
writes a journal at a time; any number may read it meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from telstate.errors import JournalError, RevisionConflict
from telstate.events._dialects.journal import wrap
from telstate.journals._disk_thread import Disk
from telstate.routing._ports import DeadLetter, Entry, KeptLetter, Record

__all__ = ["SqliteJournal", "is_sqlite", "lines"]

T = TypeVar("T")

_APPLICATION = 0x7E157A7E
"""Tells our databases from others, in the file's head."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE head (id TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE events (seq INTEGER PRIMARY KEY, at REAL NOT NULL, dialect TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE done (number INTEGER PRIMARY KEY);
CREATE TABLE letters (number INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, reason TEXT NOT NULL, handler TEXT,
                      detail TEXT NOT NULL, at REAL NOT NULL, dialect TEXT NOT NULL, payload BLOB NOT NULL, facts TEXT,
                      again INTEGER NOT NULL DEFAULT 0);
CREATE INDEX again ON letters (number) WHERE again;
CREATE TABLE checkpoints (key TEXT PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE pieces (key TEXT NOT NULL, revision INTEGER NOT NULL, place INTEGER NOT NULL, state BLOB NOT NULL,
                     PRIMARY KEY (key, revision, place)) WITHOUT ROWID;
"""
_PIECE = 1 << 20
"""Bytes of a checkpoint that are written at once: appends need not wait for more."""
_BATCH = 500


class SqliteJournal:
    """Keeps events in a SQLite database at `path`; beside it are `path-wal`, `path-shm` and `path.lock` while it is open.

    Args:
        path: the file; it is made if it is not there. Not on a network file system: SQLite's locks do not hold there.
        busy: seconds to wait for another program that writes to the database, such as `telstate dead drop`.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy: float = 5.0) -> None:
        self.path = Path(path)
        self._busy = busy
        self._database: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._disk = Disk()
        self._id = ""
        self._settings: dict[str, Any] | None = None
        self._seq = 0

    @property
    def id(self) -> str:
        """The journal's own name, made once."""
        return self._id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that it was begun with."""
        return self._settings

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least."""
        return 20_000

    async def open(self, settings: dict[str, Any]) -> None:
        """Open the database for appending; a new one keeps `settings`.

        Raises:
            JournalError: if another process writes it, or it is no journal, is damaged, or a newer telstate wrote it.
        """
        await self._disk.do(lambda: self._open(settings))

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Keep entries, all or none; on the disk on return.

        Raises:
            JournalError: if the disk is full, or the database locked or damaged. Nothing of them is kept then.
        """
        return await self._disk.do(lambda: self._append(entries)) if entries else []

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Read what was kept after a sequence number, in order, with whether it is done."""
        while rows := await self._look(lambda database, after=after: _events(database, after)):  # type: ignore[misc]
            for seq, at, dialect, payload, done in rows:
                yield Record(seq, at, dialect, payload, bool(done))
            after = rows[-1][0]

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done, without waiting for the disk."""
        rows = [(seq,) for seq in seqs]
        await self._write("INSERT OR IGNORE INTO done VALUES (?)", rows, sync=False)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Tell which of these are marked."""
        return await self._look(lambda database: _finished(database, seqs))

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        rows = [
            (*letter[:7], None if letter.facts is None else json.dumps(letter.facts, default=str)) for letter in letters
        ]
        columns = "seq, reason, handler, detail, at, dialect, payload, facts"
        await self._write(f"INSERT INTO letters ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Read the dead letters that were not dropped, or only those that somebody asked to try again."""
        after = 0
        while rows := await self._look(lambda database, after=after: _letters(database, after, again=retry_requested)):  # type: ignore[misc]
            for number, *letter, facts, asked in rows:
                kept = DeadLetter._make([*letter, None if facts is None else json.loads(facts)])
                yield KeptLetter(number, kept, bool(asked))
            after = rows[-1][0]

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again; the process that runs the handlers sees it within seconds."""
        rows = [(number,) for number in numbers]
        await self._write("UPDATE letters SET again = 1 WHERE number = ?", rows, settling=True)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget letters."""
        await self._write("DELETE FROM letters WHERE number = ?", [(number,) for number in numbers], settling=True)

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if nobody saved since `revision`; it holds once all of it is there.

        Raises:
            RevisionConflict: if somebody did.
        """
        await self._disk.do(lambda: self._begin_saving(key, revision))
        new = (revision or 0) + 1
        for place, start in enumerate(range(0, len(state) or 1, _PIECE)):
            piece = [(key, new, place, state[start : start + _PIECE])]
            await self._write("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)", piece, sync=False)
        await self._disk.do(lambda: self._save(key, revision, new))
        return new

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return await self._look(lambda database: _checkpoint(database, key))

    async def aclose(self) -> None:
        """Let go of the database."""
        await self._disk.do(self._close)

    async def _look(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the database: the one that is open, else another connection that can only read."""
        return await self._disk.do(lambda: self._ask(ask))

    async def _write(
        self, statement: str, rows: Sequence[tuple[Any, ...]], *, sync: bool = True, settling: bool = False
    ) -> None:
        if rows:
            await self._disk.do(lambda: self._change(statement, rows, sync=sync, settling=settling))

    # --- in the thread --------------------------------------------------------------------------------------------

    def _open(self, settings: dict[str, Any]) -> None:
        if self._lock is not None:
            raise JournalError(f"{self.path} is open already: one journal serves one dispatcher")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._close()
            raise JournalError(
                f"{self.path} is written by another process: stop that one, or use another file"
            ) from None
        try:
            with self._explained():
                self._database = self._connect()
                self._prepare(settings)
        except BaseException:
            self._close()
            raise

    def _connect(self) -> sqlite3.Connection:
        """Open the file for writing, unless it is somebody else's; `Disk` sees to it that one thread at a time uses it."""
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # phone numbers: nobody else's to read
        database = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        try:
            if not _is_empty(database):
                _check(database, self.path)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, settings: dict[str, Any]) -> None:
        assert self._database is not None  # noqa: S101
        with _transaction(self._database):
            if _is_empty(self._database):
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA application_id={_APPLICATION}")
                self._database.execute(f"PRAGMA user_version={_VERSION}")
                self._database.execute("INSERT INTO head VALUES (?, ?)", (str(uuid4()), json.dumps(settings)))
            else:
                self._settings = _head(self._database)[1]
            self._id, _ = _head(self._database)
            self._seq = self._database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]

    def _append(self, entries: Sequence[Entry]) -> list[int]:
        seqs = list(range(self._seq + 1, self._seq + 1 + len(entries)))
        rows = [(seq, entry.at, entry.dialect, entry.payload) for seq, entry in zip(seqs, entries, strict=True)]
        self._change("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        self._seq = seqs[-1]
        return seqs

    def _change(
        self, statement: str, rows: Sequence[tuple[Any, ...]], *, sync: bool = True, settling: bool = False
    ) -> None:
        with self._explained(), self._opened(settling=settling) as database:
            if not sync:
                database.execute("PRAGMA synchronous=NORMAL")  # what comes next with FULL takes it to the disk as well
            try:
                with _transaction(database):
                    database.executemany(statement, rows)
            finally:
                if not sync:
                    database.execute("PRAGMA synchronous=FULL")

    def _begin_saving(self, key: str, revision: int | None) -> None:
        """See that nobody saved since, and throw away what somebody left half saved."""
        with self._explained(), self._opened() as database, _transaction(database):
            _expect(database, key, revision)
            database.execute("DELETE FROM pieces WHERE key = ? AND revision <> ?", (key, revision or 0))

    def _save(self, key: str, revision: int | None, new: int) -> None:
        with self._explained(), self._opened() as database, _transaction(database):
            _expect(database, key, revision)
            database.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (key, new))
            database.execute("DELETE FROM pieces WHERE key = ? AND revision <> ?", (key, new))

    def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with self._explained():
            if self._database is not None:
                return ask(self._database)
            with closing(_readable(self.path)) as database:
                return ask(database)

    @contextmanager
    def _opened(self, *, settling: bool = False) -> Iterator[sqlite3.Connection]:
        """The open database. To settle letters another connection may do, for a moment: a service may have it open."""
        if self._database is not None:
            yield self._database
        elif not settling:
            raise JournalError(f"{self.path} is not open")
        elif not self.path.exists():
            raise JournalError(f"there is no journal {self.path}")
        else:
            with closing(self._connect()) as database:
                yield database

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what SQLite's errors mean here, and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}{_advice(error)}") from error

    def _close(self) -> None:
        database, self._database = self._database, None
        lock, self._lock = self._lock, None
        try:
            if database is not None:
                database.close()
        finally:
            if lock is not None:
                os.close(lock)


def is_sqlite(path: str | os.PathLike[str]) -> bool:
    """Tell a SQLite database from other files by its first bytes; of a pipe nobody may take any."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Read a journal as the lines that a JsonlJournal would have: the head, then every event. Also while a service writes it.

    Raises:
        JournalError: if it is no journal, is damaged, or a newer telstate wrote it.
    """
    journal = SqliteJournal(path)
    name, settings = journal._ask(_head)
    yield json.dumps({"v": 1, "journal": name, "settings": settings}).encode()
    after = 0
    while rows := journal._ask(lambda database, after=after: _events(database, after)):  # type: ignore[misc]
        for seq, at, dialect, payload, _ in rows:
            yield wrap(seq, at, dialect, payload)
        after = rows[-1][0]


def _readable(path: Path) -> sqlite3.Connection:
    """Open for reading. Where even that must write beside the file and cannot, nobody writes it, so it may be read as it is."""
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    uri = path.absolute().as_uri()
    try:
        return _checked(f"{uri}?mode=ro", path)
    except sqlite3.OperationalError:
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise JournalError(
                f"{path}: the last of it is in {log.name}, which SQLite cannot read in a folder that cannot be written:"
                " copy both into another folder, and read them there"
            ) from None
        return _checked(f"{uri}?mode=ro&immutable=1", path)


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, timeout=5.0, check_same_thread=False)
    try:
        _check(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _is_empty(database: sqlite3.Connection) -> bool:
    return not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _check(database: sqlite3.Connection, path: Path) -> None:
    """See that it is a journal that can be read here."""
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise JournalError(f"{path} is a SQLite database, but no telstate journal: use another file")
    if version > _VERSION:
        raise JournalError(f"{path} was written by a newer telstate (schema {version}): use that one")


def _head(database: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
    name, settings = database.execute("SELECT id, settings FROM head").fetchone()
    return name, json.loads(settings)


def _events(database: sqlite3.Connection, after: int) -> list[Any]:
    return database.execute(
        "SELECT e.seq, e.at, e.dialect, e.payload, d.number IS NOT NULL FROM events e LEFT JOIN done d ON d.number = e.seq"
        " WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
        (after, _BATCH),
    ).fetchall()


def _letters(database: sqlite3.Connection, after: int, *, again: bool) -> list[Any]:
    only = "AND again" if again else ""
    return database.execute(
        "SELECT number, seq, reason, handler, detail, at, dialect, payload, facts, again FROM letters"  # noqa: S608
        f" WHERE number > ? {only} ORDER BY number LIMIT ?",
        (after, _BATCH),
    ).fetchall()


def _finished(database: sqlite3.Connection, seqs: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(seqs), _BATCH):
        some = list(seqs[start : start + _BATCH])
        marks = ", ".join("?" * len(some))
        found.update(row[0] for row in database.execute(f"SELECT number FROM done WHERE number IN ({marks})", some))  # noqa: S608
    return found


def _expect(database: sqlite3.Connection, key: str, revision: int | None) -> None:
    known = _revision(database, key)
    if known != revision:
        raise RevisionConflict(f"{key}: somebody saved revision {known} since {revision}")


def _revision(database: sqlite3.Connection, key: str) -> int | None:
    row = database.execute("SELECT revision FROM checkpoints WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _checkpoint(database: sqlite3.Connection, key: str) -> tuple[bytes, int] | None:
    revision = _revision(database, key)
    if revision is None:
        return None
    pieces = database.execute("SELECT state FROM pieces WHERE key = ? AND revision = ? ORDER BY place", (key, revision))
    return b"".join(piece for (piece,) in pieces), revision


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; the write lock is taken at once, so that a busy database is told before anything is done."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _advice(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", None) or ""
    for beginning, advice in _ADVICE.items():
        if name.startswith(beginning):
            return f" ({advice})"
    return ""


_ADVICE = {
    "SQLITE_FULL": "nothing of it was kept; it goes on as soon as there is room",
    "SQLITE_BUSY": "another program holds a transaction on it: end that one",
    "SQLITE_LOCKED": "another program holds a transaction on it: end that one",
    "SQLITE_READONLY": "it, or its folder, cannot be written by this user",
    "SQLITE_CANTOPEN": "it, or its folder, cannot be opened by this user",
    "SQLITE_NOTADB": "it is no SQLite database: use another file; or it was one, and its head is damaged",
    "SQLITE_CORRUPT": "it is damaged: move it away, and save what can be read with `sqlite3 FILE .recover`",
    "SQLITE_IOERR": "the disk failed or is full; nothing of it was kept",
}
