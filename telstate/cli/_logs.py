"""The logs that commands read: files and folders of JSON Lines and of application logs, standard input, and SQLite journals and streams in
NATS, also while a service writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from telstate.cli._nats import is_nats, without_password
from telstate.errors import ParseError
from telstate.events._address_tests import is_unsigned_test
from telstate.journals._database import is_sqlite
from telstate.sources._log_files import expand, is_gzip
from telstate.sources._log_lines import MAX_LINE, STDIN, LogLine, read_lines
from telstate.sources._logged_events import FoundEvent, event_in, is_from_application

__all__ = ["LineReader", "OtherLines", "find_files", "read_log", "size_of"]

T = TypeVar("T")

_RECORD = b'{"v":'
_LEVEL = b'"level"'
"""Nearly all loggers that write JSON have this key, and no event of Daily's has it."""
_PAYLOAD, _TIMESTAMP = b'"payload"', b'timestamp"'
"""Webhooks and telstate's records have a payload and their own time. No other event of Daily's has a time, but its recorder may add one."""

_ARRAY = re.compile(rb"\s*\[\s*\{").match
_MOST_UNDECIDED = 1000
"""Lines."""


def find_files(names: list[str]) -> list[str]:
    """Return the files to read; those of a folder in the order of their age.

    Raises:
        OSError: for the first that cannot be found, and for a folder without logs.
        TelstateError: for streams in NATS that cannot be read.
    """
    for name in names:  # before anything is printed: half a report misleads
        if is_nats(name):
            from telstate.cli._nats_log import check_stream  # noqa: PLC0415 - few logs are streams

            check_stream(name)
        elif name != STDIN:
            Path(name).stat()
    return expand(names)


def read_log(names: list[str]) -> Iterator[LogLine]:
    """Read logs one after another, line by line. A database, or streams, give the lines of their export, without the bookkeeping.

    Raises:
        OSError: if one cannot be opened or read.
        JournalError: if a database is not a journal, or is damaged; or streams cannot be read.
    """
    for name in names:
        if name != STDIN and is_sqlite(name):
            from telstate.journals._sqlite import lines  # noqa: PLC0415 - most logs are files of JSON Lines, and it takes a while

            for number, line in enumerate(lines(name), 1):
                yield LogLine(name, number, line, len(line))
        elif is_nats(name):
            from telstate.cli._nats_log import lines_of_stream  # noqa: PLC0415

            shown = without_password(name)
            for number, line in enumerate(lines_of_stream(name), 1):
                yield LogLine(shown, number, line, len(line))
        else:
            yield from read_lines([name])


def size_of(names: list[str]) -> int | None:
    """Return the number of bytes to read, or None if that cannot be known."""
    try:
        if STDIN in names or any(map(is_gzip, names)):
            return None
        return sum(Path(name).stat().st_size for name in names)
    except OSError:
        return None


class OtherLines(NamedTuple):
    """The lines of an application's log that hold no event."""

    file: str
    first: int
    """The number of the first one."""
    lines: int


