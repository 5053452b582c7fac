"""telstate's own record around a payload: which sequence number it got, when it came, and in which dialect.

An event, a mark that says an event's handlers are done, a dead letter, and the header that opens a journal:
    {"v": 1, "journal": "…", "settings": {…}}
    {"v": 1, "seq": 7, "at": 1730000000.123, "dialect": "daily-js", "event": null, "payload": {…}}
    {"v": 1, "done": 7}
    {"v": 1, "dead": {"seq": 7, "reason": "ValueError", …}}
`event` names the handler where the payload itself does not (a bare daily-python dict). This module only reads.
"""

from __future__ import annotations

from typing import Any

from telstate.errors import ParseError
from telstate.events.base import is_time

__all__ = ["VERSION", "event_of", "is_event", "matches", "settings_of", "time_of"]

VERSION = 1


def matches(payload: dict[str, Any]) -> bool:
    """A version, and one of the keys that tell the kinds of line."""
    return "v" in payload and ("dialect" in payload or "done" in payload or "dead" in payload or "journal" in payload)


def is_event(record: dict[str, Any]) -> bool:
    """Tell an event's record from bookkeeping.

    Raises:
        ParseError: if a newer telstate wrote it, or it is none of these.
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
    """Unwrap the payload and its dialect."""
    payload, dialect, handler = record["payload"], record.get("dialect"), record.get("event")
    if not isinstance(dialect, str) or dialect == "journal":
        raise ParseError("dialect", "the dialect of the payload", dialect, "journal")
    if dialect == "daily-python" and isinstance(handler, str):
        payload = {"handler": handler, "data": payload}
    return dialect, payload


def time_of(record: dict[str, Any]) -> float | None:
    """When the payload was received, in Unix seconds."""
    at = record.get("at")
    return float(at) if is_time(at) else None


def settings_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """The settings that the journal was written with, if this is its header."""
    settings = record.get("settings")
    return settings if "journal" in record and isinstance(settings, dict) else None
