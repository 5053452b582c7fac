"""The command line: arguments, terminal and process exit. Everything else is done elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from telstate import __version__
from telstate.calls.outcome import Unmatched
from telstate.calls.replay import Replay
from telstate.calls.session import Session
from telstate.errors import ParseError
from telstate.sources.lines import MAX_LINE, STDIN, LogLine, read_lines
from telstate.views import diagram as diagrams
from telstate.views.report import JsonReport, TextReport

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Where every phone call stands, from Daily's dial-in and dial-out events.",
)

_PATIENCE = 0.5
"""Seconds before a progress bar shows: a short log needs none."""


def _version(*, asked: bool) -> None:
    if asked:
        sys.stdout.write(f"telstate {__version__}\n")
        raise typer.Exit


@app.callback()
def _telstate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Keep verbs as subcommands."""


@app.command()
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
    telstate's journal. Sessions come in the order in which they ended. SETUP is the time from our request to ringing
    (dial-out) or from connected to media (dial-in), RING until the answer or the end, TALK from there. Times that no event
    tells are left empty. A replay has no timers: only a journal tells that a silence limit passed.

    Example: telstate replay calls.jsonl, or: zcat *.gz | telstate replay --json
    """
    names = files or [STDIN]
    told = {} if retain is None else {"retain_untimed": retain}
    with _tidy_exit():
        invalid = _Replayed(names, told, JsonReport() if as_json else TextReport(_width(), numbers=numbers)).run()
    if strict and invalid:
        raise typer.Exit(1)


class _Replayed:
    """One run of `telstate replay`."""

    def __init__(self, names: list[str], told: dict[str, int], report: JsonReport | TextReport) -> None:
        self._names = names
        self._replay = Replay(told)
        self._report = report
        self._invalid = 0
        self._progress = _Bar(names)

    def run(self) -> int:
        """Read everything, tell everything; return how many lines could not be read."""
        for name in self._names:
            if name != STDIN:
                Path(name).stat()  # before anything is told, see that all are there
        with self._progress:
            if isinstance(self._report, TextReport):
                self._tell(self._report.head())
            for line in read_lines(self._names):
                self._read(line)
                self._progress.advance(line.size)
            for session in self._replay.engine.sessions():
                self._tell(self._report.session(session))
            for unmatched in self._replay.engine.unmatched():
                self._tell(self._report.unmatched(unmatched))
            self._tell(self._report.summary(self._replay.engine, self._invalid))
        return self._invalid

    def _read(self, line: LogLine) -> None:
        if line.too_long:
            self._refuse(line, f"the line is longer than {MAX_LINE} bytes")
            return
        try:
            outcome = self._replay.feed(line.raw)
        except ParseError as error:
            if line.whole:
                self._refuse(line, str(error))
            elif error.field or not _begins_as_record(line.raw):
                self._refuse(line, f"the last line has no end, it may be torn: {error}")
            return
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


_RECORD = b'{"v":'


def _begins_as_record(raw: bytes) -> bool:
    """A journal's last line may be cut: its append never returned, so nobody was told that it was kept."""
    return raw.startswith(_RECORD) or _RECORD.startswith(raw)


class _Bar:
    """A progress bar on the terminal, once the reading takes a while; nothing where there is no terminal."""

    def __init__(self, names: list[str]) -> None:
        self._total = _size(names)
        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal
        self._same_screen = self._shown and sys.stdout.isatty()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._started = time.monotonic()
        self._lines = 0
        self._bytes = 0

    def __enter__(self) -> None:
        """Nothing shows yet."""

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, size: int) -> None:
        """One more line of `size` bytes is done."""
        self._lines += 1
        self._bytes += size
        if not self._shown or self._lines % 256:
            return
        if self._progress is None:
            if time.monotonic() - self._started < _PATIENCE:
                return
            self._progress = Progress(
                TextColumn("{task.fields[lines]:,} lines"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%" if self._total else ""),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                redirect_stdout=False,  # else rich takes even a piped standard output to the terminal
                redirect_stderr=False,
            )
            self._task = self._progress.add_task("", total=self._total, lines=0)
            self._progress.start()
        self._progress.update(self._task, completed=self._bytes, lines=self._lines)

    def print(self, text: str) -> None:
        """Write to standard output, above the bar if both share a screen."""
        if self._progress is not None and self._same_screen:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")


def _size(names: list[str]) -> int | None:
    """Bytes to read, or None if that cannot be known."""
    try:
        return sum(Path(name).stat().st_size for name in names) if STDIN not in names else None
    except OSError:
        return None


def _width() -> int | None:
    return os.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def _tidy_exit() -> Iterator[None]:
    """Say what is wrong with a file in one line; let `| head` and Ctrl-C end quietly."""
    if sys.stdout is None:
        _misuse("standard output is closed")
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at exit
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except OSError as error:
        _misuse(f"cannot read {error.filename}: {error.strerror}" if error.filename else str(error))


def _misuse(message: str) -> NoReturn:
    sys.stderr.write(f"telstate: {message}\n")
    raise typer.Exit(2)


@app.command()
def diagram(
    what: Annotated[diagrams.Subject | None, typer.Argument(help="What to draw; all is what --write draws.")] = None,
    *,
    style: Annotated[diagrams.Style, typer.Option("--format", help="How to write it.")] = diagrams.Style.MERMAID,
    write: Annotated[Path | None, typer.Option(help="Write all pictures into this folder, as Mermaid and SVG.")] = None,
) -> None:
    """Draw the state machine of a direction, or the way of an event, from the table that runs."""
    if what is None and write is None:
        _misuse("diagram needs what to draw (dialin, dialout or event), or --write FOLDER for all")
    if what is not None and write is not None:
        _misuse("diagram takes either what to draw or --write, which draws all")
    with _tidy_exit():
        if write is not None:
            diagrams.write_all(write)
        elif what is not None:
            sys.stdout.write(diagrams.draw(what, style))
