"""One run over logs, as all commands make it that report on calls: read, replay, and hand on what leaves memory, with a progress bar."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.cli._collector import collect_less_often
from telstate.cli._logs import LineReader, OtherLines, find_files, read_log, size_of
from telstate.cli._read_ahead import parse_ahead, read_ahead
from telstate.cli._terminal import Bar
from telstate.events._parse import ParsedLine
from telstate.sources._log_lines import STDIN, LogLine

__all__ = ["Gone", "LogRun", "record_of", "rereadable"]

Gone = Session | Unmatched | Caller


class LogRun:
    """Replays logs.

    Args:
        names: the files and folders, in this order; `-` is standard input.
        settings: of the replay, in place of the log's own.
        gone: called with each session, caller on hold and event that leaves memory, and at the end with all that are left. Some lines
            later, unless there is `stepped`: what left memory does not change any more.
        refuse: called with each line that could not be read, and the reason.
        stepped: called with each line and the outcome of its event, before what left memory by it.
        inferred: called with each end that follows from a sign alone, after the line by whose time it was due: no line has it.

    Raises:
        OSError: if a file is missing, before anything is printed: half a report misleads.
    """

    def __init__(
        self,
        names: list[str],
        *,
        settings: dict[str, Any] | None = None,
        gone: Callable[[Gone], None] = lambda _: None,
        refuse: Callable[[LogLine, str], None] = lambda *_: None,
        stepped: Callable[[LogLine, Outcome], None] | None = None,
        inferred: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self.names: list[str] = find_files(names)
        """The files, those of folders included."""
        self.replay = Replay(settings or {})
        self._gone = gone
        self._departed: list[Gone] = []
        """What left memory and was not handed on yet."""
        self._refuse = refuse
        self._reader: LineReader[Outcome | None] = LineReader(self._feed, self._refuse_in_turn)
        self._ahead: tuple[bytes, ParsedLine | None] = (b"", None)
        """The line that is read now, and what it was parsed as before its turn."""
        self._stepped = stepped
        self._inferred = inferred
        self.lines = 0
        self.other_lines: list[OtherLines] = []
        """The ordinary lines of application logs, by file: they are only counted."""
        self._progress = Bar(size_of(self.names))

    def run(self, *, at_end: Callable[[], None] = lambda: None) -> None:
        """Read everything.

        Args:
            at_end: called once all lines are read, before the rest is handed on.

        Raises:
            OSError: if a file cannot be read.
            JournalError: if a database is not a journal, or is damaged.
        """
        collect_less_often()
        with self._progress:
            for lines in read_ahead(read_log(self.names), one_by_one=any(map(_is_stream, self.names))):
                self._read(lines)
            self.other_lines = self._reader.noise()
            at_end()
            for end in self.replay.finish():
                self._inferred(end)
                self._departed += end.departed
                self._hand_on()
            engine = self.replay.engine
            self._departed += [*engine.sessions(), *engine.unconnected(), *engine.unmatched()]
            self._hand_on()

    @property
    def invalid(self) -> int:
        """Lines that could not be read, ordinary lines of an application's log included."""
        return self._reader.refused

    @property
    def has_read_nothing(self) -> bool:
        """True if there were lines, and none of them could be read."""
        return bool(self.lines) and self.invalid == self.lines

    def print(self, text: str | None) -> None:
        """Write to standard output, above the progress bar; None writes nothing."""
        if text is not None:
            self._progress.print(text)

    def legs(self, session: Session) -> list[str] | None:
        """Return the ids of the other legs of a session's call; None for one that has left memory, which knows them itself."""
        engine = self.replay.engine
        if engine.session(session.session_id) is not session:
            return None
        return [leg.session_id for leg in engine.legs(session.session_id) if leg is not session]

    def _read(self, lines: list[LogLine]) -> None:
        self.lines += len(lines)
        for line, parsed in zip(lines, parse_ahead(lines), strict=True):
            self._ahead = line.raw, parsed
            outcome = self._reader(line)
            if outcome is None:
                continue
            self._departed += outcome.departed
            if self._stepped is not None:
                self._stepped(line, outcome)
            for end in self.replay.inferred:
                self._inferred(end)
            if self._stepped is not None:
                self._hand_on()
        self._hand_on()
        self._progress.advance(sum(line.size for line in lines), len(lines))

    def _feed(self, raw: bytes) -> Outcome | None:
        """Step with a line, or with what the reader found in it."""
        line, parsed = self._ahead
        return self.replay.feed(raw, parsed if raw is line else None)

    def _refuse_in_turn(self, line: LogLine, reason: str) -> None:
        self._hand_on()
        self._refuse(line, reason)

    def _hand_on(self) -> None:
        departed, self._departed = self._departed, []
        for gone in departed:
            self._gone(gone)


def record_of(run: LogRun, one: Session | Caller) -> dict[str, Any]:
    """Return the record of a session, with the other legs of its call, or of a caller on hold."""
    return one.to_dict(legs=run.legs(one)) if isinstance(one, Session) else one.to_dict()


@contextmanager
def rereadable(names: list[str]) -> Iterator[list[str]]:
    """Give names that can be read more than once: standard input, and what a pipe has, is kept in a temporary file meanwhile."""
    with ExitStack() as stack:
        yield [stack.enter_context(_kept(name)) if _is_stream(name) else name for name in names]


def _is_stream(name: str) -> bool:
    """Return whether what is read of a name is gone then: of standard input, or of a pipe as in `<(zcat log.gz)`."""
    path = Path(name)
    return name == STDIN or path.is_fifo() or path.is_char_device()


@contextmanager
def _kept(name: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="telstate-") as kept:
        with nullcontext(sys.stdin.buffer) if name == STDIN else open(name, "rb") as given:
            shutil.copyfileobj(given, kept)
        kept.flush()
        yield kept.name
