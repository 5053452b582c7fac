"""Sessions as JSON values, and back: one alone, and all of a snapshot.

A snapshot has thousands of them, and a start waits until they are read. As columns JSON reads them in half the time that rows take,
and most of them went one of a few paths, which it has once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from telstate.calls._session import _EMPTY, Session, set_state
from telstate.calls._signs import Sign, load_sign
from telstate.calls._table import State
from telstate.calls._transition import path_of, plain_of
from telstate.events import Direction

__all__ = ["SNAPSHOT_FIELDS", "freeze", "freeze_all", "thaw", "thaw_all"]

_PLAIN_FIELDS = tuple(name for name in _EMPTY if name not in ("_path", "_context"))
_read_plain_fields = itemgetter(*_PLAIN_FIELDS)
SNAPSHOT_FIELDS = (*_PLAIN_FIELDS, "direction", "state", "transitions")
"""The names of the values that `freeze` returns."""


def _signs_from(dumped: Iterable[Any]) -> tuple[Sign, ...]:
    return tuple(map(load_sign, dumped))


_FROM_JSON: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    **{name: tuple for name, value in _EMPTY.items() if isinstance(value, tuple)},
    "_signs": _signs_from,
}
"""How to read the fields of tuples, which JSON has as lists."""
# An enum takes long to find its value.
_DIRECTIONS = {str(direction): direction for direction in Direction}
_STATES = {str(state): state for state in State}


def freeze(session: Session) -> tuple[Any, ...]:
    """Return all values of a session in the order of `SNAPSHOT_FIELDS`, without `context`."""
    return (*_plain_of(session), plain_of(session._path))


def thaw(names: Iterable[str], values: Iterable[Any]) -> Session:
    """Make a session from what `freeze` returned, also after a round trip through JSON."""
    frozen = dict(zip(names, values, strict=True))
    direction, state, path = frozen.pop("direction"), frozen.pop("state"), path_of(frozen.pop("transitions"))
    for name, read in _FROM_JSON.items():
        if name in frozen:
            frozen[name] = read(frozen[name])
    return _session(direction, state, path, frozen.items())


def freeze_all(sessions: Iterable[Session]) -> dict[str, Any]:
    """Return the values of sessions as columns, without those that no session has. For its transitions each has the place of its path."""
    paths: dict[bytes, int] = {}
    rows = [(*_plain_of(session), paths.setdefault(session._path, len(paths))) for session in sessions]
    columns = {
        name: list(column)
        for name, column in zip(SNAPSHOT_FIELDS, zip(*rows, strict=True), strict=False)  # no rows have no columns
        if column.count(_EMPTY.get(name)) < len(column)
    }
    return {"paths": [plain_of(path) for path in paths], "columns": columns}


def thaw_all(frozen: Mapping[str, Any]) -> list[Session]:
    """Make sessions from what `freeze_all` returned, also after a round trip through JSON."""
    columns = dict(frozen["columns"])
    if not columns:
        return []
    paths = [path_of(transitions) for transitions in frozen["paths"]]
    special = (columns.pop("direction"), columns.pop("state"), columns.pop("transitions"))
    for name, read in _FROM_JSON.items():
        if name in columns:
            columns[name] = map(read, columns[name])
    rows = zip(*special, *columns.values(), strict=True)
    return [
        _session(direction, state, paths[path], zip(columns, values, strict=True))
        for direction, state, path, *values in rows
    ]


def _plain_of(session: Session) -> tuple[Any, ...]:
    """Return the values of all fields but the transitions."""
    return (*_read_plain_fields(session.__dict__), str(session.direction), str(session.state))


def _session(direction: str, state: str, path: bytes, plain: Iterable[tuple[str, Any]]) -> Session:
    session = Session("", _DIRECTIONS[direction])
    set_state(session, _STATES[state])
    fields = session.__dict__
    fields["_path"] = path
    fields.update(plain)
    return session
