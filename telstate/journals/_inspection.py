"""What can be known of a journal without writing to it: also while a service writes it, and whether one does."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from shutil import disk_usage
from typing import NamedTuple

from telstate.journals import _outbox as outbox
from telstate.journals._database import JournalNotMade, explained
from telstate.journals._file_lock import is_locked
from telstate.journals._sqlite import query

__all__ = ["JournalFacts", "free_bytes", "inspect", "why_not_allowed", "why_not_stored"]

_PROBE = bytes(64 * 1024)


class JournalFacts(NamedTuple):
    """A journal as it is now."""

    events: int
    last_at: float | None
    """When the last event was received, in Unix seconds."""
    last_webhook_at: float | None
    """The same of the last one that came by a webhook."""
    dead_letters: int
    messages: dict[str, int]
    """How many notifications wait for each receiver."""
    size: int
    """Bytes of the file and its `-wal`."""
    is_written: bool | None
    """True while a process has it open for writing; None where the system does not say."""


def inspect(path: str | os.PathLike[str]) -> JournalFacts:
    """Read a journal's facts.

    Raises:
        JournalError: if it is not a journal, is damaged, or has another version's schema.
    """
    path = Path(path)
    with explained(path):
        is_written = is_locked(path)
        wal = path.with_name(f"{path.name}-wal")
        size = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    try:
        events, last_at, last_webhook_at, dead_letters = query(path, _count)
    except JournalNotMade:  # made by hand, or by a start that was cut short
        return JournalFacts(0, None, None, 0, {}, size, is_written)
    return JournalFacts(events, last_at, last_webhook_at, dead_letters, query(path, outbox.count), size, is_written)


def _count(database: sqlite3.Connection) -> tuple[int, float | None, float | None, int]:
    events = database.execute("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM events").fetchone()[0]
    last = database.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    webhook = database.execute("SELECT at FROM events WHERE dialect = 'webhook' ORDER BY seq DESC LIMIT 1").fetchone()
    letters = database.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
    return events, last and last[0], webhook and webhook[0], letters


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Return the room on the disk where a journal is, or would be made.

    Raises:
        JournalError: if that cannot be found out.
    """
    with explained(Path(path)):
        return disk_usage(_folder_of(Path(path))).free


def why_not_allowed(path: str | os.PathLike[str]) -> str | None:
    """Return what permission this user lacks to write a journal there; None if they have all. The system is asked, nothing is touched."""
    path = Path(path)
    folder = _folder_of(path)
    if path.exists() and not os.access(path, os.W_OK):
        return f"this user may not write to {path}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this user may not write to the folder {folder}"
    return None


def why_not_stored(path: str | os.PathLike[str]) -> str | None:
    """Return why nothing can be kept beside a journal; None if it can. The journal itself is not touched.

    A file without a name is written, synced and gone: that shows a full disk, a quota and a disk that fails.
    """
    folder = _folder_of(Path(path))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"nothing can be written to the folder {folder}: {error.strerror}"
    return None


def _folder_of(path: Path) -> Path:
    """The folder where the journal is, or the nearest one above it that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())
