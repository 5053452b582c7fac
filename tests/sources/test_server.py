"""Receiving webhooks inside a program."""

from __future__ import annotations

import asyncio
import logging
import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

from telstate import Dispatcher, Router
from telstate.sources import Secret, serve_webhooks, sign
from telstate.sources import _connections as connections
from telstate.sources import _protocol as protocol
from telstate.sources import _server as server
from telstate.testing import WebhookSender
from telstate.testing._sender import body_of
from tests.routing import until

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

        serving = asyncio.create_task(serve())
        await until(lambda: address)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
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

    async def work(cancel: Callable[[], object]) -> None:
        async with Dispatcher(Router()) as calls, serve_webhooks(calls, port=0):
            asyncio.get_running_loop().call_later(0.2, cancel)
            if by == "shut_down":
                calls.shut_down()
            try:
                await asyncio.sleep(9)
            finally:
                raise ValueError("clean-up")

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as scope:
            await work(task.cancel if by == "task" else scope.cancel)

    with pytest.raises(ValueError, match="clean-up"):
        await asyncio.create_task(cancelled())


async def test_answers_on_a_kept_alive_connection_are_sent_at_once() -> None:
    """Without TCP_NODELAY each takes 40 ms: the body waits for the client's delayed ACK of the head."""
    async with (
        Dispatcher(Router()) as calls,
        serve_webhooks(calls, secrets=[SECRET], port=0) as address,
        WebhookSender(f"{address}/webhooks", SECRET) as sender,
    ):
        await sender.post(EVENT)
        medians = [1.0]
        while medians[-1] >= 0.03 and len(medians) < 20:  # a busy machine may be slow for a while
            times = []
            for _ in range(10):
                start = time.perf_counter()
                await sender.post(EVENT)
                times.append(time.perf_counter() - start)
            medians.append(statistics.median(times))
    assert medians[-1] < 0.03, medians


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /webhooks HTTP/1.1\r\nHost: x\r\n"
BODY = body_of(EVENT)
SIGNED = b"".join(
    [
        POST,
        *(f"{name}: {value}\r\n".encode() for name, value in sign(Secret(SECRET), f"{time.time():.0f}", BODY).items()),
        b"Content-Length: %d\r\n\r\n" % len(BODY),
        BODY,
    ]
)
TO_NOBODY = POST.replace(b"webhooks", b"nothing")
SLOW = {
    "nothing at all": (b"", b""),
    "a head": (POST, b"X-A: b\r\n"),
    "a head after an answer": (SIGNED + POST, b"X-A: b\r\n"),
    "a head after many answers": (SIGNED * 20 + POST, b"X-A: b\r\n"),
    "a body": (POST + b"Content-Length: 150\r\n\r\n", b"x"),
    "a body of chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body after an answer": (SIGNED + POST + b"Content-Length: 150\r\n\r\n", b"x"),
    "a body that nobody reads": (SIGNED + TO_NOBODY + b"Content-Length: 10000\r\n\r\n", b"x"),
    "an upgrade": (
        SIGNED + GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") + POST,
        b"X-A: b\r\n",
    ),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Deadlines of so many seconds."""
    for phase in protocol._TIMEOUTS:
        monkeypatch.setitem(protocol._TIMEOUTS, phase, 0.4)
    return 0.4


@pytest.mark.parametrize("what", SLOW)
async def test_what_never_ends_is_cut_off(quick: float, what: str) -> None:
    """Though something arrives all the time."""
    first, then = SLOW[what]
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        started = time.monotonic()
        reader, writer = await connected(address)
        writer.write(first)
        cut_off = asyncio.create_task(read_to_the_end(reader))
        while not cut_off.done():
            assert time.monotonic() - started < 75 * quick
            writer.write(then)
            await asyncio.sleep(quick / 10)
        assert time.monotonic() - started > quick / 2
        writer.close()


async def test_answers_that_nobody_reads_are_cut_off(quick: float) -> None:
    """Their connection would be held for ever, because closing it waits for the peer."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with (
        Dispatcher(Router()) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening) as address,
    ):
        _, writer = await connected(address, receive=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError), anyio.fail_after(75 * quick):
            await write_for_ever(writer, SIGNED * 100)


async def write_for_ever(writer: asyncio.StreamWriter, what: bytes) -> None:
    """Write, until the connection breaks."""
    while True:
        writer.write(what)
        await writer.drain()


