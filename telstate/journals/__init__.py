"""What is kept: journals that a dispatcher can write to."""

from __future__ import annotations

from telstate.journals.jsonl import JsonlJournal
from telstate.journals.sqlite import SqliteJournal

__all__ = ["JsonlJournal", "SqliteJournal"]
