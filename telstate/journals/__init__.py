"""Journals that a dispatcher can write to. `README.md` in this folder says which one to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports

if TYPE_CHECKING:
    from telstate.journals._sqlite import SqliteJournal
    from telstate.routing._memory_journal import MemoryJournal
else:
    __getattr__ = _lazy_exports(
        __name__, {"MemoryJournal": "telstate.routing._memory_journal", "SqliteJournal": "_sqlite"}
    )

__all__ = ["MemoryJournal", "SqliteJournal"]
