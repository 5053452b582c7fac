"""telstate's own lines: the record around a payload, with its sequence number, time of receipt and dialect, and bookkeeping.

A journal as JSON Lines has a header, one record for each event, a mark for each event whose handlers are done, and dead letters:
    {"v": 1, "journal": "…", "settings": {…}}
    {"v": 1, "seq": 7, "at": 1730000000.123, "dialect": "daily-js", "event": null, "payload": {…}}
    {"v": 1, "done": 7}
    {"v": 1, "dead": {"number": 1, "seq": 7, "reason": "ValueError", …}}
A journal that was pruned has a base after its header: the engine as of the event `base`, as compressed JSON in base64.
    {"v": 1, "base": 5000, "engine": "…"}
`at` is null where nothing says when the payload came. `event` names the handler where the payload does not (a bare
daily-python dict).
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from telstate.errors import ParseError
from telstate.events._base import is_time

__all__ = [
    "VERSION",
    "Wrapped",
    "base_line",
    "base_of",
    "dead_letter_line",
    "event_of",
    "header_line",
    "is_event",
    "mark_line",
    "matches",
    "settings_of",
    "time_of",
    "unwrap",
    "wrap",
]

VERSION = 1
_BASE_START = b'{"v":1,"base":'

_KINDS = ("dialect", "done", "dead", "journal", "base")
_WRAPPED = re.compile(
    rb'\{"v":1,"seq":(\d{1,18}),"at":(null|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?),"dialect":"([a-z-]+)","event":null,"payload":(.*)\}\s*',
    re.DOTALL,
)


class Wrapped(NamedTuple):
    """A payload and the fields of the record around it."""

    seq: int
    at: float | None
    dialect: str
    payload: bytes


def wrap(seq: int, at: float | None, dialect: str, payload: bytes) -> bytes:
    """Write a record as one line, without its line end. The payload keeps its bytes, except line breaks between tokens."""
    if b"\n" in payload or b"\r" in payload:
        payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
    head = b'{"v":1,"seq":%d,"at":%s,"dialect":"%s","event":null,"payload":'
    return head % (seq, b"null" if at is None else repr(at).encode(), dialect.encode()) + payload + b"}"


def unwrap(line: bytes) -> Wrapped | None:
    """Take apart a record that `wrap` wrote, without decoding the payload; None for every other line.

    The payload is JSON only if the line was. A record with other keys is left to the JSON decoder.
    """
    found = _WRAPPED.fullmatch(line)
    if found is None:
        return None
    return Wrapped(int(found[1]), None if found[2] == b"null" else float(found[2]), found[3].decode(), found[4])


def header_line(journal: str, settings: dict[str, Any]) -> bytes:
    """Write the header of a journal."""
    return _line(journal=journal, settings=settings)


def base_line(seq: int, engine: Mapping[str, Any]) -> bytes:
    """Write the base of a pruned journal: the engine's snapshot as of an event."""
    packed = zlib.compress(json.dumps(engine, separators=(",", ":")).encode(), 6)
    return _line(base=seq, engine=b64encode(packed).decode())


def base_of(line: bytes) -> dict[str, Any] | None:
    """Return the engine's snapshot of a base; None for every other line.

    Raises:
        ParseError: if it is damaged.
    """
    if not line.startswith(_BASE_START):
        return None
    try:
        snapshot = json.loads(zlib.decompress(b64decode(json.loads(line)["engine"])))
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        raise ParseError("engine", f"the base of a journal ({error})", line, "journal") from None
    return snapshot if isinstance(snapshot, dict) else None


def mark_line(number: int) -> bytes:
    """Write the mark that says that work is done: event `number`, or the retirement of the session that -`number` opened."""
    return _line(done=number)


def dead_letter_line(fields: Mapping[str, Any]) -> bytes:
    """Write a dead letter."""
    return _line(dead=fields)


def _line(**fields: Any) -> bytes:
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":")).encode()


def matches(payload: dict[str, Any]) -> bool:
    """Return True if it has a version and a key of one of the kinds of line."""
    return "v" in payload and not payload.keys().isdisjoint(_KINDS)


def is_event(record: dict[str, Any]) -> bool:
    """Return True for an event's record, False for bookkeeping.

    Raises:
        ParseError: if a newer telstate wrote it, or it is neither.
    """
    version = record.get("v")
    if version != VERSION or isinstance(version, bool):
        raise ParseError("v", f"{VERSION} (read a newer journal with the telstate that wrote it)", version, "journal")
    if "payload" in record:
        return True
    if "done" in record or "dead" in record or "journal" in record or "base" in record:
        return False
    raise ParseError("payload", "the payload that was received", None, "journal")


def event_of(record: dict[str, Any]) -> tuple[str, Any]:
    """Return the dialect and the payload of a record.

    Raises:
        ParseError: if the record does not name the dialect.
    """
    payload, dialect, handler = record["payload"], record.get("dialect"), record.get("event")
    if not isinstance(dialect, str) or dialect == "journal":
        raise ParseError("dialect", "the dialect of the payload", dialect, "journal")
    if dialect == "daily-python" and isinstance(handler, str):
        payload = {"handler": handler, "data": payload}
    return dialect, payload


def time_of(record: dict[str, Any]) -> float | None:
    """Return when the payload was received, in Unix seconds; None if the record does not say."""
    at = record.get("at")
    return float(at) if is_time(at) else None


def settings_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the settings in a journal's header; None for every other line."""
    settings = record.get("settings")
    return settings if "journal" in record and isinstance(settings, dict) else None
