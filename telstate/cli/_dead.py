"""`telstate dead`: what a service gave up: handlers that raised or ended it, events over a lane's limit, unreadable payloads."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import anyio
import typer

from telstate.cli._dead_filter import admits, session_record
from telstate.cli._filters import TIME, with_filters
from telstate.cli._nats import is_nats
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._verb import Verb
from telstate.errors import JournalError, printable, printable_lines
from telstate.events._base import is_time
from telstate.events._known_names import names_in
from telstate.events._masking import mask
from telstate.journals import SqliteJournal
from telstate.journals._export import parse_dead_letters
from telstate.journals._sqlite import is_sqlite
from telstate.routing._outbox import notification_in
from telstate.routing._ports import KeptLetter
from telstate.sources._log_lines import read_lines
from telstate.views import Selection
from telstate.views._masked import mask_record
from telstate.views._text import cut

__all__ = ["verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="List, show, retry and drop dead letters: handlers that failed, payloads that could not be read, and notifications that were not accepted.",
)

_JOURNAL = "The service's journal (calls.db, or nats://HOST:4222/APP/ENVIRONMENT)"
_Path = Annotated[str, typer.Argument(metavar="JOURNAL", help=f"{_JOURNAL}.")]
_Source = Annotated[str, typer.Argument(metavar="JOURNAL", help=f"{_JOURNAL}, or an export of it.")]
_Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="NUMBER", help="Dead letters, by the numbers that `list` shows.")
]
_All = Annotated[bool, typer.Option("--all", help="All dead letters.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines.")]
_Unmasked = Annotated[bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")]
_LONGEST_ERROR = 100


@verbs.command("list", cls=Verb)
@partial(
    with_filters,
    without=("state", "cause", "anomalies"),
    said={
        "call": "Only this call: the id of a session, a SIP Call-ID, or that of a caller on hold. May be repeated.",
        "since": f"Only what was given up since then: {TIME}",
        "until": "Only what was given up until then; a date means the end of that day.",
    },
)
def list_(path: _Source, *, as_json: _Json = False, numbers: _Unmasked = False, selection: Selection) -> None:
    """List dead letters, one line each.

    With --number, --room and the like, only those about such calls, each call as it was when the handlers ran; so there is no --state,
    --cause and --anomalies, which are about its end. What could not be read is about no call that is known.

    Example: telstate dead list calls.db --since 2h --number 030/761863
    """
    with tidy_exit():
        count = known = 0

        def write(kept: KeptLetter) -> None:
            nonlocal count, known
            known += 1
            if not selection.is_everything and not admits(selection, kept):
                return
            count += 1
            if as_json:
                sys.stdout.write(json.dumps(_shown(kept, numbers=numbers)) + "\n")
            else:
                sys.stdout.write(f"{'' if count > 1 else _HEAD}{_row(kept, numbers=numbers)}")

        _each(path, write)
        if not as_json:
            of = "" if selection.is_everything else f"{count} of "
            sys.stdout.write(f"{'' if count else _HEAD}\n{of}{known} dead letter{'' if known == 1 else 's'}\n")


@verbs.command(cls=Verb)
def show(
    path: _Source,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="A dead letter, by the number that `list` shows.")],
    *,
    as_json: _Json = False,
    numbers: _Unmasked = False,
) -> None:
    """Show one dead letter in full: the event, the session as it was, and the error.

    The event is in the form of daily-js; the record `seq` of `telstate export` has it as Daily sent it.
    """
    with tidy_exit():
        letter = _shown(_find(path, number), numbers=numbers)
        text = json.dumps(letter, indent=None if as_json else 2, ensure_ascii=as_json)
        sys.stdout.write(printable_lines(text) + "\n")


@verbs.command(cls=Verb)
def retry(path: _Path, given: _Numbers = None, *, every: _All = False) -> None:
    """Ask to run the handlers of dead letters again: of some, by the numbers that `list` and its filters show, or of all.

    A running service does it within seconds, otherwise the next one that starts. A handler that fails again becomes a new
    dead letter, with a new number.
    """
    with tidy_exit():
        chosen = _choose(path, given, every=every)
        _change(path, lambda journal: journal.request_retry(chosen))
        sys.stdout.write(f"retry requested for {len(chosen)}\n")


@verbs.command(cls=Verb)
def drop(path: _Path, given: _Numbers = None, *, every: _All = False) -> None:
    """Delete dead letters. Their events stay in the journal."""
    with tidy_exit():
        chosen = _choose(path, given, every=every)
        _change(path, lambda journal: journal.drop_dead_letters(chosen))
        sys.stdout.write(f"{len(chosen)} dropped\n")


def _each(path: str, take: Callable[[KeptLetter], object]) -> None:
    """Pass on every dead letter, one after another: there may be more than fit into memory."""
    if is_nats(path):
        from telstate.cli._nats_log import letters_of_stream  # noqa: PLC0415 - few journals are streams

        for kept in letters_of_stream(path):
            take(kept)
        return
    if Path(path).exists() and not Path(path).is_file():
        raise JournalError(f"{path} is not a file")
    if not is_sqlite(path):
        for kept in parse_dead_letters(path, (line.raw for line in read_lines([path]))):
            take(kept)
        return

    async def read() -> None:
        async with aclosing(SqliteJournal(path).dead_letters()) as letters:
            async for kept in letters:
                take(kept)

    anyio.run(read)


def _find(path: str, number: int) -> KeptLetter:
    found: list[KeptLetter] = []
    _each(path, lambda kept: found.append(kept) if kept.number == number else None)
    if not found:
        _misuse_unknown([number])
    return found[0]


def _misuse_unknown(numbers: list[int]) -> NoReturn:
    unknown = ", ".join(map(str, numbers))
    misuse(f"there is no dead letter {unknown}: see `telstate dead list` for their numbers")


def _choose(path: str, given: list[int] | None, *, every: bool) -> list[int]:
    if every == bool(given):
        misuse("give the numbers of dead letters, or --all")
    known: dict[int, None] = {}
    _each(path, lambda kept: known.setdefault(kept.number))
    if not is_nats(path) and not is_sqlite(path):
        misuse(f"{path} is an export, which cannot be changed: give the service's journal (calls.db)")
    if unknown := [number for number in given or [] if number not in known]:
        _misuse_unknown(unknown)
    return list(known) if every else given or []


class _HasLetters(Protocol):
    """A journal, or streams."""

    async def request_retry(self, numbers: Sequence[int]) -> None: ...
    async def drop_dead_letters(self, numbers: Sequence[int]) -> None: ...


def _change(path: str, change: Callable[[_HasLetters], Awaitable[None]]) -> None:
    if is_nats(path):
        from telstate.cli._nats_log import change_letters  # noqa: PLC0415 - few journals are streams

        change_letters(path, change)
        return

    async def run() -> None:
        await change(SqliteJournal(path))

    anyio.run(run)


def _row(kept: KeptLetter, *, numbers: bool) -> str:
    letter = kept.letter
    handler = letter.handler or ("all" if letter.seq else "none")
    error = " ".join(letter.detail.split())
    if not numbers:
        names = names_in([letter.facts, _json_or_text(letter.payload)])
        handler, error = mask(handler), mask(error, names)
    error = cut(error, _LONGEST_ERROR) + (" (retry requested)" if kept.retry_requested else "")
    return _ROW.format(kept.number, _time(letter.at), *map(printable, (letter.reason, handler, error)))


_ROW = "{:>7}  {:<19}  {:<16}  {:<30}  {}\n"
_HEAD = _ROW.format("NUMBER", "GIVEN UP, UTC", "REASON", "HANDLER", "ERROR")


def _shown(kept: KeptLetter, *, numbers: bool) -> dict[str, Any]:
    letter = _as_dict(kept)
    return letter if numbers else mask_record(letter)


def _as_dict(kept: KeptLetter) -> dict[str, Any]:
    """Return what a person needs: the event in telstate's own form and the session's record, or the unreadable payload as it came."""
    letter = kept.letter
    shown = {
        "number": kept.number,
        "retry_requested": kept.retry_requested,
        **{name: getattr(letter, name) for name in ("seq", "at", "reason", "detail", "handler")},
    }
    payload = _json_or_text(letter.payload)
    if not letter.seq:
        return {**shown, "dialect": letter.dialect, "payload": payload}
    if (message := notification_in(letter)) is not None:
        return {**shown, "receiver": message.target, "id": message.id, "message": _json_or_text(message.body)}
    handlers = (letter.facts or {}).get("handlers")
    return {**shown, "handlers": handlers, "event": payload, "session": session_record(kept)}


def _json_or_text(payload: bytes) -> Any:
    text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def _time(at: float) -> str:
    if not is_time(at):
        return "?"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
