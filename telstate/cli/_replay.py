"""`telstate replay`: what happened to every call in recorded logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from telstate.calls._outcome import Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.cli._logs import feed_line, read_log, size_of
from telstate.cli._terminal import Bar, tidy_exit, width
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views._report import JsonReport, TextReport

__all__ = ["replay"]


def replay(
    files: Annotated[list[str] | None, typer.Argument(help="Logs to read, in this order; - is standard input.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a line could not be read.")] = False,
    retain: Annotated[
        int | None,
        typer.Option(
            min=1, help="Where lines carry no time, tell a session when this many later ones have ended. [10000]"
        ),
    ] = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="Show phone numbers and SIP users in full.")] = False,
) -> None:
    """Tell what happened to every call in recorded logs: one JSON object a line, each in its own dialect.

    Dialects: daily-js (`action`), webhooks (`type` and `payload`), daily-python and pipecat (`handler` and `data`), and
    telstate's journal, in a file or in SQLite, also while a service writes it. Sessions come in the order in which they ended. SETUP is the time from our request to ringing
    (dial-out) or from connected to media (dial-in), RING until the answer or the end, TALK from there. Times that no event
    tells are left empty. A replay has no timers: only a journal tells that a silence limit passed.

    Example: telstate replay calls.jsonl, or: zcat *.gz | telstate replay --json
    """
    names = files or [STDIN]
    told = {} if retain is None else {"retain_untimed": retain}
    with tidy_exit():
        invalid = _Replayed(names, told, JsonReport() if as_json else TextReport(width(), numbers=numbers)).run()
    if strict and invalid:
        raise typer.Exit(1)


class _Replayed:
    """One run of `telstate replay`."""

    def __init__(self, names: list[str], told: dict[str, int], report: JsonReport | TextReport) -> None:
        self._names = names
        self._replay = Replay(told)
        self._report = report
        self._invalid = 0
        self._progress = Bar(size_of(names))

    def run(self) -> int:
        """Read everything, tell everything; return how many lines could not be read."""
        for name in self._names:
            if name != STDIN:
                Path(name).stat()  # before anything is told, see that all are there
        with self._progress:
            if isinstance(self._report, TextReport):
                self._tell(self._report.head())
            for line in read_log(self._names):
                self._read(line)
                self._progress.advance(line.size)
            for session in self._replay.engine.sessions():
                self._tell(self._report.session(session))
            for unmatched in self._replay.engine.unmatched():
                self._tell(self._report.unmatched(unmatched))
            self._tell(self._report.summary(self._replay.engine, self._invalid))
        return self._invalid

    def _read(self, line: LogLine) -> None:
        outcome = feed_line(self._replay, line, self._refuse)
        if outcome is not None:
            for gone in outcome.departed:
                self._tell_gone(gone)

    def _tell_gone(self, gone: Session | Unmatched) -> None:
        self._tell(self._report.unmatched(gone) if isinstance(gone, Unmatched) else self._report.session(gone))

    def _refuse(self, line: LogLine, error: str) -> None:
        self._invalid += 1
        self._tell(self._report.invalid(line.file, line.number, error))

    def _tell(self, text: str) -> None:
        self._progress.print(text)
