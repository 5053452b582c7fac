"""Notices that an open journal's files were removed, moved, replaced or truncated: SQLite writes on as if nothing had happened.

What is compared is the file itself: its device and inode, its size, and the journal's id as it stands in it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic

from telstate.errors import JournalError
from telstate.journals._database import put_aside
from telstate.journals._file_lock import FileLock, identity_of

__all__ = ["FileWatch"]

_SHM = "-shm"
_STILL_VALID = 0.005
"""Seconds after a check in which a write may begin without another one: no longer than a write takes."""


class FileWatch:
    """Compares the files of an open journal with those that were opened. Used in the disk thread.

    Once a check has failed, all later ones fail: events are missing from the file that has the name now.

    Args:
        path: the database, as the program named it.
        lock: holds the file open.
        database: the connection; it has read something, so its `-wal` and `-shm` exist.
        name: the journal's id.
    """

    def __init__(self, path: Path, lock: FileLock, database: sqlite3.Connection, name: str) -> None:
        self._lock = lock
        self._database = database
        self._main = os.path.abspath(path)  # the program may change its working directory
        self._path = path
        beside = os.path.realpath(path)  # SQLite puts its files beside the file that a symbolic link names
        self._files = [(name, identity_of(os.stat(name))) for name in (self._main, f"{beside}-wal", f"{beside}{_SHM}")]
        self._name = name.encode()
        self._page_size: int = database.execute("PRAGMA page_size").fetchone()[0]
        root = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'header'").fetchone()[0]
        self._header_at = (root - 1) * self._page_size
        self._has_name = False
        """True once the id was seen in the file: that of a new journal may only be in its `-wal` yet."""
        self._least = 0
        """The size below which the file was truncated: only a pruned one shrinks, and this journal is the one that prunes it."""
        self._shrinks_to: int | None = None
        self._lost: str | None = None
        self._checked_at = -1.0

    def before_write(self) -> None:
        """Check, unless the write before has just done so: writes that follow each other need one check each, not two.

        Raises:
            JournalError: as `check`.
        """
        if self._lost is not None or monotonic() - self._checked_at > _STILL_VALID:
            self.check()

    def before_close(self) -> None:
        """Check a last time: another database may have come to the path since."""
        try:
            self.check()
        except JournalError:
            self._set_wal_apart()

    def check(self) -> None:
        """Compare.

        Raises:
            JournalError: if the files are not the ones that were opened, now or before.
        """
        if self._lost is None and (lost := self._difference()) is not None:
            self._lost = lost
            self._set_wal_apart()
        if self._lost is not None:
            raise JournalError(
                f"{self._path}: {self._lost} while this process had it open, so nothing is kept any more: stop this process,"
                " put the right file back (or none, for a new journal), and start again"
            )
        self._checked_at = monotonic()

    def _set_wal_apart(self) -> None:
        """Rename this journal's `-wal` where its name leads to another database: SQLite would write these pages into that one.

        A file that is only moved may come back, and then needs its `-wal`.
        """
        (main, ours), (wal, identity), _ = self._files
        with suppress(OSError):
            is_ours = identity_of(os.stat(main)) == ours and self._name in self._lock.read(
                self._page_size, self._header_at
            )
            if not is_ours and identity_of(os.stat(wal)) == identity:
                put_aside(wal)

    def is_shrinking(self) -> None:
        """Pages were given back in a transaction: the file becomes shorter with the next checkpoint of SQLite, or is so already."""
        to: int = self._database.execute("PRAGMA page_count").fetchone()[0] * self._page_size
        self._shrinks_to, self._least = to, min(self._least, to)

    def _difference(self) -> str | None:
        size = 0
        for name, identity in self._files:
            try:
                status = os.stat(name)
            except (FileNotFoundError, NotADirectoryError):
                return f"{os.path.basename(name)} was removed or moved"
            except OSError as error:
                raise JournalError(f"{name} cannot be checked: {error.strerror}") from error
            if identity_of(status) != identity:
                return f"{os.path.basename(name)} was replaced by another file"
            size = size or status.st_size or -1
        if size < self._least:
            return "it was truncated"
        self._expect_size(size)
        if self._name in self._lock.read(self._page_size, self._header_at):
            self._has_name = True
        elif self._has_name:
            return "it was overwritten with something else"
        return None

    def _expect_size(self, size: int) -> None:
        if self._shrinks_to is not None and size <= self._shrinks_to:
            self._shrinks_to = None  # it has shrunk
        self._least = size if self._shrinks_to is None else min(size, self._shrinks_to)
