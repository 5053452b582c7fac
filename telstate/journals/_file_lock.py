"""One writer at a time: a lock on the journal's file itself, so that no other name or link of the file gets around it.

It locks one byte far beyond what SQLite locks (bytes from 2^30 on), so readers and other tools are not in the way of it. The
system releases it when the process ends, however it ends.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from errno import EACCES, EAGAIN
from pathlib import Path
from threading import Lock

from telstate.errors import JournalError

__all__ = ["FileLock", "WalLock", "identity_of", "is_locked"]

_OFFSET = 1 << 62
_LOCK = "hhqqi0q"
"""`struct flock` of Linux."""

_locked: set[tuple[int, int]] = set()
"""Device and inode of each file that this process has locked. Closing a file drops SQLite's own locks on it, as POSIX wants it,
so a file that is in use here must not even be opened to find that out."""
_guard = Lock()


class FileLock:
    """Holds the lock until `release`. Release it after SQLite's connection is closed: see `_locked`.

    Args:
        path: the file; it is created if it does not exist, readable for its owner alone.

    Raises:
        JournalError: if another process holds the lock, the file cannot be written, or the system has no such locks.
    """

    def __init__(self, path: Path) -> None:
        in_use = JournalError(f"{path} is in use by another process: stop that one, or use another file")
        with _guard:
            try:
                if path.exists() and identity_of(path.stat()) in _locked:
                    raise in_use
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    _lock(self._file)
                except BaseException:
                    os.close(self._file)
                    raise
            except OSError as error:
                if error.errno in (EACCES, EAGAIN) and error.filename is None:
                    raise in_use from None
                raise JournalError(
                    f"{path} cannot be opened for writing: {error.strerror}. Let this user write it and its folder, or use another file"
                ) from error
            self._identity = identity_of(os.fstat(self._file))
            _locked.add(self._identity)

    def read(self, size: int, offset: int) -> bytes:
        """Read from the file that is locked, whatever has its name by now."""
        return os.pread(self._file, size, offset)

    def release(self) -> None:
        """Let another process write."""
        with _guard:
            os.close(self._file)
            _locked.discard(self._identity)


class WalLock:
    """The same lock on the journal's `-wal`, which SQLite finds by name.

    A process whose database was moved or replaced still writes to the `-wal` of that name: another that opens the file that
    has the name now must not share it.

    Args:
        path: the `-wal`. If it does not exist, nothing is locked.

    Raises:
        JournalError: if another process holds the lock.
    """

    def __init__(self, path: str) -> None:
        self._file: int | None = None
        with suppress(FileNotFoundError):
            self._file = os.open(path, os.O_RDWR)
        try:
            if self._file is not None:
                _lock(self._file)
        except OSError as error:
            self.release()
            if error.errno in (EACCES, EAGAIN):
                raise JournalError(
                    f"{path} is in use by another process, whose journal was moved or replaced while it ran: stop that process"
                ) from None
            raise

    def release(self) -> None:
        """Let another process write."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_locked(path: Path) -> bool | None:
    """Return whether a process holds the lock. It is not taken for that. None where the system does not say (all but Linux).

    Raises:
        OSError: if the file cannot be opened.
    """
    with _guard:
        if identity_of(path.stat()) in _locked:
            return True
        try:
            import fcntl  # noqa: PLC0415 - Windows has none
        except ModuleNotFoundError:
            return None
        if not hasattr(fcntl, "F_OFD_GETLK"):
            return None
        file = os.open(path, os.O_RDONLY)
        try:
            found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _lock_of(fcntl.F_WRLCK))
        finally:
            os.close(file)
        return bool(struct.unpack(_LOCK, found)[0] != fcntl.F_UNLCK)


def _lock_of(kind: int) -> bytes:
    return struct.pack(_LOCK, kind, os.SEEK_SET, _OFFSET, 1, 0)


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """Return what names a file for good: its device and inode."""
    return status.st_dev, status.st_ino


def _lock(file: int) -> None:
    try:
        import fcntl  # noqa: PLC0415 - Windows has none, and reading does not need it
    except ModuleNotFoundError:
        raise JournalError(
            "a journal can only be written on Linux and macOS: this system cannot keep a second process from writing to it."
            " Reading works (telstate replay, tail, export)"
        ) from None
    if hasattr(fcntl, "F_OFD_SETLK"):  # Linux: not dropped when this process opens and closes the file elsewhere
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _lock_of(fcntl.F_WRLCK))
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OFFSET)
