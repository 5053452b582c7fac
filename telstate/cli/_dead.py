"""`telstate dead`: what a service gave up: handlers that raised or ended it, events over a lane's limit, unreadable payloads."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from telstate.calls._recorder import thaw
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._verb import Verb
from telstate.errors import JournalError
from telstate.events._base import is_time
from telstate.events._masking import mask
from telstate.journals import SqliteJournal
from telstate.journals._export import parse_dead_letters
from telstate.journals._sqlite import is_sqlite
from telstate.routing._ports import KeptLetter
from telstate.sources._log_lines import read_lines

__all__ = ["verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="List, show, retry and drop dead letters: handlers that failed and payloads that could not be read, kept for inspection.",
)

_Path = Annotated[str, typer.Argument(metavar="JOURNAL", help="The service's journal (calls.db).")]
_Source = Annotated[
    str, typer.Argument(metavar="JOURNAL", help="The service's journal (calls.db), or an export of it.")
]
_Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="NUMBER", help="Dead letters, by the numbers that `list` shows.")
]
_All = Annotated[bool, typer.Option("--all", help="All dead letters.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines; nothing in them is masked.")]
_Unmasked = Annotated[bool, typer.Option("--numbers", help="Show phone numbers and SIP users in full.")]


@verbs.command("list", cls=Verb)
def list_(path: _Source, *, as_json: _Json = False, numbers: _Unmasked = False) -> None:
    """List dead letters, one line each."""
    with tidy_exit():
        letters = _read(path)
        if as_json:
            for kept in letters:
                sys.stdout.write(json.dumps(_as_dict(kept)) + "\n")
            return
        row = "{:>7}  {:<19}  {:<16}  {:<30}  {}\n"
        sys.stdout.write(row.format("NUMBER", "GIVEN UP, UTC", "REASON", "HANDLER", "ERROR"))
        for kept in letters:
            letter = kept.letter
            error = " ".join(letter.detail.split())[:100] + (" (retry requested)" if kept.retry_requested else "")
            text = row.format(
                kept.number, _time(letter.at), letter.reason, letter.handler or ("all" if letter.seq else "none"), error
            )
            sys.stdout.write(text if numbers else mask(text))
        sys.stdout.write(f"\n{len(letters)} dead letter{'' if len(letters) == 1 else 's'}\n")


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
        letter = _as_dict(_find(_read(path), [number])[0])
        text = json.dumps(
            letter if numbers or as_json else _masked(letter), indent=None if as_json else 2, ensure_ascii=as_json
        )
        sys.stdout.write(text + "\n")


@verbs.command(cls=Verb)
def retry(path: _Path, given: _Numbers = None, *, every: _All = False) -> None:
    """Ask to run the handlers of dead letters again.

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


def _read(path: str) -> list[KeptLetter]:
    if Path(path).exists() and not Path(path).is_file():
        raise JournalError(f"{path} is not a file")
    if not is_sqlite(path):
        return list(parse_dead_letters(path, (line.raw for line in read_lines([path]))))

    async def read() -> list[KeptLetter]:
        return [kept async for kept in SqliteJournal(path).dead_letters()]

    return anyio.run(read)


def _find(letters: list[KeptLetter], numbers: list[int]) -> list[KeptLetter]:
    known = {kept.number: kept for kept in letters}
    if unknown := [str(number) for number in numbers if number not in known]:
        misuse(f"there is no dead letter {', '.join(unknown)}: see `telstate dead list` for their numbers")
    return [known[number] for number in numbers]


def _choose(path: str, given: list[int] | None, *, every: bool) -> list[int]:
    if every == bool(given):
        misuse("give the numbers of dead letters, or --all")
    letters = _read(path)
    if not is_sqlite(path):
        misuse(f"{path} is an export, which cannot be changed: give the service's journal (calls.db)")
    return [kept.number for kept in (letters if every else _find(letters, given or []))]


def _change(path: str, change: Callable[[SqliteJournal], Awaitable[None]]) -> None:
    async def run() -> None:
        await change(SqliteJournal(path))

    anyio.run(run)


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
    facts = letter.facts or {}
    try:
        session = _record(facts.get("session"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise JournalError(f"the session of dead letter {kept.number} is damaged") from None
    return {**shown, "handlers": facts.get("handlers"), "event": payload, "session": session}


def _json_or_text(payload: bytes) -> Any:
    text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def _record(session: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a session as every report shows it; None if the event has none."""
    return None if session is None else thaw(session.keys(), session.values()).to_dict()


def _masked(value: Any) -> Any:
    """Mask texts only: a time is a number too."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _time(at: float) -> str:
    if not is_time(at):
        return "?"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
