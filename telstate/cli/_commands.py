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
    "replay": "_replay.replay",
    "calls": "_calls.calls",
    "ladder": "_ladder.ladder",
    "lint": "_lint.lint",
    "diff": "_diff.diff",
    "tail": "_tail.tail",
    "export": "_export.export",
    "import": "_import.import_",
    "redact": "_redact.redact",
    "simulate": "_simulate.simulate",
    "prune": "_prune.prune",
    "diagram": "_diagram.diagram",
    "serve": "_serve.serve",
    "work": "_work.work",
    "dead": "_dead.verbs",
    "webhook": "_webhook.verbs",
    "trunk": "_trunk.verbs",
    "pinless": "_pinless.verbs",
}
"""For each command, in the order of the help, where its function is, or the `Typer` with its subcommands."""


class LazyCommands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.commands)


class _Commands(MutableMapping[str, Any]):
    """Makes a command when it is looked up."""

    def __init__(self, made: Mapping[str, Any]) -> None:
        self._made = dict(made)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, _COMMANDS[name])
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
