"""Logs as the verbs read them: files of JSON lines, standard input, and SQLite journals, also while a service writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from telstate.calls._outcome import Outcome
from telstate.calls._replay import Replay
from telstate.errors import JournalError, ParseError
from telstate.journals import JsonlJournal, SqliteJournal
from telstate.journals._sqlite import is_sqlite, lines
from telstate.sources._log_lines import MAX_LINE, STDIN, LogLine, read_lines

__all__ = ["feed_line", "open_journal", "read_log", "size_of"]

_RECORD = b'{"v":'


def read_log(names: list[str]) -> Iterator[LogLine]:
    """Read logs one after another, line by line; a database gives the lines that a JSONL journal would have.

    Raises:
        OSError: if one cannot be opened or read.
        JournalError: if a database is no journal, or damaged.
    """
    for name in names:
        if name != STDIN and is_sqlite(name):
            for number, line in enumerate(lines(name), 1):
                yield LogLine(name, number, line, len(line))
        else:
            yield from read_lines([name])


def size_of(names: list[str]) -> int | None:
    """Bytes to read, or None if that cannot be known."""
    try:
        return sum(Path(name).stat().st_size for name in names) if STDIN not in names else None
    except OSError:
        return None


def open_journal(path: str) -> JsonlJournal | SqliteJournal:
    """The journal in a file, by what is in the file.

    Raises:
        OSError: if there is none.
        JournalError: if it is no file: a journal is read more than once.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise JournalError(f"{path} is no file")
    return SqliteJournal(path) if is_sqlite(path) else JsonlJournal(path)


def feed_line(replay: Replay, line: LogLine, refuse: Callable[[LogLine, str], None]) -> Outcome | None:
    """Give a line to a replay; return what became of its event, or None where it has none.

    Args:
        replay: takes it.
        line: of a log.
        refuse: told of a line that could not be read, and why.
    """
    if line.too_long:
        refuse(line, f"the line is longer than {MAX_LINE} bytes")
        return None
    try:
        return replay.feed(line.raw)
    except ParseError as error:
        if (said := _refusal(line, error)) is not None:
            refuse(line, said)
        return None


def _refusal(line: LogLine, error: ParseError) -> str | None:
    """What to tell of a line that could not be read; None where nobody need know.

    A journal's last line may be cut: its append never returned, so nobody was told that it was kept.
    """
    if line.whole:
        return str(error)
    is_cut_record = not error.field and (line.raw.startswith(_RECORD) or _RECORD.startswith(line.raw))
    return None if is_cut_record else f"the last line has no end, it may be torn: {error}"
