"""What is kept: journals that a dispatcher can write to."""

from __future__ import annotations

from telstate.journals._jsonl import JsonlJournal
from telstate.journals._sqlite import SqliteJournal

__all__ = ["JsonlJournal", "SqliteJournal"]
