"""The direct way of a plain request: it answers as the way through h11 and the app does, and keeps the same limits."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from telstate import Dialect, Dispatcher, Outcome, Router
from telstate.journals import SqliteJournal
from telstate.sources import Secret, serve_webhooks, sign, webhook_app
from telstate.sources import _protocol as protocol
from telstate.sources import _time_limits as time_limits
from telstate.sources._direct_protocol import DirectProtocol
from telstate.sources._server import make_server
from telstate.testing._sender import body_of
from tests.routing import until
from tests.sources.live import payloads
from tests.sources.test_server import connected, read_to_the_end

pytestmark = pytest.mark.asyncio

SECRET, OTHER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "c29tZXRoaW5nIGVsc2U="


def event(number: int) -> bytes:
    """An event of a session of its own."""
    return body_of(
        {"type": "dialout.answered", "id": f"{number}", "payload": {"session_id": f"s{number}", "room": "r"}}
    )


def request(body: bytes, *, path: str = "/webhooks", secret: str | None = SECRET, age: float = 0.0) -> bytes:
    """A plain request."""
    headers = sign(Secret(secret), f"{time.time() - age:.3f}", body) if secret else {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **headers}.items())
    return f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


READ: list[int] = []
"""How many bytes the servers of a test have read, each time."""


@pytest.fixture(autouse=True)
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count what is read."""
    READ.clear()
    read = DirectProtocol.data_received

    def data_received(self: DirectProtocol, data: bytes) -> None:
        READ.append(len(data))
        read(self, data)

    monkeypatch.setattr(DirectProtocol, "data_received", data_received)


@pytest.fixture
def read_by_h11(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What h11 gets to read."""
    seen: list[bytes] = []
    read = H11Protocol.data_received

    def data_received(self: H11Protocol, data: bytes) -> None:
        seen.append(data)
        read(self, data)

    monkeypatch.setattr(H11Protocol, "data_received", data_received)
    return seen


@asynccontextmanager
async def serving(calls: Any, **how: Any) -> AsyncIterator[str]:
    """Serve as `telstate serve` does, with other limits."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(webhook_app(calls, **{"secrets": [SECRET], **how}), connections=20, backlog=20)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def answer_to(address: str, *parts: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Send a request in parts; return the answer's status line, its headers, and its body."""
    reader, writer = await connected(address)
    for part in parts:
        expected = sum(READ) + len(part)
        writer.write(part)
        await until(lambda expected=expected: sum(READ) >= expected)  # type: ignore[misc]
    try:
        return await read_answer(reader)
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str], bytes]:
    """Read one answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    headers.pop("date")
    return status.encode(), headers, await reader.readexactly(int(headers["content-length"]))


REQUESTS = {
    "an event": request(event(1)),
    "an event with a trailing slash": request(event(1), path="/webhooks/"),
    "an event elsewhere": request(event(1), path="/pinless"),
    "what is no event": request(b"{"),
    "another secret": request(event(1), secret=OTHER),
    "an old signature": request(event(1), age=9000),
    "not signed": request(event(1), secret=None),
    "not signed, and long": request(event(1) + b" " * 300, secret=None),
    "too long": request(event(1) + b" " * 10_000),
    "a test": request(b'{"test":"test"}', secret=None),
    "a test of a trunk": request(b'{"type":"sip_trunk.test"}', path="/sip-trunk", secret=OTHER),
    "a verified test of a trunk": request(b'{"type":"sip_trunk.test"}', path="/sip-trunk"),
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_both_ways_give_the_same_answer(what: str, read_by_h11: list[bytes]) -> None:
    """Status, headers and body. A request in two parts is no plain one."""
    whole = REQUESTS[what]
    async with Dispatcher(Router()) as one, serving(one, max_body=5_000) as address:
        direct = await answer_to(address, whole)
        assert read_by_h11 == []
    async with Dispatcher(Router()) as other, serving(other, max_body=5_000) as address:
        assert await answer_to(address, whole[:50], whole[50:]) == direct
        assert b"".join(read_by_h11) == whole
    assert (one.counts, len(one.live())) == (other.counts, len(other.live()))


async def test_what_goes_elsewhere_is_the_apps(read_by_h11: list[bytes]) -> None:
    """An unknown path, and everything where no secret is set."""
    async with Dispatcher(Router()) as calls:
        async with serving(calls) as address:
            assert (await answer_to(address, request(event(1), path="/nothing")))[0] == b"HTTP/1.1 404 Not Found"
        async with serving(calls, secrets=[]) as address:
            status, _, _ = await answer_to(
                address, request(event(1), secret=None).replace(b"Host: x", b"Host: localhost")
            )
            assert status == b"HTTP/1.1 200 OK"
    assert len(read_by_h11) == 2


async def test_both_ways_can_be_mixed_on_one_connection(tmp_path: Path, read_by_h11: list[bytes]) -> None:
    """In any order, and each event is kept once."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        reader, writer = await connected(address)
        sent = 0
        for kind in ("direct", "parts", "direct", "pipelined", "direct", "direct", "parts", "chunks", "direct"):
            whole = request(event(sent))
            expected = sum(READ) + (50 if kind == "parts" else 0)
            writer.write(whole[:50] if kind == "parts" else b"")
            await until(lambda expected=expected: sum(READ) >= expected)  # type: ignore[misc]
            if kind == "chunks":
                body = event(sent)
                chunked = f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
                whole = whole.partition(b"Content-Length")[0] + chunked
            count = 3 if kind == "pipelined" else 1
            whole = b"".join(request(event(sent + each)) for each in range(count)) if count > 1 else whole
            writer.write(whole[50:] if kind == "parts" else whole)
            sent += count
            for _ in range(count):
                assert (await read_answer(reader))[0] == b"HTTP/1.1 200 OK"
        writer.close()
    assert len(read_by_h11) == 6
    assert [json.loads(event(number)) for number in range(sent)] == await payloads(tmp_path / "calls.db")


