"""Streams are declared once, verified, and refused where they are declared otherwise."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import DefinitionError
from telstate.journals.nats import Names, NatsConnection, Streams, StreamSettings, declare, find
from tests.nats_server import NatsServer

pytestmark = pytest.mark.anyio
SMALL = StreamSettings(partitions=4, max_bytes=1 << 24)


async def config_of(connection: NatsConnection, stream: str) -> dict[str, Any]:
    """The configuration that the server has."""
    config: dict[str, Any] = (await connection.ask(f"STREAM.INFO.{stream}"))["config"]
    return config


async def test_what_is_declared_is_found_by_everybody_else(connection: NatsConnection, names: Names) -> None:
    """With the number of partitions, which nobody has to be told."""
    declared = await declare(connection, names, SMALL)
    assert declared == await find(connection, names)
    assert (declared.partitions, declared.replicas, declared.max_bytes) == (4, 1, 1 << 24)
    assert declared.keep == timedelta(days=7)


async def test_declaring_again_changes_nothing(connection: NatsConnection, names: Names) -> None:
    """Also at the same time: one id for all."""
    found: list[Streams] = []

    async def one() -> None:
        found.append(await declare(connection, names, SMALL))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert found == [found[0]] * 5
    assert await declare(connection, names) == found[0]


async def test_streams_that_are_missing_are_named(connection: NatsConnection, names: Names) -> None:
    """With what to do."""
    with pytest.raises(DefinitionError, match=f"no stream {names.events}: start a worker"):
        await find(connection, names)
    await declare(connection, names, SMALL)
    await connection.ask(f"STREAM.DELETE.{names.marks}")
    assert (await find(connection, names, complete=False)).partitions == 4
    with pytest.raises(DefinitionError, match=f"no stream {names.marks}: start a worker"):
        await find(connection, names)
    assert (await declare(connection, names)).partitions == 4


@pytest.mark.parametrize(
    "asked",
    [
        StreamSettings(partitions=8),
        StreamSettings(replicas=3),
        StreamSettings(max_bytes=-1),
        StreamSettings(keep=timedelta(days=1)),
    ],
)
async def test_settings_other_than_the_declared_ones_are_refused(
    connection: NatsConnection, names: Names, asked: StreamSettings
) -> None:
    """A worker that believed them would read other partitions than the rest."""
    await declare(connection, names, SMALL)
    with pytest.raises(DefinitionError, match=r"is declared with .* leave .* out"):
        await declare(connection, names, asked)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"discard": "old"}, "discard=old, and telstate needs new"),
        ({"max_age": 0}, ""),
        ({"max_age": 30 * 86_400_000_000_000}, ""),
        ({"duplicate_window": 1_000_000_000}, "duplicate_window=0:00:01, and telstate needs 0:02:00"),
        ({"max_bytes": 1 << 25}, ""),
        ({"deny_purge": True}, "deny_purge=True"),
    ],
)
async def test_a_stream_that_is_declared_otherwise_is_refused(
    connection: NatsConnection, names: Names, change: dict[str, Any], says: str
) -> None:
    """Only where telstate relies on it: an operator may keep events longer, and make the stream larger."""
    await declare(connection, names, SMALL)
    config = await config_of(connection, names.events)
    await connection.ask(f"STREAM.UPDATE.{names.events}", {**config, **change})
    if not says:
        await find(connection, names, complete=False)
        return
    with pytest.raises(DefinitionError, match=says) as raised:
        await find(connection, names)
    assert f"nats stream edit {names.events}" in str(raised.value)


async def test_marks_must_be_kept_as_long_as_events(connection: NatsConnection, names: Names) -> None:
    """Without its mark, finished work would run again."""
    await declare(connection, names, SMALL)
    config = await config_of(connection, names.marks)
    await connection.ask(f"STREAM.UPDATE.{names.marks}", {**config, "max_age": 86_400_000_000_000})
    with pytest.raises(DefinitionError, match=f"{names.marks} is declared with max_age=1 day"):
        await declare(connection, names)


async def test_a_stream_of_somebody_else_is_left_alone(connection: NatsConnection, names: Names) -> None:
    """Nothing about it is changed."""
    config = {"name": names.events, "subjects": [f"{names.prefix}.>"], "storage": "file"}
    await connection.ask(f"STREAM.CREATE.{names.events}", config)
    before = await config_of(connection, names.events)
    with pytest.raises(DefinitionError, match="telstate did not declare it"):
        await declare(connection, names, SMALL)
    assert await config_of(connection, names.events) == before


async def test_what_is_left_of_deleted_streams_is_refused(connection: NatsConnection, names: Names) -> None:
    """Numbers begin at 1 again, and old marks would say that the new events are done."""
    await declare(connection, names, SMALL)
    await connection.ask(f"STREAM.DELETE.{names.events}")
    with pytest.raises(DefinitionError, match=f"has a stream {names.marks}, but no {names.events}"):
        await declare(connection, names, SMALL)
    for stream in names.streams[1:]:
        await connection.ask(f"STREAM.DELETE.{stream}")
    await declare(connection, names, SMALL)


async def test_an_old_server_is_refused(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would ignore what it does not know, or lose what it has acknowledged."""
    assert connection.server_version >= (2, 12, 3)
    monkeypatch.setattr(NatsConnection, "server_version", (2, 12, 2))
    with pytest.raises(DefinitionError, match=r"is version 2.12.2, and telstate needs 2.12.3 or later"):
        await declare(connection, names)


async def test_a_stream_larger_than_the_servers_storage_is_refused(tmp_path: Path, names: Names) -> None:
    """With what to do."""
    with NatsServer(tmp_path, jetstream="max_file_store: 10MB") as server:
        async with NatsConnection(server.url) as connection:
            with pytest.raises(DefinitionError, match="declare it with a smaller max_bytes"):
                await declare(connection, names)
            assert (await declare(connection, names, StreamSettings(max_bytes=5_000_000))).max_bytes == 5_000_000


@pytest.mark.parametrize(
    "settings",
    [
        StreamSettings(partitions=0),
        StreamSettings(replicas=2),
        StreamSettings(max_bytes=5),
        StreamSettings(keep=timedelta(seconds=1)),
    ],
)
async def test_impossible_settings_are_refused_before_anything_is_declared(
    connection: NatsConnection, names: Names, settings: StreamSettings
) -> None:
    """The message names the setting and what was expected."""
    with pytest.raises(DefinitionError, match="expected"):
        await declare(connection, names, settings)
    with pytest.raises(DefinitionError, match="no stream"):
        await find(connection, names)
