"""The command line: arguments, environment, terminal and process exit. Each command has a file; the work is done elsewhere."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from telstate import __version__
from telstate.cli._commands import LazyCommands

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, which wraps paragraphs and suits pipes
    help="Track and show the state of every phone call, from Daily's dial-in and dial-out events.",
)


def _version(*, asked: bool) -> None:
    if asked:
        sys.stdout.write(f"telstate {__version__}\n")
        raise typer.Exit


@app.callback()
def _telstate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make every command a subcommand."""
