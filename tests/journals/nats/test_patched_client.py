"""However connections to NATS begin and end, none of their sockets stays open, and no event loop reads certificates.

The tests of sockets count those of this process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import stat
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import JournalError
from telstate.journals.nats import NatsConnection
from tests.nats_server import NatsServer, certificate_in
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]

INFO = b'INFO {"server_id": "x", "version": "2.12.0", "max_payload": 1048576, "headers": true}\r\n'


def open_sockets() -> int:
    """How many this process has."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += stat.S_ISSOCK(os.stat(f"/proc/self/fd/{number}").st_mode)
    return found


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None, None]:
    """Fail if more sockets are open than before, ten seconds after the block at the latest."""
    before = open_sockets()
    gc.disable()  # it would close what is left
    try:
        yield
        await until(lambda: open_sockets() <= before, seconds=10)
    finally:
        gc.enable()


@asynccontextmanager
async def answering(*answers: bytes | None, hears: bool = False) -> AsyncGenerator[tuple[str, list[int]], None]:
    """A server that sends each client the next of its answers and closes, or says nothing for None; all others the last.

    After `PONG` it waits until the client has gone on, and else until the client has asked to be let in, if it `hears`. Yields its URL, and
    a list that has the number of each client that came.
    """
    came: list[int] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(len(came))
        answer = answers[min(came[-1], len(answers) - 1)]
        with suppress(OSError, asyncio.IncompleteReadError):  # the client may end first
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                if b"PONG" in answer:
                    await reader.readuntil(b"SUB")
                elif hears:
                    await reader.readuntil(b"PING")
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    finally:
        server.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", INFO, INFO + b"-ERR 'no'\r\n", None])
async def test_a_first_attempt_that_fails(answer: bytes | None) -> None:
    """The server is another one, or ends, or says nothing."""
    async with answering(answer) as (url, came), nothing_left():
        connection = NatsConnection(url)
        with pytest.raises(JournalError):
            await connection.open(within=1.2)
        await connection.aclose()
        assert came


async def test_a_server_that_ends_when_it_is_asked_to_let_a_client_in() -> None:
    """That is no connection, and the next attempt may be one; also where the connection was lost before."""
    async with answering(INFO, hears=True) as (url, came), nothing_left():
        with pytest.raises(JournalError):
            await NatsConnection(url).open(within=1.2)
        assert len(came) > 1
    async with answering(INFO, INFO + b"PONG\r\n", INFO, hears=True) as (url, came), nothing_left():
        connection = NatsConnection(url)
        await connection.open(within=5)
        await until(lambda: len(came) > 5, seconds=20)
        await connection.aclose()


async def test_a_lost_connection_whose_next_attempts_fail() -> None:
    """Each of them reaches a server that is not ready yet."""

    async with answering(INFO + b"PONG\r\n", b"", INFO, b"", INFO, b"") as (url, came), nothing_left():
        connection = NatsConnection(url)
        await connection.open(within=5)
        await until(lambda: len(came) > 5, seconds=20)
        await connection.aclose()


async def test_a_connection_that_is_closed_while_it_is_made_again(nats_server: NatsServer) -> None:
    """At every point of that: before the server is back, while it answers, and after."""
    for wait in (0.0, 0.05, 0.2, 0.26, 0.3, 0.4):
        async with nothing_left():
            connection = NatsConnection(nats_server.url)
            await connection.open(within=10)
            nats_server.kill()
            async with anyio.create_task_group() as group:
                group.start_soon(partial(anyio.to_thread.run_sync, nats_server.start))
                await anyio.sleep(wait)
                await connection.aclose()


@asynccontextmanager
async def with_megabytes_to_write(
    reads: asyncio.Event,
) -> AsyncGenerator[tuple[NatsConnection, asyncio.WriteTransport], None]:
    """A connection, and its transport. The server reads only once it may."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO + b"PONG\r\n")
        await reader.readuntil(b"SUB")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await reads.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while await reader.read(1 << 20):
            pass
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    connection = NatsConnection(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await connection.open(within=10)
    client: Any = connection._client._client
    transport: asyncio.WriteTransport = client._transport._bare_io_writer.transport
    transport.write(bytes(1 << 26))
    try:
        yield connection, transport
    finally:
        server.close()


async def test_a_connection_that_is_closed_while_it_writes() -> None:
    """The server takes the rest in meanwhile."""
    reads = asyncio.Event()
    async with (
        nothing_left(),
        with_megabytes_to_write(reads) as (connection, transport),
        anyio.create_task_group() as group,
    ):
        group.start_soon(connection.aclose)
        await until(transport.is_closing)
        reads.set()


async def test_a_connection_that_is_closed_while_its_server_hangs() -> None:
    """It waits for that for some seconds, and not for ever."""
    reads = asyncio.Event()
    async with nothing_left(), with_megabytes_to_write(reads) as (connection, _):
        with anyio.fail_after(30):
            await connection.aclose()
        reads.set()


async def test_certificates_are_read_once_and_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the URL does not say that the server wants TLS, and the connection is made a second time."""
    key, certificate = await certificate_in(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    make, threads = ssl.create_default_context, list[threading.Thread]()

    def noted() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return make()

    monkeypatch.setattr("ssl.create_default_context", noted)
    with NatsServer(tmp_path / "nats", f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}') as server:
        async with NatsConnection(server.url) as connection:
            server.kill()
            await until(lambda: not connection.is_connected)
            await anyio.to_thread.run_sync(server.start)
            await until(lambda: connection.is_connected)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
