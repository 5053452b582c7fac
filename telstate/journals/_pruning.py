"""What a journal prunes: the events before a base, a checkpoint that stands for them from then on.

A base is a checkpoint like any other, kept in pieces, and becomes active when it is old enough. Then everything below its lowest
number is deleted: events that it has, that were finished, and whose sessions had left memory. So a replay from the base gives the
same as one from the first event, whatever those events had to do with each other.
"""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from telstate.journals._database import transaction
from telstate.routing._ports import Base

__all__ = [
    "KEY",
    "EventRow",
    "activate",
    "active_base",
    "add_candidate",
    "last_candidate",
    "old_events",
    "pruned_below",
    "remove",
]

KEY = "base"
"""Of the pieces of all bases; their revision is the number of the last event in the base."""

EventRow = tuple[int, float, str, bytes]


class Candidate(NamedTuple):
    """The youngest base."""

    seq: int
    at: float
    oldest: int


def last_candidate(database: sqlite3.Connection) -> Candidate | None:
    """Return the base that was kept last."""
    row = database.execute("SELECT seq, at, oldest FROM bases ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else Candidate(*row)


def add_candidate(database: sqlite3.Connection, base: Base) -> None:
    """Keep a base whose pieces are all written. It becomes active later, or never."""
    row = (base.seq, base.at, base.oldest, json.dumps(sorted(base.known)))
    with transaction(database):
        database.execute(
            "INSERT INTO bases (seq, at, oldest, known) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET at = excluded.at, oldest = excluded.oldest, known = excluded.known",
            row,
        )
        # What a base that was cut short left behind.
        database.execute("DELETE FROM pieces WHERE key = ? AND revision NOT IN (SELECT seq FROM bases)", (KEY,))


def activate(database: sqlite3.Connection, before: float) -> None:
    """Make the youngest base active whose last event came before a time, and forget the older ones."""
    chosen, active = database.execute(
        "SELECT max(seq), max(seq * active) FROM bases WHERE at < ? OR active", (before,)
    ).fetchone()
    if chosen is None or chosen == active:
        return
    with transaction(database):
        database.execute("UPDATE bases SET active = (seq = ?)", (chosen,))
        database.execute("DELETE FROM bases WHERE seq < ?", (chosen,))
        database.execute("DELETE FROM pieces WHERE key = ? AND revision < ?", (KEY, chosen))


def active_base(database: sqlite3.Connection) -> Base | None:
    """Return the base that stands for the events that were pruned; None if none were."""
    if not has_bases(database):
        return None
    row = database.execute("SELECT seq, at, oldest, known FROM bases WHERE active").fetchone()
    if row is None:
        return None
    seq, at, oldest, known = row
    pieces = database.execute("SELECT state FROM pieces WHERE key = ? AND revision = ? ORDER BY place", (KEY, seq))
    return Base(seq, at, frozenset(json.loads(known)), oldest, b"".join(piece for (piece,) in pieces))


def pruned_below(database: sqlite3.Connection) -> int:
    """Return the number below which everything is finished, and may be deleted; 0 where nothing was pruned."""
    row = database.execute("SELECT oldest FROM bases WHERE active").fetchone() if has_bases(database) else None
    return 0 if row is None else int(row[0])


def has_bases(database: sqlite3.Connection) -> bool:
    """Return False for a journal of an earlier schema, which is only read."""
    return bool(database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'bases'").fetchone()[0])


def old_events(database: sqlite3.Connection, limit: int) -> list[EventRow]:
    """Return the first events that are to be deleted; empty if there are none."""
    rows = database.execute(
        "SELECT seq, at, dialect, payload FROM events WHERE seq < ? ORDER BY seq LIMIT ?",
        (pruned_below(database), limit),
    )
    return rows.fetchall()


def remove(database: sqlite3.Connection, last: int) -> None:
    """Delete the events up to a number, and the marks of their work, in the caller's transaction."""
    database.execute("DELETE FROM events WHERE seq <= ?", (last,))
    database.execute("DELETE FROM done WHERE number BETWEEN 1 AND ?", (last,))
    database.execute("DELETE FROM done WHERE number BETWEEN ? AND -1", (-last,))