class Gated:
    """A sink that waits."""

    is_open = True

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.received: list[bytes] = []
        self._calls = Dispatcher(Router())

    async def receive(self, payload: Any, dialect: Dialect | str | None = None) -> Outcome:
        """Wait, then receive."""
        self.received.append(payload)
        await self.gate.wait()
        async with self._calls as calls:
            return await calls.receive(payload, dialect)

    async def add_dead_letter(self, payload: bytes, error: Exception, dialect: Dialect | str) -> None:
        """Never called here."""
        raise NotImplementedError


async def test_a_request_inside_a_body_is_a_body() -> None:
    """And one behind half a head belongs to that head: a direct way in the middle of a request would let strangers hide one in another."""
    hidden = request(event(2))
    async with Dispatcher(Router()) as calls, serving(calls) as address:
        outer = request(hidden)
        head = outer[: -len(hidden)]
        assert (await answer_to(address, head, hidden))[2] == b'{"ok":true,"outcome":"dead letter"}'
        reader, writer = await connected(address)
        writer.write(request(event(1)) + b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-A: ")
        assert (await read_answer(reader))[0] == b"HTTP/1.1 200 OK"
        await asyncio.sleep(0.05)
        writer.write(hidden)
        assert (await read_to_the_end(reader)).startswith(b"HTTP/1.1 400")
        writer.close()
        assert [session.session_id for session in calls.live()] == ["s1"]


async def test_requests_before_the_answer_wait_for_it() -> None:
    """They are answered in order, and no more is read meanwhile than one read has."""
    calls = Gated()
    async with serving(calls) as address:
        reader, writer = await connected(address)
        bodies = [event(number) for number in range(4)]
        for body in bodies:
            writer.write(request(body))
            await asyncio.sleep(0.02)
        await until(lambda: calls.received)
        assert calls.received == bodies[:1]
        writer.write(b"x" * 1_000_000)
        await asyncio.sleep(0.1)
        assert len(READ) <= 2  # fewer where the bodies came together
        assert sum(READ) < 2 * protocol.MAX_HEAD
        writer.transport.abort()
        calls.gate.set()
        await asyncio.sleep(0.05)
        reader, writer = await connected(address)
        calls.gate.clear()
        calls.received.clear()
        for body in bodies:
            writer.write(request(body))
            await asyncio.sleep(0.02)
        calls.gate.set()
        for _ in bodies:
            assert (await read_answer(reader))[0] == b"HTTP/1.1 200 OK"
        assert calls.received == bodies
        writer.close()


async def test_a_server_that_stops_answers_first() -> None:
    """And then closes the connection."""
    calls = Gated()
    async with serving(calls) as address:
        reader, writer = await connected(address)
        writer.write(request(event(1)))
        await until(lambda: calls.received)
        asyncio.get_running_loop().call_later(0.2, calls.gate.set)
    status, headers, _ = await read_answer(reader)
    assert (status, headers["connection"]) == (b"HTTP/1.1 200 OK", "close")
    assert await reader.read() == b""
    writer.close()


async def test_a_sender_that_goes_away_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The event is kept; nothing is logged."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        caplog.clear()
        for number in range(20):
            _, writer = await connected(address)
            writer.write(request(event(number)))
            await asyncio.sleep(0)
            writer.transport.abort()
        await until(lambda: len(calls.live()) == 20)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_request_waits_for_so_long_and_is_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503, and the connection goes on to be used once it works again."""
    monkeypatch.setattr(time_limits, "_LOOK_EVERY", 0.02)
    calls = Gated()
    async with serving(calls, receive_timeout=0.2) as address:
        started = time.monotonic()
        status, headers, body = await answer_to(address, request(event(1)))
        assert time.monotonic() - started >= 0.2
        assert (status, headers["retry-after"], headers["connection"]) == (
            b"HTTP/1.1 503 Service Unavailable",
            "5",
            "close",
        )
        assert b"could not be taken in for 0.2 seconds" in body


async def test_a_failure_of_ours_is_one_line_and_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Daily retries what is answered with 500."""

    class Broken(Gated):
        async def receive(self, payload: Any, dialect: Dialect | str | None = None) -> Outcome:  # noqa: ARG002
            raise ZeroDivisionError("+12025550123")

    async with serving(Broken()) as address:
        for number in range(3):
            status, headers, _ = await answer_to(address, request(event(number)))
            assert (status, headers["connection"]) == (b"HTTP/1.1 500 Internal Server Error", "close")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == 1
    assert "ZeroDivisionError" in lines[0]
    assert "2025550123" not in lines[0]


@pytest.mark.long
async def test_an_idle_connection_is_closed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause, not after so many requests."""
    for phase in protocol._TIMEOUTS:
        monkeypatch.setitem(protocol._TIMEOUTS, phase, 0.3)
    async with Dispatcher(Router()) as calls, serve_webhooks(calls, secrets=[SECRET], port=0) as address:
        for _ in range(10):  # where the machine stands still, each pause may be one after which it is closed
            reader, writer = await connected(address)
            answers = 0
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                for number in range(6):
                    await asyncio.sleep(0.1)
                    sent_at = time.monotonic()
                    writer.write(request(event(number)))
                    assert (await read_answer(reader))[0] == b"HTTP/1.1 200 OK"
                    answers += 1
            if answers == 6:
                break
            writer.close()
        assert answers == 6
        assert await asyncio.wait_for(reader.read(), 30) == b""
        assert time.monotonic() - sent_at > 0.2
        writer.close()


@pytest.mark.long
async def test_answers_that_nobody_reads_stop_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain request after another, and no answer is ever read: the server does not keep them all, and cuts it off."""
    for phase in protocol._TIMEOUTS:
        monkeypatch.setitem(protocol._TIMEOUTS, phase, 0.4)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with (
        Dispatcher(Router()) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening) as address,
    ):
        _, writer = await connected(address, receive=65_536)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError), anyio.fail_after(20):
            await write_singly(writer, request(event(1)))
    assert sum(calls.counts.values()) < 2_000


async def write_singly(writer: asyncio.StreamWriter, what: bytes) -> None:
    """Write again and again, with a pause each time, so that each is one read, until the connection breaks."""
    while True:
        writer.write(what)
        await writer.drain()
        await asyncio.sleep(0.0005)


async def test_an_answer_is_one_write_and_is_sent_at_once() -> None:
    """The connections of a listening socket of the program's have TCP_NODELAY too."""
    listening = socket.create_server(("127.0.0.1", 0))
    async with (
        Dispatcher(Router()) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening) as address,
    ):
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        reader, writer = await connected(address)
        writer.write(request(event(1)))
        assert (await reader.read(1000)).endswith(b'{"ok":true,"outcome":"moved"}')
        writer.close()
        assert await read_to_the_end(reader) == b""
