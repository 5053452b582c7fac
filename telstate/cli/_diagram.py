"""`telstate diagram`: the state machine and the path of an event, drawn from the table that runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from telstate.cli._terminal import misuse, tidy_exit
from telstate.views import DiagramFormat, DiagramKind, draw_diagram, write_diagrams

__all__ = ["diagram"]


def diagram(
    kind: Annotated[DiagramKind | None, typer.Argument(metavar="KIND", help="The diagram to draw.")] = None,
    *,
    file_format: Annotated[DiagramFormat, typer.Option("--format", help="The output format.")] = DiagramFormat.MERMAID,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write all diagrams into this folder, as Mermaid and SVG; it is created if missing."
        ),
    ] = None,
) -> None:
    """Draw the state machine, or the path of an event.

    The diagrams are drawn from the table of transitions that telstate runs.

    Example: telstate diagram dialin --format svg > dialin.svg
    """
    if kind is None and write is None:
        misuse("give a diagram name (dialin, dialout or event), or --write FOLDER for all of them")
    if kind is not None and write is not None:
        misuse("give a diagram name or --write, not both")
    with tidy_exit():
        if write is not None:
            try:
                write_diagrams(write)
            except OSError as error:
                misuse(f"cannot write {error.filename}: {error.strerror}")
        elif kind is not None:
            sys.stdout.write(draw_diagram(kind, file_format))
