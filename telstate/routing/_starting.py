"""A start of a call: its options as a request to another dispatcher carries them, and the events of what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from telstate.errors import DailyError, NotSupported
from telstate.events import DialoutRefused, DialoutRequested
from telstate.options import Dialout

__all__ = ["START", "options_from", "refused_event", "requested_event", "start_argument"]

START = "start"
"""The verb of such a request."""
_DIALOUT: TypeAdapter[Dialout] = TypeAdapter(Dialout)


def start_argument(options: Dialout) -> dict[str, Any]:
    """Write the options of a start, as they are sent to Daily.

    Raises:
        NotSupported: if JSON cannot carry them wholly, as those of a subclass.
    """
    argument = options.body()
    if _read(argument) != options:
        raise NotSupported(
            f"a request to another worker cannot carry all of this {type(options).__name__}. Nothing was sent"
        )
    return argument


def options_from(argument: Mapping[str, Any]) -> Dialout:
    """Read the options of a start.

    Raises:
        NotSupported: if this telstate does not know one of them.
    """
    if (options := _read(argument)) is None:
        raise NotSupported(
            "the worker that owns the room's partition runs another version of telstate, which does not know all options of this"
            " call. Nothing was sent: run the same telstate everywhere"
        )
    return options


def _read(argument: Mapping[str, Any]) -> Dialout | None:
    try:
        return _DIALOUT.validate_python(dict(argument))
    except ValidationError:
        return None


def requested_event(session_id: str, options: Dialout, room: str | None) -> DialoutRequested:
    """Make the event of a start that Daily accepted."""
    return DialoutRequested(session_id=session_id, **_fields(options, room))


def refused_event(error: DailyError, options: Dialout, room: str | None) -> DialoutRefused:
    """Make the event of a start that Daily refused."""
    return DialoutRefused.new(error.info or error.error or str(error), **_fields(options, room))


def _fields(options: Dialout, room: str | None) -> dict[str, Any]:
    fields = {"destination": options.destination, "user_id": options.user_id, "room": room}
    return {name: value for name, value in fields.items() if value is not None}
