"""telstate's own record around a payload: its sequence number, when it was received, and its dialect.

The kinds of lines: a journal's header, an event, a mark that an event's handlers are done, and a dead letter:
    {"v": 1, "journal": "…", "settings": {…}}
    {"v": 1, "seq": 7, "at": 1730000000.123, "dialect": "daily-js", "event": null, "payload": {…}}
    {"v": 1, "done": 7}
    {"v": 1, "dead": {"seq": 7, "reason": "ValueError", …}}
`event` names the handler if the payload does not (a plain daily-python dict).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from telstate.errors import ParseError
from telstate.events._base import is_time

__all__ = ["VERSION", "Wrapped", "event_of", "is_event", "matches", "settings_of", "time_of", "unwrap", "wrap"]

VERSION = 1

_WRAPPED = re.compile(
    rb'\{"v":1,"seq":(\d{1,18}),"at":(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?),"dialect":"([a-z-]+)","event":null,"payload":(.*)\}\s*',
    re.DOTALL,
)


class Wrapped(NamedTuple):
    """A payload and the fields of its record."""

    seq: int
    at: float
    dialect: str
    payload: bytes


def wrap(seq: int, at: float, dialect: str, payload: bytes) -> bytes:
    """Write a record as one line, without a line end. Only line breaks between the payload's tokens are replaced."""
    if b"\n" in payload or b"\r" in payload:
        payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
    head = b'{"v":1,"seq":%d,"at":%s,"dialect":"%s","event":null,"payload":'
    return head % (seq, repr(at).encode(), dialect.encode()) + payload + b"}"


def unwrap(line: bytes) -> Wrapped | None:
    """Split a record that `wrap` wrote, without decoding the payload; None for every other line.

    The returned payload is JSON only if no keys were added to the record after it; then use a JSON decoder instead.
    """
    found = _WRAPPED.fullmatch(line)
    return None if found is None else Wrapped(int(found[1]), float(found[2]), found[3].decode(), found[4])


def matches(payload: dict[str, Any]) -> bool:
    """Return True if there is a version, and a key of one of the kinds of lines."""
    return "v" in payload and ("dialect" in payload or "done" in payload or "dead" in payload or "journal" in payload)


def is_event(record: dict[str, Any]) -> bool:
    """Return True for the record of an event, False for bookkeeping.

    Raises:
        ParseError: if a newer telstate wrote it, or it is neither.
    """
    version = record.get("v")
    if version != VERSION or isinstance(version, bool):
        raise ParseError("v", f"{VERSION} (read a newer journal with the telstate that wrote it)", version, "journal")
    if "payload" in record:
        return True
    if "done" in record or "dead" in record or "journal" in record:
        return False
    raise ParseError("payload", "the payload that was received", None, "journal")


def event_of(record: dict[str, Any]) -> tuple[str, Any]:
    """Return the dialect and the payload."""
    payload, dialect, handler = record["payload"], record.get("dialect"), record.get("event")
    if not isinstance(dialect, str) or dialect == "journal":
        raise ParseError("dialect", "the dialect of the payload", dialect, "journal")
    if dialect == "daily-python" and isinstance(handler, str):
        payload = {"handler": handler, "data": payload}
    return dialect, payload


def time_of(record: dict[str, Any]) -> float | None:
    """Return when the payload was received, in Unix seconds."""
    at = record.get("at")
    return float(at) if is_time(at) else None


def settings_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the settings that the journal was written with, if this is its header."""
    settings = record.get("settings")
    return settings if "journal" in record and isinstance(settings, dict) else None
