"""The options by which every command that reads logs selects calls: `--number`, `--room`, `--since`, `--where`, ….

@with_filters
def calls(…, selection: Selection) -> None: ...

A command leaves out what means nothing to it: `with_filters(command, without=("state",))`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import wraps
from time import time
from typing import Annotated, Any, get_args, get_type_hints

import typer

from telstate.calls._caller import CallerState
from telstate.calls._evidence import Cause
from telstate.calls._table import State
from telstate.events import Direction
from telstate.views import FIELDS, Condition, Selection

__all__ = ["TIME", "time_of", "with_filters"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STATES = tuple(dict.fromkeys(map(str, (*State, *CallerState))))


def _several(option: str, metavar: str, text: str, values: Sequence[str] = ()) -> Any:
    """An option that may be repeated."""
    text = f"{text} One of {', '.join(values)}; may be repeated." if values else f"{text} May be repeated."
    return Annotated[list[str] | None, typer.Option(option, metavar=metavar, help=text)]


def _one(option: str, metavar: str, text: str) -> Any:
    return Annotated[str | None, typer.Option(option, metavar=metavar, help=text)]


_CHOICES: dict[str, Sequence[str]] = {"state": _STATES, "cause": tuple(Cause), "direction": tuple(Direction)}
TIME = "2026-10-01, 2026-10-01T14:30 (UTC), or 2h, 30m, 1d ago."
"""How a time is given."""
_OPTIONS: dict[str, Any] = {
    "number": _several(
        "--number", "NUMBER", "Only calls with this phone number, in any spelling, or this SIP address."
    ),
    "room": _several("--room", "NAME", "Only calls of this room."),
    "session": _several("--session", "ID", "Only this session; the beginning of its id will do."),
    "call": _several(
        "--call", "ID", "Only this call, with all its legs: the id of a session, a SIP Call-ID, or a caller's."
    ),
    "state": _several("--state", "STATE", "Only calls that are in this state at the end.", _CHOICES["state"]),
    "cause": _several("--cause", "CAUSE", "Only calls that ended for this cause.", _CHOICES["cause"]),
    "direction": _several("--direction", "DIRECTION", "Only one direction.", _CHOICES["direction"]),
    "since": _one("--since", "TIME", f"Only calls that had not ended before: {TIME}"),
    "until": _one("--until", "TIME", "Only calls that had begun by then; a date means the end of that day."),
    "where": _one(
        "--where", "EXPR", "Only calls that meet a condition on their record, as in 'talk_s > 30 and not transfers'."
    ),
    "anomalies": Annotated[bool, typer.Option("--anomalies", help="Only calls with something that cannot be.")],
}


def with_filters(
    command: Callable[..., None], *, without: Collection[str] = (), said: Mapping[str, str] | None = None
) -> Callable[..., None]:
    """Give a command the options. What they select comes as its keyword argument `selection`.

    Args:
        command: the command.
        without: the options that mean nothing to it, by the names of their parameters.
        said: the help of those that mean something else to it.
    """
    options = {name: kind for name, kind in _OPTIONS.items() if name not in without}
    for name, text in (said or {}).items():
        options[name] = _with_help(options[name], text)
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)

    @wraps(command)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name, None) for name in _OPTIONS}
        command(**given, selection=_selection(**chosen))

    del run.__wrapped__  # typer would read the command's own signature
    own = [one.replace(annotation=hints[one.name]) for one in signature.parameters.values() if one.name != "selection"]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False if name == "anomalies" else None, annotation=kind
        )
        for name, kind in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
    return run


def _with_help(option: Any, text: str) -> Any:
    kind, info = get_args(option)
    changed = copy(info)
    changed.help = text
    return Annotated[kind, changed]


def _selection(
    *, since: str | None, until: str | None, where: str | None, anomalies: bool | None, **several: Any
) -> Selection:
    try:
        condition = None if where is None else Condition(where, FIELDS)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from None
    for name, values in _CHOICES.items():
        for value in several[name] or ():
            if value not in values:
                raise typer.BadParameter(f"{value!r} is none of {', '.join(values)}", param_hint=f"--{name}")
    for name, values in several.items():
        if any(not value.strip() for value in values or ()):
            raise typer.BadParameter(
                "it is empty, as an unset variable is: give a value, or leave the option out", param_hint=f"--{name}"
            )
    return Selection(
        **{f"{name}s": tuple(values or ()) for name, values in several.items()},
        since=None if since is None else time_of(since, "--since"),
        until=None if until is None else time_of(until, "--until", end=True),
        where=condition,
        anomalies=bool(anomalies),
    )


def time_of(text: str, option: str, *, end: bool = False) -> float:
    """Read a time that an option gives, as Unix seconds. At the end of a span, a date means the end of the day.

    Raises:
        typer.BadParameter: if it is none.
    """
    if found := _AGO.fullmatch(text):
        return time() - float(found[1]) * _SECONDS[found[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: give {TIME}", param_hint=option) from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    whole_day = end and re.fullmatch(r"\d{4}-?\d\d-?\d\d", text) is not None
    return at.timestamp() + (_SECONDS["d"] if whole_day else 0)
