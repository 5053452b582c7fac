"""Pruning a journal that no service has open: its events are folded up to a time, and what is known then becomes the base."""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import NamedTuple

from telstate.calls._engine import Engine
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.errors import JournalError, ParseError, TelstateError
from telstate.events import parse
from telstate.journals._sqlite import SqliteJournal, is_sqlite
from telstate.routing._checkpoint_codec import VERSION, decode_checkpoint, encode_checkpoint
from telstate.routing._ports import Base

__all__ = ["Pruned", "prune_before"]


class Pruned(NamedTuple):
    """What came of it."""

    events: int
    """How many left the journal."""
    unfinished: int | None
    """The number of the event whose work is not done, if that kept later ones."""
    size_before: int
    """Bytes."""
    size: int


async def prune_before(
    path: str | os.PathLike[str], before: float, archive: str | os.PathLike[str] | None = None
) -> Pruned:
    """Delete what came before a time, or move it to an archive: events that are finished, and whose sessions had left memory by then.

    Raises:
        JournalError: if a service has the journal open, or it is not a journal, or is damaged.
    """
    if not is_sqlite(path):
        raise JournalError(f"{path} is not a service's journal (a SQLite database)")
    size = os.path.getsize(path)  # noqa: ASYNC240 - the caller is a command
    journal = SqliteJournal(path, None, archive=archive)
    await journal.open(Settings().model_dump())
    try:
        fold = _Fold(journal, before)
        base = await fold.run()
        if base is not None:
            await journal.use_base(base)
        events = await journal.prune()
        await journal.give_all_back()
    finally:
        await journal.aclose()
    return Pruned(events, fold.blocked, size, os.path.getsize(path))  # noqa: ASYNC240


class _Fold:
    """The state as of a time, or as of the last event before which all work is done."""

    def __init__(self, journal: SqliteJournal, before: float) -> None:
        self._journal = journal
        self._before = before
        self.blocked: int | None = None

    async def run(self) -> Base | None:
        """Fold; return None if there is nothing to prune."""
        begin = await self._journal.base()
        first = 0 if begin is None else begin.seq
        engine, seq = await self._fold(begin)
        while self.blocked is not None and seq >= self.blocked:  # found too late: the engine has gone too far
            engine, seq = await self._fold(begin)
        if seq <= first:
            return None
        known = frozenset(engine.known_numbers())
        fields = {"version": VERSION, "journal": self._journal.id, "seq": seq, "engine": engine.snapshot()}
        state = encode_checkpoint({**fields, "work": [], "marks": []})
        return Base(seq, engine.now or 0.0, known, min([seq, *known]), state)

    async def _fold(self, begin: Base | None) -> tuple[Engine, int]:
        engine, seq = self._engine(begin), 0 if begin is None else begin.seq
        async with aclosing(self._journal.read(seq)) as records:
            async for record in records:
                if record.at >= self._before or record.seq == self.blocked:
                    break
                if not record.done:
                    self.blocked = record.seq
                    break
                seq = record.seq
                try:
                    outcome = engine.receive(parse(record.payload, record.dialect), record.at, seq, record.dialect)
                except ParseError:
                    continue
                retired = [-gone.opened for gone in outcome.departed if isinstance(gone, Session)]
                if set(retired) - await self._journal.finished(retired):
                    self.blocked = seq
                    break
        return engine, seq

    def _engine(self, begin: Base | None) -> Engine:
        try:
            if begin is not None:
                return Engine.restore(decode_checkpoint(begin.state)["engine"])
            return Engine(Settings.model_validate(self._journal.settings))
        except (TelstateError, ValueError, TypeError, KeyError) as error:
            raise JournalError(
                f"{self._journal.path} was pruned by another telstate: use that one ({error})"
            ) from error
