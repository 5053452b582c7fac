"""The command line: arguments, environment, terminal and process exit. Each command has a file; the work is done elsewhere."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from telstate import __version__
from telstate.cli import _dead as dead
from telstate.cli import _diagram as diagram
from telstate.cli import _diff as diff
from telstate.cli import _export as export
from telstate.cli import _ladder as ladder
from telstate.cli import _lint as lint
from telstate.cli import _pinless as pinless
from telstate.cli import _prune as prune
from telstate.cli import _redact as redact
from telstate.cli import _replay as replay
from telstate.cli import _serve as serve
from telstate.cli import _simulate as simulate
from telstate.cli import _tail as tail
from telstate.cli import _trunk as trunk
from telstate.cli import _webhook as webhook
from telstate.cli._verb import Verb

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, which wraps paragraphs and suits pipes
    help="Track and show the state of every phone call, from Daily's dial-in and dial-out events.",
)
app.command(cls=Verb)(replay.replay)
app.command(cls=Verb)(ladder.ladder)
app.command(cls=Verb)(lint.lint)
app.command(cls=Verb)(diff.diff)
app.command(cls=Verb)(tail.tail)
app.command(cls=Verb)(export.export)
app.command(cls=Verb)(redact.redact)
app.command(cls=Verb)(simulate.simulate)
app.command(cls=Verb)(prune.prune)
app.command(cls=Verb)(diagram.diagram)
app.command(cls=Verb)(serve.serve)
app.add_typer(dead.verbs, name="dead")
app.add_typer(webhook.verbs, name="webhook")
app.add_typer(trunk.verbs, name="trunk")
app.add_typer(pinless.verbs, name="pinless")


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
