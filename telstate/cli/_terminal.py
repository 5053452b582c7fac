"""What all commands share: how a run ends, the log on standard error, the terminal's width, and a progress bar."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from typing import TYPE_CHECKING, NoReturn

import typer

from telstate.cli._log_writer import LineWriter, QueuedHandler
from telstate.errors import TelstateError, printable, printable_lines
from telstate.events._masking import mask
from telstate.routing._log import configured_structlog
from telstate.sources._log_lines import STDIN

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "VIEW_NUMBERS_TOKEN",
    "VIEW_TOKEN",
    "Bar",
    "announce_stdin",
    "cannot_listen",
    "log_to_stderr",
    "misuse",
    "say",
    "tidy_exit",
    "width",
]

VIEW_TOKEN = "TELSTATE_VIEW_TOKEN"  # noqa: S105 - the variable's name, not its value
"""Is what readers of a service's live stream send."""
VIEW_NUMBERS_TOKEN = "TELSTATE_VIEW_NUMBERS_TOKEN"  # noqa: S105
"""The same, of readers who see numbers and names in full."""
_BAR_AFTER = 0.5
"""Seconds before the progress bar appears: a short log needs none."""


@contextmanager
def tidy_exit() -> Iterator[None]:
    """Report an error as one line and exit code 2; end quietly on `| head` and on Ctrl-C."""
    if sys.stdout is None:
        misuse("standard output is closed")
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
    except TelstateError as error:
        misuse(mask(str(error)))
    except OSError as error:
        misuse(f"cannot read {error.filename}: {error.strerror}" if error.filename else str(error))


def cannot_listen(host: str, port: int, error: Exception) -> NoReturn:
    """End the command because nothing can listen on an address: say why, and what to do."""
    number = getattr(error, "errno", None)
    do = {
        EADDRINUSE: "another process listens there. Stop it, or use another port",
        EACCES: "ports below 1024 are reserved for root. Use another port",
        EADDRNOTAVAIL: "this machine has no such address",
    }.get(number or 0)
    misuse(f"cannot listen on {host}:{port}: {do or getattr(error, 'strerror', None) or error}")


def misuse(message: str) -> NoReturn:
    """Print one line to standard error and exit with 2."""
    sys.stderr.write(f"telstate: {printable(message)}\n")
    raise typer.Exit(2)


def announce_stdin(names: list[str]) -> None:
    """Print one line to standard error if the input comes from the keyboard: it looks like a hang otherwise."""
    if STDIN in names and sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("telstate: reading from the terminal; end the input with Ctrl-D, or give a FILE\n")


def say(text: str) -> None:
    """Print a text, which may have several lines, to standard error, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(f"telstate: {printable_lines(text)}\n")
        sys.stderr.flush()


def log_to_stderr(writer: LineWriter | None = None) -> None:
    """Show telstate's log on standard error, unless the program has configured logging or structlog itself.

    Args:
        writer: writes the lines, for a service that must not wait for whoever reads them.
    """
    if configured_structlog() is not None or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr) if writer is None else QueuedHandler(writer)
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", handlers=[handler])
    logging.getLogger("telstate").setLevel(logging.INFO)


def width() -> int | None:
    """Columns of the terminal; None if the output goes elsewhere."""
    return os.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


class Bar:
    """A progress bar on standard error, if that is a terminal and reading takes a while.

    Args:
        total: bytes to read; None if not known.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._same_screen = self._shown and sys.stdout.isatty()
        self._progress: Progress | None = None
        self._task: TaskID
        self._started = time.monotonic()
        self._lines = 0
        self._bytes = 0

    def __enter__(self) -> None:
        """Show nothing yet."""

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, size: int, lines: int = 1) -> None:
        """Count further lines, of so many bytes together."""
        if not self._shown:
            return
        self._lines += lines
        self._bytes += size
        if self._lines // 256 == (self._lines - lines) // 256:
            return
        if self._progress is None:
            if time.monotonic() - self._started < _BAR_AFTER:
                return
            self._progress = self._start()
        self._progress.update(self._task, completed=self._bytes, lines=self._lines)

    def _start(self) -> Progress:
        from rich.console import Console  # noqa: PLC0415 - a short log needs no bar, and rich takes a while to import
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        progress = Progress(
            TextColumn("{task.fields[lines]:,} lines"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%" if self._total else ""),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # else rich takes even a piped standard output to the terminal
            redirect_stderr=False,
        )
        self._task = progress.add_task("", total=self._total, lines=0)
        progress.start()
        return progress

    def print(self, text: str) -> None:
        """Write to standard output, above the bar if both share a screen."""
        if self._progress is not None and self._same_screen:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
