"""The SQLite database of a journal: its schema, how it is opened for writing and for reading, and what its errors mean."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from telstate.errors import JournalError
from telstate.journals._file_lock import WalLock, is_locked
from telstate.routing._log import Log, random_letters

__all__ = [
    "JournalNotMade",
    "connect",
    "create_or_check",
    "explained",
    "header_of",
    "is_sqlite",
    "put_aside",
    "read_only",
    "set_apart",
    "transaction",
]

_APPLICATION_ID = 0x7E157A7E
"""Marks a database as a telstate journal, in the file's header."""
_SCHEMA_VERSION = 3
_READABLE = (2, 3)
"""Schema 2 had no bases. Opening such a journal for writing adds them."""
_MADE_WITHIN = 5.0
"""Seconds for which a reader waits while a service makes the journal: it syncs a few times."""
_LOOK_EVERY = 0.02
_BASES = """
CREATE TABLE bases (seq INTEGER PRIMARY KEY, at REAL NOT NULL, oldest INTEGER NOT NULL, known TEXT NOT NULL,
                    active INTEGER NOT NULL DEFAULT 0);
CREATE TABLE archive (device INTEGER NOT NULL, inode INTEGER NOT NULL, length INTEGER NOT NULL);
"""
_SCHEMA = f"""
CREATE TABLE header (id TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE events (seq INTEGER PRIMARY KEY, at REAL NOT NULL, dialect TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE done (number INTEGER PRIMARY KEY);
CREATE TABLE dead_letters (number INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, reason TEXT NOT NULL,
                           handler TEXT, detail TEXT NOT NULL, at REAL NOT NULL, dialect TEXT NOT NULL,
                           payload BLOB NOT NULL, facts TEXT, retry_requested INTEGER NOT NULL DEFAULT 0);
CREATE INDEX retry_requested ON dead_letters (number) WHERE retry_requested;
CREATE TABLE checkpoints (key TEXT PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE pieces (key TEXT NOT NULL, revision INTEGER NOT NULL, place INTEGER NOT NULL, state BLOB NOT NULL,
                     PRIMARY KEY (key, revision, place)) WITHOUT ROWID;
{_BASES}"""


class JournalNotMade(JournalError):
    """Raised when a database is still empty: a start was cut short, or takes long."""


