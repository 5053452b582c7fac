"""An event as a message of the stream: its headers, and what is read back from them."""

from __future__ import annotations

from collections.abc import Mapping

from telstate.events._base import is_time
from telstate.journals.nats._connection import Stored
from telstate.routing._ports import Record

__all__ = ["event_headers", "read_record"]

_AT = "Telstate-At"
_DIALECT = "Telstate-Dialect"


def event_headers(at: float | None, dialect: str) -> dict[str, str]:
    """Return the headers of an event: when it was received, and its dialect."""
    return {_AT: repr(at), _DIALECT: str(dialect)}


def read_record(stored: Stored, *, done: bool = False) -> Record:
    """Read an event back."""
    return Record(stored.seq, _time_of(stored), stored.headers.get(_DIALECT, "webhook"), stored.data, done)


def _time_of(stored: Stored) -> float:
    """The lesser of the times by the receiver's clock and by the server's: a clock that runs ahead lets no limit pass."""
    told = _number(stored.headers)
    return stored.at if told is None else min(told, stored.at)


def _number(headers: Mapping[str, str]) -> float | None:
    try:
        at = float(headers.get(_AT, ""))
    except ValueError:
        return None
    return at if is_time(at) else None
