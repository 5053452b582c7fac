"""However connections to NATS begin and end, none of their sockets stays open: each test counts those of this process."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import pytest

from telstate import JournalError
from telstate.journals.nats import NatsConnection
from tests.nats_server import NatsServer
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
async def answering(*answers: bytes | None) -> AsyncGenerator[tuple[str, list[int]], None]:
    """A server that sends each client the next of its answers and closes, or says nothing for None; all others the last.

    After `PONG` it waits until the client has gone on. Yields its URL, and a list that has the number of each client that came.
    """
    came: list[int] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(len(came))
        answer = answers[min(came[-1], len(answers) - 1)]
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            if b"PONG" in answer:
                await reader.readuntil(b"SUB")
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
