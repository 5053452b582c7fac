"""Journals that a dispatcher can write to. `README.md` in this folder says which one to use."""

from __future__ import annotations

from telstate.journals._sqlite import SqliteJournal
from telstate.routing._memory_journal import MemoryJournal

__all__ = ["MemoryJournal", "SqliteJournal"]
