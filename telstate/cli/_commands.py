"""The commands by name. The module of each is imported when it runs: importing all of them takes longer than most of them run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from telstate.cli._verb import Verb

__all__ = ["LazyCommands"]

_COMMANDS = {
    "replay": ("_replay.replay", "Show what happened to every call in recorded logs."),
    "calls": ("_calls.calls", "List the calls of recorded logs, each with all its sessions, and their totals."),
    "ladder": ("_ladder.ladder", "Show a call step by step, with all its legs and its caller on hold."),
    "lint": ("_lint.lint", "Say what is wrong with the calls of recorded logs, and what to do."),
    "diff": (
        "_diff.diff",
        "Compare the calls of two logs: the first difference of each call, and the calls that only one of them has.",
    ),
    "tail": ("_tail.tail", "Show what happens to calls, one line per event."),
    "board": ("_board.board", "Play a recorded log on the live board, in a browser."),
    "export": (
        "_export.export",
        "Write a journal or any other log as JSON Lines, in full: phone numbers and names are NOT masked.",
    ),
    "import": ("_import.import_", "Write a service's journal into streams in NATS, to move the service there."),
    "redact": ("_redact.redact", "Replace the phone numbers, SIP users and names in a log by pseudonyms."),
    "simulate": (
        "_simulate.simulate",
        "Simulate calls, as a log on standard output, in a file, or as signed webhooks to a service that is to be tried.",
    ),
    "fake-daily": (
        "_fake_daily.fake_daily",
        "Run a fake of Daily: its REST API, webhooks, rooms and phone lines, for a backend in another process. Nothing reaches Daily.",
    ),
    "records": (
        "_records.records",
        "Write the records of calls into a database or into files, in full: phone numbers and names are NOT masked.",
    ),
    "prune": ("_prune.prune", "Delete the old events of a journal, and give the disk space back."),
    "diagram": ("_diagram.diagram", "Draw the state machine, or the path of an event."),
    "serve": ("_serve.serve", "Receive Daily's webhooks, store them, and run handlers."),
    "work": (
        "_work.work",
        "Run handlers for a share of the events that `telstate serve --nats` publishes. Start as many workers as you like.",
    ),
    "campaign": (
        "_campaign.verbs",
        "Call the people on a list, each at most so often, nobody again who was reached; see how far it is, pause, resume and stop it.",
    ),
    "config": (
        "_config_show.verbs",
        "Show the settings of `telstate serve` and `telstate work`, and where each came from.",
    ),
    "dead": (
        "_dead.verbs",
        "List, show, retry and drop dead letters: handlers that failed, payloads that could not be read, and notifications that were not accepted.",
    ),
    "doctor": (
        "_doctor.doctor",
        "Look at a whole installation: Daily's side, the running service, its journal, NATS, clocks, secrets, and where records go.",
    ),
    "webhook": (
        "_webhook.verbs",
        "Create, list, check and reactivate Daily's webhooks. The API key is read from DAILY_API_KEY.",
    ),
    "trunk": (
        "_trunk.verbs",
        "Create, list, show, update, delete and check SIP trunks, by which your carrier sends calls to Daily. The API key is read from DAILY_API_KEY.",
    ),
    "pinless": (
        "_pinless.verbs",
        "Let a URL learn of a number's callers, who are on hold until they are forwarded. The API key is read from DAILY_API_KEY.",
    ),
}
"""For each command, in the order of the help: where its function is, or the `Typer` with its subcommands; and the first paragraph of its
help."""


class LazyCommands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is typer's
        """List the commands without making them, each with all that is said of it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


class _Commands(MutableMapping[str, Any]):
    """Makes a command when it is looked up."""

    def __init__(self, made: Mapping[str, Any]) -> None:
        self._made = dict(made)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, _COMMANDS[name][0])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in _COMMANDS  # without making it

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*_COMMANDS, *self._made)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _make(name: str, place: str) -> Any:
    module, _, attribute = place.partition(".")
    found = getattr(import_module(f"telstate.cli.{module}"), attribute)
    group = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name)
    else:
        group.command(name, cls=Verb)(found)
    return get_group(group).commands[name]
