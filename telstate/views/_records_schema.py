"""The tables of records: one schema for a database, for Parquet and for CSV. Built from the record of a session and of a caller."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from telstate.views._selection import FIELDS

__all__ = ["CALLERS", "SCHEMA_VERSION", "SESSIONS", "TRANSFERS", "Column", "RecordRows", "rows_of"]

SCHEMA_VERSION = 1
_LONGEST_KEY = 512
"""Characters. PostgreSQL's indexes take 2704 bytes."""

_JSON = ("sip_headers", "warnings", "transfers", "notes", "legs", "anomalies", "transitions")
_COUNTS = ("dtmf", "events", "duplicates", "late", "unexpected")
_FLAGS = ("amended", "uncertain")


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: str
    """`text`, `json`, `integer`, `boolean`, or `number`: times in Unix seconds and durations in seconds, as in the record."""
    is_key: bool = False


def _kind_of(field: str) -> str:
    for kind, fields in (("json", _JSON), ("integer", _COUNTS), ("boolean", _FLAGS)):
        if field in fields:
            return kind
    return "number" if field.endswith(("_at", "_s")) else "text"


SESSIONS = tuple(Column(field, _kind_of(field), field == "session_id") for field in FIELDS)
"""All fields of a session's record."""
TRANSFERS = (
    Column("session_id", "text", True),
    Column("place", "integer", True),
    Column("target", "text"),
    Column("outcome", "text"),
)
"""The transfers of each session, numbered from 1."""
CALLERS = (
    Column("call_id", "text", True),
    Column("from_address", "text"),
    Column("to_address", "text"),
    Column("state", "text"),
    Column("started_at", "number"),
    Column("ended_at", "number"),
    Column("held_s", "number"),
)
"""The callers on hold who got to no session."""
_RENAMED = {"from": "from_address", "to": "to_address"}
"""Words of SQL."""


class RecordRows(NamedTuple):
    """The rows of some records, by key: the last of each counts."""

    sessions: dict[str, dict[str, Any]]
    transfers: dict[str, list[dict[str, Any]]]
    """By session: all of them, perhaps none."""
    callers: dict[str, dict[str, Any]]
    connected: dict[str, None]
    """The callers who have no row any more: each is a session after all."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add the rows of a record."""
        if "session_id" in record:
            session, transfers = rows_of(record)
            self.sessions[session["session_id"]] = session
            self.transfers[session["session_id"]] = transfers
            self.connect(record["pinless_call_id"])
        else:
            caller = {_RENAMED.get(name, name): _clean(value) for name, value in record.items()}
            key = caller["call_id"] = _as_key(caller["call_id"])
            self.callers[key] = caller
            self.connected.pop(key, None)

    def connect(self, call_id: str | None) -> None:
        """A caller on hold became a session: an earlier record of them holds no more. None for a session that was nobody on hold."""
        if call_id is not None:
            key = _as_key(_clean(call_id))
            self.callers.pop(key, None)
            self.connected[key] = None

    def __bool__(self) -> bool:
        return bool(self.sessions or self.callers or self.connected)

    @classmethod
    def empty(cls) -> RecordRows:
        """Return no rows."""
        return cls({}, {}, {}, {})


def rows_of(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of a session, and those of its transfers."""
    session = {name: _clean(record[name]) for name in FIELDS}
    session["session_id"] = _as_key(session["session_id"])
    transfers = [
        {"session_id": session["session_id"], "place": place, "target": target, "outcome": outcome}
        for place, (target, outcome) in enumerate(session["transfers"] or (), 1)
    ]
    return session, transfers


def _as_key(identifier: str) -> str:
    """Return an id that an index can have. Daily's are far shorter than that; one that came from elsewhere must not stop all others."""
    if len(identifier) <= _LONGEST_KEY:
        return identifier
    return f"{identifier[:_LONGEST_KEY]}~{sha256(identifier.encode()).hexdigest()}"


def _clean(value: Any) -> Any:
    """Return a value that databases can keep: texts without NUL and without halves of characters."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
