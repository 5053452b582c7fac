"""`telstate records`: the records of calls in a database, or in files of CSV or Parquet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.cli._filters import with_filters
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._logs import LineReader
from telstate.cli._tail import check_can_be_followed, follower_of, lines_now, until_interrupted
from telstate.cli._terminal import announce_stdin, misuse, say, tidy_exit
from telstate.cli._variables import variable
from telstate.journals._database import header_of, is_sqlite
from telstate.sources._follow import POLL
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection, TextReport
from telstate.views._records_schema import RecordRows
from telstate.views._report import HOW_TO_RECORD

__all__ = ["records"]

_AT_ONCE = 1_000
"""Records that are written in one transaction."""
_FILES = (".csv", ".parquet")

Write = Callable[[RecordRows, int], None]
"""Writes rows, with the number of events that were read by then."""


@with_filters
def records(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Logs or folders to read, in this order; - is standard input, the default."
        ),
    ] = None,
    *,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="URL|FILE",
            envvar="TELSTATE_RECORDS",
            help="postgresql://USER:PASSWORD@HOST/NAME, sqlite:///FILE, FILE.csv or FILE.parquet. A URL with a password is better in"
            " TELSTATE_RECORDS: every user of this machine can read arguments.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Into a database: go on with calls that end later, until Ctrl-C."),
    ] = False,
    selection: Selection,
) -> None:
    """Write the records of calls into a database or into files, in full:
    phone numbers and names are NOT masked.

    A database (PostgreSQL or SQLite) gets the tables `sessions`, `transfers` and
    `callers`, which are made if they are missing. A row is replaced when more is
    known of its session: run it again and again, or with --follow, which writes
    calls when they end and whenever their record changes after that. From a
    service's journal (calls.db) it goes on where it was, also after a kill.

    FILE.csv and FILE.parquet have the sessions; FILE.transfers and FILE.callers
    beside them the rest. They are there when all of them are complete.

    It reads the same logs as `telstate replay`, and has the same records.

    Examples: telstate records calls.db --into postgresql://db/calls --follow, or: telstate records calls.db --into october.parquet --since 2026-10-01
    """
    names = files or [STDIN]
    with tidy_exit():
        into = into or variable("TELSTATE_RECORDS")
        if into is None:
            misuse("it needs a place for the records: give --into URL or FILE, or set TELSTATE_RECORDS")
        if "://" in into:
            _into_database(names, into, selection, follow=follow)
        elif Path(into).suffix.lower() in _FILES:
            _into_files(names, Path(into), selection, follow=follow)
        else:
            shown = "this" if "@" in into else into  # there may be a password
            misuse(f"--into takes postgresql://…, sqlite:///FILE, FILE.csv or FILE.parquet, not {shown}")


def _into_files(names: list[str], path: Path, selection: Selection, *, follow: bool) -> None:
    if follow:
        misuse("--follow is for databases: a file is complete when all of the log was read")
    announce_stdin(names)
    from telstate.views._records_files import RecordsFiles  # noqa: PLC0415 - few runs write files

    try:
        with RecordsFiles(path) as made:
            _RecordsRun(names, selection, lambda rows, _: made.write(rows), 0).run()
    except ModuleNotFoundError as error:
        misuse(f"Parquet needs {error.name}: pip install 'telstate[parquet]'")


def _into_database(names: list[str], url: str, selection: Selection, *, follow: bool) -> None:
    with _database_errors(), ExitStack() as stack:
        from telstate.views._records_table import RecordsTable  # noqa: PLC0415 - an extra

        table = stack.enter_context(closing(RecordsTable(url)))
        table.prepare()
        source = _source_of(names, selection)
        after = 0 if source is None else table.position(source)

        def write(rows: RecordRows, position: int) -> None:
            table.write(rows, source=source, position=position)

        if not follow:
            announce_stdin(names)
            _RecordsRun(names, selection, write, after).run()
            return
        for name in names:
            check_can_be_followed(name)
        with until_interrupted():
            _Following(selection, write, after).run(names)


@contextmanager
def _database_errors() -> Iterator[None]:
    """Say in a line what is wrong with the database."""
    try:
        import sqlalchemy.exc  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        misuse("a database needs sqlalchemy: pip install 'telstate[records]'")
    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        misuse(f"the database refuses: {reason[0]}")


def _source_of(names: list[str], selection: Selection) -> str | None:
    """Return what the position is kept by: a journal, with what is selected of it. None for what may be another log next time."""
    if len(names) != 1 or names[0] == STDIN or not is_sqlite(names[0]):
        return None
    from telstate.journals._sqlite import query  # noqa: PLC0415 - most logs are files of JSON Lines

    journal = query(names[0], header_of)[0]
    return journal if selection.is_everything else f"{journal} {sha256(repr(selection).encode()).hexdigest()[:16]}"


class _Batch:
    """Records on their way to the table.

    Args:
        selection: which of them are wanted.
        write: writes them.
        after: so many events were read before; what follows from them is written already.
    """

    def __init__(self, selection: Selection, write: Write, after: int) -> None:
        self._selection = selection
        self._write = write
        self.after = after
        self._rows = RecordRows.empty()
        self._written = after
        self._is_first = True
        self.sessions = 0
        """Records of sessions that were written."""

    def add(self, record: dict[str, Any]) -> None:
        """Add a record, in place of an earlier one of the same call."""
        if self._selection.is_everything or self._selection.admits(record):
            self._rows.add(record)
        else:
            self.connect(record.get("pinless_call_id"))

    def connect(self, call_id: str | None) -> None:
        """A caller on hold became a session: an earlier record of them holds no more. None for a session that was nobody on hold."""
        self._rows.connect(call_id)

    def see(self, received: int) -> None:
        """An event was read, with which there are so many. Say it if the first one is beyond what was read before and the next."""
        if self._is_first and 0 < self.after < received - 1:
            say(
                f"{received - 1 - self.after} events that were not read before have been pruned from the journal (see --keep): calls that left memory"
                " by them are not among the records. If it has an archive, write the records of that, too"
            )
        self._is_first = False

    @property
    def is_full(self) -> bool:
        """True if it is time to write."""
        return len(self._rows.sessions) + len(self._rows.callers) >= _AT_ONCE

    def flush(self, position: int) -> None:
        """Write what there is. What follows from the events up to `position` must be in it."""
        if self._rows or position > self._written:
            self._write(self._rows, position)
            self.sessions += len(self._rows.sessions)
            self._rows = RecordRows.empty()
            self._written = max(position, self._written)


class _RecordsRun:
    """Writes the records of logs as they are now: of what left memory, then of the rest."""

    def __init__(self, names: list[str], selection: Selection, write: Write, after: int) -> None:
        self._batch = _Batch(selection, write, after)
        self._run = LogRun(names, gone=self._gone, stepped=self._stepped, refuse=_refuse)
        self._complete = after
        """The records of what left memory by so many events are in the batch."""
        self._is_rest = False

    def run(self) -> None:
        """Read and write everything."""
        self._run.run(at_end=self._at_end)
        self._batch.flush(self._complete)
        if self._run.has_read_nothing:
            say(HOW_TO_RECORD)
            raise typer.Exit(1)
        say(f"{self._batch.sessions} sessions written")

    def _stepped(self, _: LogLine, __: Outcome) -> None:
        """An event was read. What left memory by it comes after this."""
        self._batch.see(self._run.replay.engine.received)
        if self._batch.is_full:
            self._batch.flush(self._complete)
        self._complete = max(self._complete, self._run.replay.engine.received)

    def _at_end(self) -> None:
        self._is_rest = True

    def _gone(self, one: Gone) -> None:
        if isinstance(one, Unmatched) or (self._complete <= self._batch.after and not self._is_rest):
            return
        self._batch.add(record_of(self._run, one))
        if self._is_rest and self._batch.is_full:
            self._batch.flush(self._complete)


def _refuse(line: LogLine, error: str) -> None:
    say(TextReport().invalid(line.file, line.number, error))


class _Following:
    """Writes calls when they end, and whenever their record changes after that."""

    def __init__(self, selection: Selection, write: Write, after: int) -> None:
        self._replay = Replay()
        self._reader: LineReader[Outcome | None] = LineReader(self._replay.feed, _refuse)
        self._batch = _Batch(selection, write, after)
        self._lost: dict[str, dict[str, Any] | None] = {}
        """The callers that were lost and are still in memory, with their records as written: None for one who became a session after all."""

    def run(self, names: list[str]) -> None:
        """Read, write and wait, for ever."""
        with ExitStack() as stack:
            followers = [stack.enter_context(closing(follower_of(name))) for name in names]
            while True:
                for follower in followers:
                    for line in lines_now(follower):
                        self._take(line)
                self._flush()
                time.sleep(POLL)

    def _take(self, line: LogLine) -> None:
        outcome = self._reader(line)
        if outcome is None:
            return
        self._batch.see(self._replay.engine.received)
        if outcome.lost_caller is not None:
            self._lost[outcome.lost_caller.call_id] = {}
        if self._replay.engine.received <= self._batch.after:
            return
        for end in self._replay.inferred:
            self._note(end)
        self._note(outcome)
        if self._batch.is_full:
            self._flush()

    def _note(self, outcome: Outcome) -> None:
        engine = self._replay.engine
        for session in (outcome.session, *outcome.changed):
            if session is not None and session.ended:
                self._batch.add(engine.record(session))
        for gone in outcome.departed:
            if isinstance(gone, (Session, Caller)):
                self._batch.add(gone.to_dict())

    def _flush(self) -> None:
        self._note_lost()
        self._batch.flush(self._replay.engine.received)

    def _note_lost(self) -> None:
        """Write what is known by now of the callers that were lost."""
        for call_id, written in list(self._lost.items()):
            caller = self._replay.engine.caller(call_id)
            if caller is None:  # their last record was added when they left memory
                del self._lost[call_id]
                continue
            record = None if caller.session_id is not None else caller.to_dict()
            if record == written:
                continue
            self._lost[call_id] = record
            if record is None:
                self._batch.connect(call_id)
            else:
                self._batch.add(record)
