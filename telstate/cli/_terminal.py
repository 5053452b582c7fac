"""What every verb shares with the terminal: how a run ends, how wide it is, and a progress bar for what takes long."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from telstate.errors import TelstateError

__all__ = ["Bar", "misuse", "tidy_exit", "width"]

_PATIENCE = 0.5
"""Seconds before a progress bar shows: a short log needs none."""


@contextmanager
def tidy_exit() -> Iterator[None]:
    """Say what is wrong with a file in one line; let `| head` and Ctrl-C end quietly."""
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
        misuse(str(error))
    except OSError as error:
        misuse(f"cannot read {error.filename}: {error.strerror}" if error.filename else str(error))


def misuse(message: str) -> NoReturn:
    sys.stderr.write(f"telstate: {message}\n")
    raise typer.Exit(2)


def width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else None


class Bar:
    """A progress bar on the terminal, once the reading takes a while; nothing where there is no terminal.

    Args:
        total: bytes to read; None if that cannot be known.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
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
