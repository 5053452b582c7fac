"""What is read from a journal's database. One function a question."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from telstate.errors import RevisionConflict
from telstate.journals._pruning import pruned_below
from telstate.routing._ports import DeadLetter, KeptLetter, Record

__all__ = ["checkpoint", "dead_letters", "expect_revision", "finished", "first", "marks", "records"]

_BATCH = 500
"""Rows that are read at a time: a reader holds no snapshot for long, or SQLite's log could not be emptied meanwhile."""

_BATCH_BYTES = 1 << 20
"""Bytes of dead letters that are read at a time: a payload that could not be read may have a megabyte."""


def records(database: sqlite3.Connection, after: int) -> list[Record]:
    """Return the next records after a sequence number; empty at the end."""
    rows = database.execute(
        "SELECT e.seq, e.at, e.dialect, e.payload, d.number IS NOT NULL, FALSE FROM events e"
        " LEFT JOIN done d ON d.number = e.seq WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
        (after, _BATCH),
    )
    return list(map(Record._make, rows))  # SQLite's 0 and 1 are False and True enough: a recovery reads every row


def first(database: sqlite3.Connection) -> int:
    """Return the number of the first event; 1 if there is none."""
    return int(database.execute("SELECT coalesce(min(seq), 1) FROM events").fetchone()[0])


def marks(database: sqlite3.Connection, after: int, last: int) -> list[int]:
    """Return the next numbers that are marked as done, above `after` and up to `last`; empty at the end."""
    rows = database.execute(
        "SELECT number FROM done WHERE number > ? AND number <= ? ORDER BY number LIMIT ?", (after, last, _BATCH)
    )
    return [number for (number,) in rows]


def dead_letters(database: sqlite3.Connection, after: int, *, only_retry: bool = False) -> list[KeptLetter]:
    """Return the next dead letters after a number; empty at the end."""
    rows = database.execute(
        "SELECT number, retry_requested, seq, reason, handler, detail, at, dialect, payload, facts FROM dead_letters"  # noqa: S608
        f" WHERE number > ? {'AND retry_requested' if only_retry else ''} ORDER BY number LIMIT ?",
        (after, _BATCH),
    )
    letters: list[KeptLetter] = []
    size = 0
    for number, retry_requested, *letter, facts in rows:
        kept = DeadLetter._make([*letter, facts and json.loads(facts)])
        letters.append(KeptLetter(number, kept, bool(retry_requested)))
        size += len(kept.payload) + len(facts or "")
        if size >= _BATCH_BYTES:
            break
    return letters


def finished(database: sqlite3.Connection, seqs: Sequence[int]) -> set[int]:
    """Return which of these are marked as done, or were pruned, which only finished work is."""
    below = pruned_below(database)
    found = {seq for seq in seqs if abs(seq) < below}
    for start in range(0, len(seqs), _BATCH):
        some = list(seqs[start : start + _BATCH])
        places = ", ".join("?" * len(some))
        found.update(row[0] for row in database.execute(f"SELECT number FROM done WHERE number IN ({places})", some))  # noqa: S608
    return found


def expect_revision(database: sqlite3.Connection, key: str, revision: int | None) -> None:
    """Check that nobody saved a checkpoint meanwhile.

    Raises:
        RevisionConflict: if its revision is another one.
    """
    current = _revision(database, key)
    if current != revision:
        raise RevisionConflict(f"checkpoint {key!r} has revision {current}, not {revision}: it was saved since")


def checkpoint(database: sqlite3.Connection, key: str) -> tuple[bytes, int] | None:
    """Return a checkpoint and its revision."""
    revision = _revision(database, key)
    if revision is None:
        return None
    pieces = database.execute("SELECT state FROM pieces WHERE key = ? AND revision = ? ORDER BY place", (key, revision))
    return b"".join(piece for (piece,) in pieces), revision


def _revision(database: sqlite3.Connection, key: str) -> int | None:
    row = database.execute("SELECT revision FROM checkpoints WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]
