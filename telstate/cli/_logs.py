"""The logs that commands read: files of JSON Lines, standard input, and SQLite journals, also while a service writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from telstate.calls._outcome import Outcome
from telstate.calls._replay import Replay
from telstate.errors import ParseError
from telstate.journals._database import is_sqlite
from telstate.sources._log_lines import MAX_LINE, STDIN, LogLine, read_lines

__all__ = ["feed_line", "read_line", "read_log", "size_of"]

T = TypeVar("T")

_RECORD = b'{"v":'


def read_log(names: list[str]) -> Iterator[LogLine]:
    """Read logs one after another, line by line. A database gives the lines of its export, without the bookkeeping.

    Raises:
        OSError: if one cannot be opened or read.
        JournalError: if a database is not a journal, or is damaged.
    """
    for name in names:
        if name != STDIN and is_sqlite(name):
            from telstate.journals._sqlite import lines  # noqa: PLC0415 - most logs are files of JSON Lines, and it takes a while

            for number, line in enumerate(lines(name), 1):
                yield LogLine(name, number, line, len(line))
        else:
            yield from read_lines([name])


def size_of(names: list[str]) -> int | None:
    """Return the number of bytes to read, or None if that cannot be known."""
    try:
        return sum(Path(name).stat().st_size for name in names) if STDIN not in names else None
    except OSError:
        return None


def feed_line(replay: Replay, line: LogLine, refuse: Callable[[LogLine, str], None]) -> Outcome | None:
    """Feed a line to a replay; return the outcome of its event, or None if it has no event.

    Args:
        replay: gets the line.
        line: of a log.
        refuse: called with a line that could not be read, and the reason.
    """
    return read_line(line, replay.feed, refuse)


def read_line(line: LogLine, read: Callable[[bytes], T], refuse: Callable[[LogLine, str], None]) -> T | None:
    """Return what `read` makes of a line, or None if the line could not be read.

    Args:
        line: of a log.
        read: raises a ParseError if the bytes are not an event.
        refuse: called with a line that could not be read, and the reason.
    """
    if line.too_long:
        refuse(line, f"the line is longer than {MAX_LINE} bytes")
        return None
    try:
        return read(line.raw)
    except ParseError as error:
        if not _is_cut_record(line, error):
            torn = "" if line.whole else "the last line has no end, it may be torn: "
            refuse(line, f"{torn}{error}")
        return None


def _is_cut_record(line: LogLine, error: ParseError) -> bool:
    """Return True for one of telstate's own records that is cut short at the end of a log.

    The log was copied while it was written. A record is written before its event is acknowledged, so no sender counts on it.
    """
    is_record = line.raw.startswith(_RECORD) or _RECORD.startswith(line.raw)
    return not line.whole and not error.field and is_record
