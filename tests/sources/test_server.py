"""Receiving webhooks inside a program."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time

import anyio
import httpx
import pytest

from telstate import Dispatcher, Router
from telstate.sources import serve_webhooks
from telstate.testing import WebhookSender

pytestmark = pytest.mark.asyncio

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
EVENT = {"type": "dialout.answered", "id": "1", "payload": {"session_id": "s", "room": "lobby"}}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_receives_while_the_block_lasts(host: str) -> None:
    """At the URL that it yields; afterwards nothing listens there."""
    async with Dispatcher(Router()) as calls:
        async with serve_webhooks(calls, secrets=[SECRET], host=host, port=0) as address:
            async with WebhookSender(f"{address}/webhooks", SECRET) as sender:
                assert (await sender.post(EVENT)).status_code == 200
            assert [session.session_id for session in calls.live()] == ["s"]
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{address}/health")


async def test_leaving_at_once_stops_the_server() -> None:
    """uvicorn 0.30 ends silently if it is asked to exit before it has started."""
    async with Dispatcher(Router()) as calls:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            async with serve_webhooks(calls, listening=listening) as address:
                pass
            assert listening.fileno() == -1
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{address}/health")


async def test_a_port_in_use_raises() -> None:
    """At once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with Dispatcher(Router()) as calls:
            with pytest.raises(OSError, match="in use"):
                async with serve_webhooks(calls, port=taken.getsockname()[1]):
                    pass


async def test_cancellation_stops_the_server() -> None:
    """asyncio's, in the middle of the block."""
    async with Dispatcher(Router()) as calls:
        address = ""

        async def serve() -> None:
            nonlocal address
            async with serve_webhooks(calls, port=0) as address:
                await asyncio.sleep(30)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(serve(), 0.3)
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{address}/health")


@pytest.mark.parametrize("kind", [KeyError, SystemExit])
async def test_an_error_of_the_block_is_raised_unchanged(kind: type[BaseException]) -> None:
    """In no group, so that the caller can catch it; the server stops."""
    with pytest.raises(kind, match="mine") as raised:
        async with Dispatcher(Router()) as calls, serve_webhooks(calls, port=0) as address:
            raise kind("mine")
    assert raised.value.__context__ is None
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{address}/health")


@pytest.mark.parametrize("by", ["shut_down", "scope", "task"])
async def test_an_error_in_a_cancelled_block_is_not_lost(by: str) -> None:
    """As from a clean-up that fails."""

    async def work() -> None:
        async with Dispatcher(Router()) as calls, serve_webhooks(calls, port=0):
            if by == "shut_down":
                calls.shut_down()
            try:
                await asyncio.sleep(9)
            finally:
                raise ValueError("clean-up")

    async def cancelled() -> None:
        task = asyncio.create_task(work()) if by == "task" else None
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(0.2, scope.cancel if task is None else task.cancel)
            await (task or work())

    with pytest.raises(ValueError, match="clean-up"):
        await cancelled()


async def test_answers_on_a_kept_alive_connection_are_sent_at_once() -> None:
    """Without TCP_NODELAY each takes 40 ms: the body waits for the client's delayed ACK of the head."""
    async with (
        Dispatcher(Router()) as calls,
        serve_webhooks(calls, secrets=[SECRET], port=0) as address,
        WebhookSender(f"{address}/webhooks", SECRET) as sender,
    ):
        await sender.post(EVENT)
        times = []
        for _ in range(10):
            start = time.perf_counter()
            await sender.post(EVENT)
            times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.03
