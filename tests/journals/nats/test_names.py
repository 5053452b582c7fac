"""Names of streams and subjects, and which partition has a room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate import DefinitionError
from telstate.journals.nats import Names, NatsConnection, StreamSettings, declare
from telstate.journals.nats._names import partition_of, room_token

HOSTILE = [
    "",
    ".",
    "a.b",
    "*",
    ">",
    "a b",
    "in\r\nPUB x",
    "ä",
    "\ud83d",
    "$SYS",
    "x" * 300,
    "{{partition(1,1)}}",
    "\x00",
]


@pytest.mark.parametrize("app", ["", "a.b", "A", "a b", "*", "x" * 65])
def test_an_app_is_part_of_one_token(app: str) -> None:
    """So it has no character that means something in a subject or in the name of a stream."""
    with pytest.raises(DefinitionError, match="app: expected"):
        Names(app)


def test_no_two_pairs_have_the_same_names() -> None:
    """The environment has no hyphen, so the last one divides the two."""
    with pytest.raises(DefinitionError, match="environment: expected"):
        Names("a", "b-c")
    assert Names("a-b", "c").prefix == "a-b-c"


def test_every_name_of_a_stream_carries_app_and_environment() -> None:
    """Two services on one server share nothing."""
    assert all(stream.startswith("shop-staging-") for stream in Names("shop", "staging").streams)


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_token_is_one_token_whatever_the_room_is_called(room: str) -> None:
    """Plain names stay readable; all others are hashed."""
    token = room_token(room)
    assert token.isascii()
    assert 0 < len(token) <= 100
    assert not set(token) & set(".*> \t\r\n")
    assert room_token(room) == token


def test_a_plain_room_stays_readable() -> None:
    """It shows in the server's monitoring."""
    assert room_token("daily-room_7") == "daily-room_7"


@pytest.mark.anyio
async def test_the_server_maps_a_room_to_the_same_partition(connection: NatsConnection, names: Names) -> None:
    """With hostile names as well: nothing leaves the subject of its partition."""
    streams = await declare(connection, names, StreamSettings(partitions=7))
    rooms = [*HOSTILE, *(f"room-{number}" for number in range(50))]
    for room in rooms:
        seq = await connection.publish(names.received(room_token(room)), b"{}")
        stored = await connection.get(names.events, seq)
        assert stored is not None
        assert stored.subject == names.events_in(streams.partition(room))
        assert streams.partition(room) == partition_of(room_token(room), 7)
