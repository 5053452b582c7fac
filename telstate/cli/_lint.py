"""`telstate lint`: what is wrong with the calls of recorded logs, and what to do."""

from __future__ import annotations

import sys
from collections import Counter
from enum import StrEnum
from typing import Annotated

import typer

from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.cli._filters import with_filters
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._terminal import announce_stdin, tidy_exit, width
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection
from telstate.views._findings import Finding, Severity
from telstate.views._lint import Linter
from telstate.views._lint_report import JsonLintReport, TextLintReport, explanation, explanations

__all__ = ["lint"]

Report = JsonLintReport | TextLintReport


class FailOn(StrEnum):
    """From which severity on the exit code is 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


@with_filters
def lint(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Logs to check, in this order; - is standard input, the default."),
    ] = None,
    *,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="Explain a code, as T101: meaning, likely causes, what to do. `all` lists them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")] = False,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Exit with 1 if there is a finding of this severity, or a worse one.")
    ] = FailOn.ERROR,
    severity: Annotated[
        Severity, typer.Option("--severity", help="Show what is as bad as this, or worse.")
    ] = Severity.INFO,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
    selection: Selection,
) -> None:
    """Say what is wrong with the calls of recorded logs, and what to do.

    Each finding has a severity, a code that never changes, one sentence that says what was found, and one that says what to do.
    First come the calls, then the log as a whole. Logs are read as by `telstate replay`.

    With --room, --number, --since and the like, only the selected calls are checked, and not the log as a whole.

    The exit code is 1 if there is an error (or what --fail-on says), so that a CI job fails; 2 for misuse.

    Examples: telstate lint calls.db --since 2h, or: telstate lint --explain T204
    """
    if explain is not None:
        _explain(explain)
        return
    names = files or [STDIN]
    report: Report = JsonLintReport(numbers=numbers) if as_json else TextLintReport(width(), numbers=numbers)
    with tidy_exit():
        announce_stdin(names)
        counts = _LintRun(names, report, selection, severity).run()
    if fail_on is not FailOn.NEVER and any(counts[one] for one in Severity if one.rank <= Severity(fail_on).rank):
        raise typer.Exit(1)


def _explain(code: str) -> None:
    with tidy_exit():
        text = explanation(code, width())
        sys.stdout.write(f"{explanations() if text is None else text}\n")
        if text is None and code != "all":
            sys.stderr.write(f"telstate: there is no code {code!r}; those above exist\n")
            raise typer.Exit(2)


class _LintRun:
    """One run of `telstate lint`."""

    def __init__(self, names: list[str], report: Report, selection: Selection, severity: Severity) -> None:
        self._linter = Linter(whole=selection.is_everything)
        self._run = LogRun(names, gone=self._check, refuse=self._refuse, stepped=self._see)
        self._report = report
        self._selection = selection
        self._severity = severity
        self._counts: Counter[Severity] = Counter()

    def run(self) -> Counter[Severity]:
        """Read and print everything; return how many findings of each severity there are, also of those not shown."""
        self._run.run(at_end=self._end)
        facts = self._linter.facts
        facts.lines = self._run.lines
        self._show(self._linter.log(), None)
        self._run.print(self._report.summary(self._counts, facts))
        return self._counts

    def _see(self, line: LogLine, outcome: Outcome) -> None:
        replay = self._run.replay
        self._linter.see(
            outcome,
            replay.engine.live,
            file=line.file,
            line=line.number,
            at=replay.at,
            dialect=replay.dialect,
            is_record=replay.is_record,
        )

    def _end(self) -> None:
        engine = self._run.replay.engine
        self._linter.end(engine.sessions(), engine.now)

    def _refuse(self, line: LogLine, error: str) -> None:
        self._linter.facts.refuse(line.file, line.number, error)

    def _check(self, gone: Gone) -> None:
        if isinstance(gone, Unmatched):
            self._linter.unmatched(gone)
            return
        selected = self._selection.is_everything or self._selection.admits(record_of(self._run, gone))
        if isinstance(gone, Session):
            self._show(self._linter.call(gone, selected=selected), gone)
        else:
            self._show(self._linter.caller(gone, self._run.replay.engine.now, selected=selected), gone)

    def _show(self, findings: list[Finding], subject: Gone | None) -> None:
        self._counts.update(one.severity for one in findings)
        shown = [one for one in findings if one.severity.rank <= self._severity.rank]
        self._run.print(self._report.findings(shown, None if isinstance(subject, Unmatched) else subject))
