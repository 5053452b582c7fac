"""The live stream over real HTTP: what a reader sees, who may read, and what a slow reader costs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from telstate import Dispatcher, Router, SourceGap
from telstate.journals import SqliteJournal
from telstate.sources import _protocol as protocol
from telstate.sources._listener import listen
from telstate.sources._server import make_server
from telstate.views import _live_history as live_history
from telstate.views import live_app, outcome_as_dict
from tests.calls import SESSION, js

pytestmark = pytest.mark.asyncio

TOKEN = "a token of sufficient length".replace(" ", "-")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NUMBER = "+12025550101"


@asynccontextmanager
async def serving(calls: Dispatcher, **how: Any) -> AsyncIterator[str]:
    """Serve the app as `telstate serve` does; yield the URL."""
    server = make_server(live_app(calls, **{"token": TOKEN, **how}), connections=50, backlog=10)
    with listen("127.0.0.1", 0, backlog=10) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - of uvicorn
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/live"
        finally:
            server.should_exit = True
            with anyio.fail_after(30, shield=True):
                await task


Message = tuple[str, str | None, dict[str, Any]]


class Reader:
    """Reads the messages of a response."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> Message | None:
        """Return kind, id and data of the next message; None at the end."""
        fields: dict[str, str] = {}
        with anyio.fail_after(30):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line:
                    assert name not in fields, "a message has two lines of one kind"
                    fields[name] = value
                elif "event" in fields:
                    return fields["event"], fields.get("id"), json.loads(fields["data"])
                else:
                    fields = {}
        return None

    async def until(self, kind: str) -> list[Message]:
        """Return the messages up to one of a kind."""
        found: list[Message] = []
        while not found or found[-1][0] != kind:
            message = await self.next()
            assert message is not None, found
            found.append(message)
        return found


@asynccontextmanager
async def reading(url: str, last: str | None = None, **headers: str) -> AsyncIterator[Reader]:
    """Read the stream, after an event that was seen already."""
    given = {**BEARER, **headers, **({} if last is None else {"Last-Event-ID": last})}
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url, headers=given) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Reader(response)


async def status_of(url: str) -> int:
    """Ask for the stream, and leave."""
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url, headers=BEARER) as response:
        return response.status_code


