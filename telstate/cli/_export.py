"""`telstate export`: a journal or any other log as JSON Lines."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from telstate.cli._filters import with_filters
from telstate.cli._log_run import rereadable
from telstate.cli._logs import LineReader, find_files, read_log
from telstate.cli._nats import is_nats, without_password
from telstate.cli._selected_lines import SelectedLines
from telstate.cli._terminal import announce_stdin, misuse, say, tidy_exit
from telstate.events._dialects.journal import unwrap, wrap
from telstate.events._parse import parse_line
from telstate.journals._export import export_lines
from telstate.journals._sqlite import is_sqlite
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection
from telstate.views._report import HOW_TO_RECORD, TextReport

__all__ = ["export", "lines_of", "write_file"]


@with_filters
def export(
    journal: Annotated[
        str,
        typer.Argument(
            metavar="JOURNAL",
            help="A service's journal (calls.db, or nats://HOST:4222/APP/ENVIRONMENT), or any log; - is standard input.",
        ),
    ],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file to write; - is standard output.", show_default=False)
    ] = STDIN,
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    selection: Selection,
) -> None:
    """Write a journal or any other log as JSON Lines, in full: phone numbers
    and names are NOT masked.

    From a journal: a header with the settings; one line for each event, with
    its number, time of receipt, dialect and payload; then the marks that say
    which events are done; then the dead letters. The service may keep
    running: the export has what is in the journal now.

    From any other log, also one of an application that logged events, or a
    folder: one line for each event, in the same form. Lines that cannot be read
    are reported on standard error and left out; ordinary lines of an
    application's log are counted.

    `telstate replay` gives the same answer for the export as for the original.

    With --number, --room, --since and the like, only the events of the
    selected calls are written, in the order of the log. A call is written
    whole: all its sessions, its caller on hold, what happened in its room
    meanwhile, and what says that it ended, even if that is an event of another
    call. The log is read twice; standard input is kept in a temporary file.

    Example: telstate export calls.db calls.jsonl

    or: telstate export calls.db | gzip > calls.jsonl.gz

    or: telstate export calls.db one-caller.jsonl --number 030/761863
    """
    with tidy_exit():
        announce_stdin([journal])
        if selection.is_everything:
            _write(lines_of(journal), file, force=force)
            return
        with rereadable([journal]) as (name,):
            chosen = SelectedLines([name], selection)
            if (nothing := chosen.find()) is not None:
                say(nothing)
                raise typer.Exit(1)
            _write(lines_of(name, chosen), file, force=force)
            if chosen.needs_base:
                say(
                    "a selected call began before the journal was pruned: what the prune left, also of other calls, is in the export"
                )


def _write(lines: Iterable[bytes], file: str, *, force: bool) -> None:
    if file != STDIN:
        write_file(lines, file, force=force)
        return
    for line in lines:
        sys.stdout.buffer.write(line + b"\n")


def lines_of(name: str, chosen: SelectedLines | None = None) -> Iterator[bytes]:
    """Yield the lines of an export: of everything, or of what is chosen."""
    if is_nats(name):
        from telstate.cli._nats_log import export_stream  # noqa: PLC0415 - few logs are streams

        exported = export_stream(name)
    elif name == STDIN or not is_sqlite(name):
        lines = read_log(find_files([name]))
        return _records(lines if chosen is None else chosen.pick(lines))
    else:
        exported = export_lines(name)
    if chosen is None:
        return exported
    shown = without_password(name)
    numbered = (LogLine(shown, number, line, len(line)) for number, line in enumerate(exported, 1))
    return (line.raw for line in chosen.pick(numbered))


def _records(given: Iterable[LogLine]) -> Iterator[bytes]:
    """Yield the lines of a log in telstate's own form; a line that has it already stays as it is."""
    seq = lines = 0
    reader = LineReader(parse_line, _report)
    for line in given:
        lines += 1
        parsed = reader(line)
        if parsed is None:
            continue
        event, at, dialect, _, kept, is_record = parsed
        raw = reader.raw if kept is None else kept
        seq += event is not None
        if is_record and reader.was_logged and (record := unwrap(raw)) is not None:
            raw, is_record = record.payload, False  # it gets a number of its own
        yield raw if is_record else wrap(seq, at, dialect, raw)
    for noise in reader.noise():
        sys.stderr.write(TextReport().noise(*noise) + "\n")
    if lines and reader.refused == lines:
        say(HOW_TO_RECORD)
        raise typer.Exit(1)


def _report(line: LogLine, error: str) -> None:
    sys.stderr.write(TextReport().invalid(line.file, line.number, error) + "\n")


def write_file(lines: Iterable[bytes], name: str, *, force: bool) -> None:
    """Write all lines or no file; a file of that name is replaced at the end. One whose name ends with .gz is compressed."""
    target = Path(os.path.realpath(name))
    if target.exists() and not target.is_file():
        misuse(f"{name} is not a file: for a pipe or a device leave FILE out and redirect standard output")
    if is_sqlite(target):
        misuse(f"{name} is a database, perhaps a service's journal: give another name for the export")
    if target.exists() and not force:
        misuse(f"{name} exists: give --force to overwrite it, or another name")
    try:
        # Phone numbers: such a file is created for its owner alone.
        draft = NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        misuse(f"cannot write {name}: {error.strerror}")
    try:
        with (
            draft,
            gzip.GzipFile("", "wb", fileobj=draft, mtime=0) if target.suffix == ".gz" else nullcontext(draft) as file,
        ):
            for line in lines:
                file.write(line + b"\n")
        os.replace(draft.name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft.name)
        raise
