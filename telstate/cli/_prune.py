"""`telstate prune`: delete or archive the old events of a journal while no service has it open."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import anyio
import typer

from telstate.cli._filters import TIME, time_of
from telstate.cli._terminal import misuse, tidy_exit
from telstate.journals._offline import prune_before

__all__ = ["prune"]


def prune(
    journal: Annotated[str, typer.Argument(metavar="JOURNAL", help="A service's journal (calls.db).")],
    *,
    before: Annotated[
        str,
        typer.Option(metavar="TIME", help=f"Prune events before this time: {TIME}"),
    ] = "30d",
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Move events there, as JSON Lines, in place of deleting them; compressed if the name ends in .gz.",
        ),
    ] = None,
) -> None:
    """Delete the old events of a journal, and give the disk space back.

    Only events that are finished, and whose sessions had left memory by then, are pruned. A service prunes its journal by
    itself while it runs; this command is for a journal that no service has open, and refuses any other.

    Example: telstate prune calls.db --before 2026-10-01 --archive old.jsonl.gz
    """
    with tidy_exit():
        Path(journal).stat()  # a name that is mistyped
        limit = time_of(before, "--before")
        if limit > time.time():
            misuse("--before is in the future")
        pruned = anyio.run(prune_before, journal, limit, archive)
        done = "deleted" if archive is None else f"moved to {archive}"
        sys.stdout.write(
            f"{pruned.events} event{'' if pruned.events == 1 else 's'} {done};"
            f" {_megabytes(pruned.size_before)} before, {_megabytes(pruned.size)} now\n"
        )
        if pruned.unfinished is not None:
            sys.stderr.write(
                f"telstate: the work of event {pruned.unfinished} is not finished, so it and later events stay:"
                " start the service to finish it\n"
            )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
