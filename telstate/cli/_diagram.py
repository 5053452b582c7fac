"""`telstate diagram`: the state machine and the way of an event, from the table that runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from telstate.cli._terminal import misuse, tidy_exit
from telstate.views import _diagram as diagrams

__all__ = ["diagram"]


def diagram(
    what: Annotated[
        diagrams.DiagramKind | None, typer.Argument(help="What to draw; all is what --write draws.")
    ] = None,
    *,
    style: Annotated[diagrams.Style, typer.Option("--format", help="How to write it.")] = diagrams.Style.MERMAID,
    write: Annotated[Path | None, typer.Option(help="Write all pictures into this folder, as Mermaid and SVG.")] = None,
) -> None:
    """Draw the state machine of a direction, or the way of an event, from the table that runs."""
    if what is None and write is None:
        misuse("diagram needs what to draw (dialin, dialout or event), or --write FOLDER for all")
    if what is not None and write is not None:
        misuse("diagram takes either what to draw or --write, which draws all")
    with tidy_exit():
        if write is not None:
            diagrams.write_all(write)
        elif what is not None:
            sys.stdout.write(diagrams.draw(what, style))