def is_sqlite(path: str | os.PathLike[str]) -> bool:
    """Return True for a SQLite database, by its first bytes; also for an empty file that a service is making one of.

    A pipe is left alone: its bytes can be read only once.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        begin = file.read(16)
    return begin == b"SQLite format 3\0" if begin else is_locked(Path(path)) is True


def connect(path: Path, *, busy: float) -> sqlite3.Connection:
    """Open an existing file for writing, unless it belongs to another program. Used by one thread at a time."""
    database = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        if not _is_empty(database):
            _check(database, path)
        else:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty database can be told
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
    except BaseException:
        database.close()
        raise
    return database


def set_apart(path: Path) -> str:
    """Let an empty file not take over what SQLite left beside a journal of the same name that is gone. Returns the name of its `-wal`.

    A `-wal` with events is renamed: they belong to that journal, and SQLite would delete them. A `-shm` without a `-wal` is of
    no use, and another process may still have it open.
    """
    beside = os.path.realpath(path)
    wal = f"{beside}-wal"
    is_new = not os.path.getsize(path)
    WalLock(wal).release()  # it may still be in use
    if is_new and os.path.exists(wal) and os.path.getsize(wal):
        put_aside(wal)
    if is_new or not os.path.exists(wal):
        with suppress(FileNotFoundError):
            os.unlink(f"{beside}-shm")
    return wal


def put_aside(wal: str) -> None:
    """Rename a `-wal` whose journal is not the file beside it."""
    aside = f"{wal}.{random_letters(8)}"
    os.rename(wal, aside)
    hint = "it has the last events of a journal that is not here: put them side by side, as calls.db and calls.db-wal, to read it"
    Log().error("journal.events_left_behind", file=aside, hint=hint)


def create_or_check(database: sqlite3.Connection, settings: dict[str, Any]) -> None:
    """Give an empty database its schema and its header, and one of an earlier schema what it lacks."""
    with transaction(database):
        if _is_empty(database):
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            database.execute("INSERT INTO header VALUES (?, ?)", (str(uuid4()), json.dumps(settings)))
        elif _version(database) != _SCHEMA_VERSION:
            for statement in _BASES.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")


def read_only(path: Path) -> sqlite3.Connection:
    """Open a journal for reading, also while another process writes it.

    SQLite creates files next to it even then. Where it cannot, no other process writes either, so the file is read as it is.
    One that a service is making is waited for.

    Raises:
        JournalNotMade: if it stays empty.
        JournalError: if it is another database, or of another version, or cannot be read here.
    """
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    uri = path.absolute().as_uri()
    try:
        return _open_checked(f"{uri}?mode=ro", path)
    except sqlite3.OperationalError:
        wal = Path(f"{path}-wal")
        if wal.exists() and wal.stat().st_size:
            raise JournalError(
                f"{path}: its last events are in {wal.name}, which SQLite cannot read in a folder that cannot be written:"
                " copy both into another folder, and read them there"
            ) from None
        return _open_checked(f"{uri}?mode=ro&immutable=1", path)


def header_of(database: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
    """Return the journal's id and settings."""
    name, settings = database.execute("SELECT id, settings FROM header").fetchone()
    return name, json.loads(settings)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing. The write lock is taken at the start, so a busy database fails before anything is done."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the system into a JournalError that says what to do.

    Raises:
        JournalError: in place of `sqlite3.Error` and `OSError`.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}{_advice(error)}") from error
    except OSError as error:
        raise JournalError(f"{error.filename or path}: {error.strerror or error}") from error


def _open_checked(uri: str, path: Path) -> sqlite3.Connection:
    until, is_last = monotonic() + _MADE_WITHIN, False
    while True:
        try:
            return _open_once(uri, path)
        except JournalNotMade:
            if is_last:
                raise
        is_last = is_locked(path) is False or monotonic() >= until
        sleep(0.0 if is_last else _LOOK_EVERY)


def _open_once(uri: str, path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, timeout=5.0, check_same_thread=False)
    try:
        _check_made(database, path)
        _check(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _check_made(database: sqlite3.Connection, path: Path) -> None:
    if _is_empty(database):
        raise JournalNotMade(f"{path} is empty: a service makes a journal of it when it starts. Try again then")


def _is_empty(database: sqlite3.Connection) -> bool:
    return not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def _check(database: sqlite3.Connection, path: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = _version(database)
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a SQLite database, but not a telstate journal: use another file")
    if version not in _READABLE:
        age = "a newer" if version > _SCHEMA_VERSION else "an older"
        raise JournalError(
            f"{path} was written by {age} telstate (schema {version}, not {_SCHEMA_VERSION}): use that one"
        )


def _advice(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", None) or ""
    return next((f" ({advice})" for prefix, advice in _ADVICE.items() if name.startswith(prefix)), "")


_ADVICE = {
    "SQLITE_FULL": "nothing was written; it works again as soon as there is space",
    "SQLITE_BUSY": "another program holds a transaction on it: end that program",
    "SQLITE_LOCKED": "another program holds a transaction on it: end that program",
    "SQLITE_READONLY": "this user cannot write to it or to its folder",
    "SQLITE_CANTOPEN": "this user cannot open it or its folder",
    "SQLITE_NOTADB": "it is not a SQLite database: use another file. If it was one, its header is damaged",
    "SQLITE_CORRUPT": "it is damaged: move it away, and save what can be read with `sqlite3 FILE .recover`",
    "SQLITE_IOERR": "the disk failed or is full; nothing was written",
}
