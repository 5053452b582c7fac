"""`telstate ladder`: one call step by step, with all its legs and its caller on hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated

import typer

from telstate.cli._call_finding import CallFinder, call_ladders
from telstate.cli._filters import with_filters
from telstate.cli._log_run import rereadable
from telstate.cli._terminal import announce_stdin, say, tidy_exit, width
from telstate.sources._log_lines import STDIN
from telstate.views import Selection
from telstate.views._ladder import Ladder
from telstate.views._ladder_html import ladder_page
from telstate.views._ladder_mermaid import ladder_mermaid
from telstate.views._ladder_svg import ladder_svg
from telstate.views._ladder_text import ladder_text

__all__ = ["ladder"]

_LIMIT = 10
"""Calls that are shown if nobody says how many."""


class LadderFormat(StrEnum):
    """What a ladder is written as."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    HTML = "html"
    JSON = "json"


_ONE_CALL = (LadderFormat.MERMAID, LadderFormat.SVG)
"""Formats of one picture."""


@with_filters
def ladder(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Logs to read, in this order; - is standard input, the default."),
    ] = None,
    *,
    file_format: Annotated[
        LadderFormat, typer.Option("--format", help="Mermaid and SVG show one call, the others all that match.")
    ] = LadderFormat.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json: one object a line.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Show N calls at most. Their events are held in memory.")
    ] = _LIMIT,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
    selection: Selection,
) -> None:
    """Show a call step by step, with all its legs and its caller on hold.

    Choose the call with --call, --session, --number and the like. If several calls match, each is shown.

    Each step has its time (UTC) and the time since the step before. An arrow leads from lane to lane: the phones, Daily, the room (or the
    call client), and this program, with its requests, timers and handlers. A dashed arrow changed nothing: it came twice, too late, or
    for no session, and says why. A line without a head is an end, of which Daily does not say which side hung up. States are those of
    the session. The handlers' part is in a journal only (SQLite or NATS).

    Examples: telstate ladder calls.db --session 5b0c4e72, or: telstate ladder calls.db --number 030/761863 --since 2h --format html >
    call.html
    """
    names = files or [STDIN]
    chosen = LadderFormat.JSON if as_json else file_format
    with tidy_exit():
        announce_stdin(names)
        with rereadable(names) as readable:
            finder = CallFinder(readable, selection, 1 if chosen in _ONE_CALL else limit)
            calls = finder.find()
            if not calls:
                say(finder.others.advice(finder.run, numbers=numbers))
                raise typer.Exit(1)
            ladders = call_ladders(readable, calls, numbers=numbers)
            if not ladders:
                say(
                    "the log knows the call, and none of its events: they were pruned. `telstate replay` has its record"
                )
                raise typer.Exit(1)
            for text in _WRITERS[chosen](ladders):
                sys.stdout.write(text + "\n")
        if finder.groups.further:
            say(_further(finder, chosen))
        if finder.run.invalid:
            say(f"{finder.run.invalid} of {finder.run.lines} lines could not be read: see `telstate replay`")


def _as_text(ladders: list[Ladder]) -> Iterator[str]:
    encoding = sys.stdout.encoding or "utf-8"
    for at, one in enumerate(ladders):
        yield ("\n" if at else "") + ladder_text(one, width(), encoding=encoding)


def _as_json(ladders: list[Ladder]) -> Iterator[str]:
    return (json.dumps({"ladder": one.to_dict()}) for one in ladders)


_WRITERS: dict[LadderFormat, Callable[[list[Ladder]], Iterator[str]]] = {
    LadderFormat.TEXT: _as_text,
    LadderFormat.MERMAID: lambda ladders: (ladder_mermaid(one) for one in ladders),
    LadderFormat.SVG: lambda ladders: (ladder_svg(one) for one in ladders),
    LadderFormat.HTML: lambda ladders: iter([ladder_page(ladders)]),
    LadderFormat.JSON: _as_json,
}


def _further(finder: CallFinder, chosen: LadderFormat) -> str:
    legs = (
        "1 more leg or caller matches"
        if finder.groups.further == 1
        else f"{finder.groups.further} more legs and callers match"
    )
    advice = (
        "choose a call with --call ID, or take --format html"
        if chosen in _ONE_CALL
        else "narrow the filters, or raise --limit"
    )
    return f"{legs}: {advice}"
