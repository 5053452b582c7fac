"""The outbox of a journal: messages that wait to be sent to receivers outside.

Of each lane only the first message has a time at which it is due, so that what is due is found without a look at the rest, however
much waits for a receiver that is away. The tables are made when the first message comes: most journals never have one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from telstate.routing._ports import KeptNotification, Notification

__all__ = ["add", "count", "first", "hasten", "postpone", "remove", "seq"]

_SCHEMA = """
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, id TEXT NOT NULL, lane TEXT NOT NULL,
                     seq INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
                     due_at REAL, UNIQUE (target, id));
CREATE INDEX outbox_due ON outbox (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_lane ON outbox (target, lane, number);
CREATE TABLE outbox_seq (seq INTEGER NOT NULL);
INSERT INTO outbox_seq VALUES (0);
"""
_ADD = """
INSERT OR IGNORE INTO outbox (target, id, lane, seq, at, body, due_at)
SELECT :target, :id, :lane, :seq, :at, :body,
       CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE target = :target AND lane = :lane) THEN NULL ELSE :at END
"""


def add(database: sqlite3.Connection, messages: Sequence[Notification]) -> None:
    """Keep messages, in the caller's transaction."""
    if not _exists(database):
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
    database.executemany(_ADD, [message._asdict() for message in messages])
    last = max(message.seq for message in messages)
    database.execute("UPDATE outbox_seq SET seq = ? WHERE seq < ?", (last, last))


def seq(database: sqlite3.Connection) -> int:
    """Return the highest number of an event whose messages were added."""
    return int(database.execute("SELECT seq FROM outbox_seq").fetchone()[0]) if _exists(database) else 0


def first(database: sqlite3.Connection, target: str, limit: int) -> list[KeptNotification]:
    """Return the first message of each lane of a target, those due first in front."""
    if not _exists(database):
        return []
    rows = database.execute(
        "SELECT number, attempts, due_at, target, id, lane, seq, at, body FROM outbox"
        " WHERE target = ? AND due_at IS NOT NULL ORDER BY due_at, number LIMIT ?",
        (target, limit),
    )
    return [
        KeptNotification(number, Notification._make(row), attempts, due_at) for number, attempts, due_at, *row in rows
    ]


def postpone(database: sqlite3.Connection, number: int, attempts: int, due_at: float) -> None:
    """Try a message again later."""
    database.execute("UPDATE outbox SET attempts = ?, due_at = ? WHERE number = ?", (attempts, due_at, number))


def hasten(database: sqlite3.Connection, target: str, now: float) -> None:
    """Let all that waits for its next attempt be due."""
    if _exists(database):
        database.execute("UPDATE outbox SET due_at = ? WHERE target = ? AND due_at > ?", (now, target, now))


def remove(database: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget messages, in the caller's transaction. The next ones of their lanes are due."""
    for number in numbers:
        row = database.execute("DELETE FROM outbox WHERE number = ? RETURNING target, lane", (number,)).fetchone()
        if row is not None:
            database.execute(
                "UPDATE outbox SET due_at = at WHERE due_at IS NULL AND number ="
                " (SELECT min(number) FROM outbox WHERE target = ? AND lane = ?)",
                row,
            )


def count(database: sqlite3.Connection) -> dict[str, int]:
    """Return how many messages wait for each target."""
    if not _exists(database):
        return {}
    return dict(database.execute("SELECT target, count(*) FROM outbox GROUP BY target").fetchall())


def _exists(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox_seq'").fetchone()[0])
