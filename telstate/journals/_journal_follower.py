"""Following a SQLite journal while a service writes it: the lines of its export as they come.

follower = JournalFollower("calls.db")
for line in follower.look(): ...        # again and again
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

from telstate.errors import JournalError
from telstate.events import SourceGap
from telstate.events._dialects.journal import wrap
from telstate.journals import _pruning as pruning
from telstate.journals import _queries as queries
from telstate.journals._database import header_of
from telstate.journals._sqlite import beginning, query
from telstate.routing._ports import Record

__all__ = ["JournalFollower"]


class JournalFollower:
    """Reads what is new in a journal, one look at a time. A look keeps no writer waiting, and waits only for a journal
    that is being made.

    Args:
        path: the database.
    """

    missing: bool = False
    """As of the follower of a file: a journal is there, or `look` raises."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._name = ""
        self._seq = 0
        self.at_end = False
        """True if the last look reached the end: wait before the next."""

    def look(self) -> list[bytes | SourceGap]:
        """Look once: return the next lines, of one batch at most.

        Raises:
            JournalError: if it is not a journal, is damaged, or was replaced by another one.
        """
        found: list[bytes | SourceGap] = []
        if not self._name:
            lines, self._seq = beginning(self._path)
            found += lines
        name, records, pruned = query(self._path, partial(_next, after=self._seq))
        if name != (self._name or name):
            raise JournalError(f"{self._path} is another journal than before: start again")
        self._name = name
        if records and records[0].seq > self._seq + 1 and pruned > self._seq + 1:
            found.append(SourceGap(reason="the journal was pruned beyond what was read"))
        found += [wrap(one.seq, one.at, one.dialect, one.payload) for one in records]
        self.at_end = not records
        self._seq = records[-1].seq if records else self._seq
        return found

    def close(self) -> None:
        """Nothing is open between two looks."""


def _next(database: sqlite3.Connection, after: int) -> tuple[str, list[Record], int]:
    return header_of(database)[0], queries.records(database, after), pruning.pruned_below(database)