@pytest.mark.long
async def test_requests_in_time_go_on_for_longer_than_a_deadline(quick: float) -> None:
    """Each request has a deadline of its own."""
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        for _ in range(10):  # where the machine stands still, a request is late
            reader, writer = await connected(address)
            answers = 0
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                for _ in range(8):
                    for half in (SIGNED[:20], SIGNED[20:]):
                        await asyncio.sleep(quick / 4)
                        writer.write(half)
                    answers += b"200" in await reader.readuntil(b"}")
            writer.close()
            if answers == 8:
                break
    assert answers == 8


async def test_a_head_of_endless_headers_is_refused() -> None:
    """And so is one that comes in one piece."""
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        reader, writer = await connected(address)
        writer.write(GET[:-2] + b"X-A: " + b"x" * 100_000 + b"\r\n\r\n")
        assert (await read_to_the_end(reader)).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.parametrize("limit", [8])
async def test_strangers_who_hold_all_connections_give_way(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """To new ones, though they come from the same address, and not those who have sent a signed request before."""
    monkeypatch.setattr(server, "_CONNECTIONS", limit)
    monkeypatch.setattr(connections, "_FLOOD_AGE", 0.0)
    for phase in protocol._TIMEOUTS:  # no deadline ends any connection
        monkeypatch.setitem(protocol._TIMEOUTS, phase, 600.0)
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        async with WebhookSender(f"{address}/webhooks", SECRET) as kept:
            pool: Any = kept._client._transport._pool  # type: ignore[attr-defined]
            pool._keepalive_expiry = 600.0  # else a slow machine closes its connection by itself
            await kept.post(EVENT)
            (connection,) = pool.connections
            strangers = [await stranger(address) for _ in range(4 * limit)]
            async with WebhookSender(f"{address}/webhooks", SECRET) as new:
                assert (await new.post(EVENT)).status_code == 200
            assert (await kept.post(EVENT)).status_code == 200
            assert pool.connections == [connection]
        with anyio.fail_after(30):
            for reader, _ in strangers[: 3 * limit]:
                await read_to_the_end(reader)
        for _, writer in strangers:
            writer.close()


async def stranger(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, begin a request, and wait until the server has seen it."""
    reader, writer = await connected(address)
    writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_strangers_get_one_answer_a_connection() -> None:
    """They are told so; whoever has sent a signed request may send more."""
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        for sent, answers in ((GET * 3, 1), (SIGNED + GET * 2 + TO_NOBODY + b"Connection: close\r\n\r\n", 4)):
            reader, writer = await connected(address)
            writer.write(sent)
            read = await read_to_the_end(reader)
            assert (read.count(b"HTTP/1.1 "), read.lower().count(b"connection: close")) == (answers, 1)
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\r\n\r\n",
        TO_NOBODY + b"Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        POST + b'Content-Length: 9\r\n\r\n{"a": 10}',
    ],
    ids=["not HTTP", "not HTTP in the body", "an upgrade", "not signed"],
)
async def test_bad_requests_fill_no_log(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each reason, and no traceback."""
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        caplog.clear()
        for _ in range(20):
            reader, writer = await connected(address)
            writer.write(sent)
            await read_to_the_end(reader)
            writer.close()
        records = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert 1 <= len(records) <= 2
        assert not any(record.exc_info for record in records)


NO_FILES_LEFT = """
import asyncio, os, resource, sys
from telstate import Dispatcher, Router
from telstate.sources import serve_webhooks

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, port=0) as address:
        waiting = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
        await asyncio.sleep(0.2)
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            print(address, flush=True)
        await waiting
        await asyncio.sleep(1)
        for one in taken:
            os.close(one)
        print("free", flush=True)
        await asyncio.sleep(20)

asyncio.run(main())
"""


@pytest.mark.long
async def test_a_program_without_files_left_writes_one_line() -> None:
    """asyncio would write a traceback for each attempt to accept; afterwards it goes on."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NO_FILES_LEFT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        waiting = [await connected(address) for _ in range(30)]
        process.stdin.write(b"they are waiting\n")
        assert await process.stdout.readline() == b"free\n"
        async with httpx.AsyncClient() as client, asyncio.timeout(60):
            while True:  # the connections above come from the same address, which is refused for seconds
                with suppress(httpx.TransportError):
                    assert (await client.get(f"{address}/health", timeout=10)).status_code == 200
                    break
                await asyncio.sleep(0.2)
        for _, writer in waiting:
            writer.close()
    finally:
        process.kill()
        written = (await process.stderr.read()).decode()
        await process.wait()
    assert written.count("webhooks.accept_failed") == 1
    assert "Traceback" not in written


async def connected(address: str, *, receive: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a server, with a small receive buffer if asked for."""
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(address.rpartition(":")[2])))
    return await asyncio.open_connection(sock=sock)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, in order or not."""
    read = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(1000):
            read += chunk
    return read
