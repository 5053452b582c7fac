"""The streams: declared once, verified at every start, and read from the server by everybody else.

The number of partitions stands in the stream's metadata: receivers, readers and workers that were told different numbers would
look for a room in different places.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from telstate.errors import DefinitionError
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsRefused, StreamFull
from telstate.journals.nats._names import Names, partition_of, room_token

__all__ = ["VIEWS_FOR", "StreamSettings", "Streams", "check_settings", "declare", "find"]

_SERVER = 2, 12, 3
"""2.12 has atomic batches; before 2.12.3 a server that was paused could lose what a replicated stream had acknowledged."""
_DECLARE_WITHIN = 30.0
"""Seconds: a fresh cluster elects its leaders first."""
_NANO = 1_000_000_000
_REPEATS_WITHIN = timedelta(minutes=2)
"""For so long the server knows the `Nats-Msg-Id` of a publish that is sent again."""
VIEWS_FOR = timedelta(hours=2)
"""How long a partition shows what does not change any more; what lives is shown again before that."""
_MAX_PARTITIONS = 10_000
_VERSION = "1"
"""Of this layout of streams and subjects."""
_EXISTS_ALREADY = frozenset({10058, 10065})
_NO_STREAM = 10059


class StreamSettings(NamedTuple):
    """What may be chosen when the streams are declared. None takes what is declared, or else the default."""

    partitions: int | None = None
    """How many units of work can move between workers; 256 by default. It cannot be changed later."""
    replicas: int | None = None
    """How many servers of a cluster keep each stream: 1 by default, 3 to survive the loss of one."""
    max_bytes: int | None = None
    """How large the stream of the events may be: 2 GiB by default, -1 for as large as the server allows."""
    keep: timedelta | None = None
    """How long events and marks are kept: 7 days by default."""


_DEFAULTS = StreamSettings(partitions=256, replicas=1, max_bytes=2 << 30, keep=timedelta(days=7))


class Streams(NamedTuple):
    """The streams of one app in one environment, as the server has them."""

    names: Names
    id: str
    """Made once, when they were declared. With a sequence number it names an event for good."""
    partitions: int
    replicas: int
    max_bytes: int
    """-1 for no limit."""
    keep: timedelta

    def partition(self, room: str) -> int:
        """Return the partition that has the events of a room."""
        return partition_of(room_token(room), self.partitions)


async def declare(connection: NatsConnection, names: Names, settings: StreamSettings = StreamSettings()) -> Streams:  # noqa: B008
    """Declare the streams if they are missing, and verify them. Any number of processes may do it at the same time.

    Raises:
        DefinitionError: if a stream is declared otherwise. The message says what to do. Nothing was changed then.
        JournalError: if NATS does not answer, or refuses.
    """
    check_settings(settings)
    try:
        found = await find(connection, names)
    except _NotDeclared:
        given = {name: value for name, value in settings._asdict().items() if value is not None}
        wanted = _DEFAULTS._replace(**given)
        await _refuse_remains(connection, names)
        await _create(connection, _events(names, wanted, uuid4().hex))
        found = await find(connection, names, complete=False)  # somebody else may have been faster
    _compare(found, settings)
    for config in _others(names, found):
        await _create(connection, config)
    return await find(connection, names)


async def find(connection: NatsConnection, names: Names, *, complete: bool = True) -> Streams:
    """Return the streams that are declared, verified.

    Args:
        connection: open.
        names: theirs.
        complete: False to look at the stream of the events only, which is all that a receiver needs.

    Raises:
        DefinitionError: if they are not declared, or otherwise than telstate needs them.
        JournalError: if NATS does not answer, or refuses.
    """
    await connection.open()
    if connection.server_version < _SERVER:
        have, need = (".".join(map(str, version)) for version in (connection.server_version, _SERVER))
        raise DefinitionError(
            f"NATS at {connection.where} is version {have}, and telstate needs {need} or later: update the server"
        )
    info = await _config_of(connection, names.events)
    if info is None:
        hint = "start a worker, which declares it; or check app, environment and the server's address"
        raise _NotDeclared(f"NATS at {connection.where} has no stream {names.events}: {hint}")
    found = _read(names, info)
    _verify(info, _events(names, _settings_of(found), found.id))
    if complete:
        for wanted in _others(names, found):
            info = await _config_of(connection, wanted["name"])
            if info is None:
                raise _NotDeclared(
                    f"NATS at {connection.where} has {names.events} but no stream {wanted['name']}: start a worker, which declares it"
                )
            _verify(info, wanted)
    return found


class _NotDeclared(DefinitionError):
    """Raised where a stream is missing."""


def check_settings(settings: StreamSettings) -> None:
    partitions, replicas, max_bytes, keep = settings
    if partitions is not None and not 1 <= partitions <= _MAX_PARTITIONS:
        raise DefinitionError(f"partitions: expected 1 to {_MAX_PARTITIONS}, got {partitions}")
    if replicas is not None and replicas not in {1, 3, 5}:
        raise DefinitionError(f"replicas: expected 1, 3 or 5, got {replicas}")
    if max_bytes is not None and max_bytes != -1 and max_bytes < 1 << 20:
        raise DefinitionError(f"max_bytes: expected at least {1 << 20}, or -1 for no limit, got {max_bytes}")
    if keep is not None and keep < _REPEATS_WITHIN:
        raise DefinitionError(f"keep: expected at least {_REPEATS_WITHIN}, got {keep}")


def _compare(found: Streams, asked: StreamSettings) -> None:
    """Refuse settings that are not those of the streams: a worker that was told otherwise would believe them."""
    for name, wanted in asked._asdict().items():
        have = getattr(found, name)
        if wanted is None or wanted == have:
            continue
        remedy = f"leave {name} out to take what is declared"
        if name != "partitions":
            remedy += f", or change the streams {found.names.prefix}-* with `nats stream edit`"
        raise DefinitionError(f"the stream {found.names.events} is declared with {name}={have}, not {wanted}: {remedy}")


async def _refuse_remains(connection: NatsConnection, names: Names) -> None:
    """Refuse streams that are left from a stream of events that was deleted: their marks would count for new events."""
    for stream in names.streams[1:]:
        if await _config_of(connection, stream) is not None and await _config_of(connection, names.events) is None:
            raise DefinitionError(
                f"NATS at {connection.where} has a stream {stream}, but no {names.events}, to which it belongs: delete the streams"
                f" {names.prefix}-* that are left, or choose another app or environment"
            )


async def _create(connection: NatsConnection, config: Mapping[str, Any]) -> None:
    try:
        await connection.ask(f"STREAM.CREATE.{config['name']}", config, within=_DECLARE_WITHIN)
    except StreamFull as error:
        size = config.get("max_bytes", -1)
        hint = "declare it with a smaller max_bytes, or raise max_file_store of the server"
        raise DefinitionError(
            f"NATS has no room for the stream {config['name']} of {size} bytes: {hint} ({error})"
        ) from error
    except NatsRefused as error:
        if error.code not in _EXISTS_ALREADY:  # else it is verified afterwards
            raise


async def _config_of(connection: NatsConnection, stream: str) -> dict[str, Any] | None:
    try:
        info = await connection.ask(f"STREAM.INFO.{stream}", within=_DECLARE_WITHIN)
    except NatsRefused as error:
        if error.code == _NO_STREAM:
            return None
        raise
    config: dict[str, Any] = info["config"]
    return config


def _read(names: Names, config: Mapping[str, Any]) -> Streams:
    """Read what the metadata says.

    Raises:
        DefinitionError: if it is no stream of telstate's, or one of a newer layout.
    """
    metadata: Mapping[str, str] = config.get("metadata") or {}
    version, partitions, own_id = (metadata.get(f"telstate.{name}") for name in ("layout", "partitions", "id"))
    if version != _VERSION or own_id is None or not (partitions or "").isdecimal():
        made = "telstate did not declare it" if version is None else f"a telstate of layout {version} declared it"
        raise DefinitionError(
            f"the stream {names.events} cannot be used: {made}, and this one needs layout {_VERSION}; choose another app or environment"
        )
    keep = timedelta(microseconds=config["max_age"] // 1000)
    return Streams(names, own_id, int(partitions or 0), config["num_replicas"], config["max_bytes"], keep)


def _settings_of(found: Streams) -> StreamSettings:
    return StreamSettings(found.partitions, found.replicas, found.max_bytes, found.keep)


def _verify(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare what telstate relies on. An operator may set the rest: replicas, sizes, placement, compression."""
    for key in _RELIED_ON:
        have, want = config.get(key) or None, wanted.get(key) or None
        if have != want:
            raise _otherwise(config["name"], key, have, want)
    for key in ("max_age", "duplicate_window"):  # longer is fine; 0 is for ever
        have, want = config.get(key, 0), wanted.get(key, 0)
        if have and (have < want or not want):
            raise _otherwise(
                config["name"], key, timedelta(microseconds=have // 1000), timedelta(microseconds=want // 1000)
            )


_RELIED_ON = (
    "subjects",
    "subject_transform",
    "retention",
    "discard",
    "allow_atomic",
    "max_msgs_per_subject",
    "max_msgs",
    "storage",
    "sealed",
    "deny_delete",
    "deny_purge",
)


def _otherwise(stream: str, key: str, have: object, want: object) -> DefinitionError:
    return DefinitionError(
        f"the stream {stream} is declared with {key}={have}, and telstate needs {want}: change it with `nats stream edit {stream}`,"
        " or choose another app or environment"
    )


# --- configurations -----------------------------------------------------------------------------------------------


def _events(names: Names, settings: StreamSettings, own_id: str) -> dict[str, Any]:
    assert settings.keep is not None  # noqa: S101
    mapped = names.events_in(f"{{{{partition({settings.partitions},1)}}}}")
    return {
        **_common(names.events, settings.replicas),
        "description": "Events that telstate received, and those of its own",
        "subjects": [names.received("*"), names.events_own("*")],
        "subject_transform": {"src": names.received("*"), "dest": mapped},
        "discard": "new",  # a full stream refuses: what came first is not thrown away
        "allow_atomic": True,
        "max_bytes": settings.max_bytes,
        "max_age": _nanoseconds(settings.keep),
        "duplicate_window": _nanoseconds(_REPEATS_WITHIN),
        "max_msgs_per_subject": -1,
        "metadata": {
            "telstate.layout": _VERSION,
            "telstate.partitions": str(settings.partitions),
            "telstate.id": own_id,
        },
    }


def _others(names: Names, found: Streams) -> list[dict[str, Any]]:
    """The other streams. Marks are kept as long as events: without them, finished work would run again."""
    repeats = _nanoseconds(_REPEATS_WITHIN)
    marks = {
        **_common(names.marks, found.replicas),
        "description": "Which work is done, and which dead letters to retry",
        "subjects": [names.done("*"), names.again("*")],
        "max_age": _nanoseconds(found.keep),
        "duplicate_window": repeats,
        "max_msgs_per_subject": -1,
    }
    dead = {
        **_common(names.dead, found.replicas),
        "description": "Dead letters",
        "subjects": [names.letters("*")],
        "duplicate_window": repeats,
        "max_msgs_per_subject": -1,
    }
    state = {
        **_common(names.state, found.replicas),
        "description": "Settings and checkpoints",
        "subjects": [f"{names.prefix}.state.>"],
        "max_msgs_per_subject": 1,
        "duplicate_window": repeats,
    }
    owners = {
        **_common(names.owners, found.replicas),
        "description": "Workers, and who owns which partition",
        "subjects": [names.ownership],
        "max_msgs_per_subject": 1,
        "duplicate_window": repeats,
    }
    views = {
        **_common(names.views, found.replicas),
        "description": "Sessions, callers, endpoints and answers, as their partitions know them",
        "subjects": [names.shown],
        "max_age": _nanoseconds(VIEWS_FOR),
        "max_msgs_per_subject": 1,
        "duplicate_window": repeats,
    }
    return [marks, dead, state, owners, views]


def _common(name: str, replicas: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_msgs": -1,
    }


def _nanoseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * _NANO)
