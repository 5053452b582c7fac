"""`telstate dead`: what a service gave up: handlers that raised, events beyond a lane's limit, payloads nobody could read."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
import typer

from telstate.cli._logs import open_journal
from telstate.cli._terminal import misuse, tidy_exit
from telstate.events._base import is_time
from telstate.events._masking import mask
from telstate.journals import JsonlJournal, SqliteJournal
from telstate.routing._ports import KeptLetter

__all__ = ["verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="List, show, try again and drop dead letters: what a service gave up and kept for a person to look at.",
)

Journal = JsonlJournal | SqliteJournal
_Path = Annotated[str, typer.Argument(metavar="JOURNAL", help="The service's journal: calls.db or calls.jsonl.")]
_Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="[NUMBER]...", help="DeadLetters, as `list` numbers them.")
]
_All = Annotated[bool, typer.Option("--all", help="All there are.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table.")]
_InFull = Annotated[bool, typer.Option("--numbers", help="Show phone numbers and SIP users in full.")]


@verbs.command("list")
def list_(path: _Path, *, as_json: _Json = False, numbers: _InFull = False) -> None:
    """List what was given up, one line each."""
    with tidy_exit():
        letters = _letters(path)
        if as_json:
            for kept in letters:
                sys.stdout.write(json.dumps(_as_dict(kept)) + "\n")
            return
        row = "{:>7}  {:<19}  {:<16}  {:<30}  {}\n"
        sys.stdout.write(row.format("NUMBER", "GIVEN UP, UTC", "REASON", "HANDLER", "WHAT IT SAID"))
        for kept in letters:
            letter = kept.letter
            said = " ".join(letter.detail.split())[:100] + (" (asked to try again)" if kept.retry_requested else "")
            text = row.format(kept.number, _time(letter.at), letter.reason, letter.handler or "all of them", said)
            sys.stdout.write(text if numbers else mask(text))
        sys.stdout.write(f"\n{len(letters)} dead letter{'' if len(letters) == 1 else 's'}\n")


@verbs.command()
def show(
    path: _Path, number: Annotated[int, typer.Argument()], *, as_json: _Json = False, numbers: _InFull = False
) -> None:
    """Show one in full: the event, the session as it was, and what the handler said."""
    with tidy_exit():
        told = _as_dict(_find(_letters(path), [number])[0])
        text = json.dumps(
            told if numbers or as_json else _masked(told), indent=None if as_json else 2, ensure_ascii=as_json
        )
        sys.stdout.write(text + "\n")


@verbs.command()
def retry(path: _Path, given: _Numbers = None, *, every: _All = False) -> None:
    """Ask to try letters again. A running service does it within seconds (SQLite), else the next one that starts."""
    with tidy_exit():
        chosen = _choose(path, given, every=every)
        if chosen:
            _change(path, lambda journal: journal.request_retry(chosen))
        sys.stdout.write(f"{len(chosen)} asked to be tried again\n")


@verbs.command()
def drop(path: _Path, given: _Numbers = None, *, every: _All = False) -> None:
    """Forget letters; their events stay in the journal."""
    with tidy_exit():
        chosen = _choose(path, given, every=every)
        if chosen:
            _change(path, lambda journal: journal.drop_dead_letters(chosen))
        sys.stdout.write(f"{len(chosen)} dropped\n")


def _letters(path: str) -> list[KeptLetter]:
    async def read() -> list[KeptLetter]:
        return [kept async for kept in open_journal(path).dead_letters()]

    return anyio.run(read)


def _find(letters: list[KeptLetter], numbers: list[int]) -> list[KeptLetter]:
    known = {kept.number: kept for kept in letters}
    if unknown := [str(number) for number in numbers if number not in known]:
        misuse(f"there is no dead letter {', '.join(unknown)}: `telstate dead list` tells which there are")
    return [known[number] for number in numbers]


def _choose(path: str, given: list[int] | None, *, every: bool) -> list[int]:
    if every == bool(given):
        misuse("say which letters by their numbers, or --all")
    letters = _letters(path)
    return [kept.number for kept in (letters if every else _find(letters, given or []))]


def _change(path: str, change: Callable[[Journal], Awaitable[None]]) -> None:
    """SQLite lets another process in for a moment; a file of lines has one writer, so it must be free."""

    async def run() -> None:
        journal = open_journal(path)
        if isinstance(journal, JsonlJournal):
            await journal.open({})
        try:
            await change(journal)
        finally:
            await journal.aclose()

    anyio.run(run)


def _as_dict(kept: KeptLetter) -> dict[str, Any]:
    letter = kept.letter._asdict()
    payload = kept.letter.payload.decode("utf-8", "replace")
    try:
        letter["payload"] = json.loads(payload) if payload else None
    except ValueError:
        letter["payload"] = payload
    return {"number": kept.number, "again": kept.retry_requested, **letter}


def _masked(value: Any) -> Any:
    """Mask what is text: a time is a number too."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _time(at: float) -> str:
    if not is_time(at):
        return "?"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
