"""A connection stores each message once, says what a refusal means, and comes back."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from time import monotonic

import anyio
import pytest

from telstate import DefinitionError, JournalError, RevisionConflict
from telstate.journals.nats import Names, NatsConnection, StreamSettings, declare
from telstate.journals.nats._connection import Message
from telstate.journals.nats._errors import MessageTooLarge, NatsNotPermitted, NatsRefused, NatsUnavailable, StreamFull
from tests.nats_server import NatsServer, certificate_in
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
SMALL = StreamSettings(partitions=4, max_bytes=1 << 24)


async def count_of(connection: NatsConnection, stream: str) -> int:
    """How many messages a stream has."""
    return int((await connection.ask(f"STREAM.INFO.{stream}"))["state"]["messages"])


async def test_a_publish_returns_the_number_and_is_kept(connection: NatsConnection, names: Names) -> None:
    """With its headers and its bytes."""
    await declare(connection, names, SMALL)
    assert await connection.publish(names.events_own(1), b'{"a":1}', {"Some": "5.5"}) == 1
    assert await connection.publish(names.events_own(1), b"\x00\xff", None) == 2
    first = await connection.get(names.events, 1)
    assert first is not None
    assert (first.data, first.headers["Some"], first.subject) == (b'{"a":1}', "5.5", names.events_own(1))
    last = await connection.last(names.events, names.events_of(1))
    assert last is not None
    assert (last.seq, last.data) == (2, b"\x00\xff")
    assert await connection.last(names.events, names.events_of(2)) is None
    assert await connection.get(names.events, 3) is None


async def test_the_same_id_is_stored_once(connection: NatsConnection, names: Names) -> None:
    """That is how a publish may be sent again."""
    await declare(connection, names, SMALL)
    same = {"Nats-Msg-Id": "one"}
    assert await connection.publish(names.events_own(1), b"1", same) == 1
    assert await connection.publish(names.events_own(1), b"1", same) == 1
    assert await count_of(connection, names.events) == 1


async def test_a_batch_is_whole_and_contiguous(connection: NatsConnection, names: Names) -> None:
    """Up to 1000 messages; sent again with the same ids it is known to be stored."""
    await declare(connection, names, SMALL)
    batch = [Message(names.events_own(1), b"%d" % n, {"Nats-Msg-Id": f"m{n}"}) for n in range(1000)]
    assert await connection.publish_batch(batch) == 1000
    assert await connection.publish_batch(batch) is None
    assert await count_of(connection, names.events) == 1000
    with pytest.raises(ValueError, match="1 to 1000"):
        await connection.publish_batch([*batch, batch[0]])


async def test_only_the_expected_revision_is_replaced(connection: NatsConnection, names: Names) -> None:
    """A conflict stores nothing."""
    await declare(connection, names, SMALL)
    first = await connection.publish(names.pointer(1), b"one", expect_last=0)
    with pytest.raises(RevisionConflict):
        await connection.publish(names.pointer(1), b"lost", expect_last=0)
    await connection.publish(names.pointer(1), b"two", expect_last=first)
    last = await connection.last(names.state, names.pointer(1))
    assert last is not None
    assert last.data == b"two"


async def test_a_full_stream_is_an_error_at_once(connection: NatsConnection, names: Names) -> None:
    """And never mistaken for a leader that is missing."""
    await declare(connection, names, StreamSettings(partitions=4, max_bytes=1 << 20))
    for _ in range(103):
        await connection.publish(names.events_own(1), bytes(10_000))
    began = monotonic()
    with pytest.raises(StreamFull, match=r"no room for .*: maximum bytes exceeded.*raise max_bytes"):
        await connection.publish(names.events_own(1), bytes(10_000))
    with pytest.raises(StreamFull):
        await connection.publish_batch([Message(names.events_own(1), bytes(10_000))] * 3)
    assert monotonic() - began < 20, "it did not wait for a leader"


async def test_a_message_larger_than_the_server_takes_is_refused(connection: NatsConnection, names: Names) -> None:
    """At once, with the limit."""
    await declare(connection, names, SMALL)
    for size, headers in ((2 << 20, None), ((1 << 20) - 40, {"Nats-Msg-Id": "x" * 40})):  # headers count too
        with pytest.raises(MessageTooLarge, match="max_payload of 1048576 bytes"):
            await connection.publish(names.events_own(1), bytes(size), headers)
    assert connection.reconnects == 0
    await connection.publish(names.events_own(1), bytes((1 << 20) - 1000), {"Nats-Msg-Id": "x"})


async def test_a_stream_that_is_missing_is_named_in_time(connection: NatsConnection, names: Names) -> None:
    """It might come, as a leader does, so it is waited for as long as the caller allows."""
    with pytest.raises(NatsUnavailable, match="no stream for it is declared"):
        await connection.publish(names.events_own(1), b"x", within=0.3)
    with pytest.raises(NatsRefused, match="stream not found"):
        await connection.ask(f"STREAM.INFO.{names.events}")


async def test_a_server_that_is_away_delays_a_publish(nats_server: NatsServer, names: Names) -> None:
    """Killed or stopped: it is stored once when the server is back."""
    async with NatsConnection(nats_server.url) as connection:
        await declare(connection, names, SMALL)
        nats_server.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(connection.publish, names.events_own(1), b"1")
            await until(lambda: not connection.is_connected)
            nats_server.start()
        await until(lambda: connection.reconnects == 1)
        assert await count_of(connection, names.events) == 1


async def test_a_publish_that_got_no_answer_is_stored_once(nats_server: NatsServer, names: Names) -> None:
    """A frozen server stores it when it goes on, after the caller was told that there was no answer."""
    async with NatsConnection(nats_server.url) as connection:
        await declare(connection, names, SMALL)
        nats_server.pause()
        same = {"Nats-Msg-Id": "one"}
        with pytest.raises(NatsUnavailable, match="did not answer"):
            await connection.publish(names.events_own(1), b"1", same, within=0.5, answer_within=0.2)
        nats_server.resume()
        assert await connection.publish(names.events_own(1), b"1", same) == 1
        assert await count_of(connection, names.events) == 1


async def test_nobody_there_is_an_error_in_time(tmp_path: Path) -> None:
    """It names the host and not the password."""
    server = NatsServer(tmp_path)
    server.start()
    server.kill()
    connection = NatsConnection(f"nats://me:secret@127.0.0.1:{server.port}")
    with pytest.raises(
        NatsUnavailable, match=f"no connection to NATS at 127.0.0.1:{server.port} within 0.4 seconds"
    ) as raised:
        await connection.open(0.4)
    assert "secret" not in str(raised.value) + repr(connection)
    server.start()
    try:
        await connection.open()
        assert connection.is_connected
    finally:
        await connection.aclose()
        server.kill()


async def test_a_closed_connection_says_so(shared_nats: NatsServer, names: Names) -> None:
    """Also to those who wait."""
    connection = NatsConnection(shared_nats.url)
    await connection.open()
    await declare(connection, names, SMALL)
    waiting = asyncio.ensure_future(connection.publish(f"{names.prefix}.nowhere", b"", within=30))
    await anyio.sleep(0.05)
    await connection.aclose()
    with pytest.raises(NatsUnavailable, match="was closed"):
        await waiting
    with pytest.raises(NatsUnavailable, match="was closed"):
        await connection.publish(names.events_own(1), b"")


USERS = """
authorization {
  users = [
    {user: admin, password: a},
    {user: receiver, password: r, permissions: {
      publish: ["tests-perm.in.*"], subscribe: ["_RECEIVER.>"]}},
  ]
}
"""


async def test_what_a_user_may_not_do_is_refused_at_once(tmp_path: Path) -> None:
    """nats-py reports a refused permission beside the call, which would only time out."""
    names = Names("tests", "perm")
    with NatsServer(tmp_path, USERS) as server:
        async with (
            NatsConnection(server.url, user="admin", password="a") as admin,  # noqa: S106
            NatsConnection(server.url, user="receiver", password="r", inbox_prefix="_RECEIVER") as receiver,  # noqa: S106
        ):
            await declare(admin, names, SMALL)
            assert await receiver.publish(names.received("room"), b"{}") == 1
            began = monotonic()
            for forbidden in (names.events_own(1), names.done(1), names.pointer(1), names.worker("x")):
                with pytest.raises(NatsNotPermitted, match="may not publish to"):
                    await receiver.publish(forbidden, b"{}")
            with pytest.raises(NatsNotPermitted, match="may not publish to"):
                await receiver.ask(f"STREAM.PURGE.{names.events}")
            assert monotonic() - began < 20
            assert await receiver.publish(names.received("room"), b"{}") == 2


async def test_a_user_who_hears_no_answers_is_told_why(tmp_path: Path) -> None:
    """Its permissions allow another inbox."""
    with NatsServer(tmp_path, USERS) as server:
        async with NatsConnection(server.url, user="receiver", password="r") as receiver:  # noqa: S106
            with anyio.fail_after(20), pytest.raises(NatsNotPermitted, match="take the inbox_prefix"):
                await receiver.publish("tests-perm.in.room", b"{}")


async def test_tls_with_an_authority_of_its_own(tmp_path: Path, names: Names) -> None:
    """A client that does not know the authority is not connected."""
    key, certificate = await certificate_in(tmp_path)
    with NatsServer(tmp_path / "nats", f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}') as server:
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with NatsConnection(server.url, tls=trusting) as connection:
            await declare(connection, names, SMALL)
            assert await connection.publish(names.events_own(1), b"1") == 1
        with pytest.raises(NatsUnavailable, match="no connection to NATS"):
            await NatsConnection(server.url, tls=ssl.create_default_context()).open(1)


async def test_a_wrong_password_is_an_error_at_once(tmp_path: Path) -> None:
    """Not after many tries."""
    with NatsServer(tmp_path, USERS) as server:
        began = monotonic()
        with pytest.raises(NatsNotPermitted, match="does not let this user in"):
            await NatsConnection(server.url, user="admin", password="wrong").open()  # noqa: S106
        assert monotonic() - began < 8


@pytest.mark.parametrize("url", ["host:4222", "http://host", "nats://", ""])
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    """Before anything is tried."""
    with pytest.raises(DefinitionError, match="expected URLs such as nats://host:4222"):
        NatsConnection(url)


async def test_every_failure_is_a_journal_error() -> None:
    """Whoever only asks whether an event was kept catches one class."""
    assert issubclass(NatsRefused, JournalError)
    assert issubclass(NatsUnavailable, JournalError)
    assert issubclass(StreamFull, NatsRefused)