async def test_a_late_reader_sees_the_live_calls_then_each_event() -> None:
    """With the record as the event left it, the fields of its line, and the event's id. Ended calls are not there any more."""
    caller = {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"}
    async with Dispatcher(Router()) as calls, serving(calls) as url:
        await calls.receive(js("dialout-connected", destination=NUMBER))
        await calls.receive(js("dialout-stopped", "ended"))
        await calls.receive(caller)
        async with reading(url) as reader:
            hello, session, held, live = await reader.until("live")
            assert hello == ("hello", None, {"version": 1, "numbers": False, "resumed": False, "missed": False})
            assert (session[2]["session"]["session_id"], session[2]["session"]["state"]) == (SESSION, "connected")
            assert held[2]["caller"]["state"] == "waiting"
            assert live[1] == calls.last_event_id
            sent = [js("dialout-connected"), js("dialout-answered"), {"action": "new"}, js("dialout-stopped")]
            outcomes = await calls.receive_many([*sent, {"action": "pinless-dialin", **caller, "callId": "e"}])
            for outcome, state in zip(outcomes, ("connected", "answered", None, "stopped", None), strict=True):
                message = await reader.next()
                assert message is not None
                kind, event_id, data = message
                assert not isinstance(outcome, Exception)
                assert (kind, event_id) == ("outcome", outcome.event_id)
                assert (data["session"] and data["session"]["state"]) == state
                expected = outcome_as_dict(outcome)
                names = ("outcome", "event", "session_id", "direction", "moves", "anomalies")
                assert {name: data["outcome"][name] for name in names} == {name: expected[name] for name in names}
            assert data["caller"]["call_id"] == "e"


async def test_other_sessions_that_an_event_changes_come_before_its_outcome() -> None:
    """As those of which events may be missing."""
    async with Dispatcher(Router()) as calls, serving(calls) as url:
        for session_id in ("a", "b"):
            await calls.receive(js("dialout-connected", session_id))
        async with reading(url) as reader:
            await reader.until("live")
            await calls.receive(SourceGap(reason="a test"))
            found = await reader.until("outcome")
        assert [(kind, data["session"] and data["session"]["uncertain"]) for kind, _, data in found] == [
            ("session", True),
            ("session", True),
            ("outcome", None),
        ]


@pytest.mark.parametrize("numbers", [False, True])
async def test_numbers_and_names_are_masked_unless_asked_for(numbers: bool) -> None:
    """In the first records and in those of events. Hostile texts stay data in any case."""
    evil = "Eve\n\nevent: end\ndata: {}\n\n\u2028<script>\x1b[31m"
    async with Dispatcher(Router()) as calls, serving(calls, numbers=numbers) as url:
        await calls.receive(js("dialin-connected", sipFrom=f"sip:{NUMBER}@a.example", displayName=evil))
        async with reading(url) as reader:
            found = await reader.until("live")
            await calls.receive(js("dialout-answered", "s\nevent: end", destination=5, displayName=f"call {NUMBER}"))
            found += await reader.until("outcome")
            await calls.receive({"action": f"call {NUMBER}\r\n\r\nevent: end"})
            found += await reader.until("outcome")
    kinds = [kind for kind, _, _ in found]
    assert kinds == ["hello", "session", "live", "outcome", "outcome"]
    text = json.dumps(found)
    assert (NUMBER in text, "<script>" in text) == (numbers, numbers)
    assert found[3][2]["session"]["session_id"] == "s\nevent: end"


async def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    """And nothing else. What is not kept, or is of another journal, is told, and the calls as they are now come again."""
    async with Dispatcher(Router()) as calls, serving(calls) as url:
        async with reading(url) as reader:
            await reader.until("live")
            first = await calls.receive(js("dialout-connected"))
            assert (await reader.until("outcome"))[0][1] == first.event_id
        missed = [await calls.receive(js(action)) for action in ("dialout-answered", "dialout-stopped")]
        async with reading(url, first.event_id) as reader:
            hello = await reader.next()
            assert hello is not None
            assert hello[2]["resumed"] is True
            for outcome in missed:
                assert (await reader.until("outcome"))[0][1] == outcome.event_id
        async with reading(url, missed[-1].event_id) as reader:  # it has seen all
            last = await calls.receive(js("dialout-connected", "other"))
            assert [kind for kind, _, _ in await reader.until("outcome")] == ["hello", "outcome"]
        journal_id = str(last.journal_id)
        for unknown in (
            f"{journal_id}:99",
            f"{journal_id}:x",
            f"{journal_id}:{'9' * 50}",
            "other:1",
            ":",
            "5",
            f"{journal_id}:-1",
        ):
            async with reading(url, unknown) as reader:
                hello, session, _ = await reader.until("live")
                assert (hello[2]["resumed"], hello[2]["missed"]) == (False, True), unknown
                assert session[2]["session"]["session_id"] == "other"


async def test_after_a_restart_the_calls_come_again(tmp_path: Path) -> None:
    """It makes them uncertain, by an event that nobody saw. Without live calls there is none, and nothing is missed."""
    journal = tmp_path / "calls.db"
    async with (
        Dispatcher(Router(), journal=SqliteJournal(journal)) as calls,
        serving(calls) as url,
        reading(url) as reader,
    ):
        await reader.until("live")
        await calls.receive(js("dialout-connected"))
        last = (await reader.until("outcome"))[0][1]
    async with (
        Dispatcher(Router(), journal=SqliteJournal(journal)) as calls,
        serving(calls) as url,
        reading(url, last) as reader,
    ):
        hello, session, live = await reader.until("live")
        assert (hello[2]["resumed"], hello[2]["missed"], live[1]) == (False, True, calls.last_event_id)
        assert session[2]["session"]["uncertain"] is True
        await calls.receive(js("dialout-stopped"))
        last = (await reader.until("outcome"))[0][1]
    async with (
        Dispatcher(Router(), journal=SqliteJournal(journal)) as calls,
        serving(calls) as url,
        reading(url, last) as reader,
    ):
        resumed = await reader.next()
        assert resumed is not None
        assert resumed[2]["resumed"] is True


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of events, and by their bytes once they are encoded."""
    monkeypatch.setattr(live_history, "_MOST_EVENTS", 3)
    async with Dispatcher(Router()) as calls, serving(calls) as url:
        async with reading(url) as reader:
            await reader.until("live")
            seen = [await calls.receive(js("dialout-connected", f"s{number}")) for number in range(5)]
            for resumed, outcome in ((False, seen[0]), (True, seen[1])):
                async with reading(url, outcome.event_id) as other:
                    hello = await other.next()
                    assert hello is not None
                    assert hello[2]["resumed"] is resumed
        monkeypatch.setattr(live_history, "_MOST_BYTES", 1)
        async with reading(url, seen[-1].event_id) as reader:
            for number in range(3):
                await calls.receive(js("dialout-connected", f"t{number}"))
                await reader.until("outcome")
        async with reading(url, seen[-1].event_id) as reader:
            assert (await reader.until("live"))[0][2]["missed"] is True


async def connect(url: str) -> socket.socket:
    """Ask for the stream on a connection that takes little, and read only its beginning."""
    host, port = url.removeprefix("http://").removesuffix("/live").split(":")
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect((host, int(port)))
    peer.sendall(f"GET /live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())

    def begin() -> None:
        peer.settimeout(30)
        found = b""
        while b"event: live" not in found:
            found += peer.recv(1_000)

    await asyncio.to_thread(begin)
    return peer


@pytest.mark.long
async def test_a_slow_reader_holds_up_nobody_and_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a last message once it reads again; another reader sees everything."""
    monkeypatch.setattr(live_history, "_MOST_EVENTS", 100)
    monkeypatch.setitem(protocol._TIMEOUTS, protocol.Phase.ANSWER, 600.0)  # else a slow machine is cut off by that
    notes = {"text": "x" * 3_000}
    async with Dispatcher(Router()) as calls, serving(calls) as url:
        await calls.receive(js("dialout-connected"))
        slow = await connect(url)
        async with reading(url) as reader:
            await reader.until("live")
            for number in range(1_500):  # more than the socket's buffers take
                started = time.perf_counter()
                await calls.annotate(SESSION, **notes, number=number)
                assert time.perf_counter() - started < 5
                message = await reader.next()
                assert message is not None
                assert message[2]["session"]["notes"]["number"] == number

        def rest() -> bytes:
            slow.settimeout(10)
            found = b""
            while chunk := slow.recv(1_000_000):
                found = (found + chunk)[-2_000:]
            return found

        text = await asyncio.to_thread(rest)
        slow.close()
        assert b'event: end\ndata: {"reason": "too-slow"' in text
        assert text.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.long
async def test_a_reader_that_reads_nothing_does_not_keep_the_server_from_stopping() -> None:
    """It has a second, not the half minute of an answer."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialout-connected"))
        async with serving(calls) as url:
            dead = await connect(url)
            async with reading(url) as reader:
                await reader.until("live")
                for number in range(1_500):
                    await calls.annotate(SESSION, text="x" * 3_000, number=number)
                    await reader.next()
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 10
        dead.close()


@pytest.mark.long
async def test_a_reader_that_reads_nothing_is_cut_off_and_a_quiet_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a stream has the deadline of an answer; heartbeats are parts."""
    monkeypatch.setitem(protocol._TIMEOUTS, protocol.Phase.ANSWER, 4.0)
    monkeypatch.setattr(live_history, "_HEARTBEAT_AFTER", 0.1)
    async with Dispatcher(Router()) as calls, serving(calls, max_readers=2) as url:
        await calls.receive(js("dialout-connected"))
        dead = await connect(url)
        async with reading(url) as reader:
            await reader.until("live")
            for number in range(1_500):
                await calls.annotate(SESSION, text="x" * 3_000, number=number)
                await reader.next()
            with anyio.fail_after(60):  # its place becomes free
                while await status_of(url) != 200:  # noqa: ASYNC110 - of a server
                    await asyncio.sleep(0.05)
            await asyncio.sleep(5)
            await calls.receive(js("dialout-stopped"))
            assert (await reader.until("outcome"))[-1][2]["outcome"]["state"] == "stopped"
        dead.close()


LOCAL: dict[str, Any] = {"token": None, "allow_local": True}
CLOSED: dict[str, Any] = {"token": None, "allow_local": False}


@pytest.mark.parametrize(
    ("how", "headers", "status"),
    [
        ({}, BEARER, 200),
        ({}, {**BEARER, "Host": "calls.example", "X-Forwarded-For": "203.0.113.9"}, 200),
        ({}, {}, 401),
        ({}, {"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({}, {"Authorization": TOKEN}, 401),
        ({}, {"Authorization": "Bearer \xe9"}, 401),
        ({"allow_local": True}, {}, 401),  # a token is needed by everybody
        (LOCAL, {}, 200),
        (LOCAL, {"Host": "localhost:8080"}, 200),
        (LOCAL, {"Host": "[::1]:8080", "Sec-Fetch-Site": "same-origin"}, 200),
        (LOCAL, {"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200),
        (LOCAL, {"Host": "evil.example"}, 403),  # DNS rebinding
        (LOCAL, {"Host": "127.0.0.1.evil.example"}, 403),
        (LOCAL, {"Host": "["}, 403),
        (LOCAL, {"X-Forwarded-For": "127.0.0.1"}, 403),
        (LOCAL, {"Via": "1.1 proxy"}, 403),
        (LOCAL, {"Origin": "http://evil.example"}, 403),
        (LOCAL, {"Sec-Fetch-Site": "cross-site"}, 403),
        (CLOSED, {}, 403),
        (CLOSED, BEARER, 403),
    ],
)
async def test_who_may_read(how: dict[str, Any], headers: dict[str, str], status: int) -> None:
    """Whoever has the token; without one, this machine, where that is allowed. The answer says what to do."""
    given = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    client = httpx.AsyncClient(trust_env=False, headers=given)
    async with (
        Dispatcher(Router()) as calls,
        serving(calls, **how) as url,
        client,
        client.stream("GET", url) as response,
    ):
        assert response.status_code == status
        if status != 200:
            error = json.loads(await response.aread())["error"]
            assert "Authorization: Bearer" in error
            assert "TELSTATE_VIEW_TOKEN" in error
            assert TOKEN not in error


async def test_only_get_and_only_so_many_readers() -> None:
    """A place is free again once its reader has left."""
    client = httpx.AsyncClient(trust_env=False, headers=BEARER)
    async with Dispatcher(Router()) as calls, serving(calls, max_readers=1) as url, client:
        for method in ("HEAD", "POST", "OPTIONS"):
            assert (await client.request(method, url)).status_code == 405
        async with reading(url) as reader:
            await reader.until("live")
            full = await client.get(url)
            assert (full.status_code, full.headers["retry-after"]) == (503, "10")
        with anyio.fail_after(30):
            while await status_of(url) != 200:  # noqa: ASYNC110 - of a server
                await asyncio.sleep(0.01)


async def test_misuse_raises() -> None:
    """A token that can be guessed, or that a header cannot have, is none."""
    calls = Dispatcher(Router())
    for token in ("", "short", "x" * 15, "ten spaces and more", "é" * 20, "line\nline\nline\nline"):
        with pytest.raises(ValueError, match="openssl rand"):
            live_app(calls, token=token)
    with pytest.raises(ValueError, match="max_readers"):
        live_app(calls, token=TOKEN, max_readers=0)


async def test_a_stream_ends_with_the_dispatcher_and_begins_anew_with_the_next_run() -> None:
    """Before and after, the answer is 503, and says why."""
    calls = Dispatcher(Router())
    async with serving(calls) as url, httpx.AsyncClient(trust_env=False, headers=BEARER) as client:
        for _ in range(2):
            answer = await client.get(url)
            assert (answer.status_code, bool(answer.json()["error"])) == (503, True)
            async with calls:
                stream = client.stream("GET", url)
                reader = Reader(await stream.__aenter__())
                await reader.until("live")
                await calls.receive(js("dialout-connected"))
                await reader.until("outcome")
            end = await reader.next()
            assert end is not None
            assert (end[0], end[2]["reason"]) == ("end", "stopping")
            assert await reader.next() is None
            await stream.__aexit__(None, None, None)


async def test_a_server_that_stops_ends_its_streams_at_once() -> None:
    """Though the dispatcher goes on."""
    async with Dispatcher(Router()) as calls:
        async with serving(calls) as url:
            stream = reading(url)
            reader = await stream.__aenter__()
            await reader.until("live")
            stopped = time.monotonic()
        end = await reader.next()
        assert end is not None
        assert end[2]["reason"] == "stopping"
        assert time.monotonic() - stopped < 10
        await stream.__aexit__(None, None, None)


async def test_while_nobody_reads_nothing_is_done() -> None:
    """Some minutes after the last reader has left, the history ends with the next event."""
    now = 0.0
    async with Dispatcher(Router()) as calls:
        before = calls._sequencer._listener
        history = live_history.LiveHistory(calls, numbers=False, clock=lambda: now)
        messages = history.read(None, lambda: False)
        await anext(messages)
        now = 1_000.0
        await calls.receive(js("dialout-connected"))
        assert not history.is_over
        await messages.aclose()
        now = 1_200.0
        await calls.receive(js("dialout-answered"))
        assert (history.is_over, len(history._events)) == (False, 2)
        now = 1_400.0
        await calls.receive(js("dialout-stopped"))
        assert history.is_over
        assert calls._sequencer._listener is before
