"""The lines of the calls that somebody selected, for commands that write a part of a log: it is read once to find the lines, and once more
to write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from telstate.calls._outcome import Outcome, Unmatched
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._nats import is_nats, without_password
from telstate.cli._no_match import OtherCalls
from telstate.events._dialects.journal import unwrap
from telstate.journals._database import is_sqlite
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection
from telstate.views._call_lines import CallLines
from telstate.views._number_set import NumberSet

__all__ = ["SelectedLines"]

_RECORD = b'{"v":'
_FILE_BITS = 40
"""The lines of one file have numbers of so many bits."""


class SelectedLines:
    """Finds the lines of the selected calls, each call with all its sessions.

    Args:
        names: the logs, which can be read twice: see `rereadable`.
        selection: selects a call if it admits one of its sessions, or its caller on hold.
    """

    def __init__(self, names: list[str], selection: Selection) -> None:
        self._run = LogRun(names, gone=self._leave, stepped=self._see)
        self._places = {without_password(name): place for place, name in enumerate(self._run.names)}
        self._databases = {
            without_password(name) for name in self._run.names if is_nats(name) or (name != STDIN and is_sqlite(name))
        }
        self._selection = selection
        self._wanted = NumberSet()
        self._seqs = NumberSet()
        """Of the records that were picked: what a journal says of them later is picked, too."""
        self._calls = CallLines(selection.admits, self._wanted.add)
        self._others = OtherCalls()

    def find(self) -> str | None:
        """Read everything; return None, or what to say if no call is selected.

        Raises:
            OSError: if a file cannot be read.
            JournalError: if a database is not a journal, or is damaged.
        """
        self._run.run()
        self._calls.end()
        return None if self._calls.calls else self._others.advice(self._run)

    @property
    def needs_base(self) -> bool:
        """True if a selected call began before the journal was pruned: then what the prune left is picked, with all its calls."""
        return self._calls.needs_base

    def pick(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Yield the lines of the selected calls, and of a journal's bookkeeping what is about them."""
        for line in lines:
            record = unwrap(line.raw) if line.raw.startswith(_RECORD) else None
            if self._number(line, None if record is None else record.seq) in self._wanted:
                if record is not None:
                    self._seqs.add(record.seq)
                yield line
            elif record is None and line.raw.startswith(_RECORD) and self._is_about_picked(line.raw):
                yield line

    def _see(self, line: LogLine, outcome: Outcome) -> None:
        seq = None
        if line.file in self._databases and (record := unwrap(line.raw)) is not None:
            seq = record.seq
        self._calls.see(self._number(line, seq), outcome, self._run.replay.engine)

    def _leave(self, gone: Gone) -> None:
        if isinstance(gone, Unmatched):
            return
        record = record_of(self._run, gone)
        self._calls.leave(gone, record)
        self._others.add(record)

    def _number(self, line: LogLine, seq: int | None) -> int:
        """Return what tells a line apart: in a database, which may be pruned meanwhile, its sequence number."""
        number = seq if seq is not None and line.file in self._databases else line.number
        return self._places.get(line.file, 0) << _FILE_BITS | number

    def _is_about_picked(self, raw: bytes) -> bool:
        """Return whether a line of bookkeeping is of the whole journal, or about an event that was picked."""
        try:
            value = json.loads(raw)
        except ValueError:
            return False
        if "payload" in value:
            return False
        if "base" in value:
            return self.needs_base
        letter = value.get("dead")
        number = letter.get("seq") if isinstance(letter, dict) else value.get("done")
        return "journal" in value or (isinstance(number, int) and number != 0 and abs(number) in self._seqs)