class LineReader(Generic[T]):
    """Reads the lines of logs, whether a line is an event, or an application logged one. Call it with each line.

    Args:
        read: raises a ParseError if the bytes are not an event.
        refuse: called with a line that could not be read, and the reason; not with ordinary lines of an application's log, which are
            only counted: such a log has thousands.
    """

    def __init__(self, read: Callable[[bytes], T], refuse: Callable[[LogLine, str], None]) -> None:
        self._read = read
        self._refuse = refuse
        self._noise: dict[str, OtherLines] = {}
        self._is_application: set[str] = set()
        """The files that are known to be an application's log."""
        self._with_events = ""
        """The last file with a line that is an event itself."""
        self._undecided: list[tuple[LogLine, str]] = []
        """What could not be read before it is known what kind of log this is: a banner, the rest of a traceback, or lost events."""
        self.refused = 0
        """How many lines could not be read, ordinary lines of application logs included."""
        self.raw = b""
        """The last line that was read, as an event or a record; that of an application's line, without what surrounds it."""
        self.was_logged = False
        """Whether an application logged it."""

    def __call__(self, line: LogLine) -> T | None:
        """Return what `read` makes of a line, or None if it could not be read."""
        if line.too_long or line.problem:
            self._reject(line, line.problem or f"the line is longer than {MAX_LINE} bytes")
            return None
        raw, is_log_record = line.raw, False
        if (
            _LEVEL in raw or (_PAYLOAD not in raw and (_TIMESTAMP in raw or b'"ts"' in raw or b'"time"' in raw))
        ) and not raw.startswith(_RECORD):
            if (logged := event_in(raw)) is not None:
                return self._read_logged(line, logged)
            is_log_record = True
        try:
            read = self._read(raw)
        except ParseError as error:
            return self._read_other(line, error, look=not is_log_record)
        self.raw, self.was_logged, self._with_events = raw, False, line.file
        if self._undecided:
            self._report_undecided()
        return read

    def noise(self) -> list[OtherLines]:
        """Return what was only counted, by file. What was undecided until now is reported."""
        self._report_undecided()
        return list(self._noise.values())

    def _read_other(self, line: LogLine, error: ParseError, *, look: bool) -> T | None:
        is_no_event = not error.field or error.field == "action"
        if _is_cut_record(line, error) or (is_no_event and is_unsigned_test(line.raw)):
            return None
        if (elements := _elements_of(line.raw)) > 1:
            self._report_undecided()
            self._reject(line, f"a JSON array of {elements}: put each on a line of its own, as `jq -c '.[]' FILE` does")
            return None
        if look and not line.raw.startswith(_RECORD) and (logged := event_in(line.raw)) is not None:
            return self._read_logged(line, logged)
        torn = "" if line.whole else "the last line has no end, it may be torn: "
        reason = f"{torn}{error}"
        if is_no_event and self._is_noise(line):
            self._count(line)
        elif is_no_event and line.file != self._with_events and len(self._undecided) < _MOST_UNDECIDED:
            self._undecided.append((line._replace(raw=b""), reason))
        else:
            self._report_undecided()
            self._reject(line, reason)
        return None

    def _read_logged(self, line: LogLine, logged: FoundEvent) -> T | None:
        if logged.is_whole_line and not is_from_application(line.raw):
            self._with_events = line.file
            self._report_undecided()
        else:
            self._now_application(line.file)
        record = logged.as_line()
        try:
            read = self._read(record)
        except ParseError as error:
            self._reject(line, str(error))
            return None
        self.raw, self.was_logged = record, True
        return read

    def _is_noise(self, line: LogLine) -> bool:
        """An application's log is known by its lines; once it is, whatever else it has is noise: tracebacks, banners, other objects."""
        if line.file not in self._is_application and is_from_application(line.raw):
            self._now_application(line.file)
        return line.file in self._is_application and not line.raw.startswith(_RECORD)

    def _now_application(self, file: str) -> None:
        """What could not be read of it before is noise too."""
        if file in self._is_application:
            return
        self._is_application.add(file)
        undecided, self._undecided = self._undecided, []
        for line, reason in undecided:
            if line.file == file:
                self._count(line)
            else:
                self._reject(line, reason)

    def _count(self, line: LogLine) -> None:
        known = self._noise.get(line.file, OtherLines(line.file, line.number, 0))
        self._noise[line.file] = known._replace(lines=known.lines + 1)
        self.refused += 1

    def _report_undecided(self) -> None:
        undecided, self._undecided = self._undecided, []
        for line, reason in undecided:
            self._reject(line, reason)

    def _reject(self, line: LogLine, reason: str) -> None:
        self.refused += 1
        self._refuse(line, reason)


def _elements_of(raw: bytes) -> int:
    """Return how many objects an array has that is a whole line; 0 for any other line. To read the first alone would lose the others."""
    if _ARRAY(raw) is None:
        return 0
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return 0
    return sum(isinstance(one, dict) for one in found)


def _is_cut_record(line: LogLine, error: ParseError) -> bool:
    """Return True for one of telstate's own records that is cut short at the end of a log.

    The log was copied while it was written. A record is written before its event is acknowledged, so no sender counts on it.
    """
    is_record = line.raw.startswith(_RECORD) or _RECORD.startswith(line.raw)
    return not line.whole and not error.field and is_record
