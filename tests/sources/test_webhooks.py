"""The receiver over real HTTP: requests of Daily, of others, and the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
import structlog
from fastapi import FastAPI
from starlette.applications import Starlette

from telstate import Dialect, Dispatcher, Engine, Event, Outcome, ParseError, Router, State, parse
from telstate.journals import SqliteJournal
from telstate.routing._ports import DeadLetter, Entry
from telstate.sources import _webhooks as webhooks
from telstate.sources import webhook_app
from telstate.sources._signatures import PINLESS, Secret, sign
from telstate.testing import WebhookSender
from telstate.testing._sender import body_of
from tests.sources.live import payloads
from tests.sources.serving import serving

pytestmark = pytest.mark.asyncio

SECRET, OTHER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "c29tZXRoaW5nIGVsc2U="
ANSWERED = {
    "version": "1.0.0",
    "type": "dialout.answered",
    "id": "1-dial-out-ans-s",
    "payload": {"session_id": "s", "room": "lobby", "destination": "+12025550101", "timestamp": "1730000000"},
    "event_ts": 1730000001.5,
}


def dispatcher(path: Path, router: Router | None = None, **how: Any) -> Dispatcher:
    """A dispatcher with a journal, as a service has."""
    return Dispatcher(router or Router(), journal=SqliteJournal(path / "calls.db"), **how)


@asynccontextmanager
async def receiving(calls: Dispatcher, **how: Any) -> AsyncIterator[str]:
    """Serve the receiver; yield its URL."""
    async with serving(webhook_app(calls, **{"secrets": [SECRET], **how})) as url:
        yield url


async def kept(path: Path) -> list[Any]:
    """Return the payloads in the journal."""
    return await payloads(path / "calls.db")


async def test_a_signed_event_is_kept_stepped_and_handled(tmp_path: Path) -> None:
    """The answer has the outcome; sent again, it is a duplicate."""
    router, handled = Router(), []

    @router.on(Event)
    async def handle(event: Event) -> None:
        handled.append(event.action)

    calls = dispatcher(tmp_path, router)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        answer = await sender.post(ANSWERED)
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "outcome": "moved"})
        assert (await sender.post(ANSWERED)).json() == {"ok": True, "outcome": "duplicate"}
        session = calls.session("s")
        assert session is not None
        assert (session.state, session.room, session.duplicates) == (State.ANSWERED, "lobby", 1)
        await calls.idle()
        assert handled == ["dialout-answered"]
    assert await kept(tmp_path) == [ANSWERED, ANSWERED]


async def test_handlers_run_after_the_answer(tmp_path: Path) -> None:
    """A slow one delays no answer."""
    router, may_end = Router(), asyncio.Event()

    @router.on(Event)
    async def handle() -> None:
        await may_end.wait()

    calls = dispatcher(tmp_path, router)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        assert (await sender.post(ANSWERED)).status_code == 200
        assert calls.sizes()["pending"] == 1
        may_end.set()


async def test_bad_signatures_are_refused_and_change_nothing(tmp_path: Path) -> None:
    """Wrong, truncated, missing, of another body, too old; the answer does not say which."""
    body = body_of(ANSWERED)
    now = f"{time.time():.0f}"
    right = sign(Secret(SECRET), now, body)
    old = sign(Secret(SECRET), f"{time.time() - 7300:.0f}", body)
    signature, timestamp = "x-webhook-signature", "x-webhook-timestamp"
    wrong = [
        {},
        {timestamp: now},
        {signature: right[signature]},
        {**right, signature: right[signature][:-4]},
        {**right, signature: ""},
        {**right, timestamp: "0"},
        sign(Secret(OTHER), now, body),
        sign(Secret(SECRET), now, body + b" "),
        sign(Secret(OTHER), now, body, PINLESS),
        old,
    ]
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, httpx.AsyncClient() as client:
        for headers in wrong:
            answer = await client.post(f"{url}/webhooks", content=body, headers=headers)
            assert answer.status_code == 401
            assert answer.json() == {"error": "not signed with a known secret, or too old"}
        assert sum(calls.counts.values()) == 0
        assert (await client.post(f"{url}/webhooks", content=body, headers=right)).status_code == 200
    assert await kept(tmp_path) == [ANSWERED]


async def test_secrets_can_be_rotated(tmp_path: Path) -> None:
    """Both are valid at the same time."""
    calls = dispatcher(tmp_path)
    async with receiving(calls, secrets=[OTHER, SECRET]) as url:
        for secret in (SECRET, OTHER):
            async with WebhookSender(f"{url}/webhooks", secret) as sender:
                assert (await sender.post(ANSWERED)).status_code == 200


@pytest.mark.parametrize("body", [b'{"test":"test"}', b'{"Test": "test"}', b'{"To":"+12025550100"}'])
@pytest.mark.parametrize("path", ["/webhooks", "/pinless", "/sip-trunk"])
async def test_dailys_test_requests_are_answered_and_not_kept(tmp_path: Path, path: str, body: bytes) -> None:
    """They come when a webhook is created, perhaps before there is a secret."""
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, httpx.AsyncClient() as client:
        assert (await client.post(url + path, content=body)).status_code == 200
    assert await kept(tmp_path) == []


async def test_a_signed_body_that_cannot_be_read_becomes_a_dead_letter(tmp_path: Path) -> None:
    """Byte for byte, and is answered with 200: after three failures Daily would switch the webhook off."""
    bodies = [
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe\x00",
        b'{"type": "dialout.answered", "id": "2", "payload": {"session_id": 5}}',
    ]
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        for body in bodies:
            answer = await sender.post(body)
            assert (answer.status_code, answer.json()) == (200, {"ok": True, "outcome": "dead letter"})
        assert sum(calls.counts.values()) == 0
    async with dispatcher(tmp_path) as again:
        letters = [kept.letter for kept in await again.dead_letters.list()]
    assert [(letter.seq, letter.payload, letter.dialect) for letter in letters] == [
        (0, body, "webhook") for body in bodies
    ]
    assert {letter.reason for letter in letters} == {"ParseError"}


async def test_local_events_are_not_accepted_from_outside(tmp_path: Path) -> None:
    """A signed request cannot claim that this program asked for a stop; unknown types are accepted."""
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        for payload, outcome in (
            ({"action": "stop-requested", "sessionId": "s"}, "dead letter"),
            ({"type": "stop-requested", "id": "1", "payload": {"session_id": "s"}}, "dead letter"),
            ({"type": "dialout.hummed", "id": "2", "payload": {"session_id": "s"}}, "noted"),
        ):
            assert (await sender.post(payload)).json()["outcome"] == outcome
        assert calls.live() == []


async def test_a_long_body_is_refused_before_it_is_complete(tmp_path: Path) -> None:
    """With or without a length; the connection is closed."""
    calls = dispatcher(tmp_path)
    async with receiving(calls, max_body=10_000) as url:
        for how in ("Content-Length: 1000000000", "Transfer-Encoding: chunked"):
            part = b"1000\r\n" + b"x" * 0x1000 + b"\r\n" if "chunked" in how else b"x" * 0x1000
            assert (await half_sent(url, how, part * 3)).startswith(b"HTTP/1.1 413")
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            padded = {**ANSWERED, "padding": "x" * (10_000 - len(body_of({**ANSWERED, "padding": ""})))}
            assert (await sender.post(padded)).status_code == 200


async def test_a_slow_body_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender has not proved anything yet."""
    monkeypatch.setattr(webhooks, "_READ_TIMEOUT", 0.3)
    async with receiving(dispatcher(tmp_path)) as url:
        started = time.monotonic()
        assert (await half_sent(url, "Content-Length: 100", b"{")).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started > 0.2


async def test_over_the_budget_the_oldest_body_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503 and Retry-After. A stranger who uses it up keeps nobody out."""
    monkeypatch.setattr(webhooks, "_UNVERIFIED", 100_000)
    forged = "X-Webhook-Signature: a\r\nX-Webhook-Timestamp: 1\r\nContent-Length: 25000"
    async with receiving(dispatcher(tmp_path), max_body=25_000) as url:
        strangers = [asyncio.create_task(half_sent(url, forged, b"x" * 24_000)) for _ in range(6)]
        with anyio.fail_after(30):
            while sum(task.done() for task in strangers) < 2:  # noqa: ASYNC110 - it waits for two of them
                await asyncio.sleep(0.02)
        done = [task for task in strangers if task.done()]
        answers = [task.result() for task in done]
        assert all(answer.startswith(b"HTTP/1.1 503") and b"retry-after: 5" in answer for answer in answers)
        await asyncio.sleep(0.1)
        assert sum(task.done() for task in strangers) == 2  # the other four fit
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            for _ in range(3):
                assert (await sender.post({**ANSWERED, "padding": "x" * 20_000})).status_code == 200
        for task in strangers:
            task.cancel()


async def test_a_body_that_is_announced_as_too_long_is_not_read(tmp_path: Path) -> None:
    """Not a byte of it; an unsigned one of 201 bytes is too long."""
    signature = "X-Webhook-Signature: a\r\nX-Webhook-Timestamp: 1\r\n"
    async with receiving(dispatcher(tmp_path)) as url:
        for how, status in ((f"{signature}Content-Length: 65537", b"413"), ("Content-Length: 201", b"401")):
            assert (await half_sent(url, how, b"")).startswith(b"HTTP/1.1 " + status)


async def test_refused_requests_write_one_line_for_each_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send them. Numbers in a reason, such as the age of a signature, make it no other reason."""
    async with receiving(dispatcher(tmp_path)) as url:
        for age in range(30):
            for secret in (SECRET, OTHER):
                async with WebhookSender(f"{url}/webhooks", secret, clock=partial(float, 9e8 + age)) as sender:
                    assert (await sender.post(ANSWERED)).status_code == 401
    errors = [record.getMessage() for record in caplog.records if record.getMessage().startswith("webhook.refused")]
    assert len(errors) == 2
    assert any("seconds old" in error for error in errors)
    assert any("another secret" in error for error in errors)


async def half_sent(url: str, how: str, part: bytes) -> bytes:
    """Send the beginning of a request and return the answer, once the server closes."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST /webhooks HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode() + part)
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def test_under_pressure_a_request_waits_and_is_then_refused(tmp_path: Path) -> None:
    """With 503 and Retry-After, and without effect; once there is room, it is accepted."""
    router, may_end = Router(), asyncio.Event()

    @router.on(Event)
    async def handle() -> None:
        await may_end.wait()

    calls = dispatcher(tmp_path, router, pending_limit=1)
    second = {**ANSWERED, "id": "2", "payload": {"session_id": "t", "timestamp": "1730000000"}}
    hasty = webhook_app(calls, secrets=[SECRET], receive_timeout=0.3)
    async with (
        receiving(calls) as patient_url,
        serving(hasty, lifespan="off") as hasty_url,
        WebhookSender(f"{patient_url}/webhooks", SECRET) as patient,
        WebhookSender(f"{hasty_url}/webhooks", SECRET) as sender,
    ):
        assert (await patient.post(ANSWERED)).status_code == 200
        started = time.monotonic()
        answer = await sender.post(second)
        assert time.monotonic() - started > 0.25
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert calls.session("t") is None
        held = asyncio.create_task(patient.post(second))
        await asyncio.sleep(0.1)
        may_end.set()
        assert (await held).status_code == 200
        assert calls.session("t") is not None


class FullJournal(SqliteJournal):
    """A journal on a disk that is full for a while."""

    full = True

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Fail, or append."""
        if self.full:
            raise OSError(28, "No space left on device")
        return await super().append(entries)


async def test_an_event_that_cannot_be_kept_is_not_acknowledged(tmp_path: Path) -> None:
    """Daily retries it."""
    journal = FullJournal(tmp_path / "calls.db")
    calls = Dispatcher(Router(), journal=journal)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET, pauses=(0.1, 0.1)) as sender:
        assert (await sender.post(ANSWERED)).status_code == 503
        assert calls.session("s") is None
        delivery = asyncio.create_task(sender.deliver(ANSWERED))
        await asyncio.sleep(0.15)
        journal.full = False
        assert await delivery
        assert calls.session("s") is not None
    assert await kept(tmp_path) == [ANSWERED]


async def test_without_a_secret_only_local_requests_are_accepted(tmp_path: Path) -> None:
    """None through a proxy, which anybody could use."""
    calls = dispatcher(tmp_path)
    async with receiving(calls, secrets=[]) as url, httpx.AsyncClient() as client:
        body = body_of(ANSWERED)
        for header in (
            *(
                "Forwarded",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "X-Real-IP",
                "Via",
                "CF-Connecting-IP",
                "True-Client-IP",
            ),
            *("Origin", "Host"),  # a page in a local browser, or a proxy that passes only its own name
        ):
            answer = await client.post(f"{url}/webhooks", content=body, headers={header: "evil.example"})
            assert answer.status_code == 401, header
        assert (await client.post(f"{url}/webhooks", content=body)).status_code == 200
    remote = httpx.AsyncClient(
        transport=httpx.ASGITransport(webhook_app(dispatcher(tmp_path / "other")), client=("203.0.113.9", 1)),
        base_url="http://x",
    )
    assert (await remote.post("/webhooks", content=body)).status_code == 401


async def test_a_caller_on_hold_is_received_on_pinless(tmp_path: Path) -> None:
    """Signed in its own headers, with milliseconds."""
    caller = {"To": "+12025550100", "From": "+12025550101", "callId": "c-1", "callDomain": "d"}
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, WebhookSender(f"{url}/pinless", SECRET) as sender:
        assert (await sender.post(caller)).json() == {"ok": True, "outcome": "noted"}
        assert calls.sizes()["callers"] == 1


async def test_it_mounts_into_fastapi(tmp_path: Path) -> None:
    """The app's lifespan enters the dispatcher; its own routes work beside it."""
    calls = dispatcher(tmp_path)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with calls:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/daily", webhook_app(calls, secrets=[SECRET]))

    @app.get("/live")
    async def live() -> list[str]:
        return [session.session_id for session in calls.live()]

    async with serving(app) as url, httpx.AsyncClient() as client:
        async with WebhookSender(f"{url}/daily/webhooks", SECRET) as sender:
            assert (await sender.post(ANSWERED)).status_code == 200
        assert (await client.get(f"{url}/live")).json() == ["s"]
        assert (await client.get(f"{url}/daily/health")).json() == {"ok": True}


async def test_without_a_lifespan_every_event_is_refused(tmp_path: Path) -> None:
    """With 503, and it is not ready, though the process lives."""
    calls = dispatcher(tmp_path)
    app = Starlette()
    app.mount("/daily", webhook_app(calls, secrets=[SECRET]))
    async with serving(app) as url, httpx.AsyncClient() as client:
        async with WebhookSender(f"{url}/daily/webhooks", SECRET) as sender:
            assert (await sender.post(ANSWERED)).status_code == 503
        ready = await client.get(f"{url}/daily/ready")
        assert (ready.status_code, ready.json()) == (503, {"ok": False, "error": "it is not running"})
        assert (await client.get(f"{url}/daily/health")).status_code == 200


async def test_other_methods_and_paths(tmp_path: Path) -> None:
    """404 and 405."""
    async with receiving(dispatcher(tmp_path)) as url, httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/webhooks")).status_code == 405
        assert (await client.post(f"{url}/")).status_code == 404


async def test_almost_nothing_of_an_unsigned_body_is_read(tmp_path: Path) -> None:
    """It can only be one of Daily's tests, so it cannot fill the memory."""
    async with receiving(dispatcher(tmp_path)) as url:
        assert (await half_sent(url, "Content-Length: 60000", b"x" * 201)).startswith(b"HTTP/1.1 401")


async def test_a_trailing_slash_is_accepted(tmp_path: Path) -> None:
    """Daily counts a redirect as a failure."""
    async with receiving(dispatcher(tmp_path)) as url, WebhookSender(f"{url}/webhooks/", SECRET) as sender:
        assert (await sender.post(ANSWERED)).status_code == 200


class BrokenLog:
    """A log that cannot be written."""

    def msg(self, _: str) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")

    log = debug = info = warn = warning = error = critical = exception = msg


async def test_a_log_that_cannot_be_written_changes_no_answer(tmp_path: Path) -> None:
    """A dead letter is kept before anything is logged."""
    structlog.configure(logger_factory=lambda *_: BrokenLog())
    try:
        calls = dispatcher(tmp_path)
        async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
            assert (await sender.post(b"{")).status_code == 200
            assert (await sender.post(ANSWERED, X_Webhook_Signature="AAAA")).status_code == 401
            assert (await sender.post(ANSWERED)).status_code == 200
            assert len(await calls.dead_letters.list()) == 1
    finally:
        structlog.reset_defaults()


class NoDeadLetters(SqliteJournal):
    """A journal that keeps events, but no dead letters for a while."""

    refuses = True

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Fail, or keep them."""
        if self.refuses:
            raise OSError(28, "No space left on device")
        await super().add_dead_letters(letters)


async def test_a_dead_letter_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    """It is sent again, and is one dead letter then."""
    journal = NoDeadLetters(tmp_path / "calls.db")
    calls = Dispatcher(Router(), journal=journal)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        for _ in range(3):
            assert (await sender.post(b"{")).status_code == 503
        journal.refuses = False
        assert (await sender.post(b"{")).status_code == 200
        assert len(await calls.dead_letters.list()) == 1


async def test_a_repeated_caller_on_hold_is_a_duplicate(tmp_path: Path) -> None:
    """Daily retries, and no second room is prepared; another caller is new."""
    caller = {"To": "+12025550100", "From": "+12025550101", "callId": "c-1", "callDomain": "d"}
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, WebhookSender(f"{url}/pinless", SECRET) as sender:
        outcomes = [(await sender.post(each)).json()["outcome"] for each in (caller, caller, {**caller, "callId": "c"})]
    assert outcomes == ["noted", "duplicate", "noted"]


async def test_wrong_options_raise_at_once() -> None:
    """A single secret instead of a list, and numbers that are not positive."""
    for wrong in ({"tolerance": 0}, {"tolerance": float("nan")}, {"max_body": 0}, {"receive_timeout": -1}):
        with pytest.raises(ValueError, match="must be above 0"):
            webhook_app(Dispatcher(Router()), secrets=[SECRET], **wrong)
    with pytest.raises(TypeError, match="takes a list of secrets"):
        webhook_app(Dispatcher(Router()), secrets=SECRET)
    with pytest.raises(ValueError, match="base64"):
        webhook_app(Dispatcher(Router()), secrets=["no base64!"])
    with pytest.raises(TypeError, match="expected a Dispatcher"):
        webhook_app(cast("Any", Router()), secrets=[SECRET])


async def test_neither_bodies_nor_numbers_nor_secrets_are_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """For refused and for unreadable requests."""
    number = "+12025550187"
    calls = dispatcher(tmp_path)
    async with receiving(calls) as url, WebhookSender(f"{url}/webhooks", SECRET) as sender:
        await sender.post(b'{"type": 5, "id": "1", "payload": {"destination": "%s"}}' % number.encode())
        await sender.post(number.encode())
        await sender.post(ANSWERED, X_Webhook_Signature="AAAA")
    assert "".join(capsys.readouterr()) == ""
    logged = caplog.text
    assert "payload.dead_letter" in logged
    assert "webhook.refused" in logged
    assert number not in logged
    assert SECRET not in logged
    assert "AAAA" not in logged


class Publisher:
    """A sink that is not a dispatcher, and not a context manager."""

    is_open = True

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.dead_letters: list[bytes] = []
        self._engine = Engine()

    async def receive(self, payload: Any, dialect: Dialect | str | None = None) -> Outcome:
        """Publish an event."""
        event = parse(payload, dialect)
        self.received.append(payload)
        return self._engine.receive(event)

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:  # noqa: ARG002
        """Publish a dead letter."""
        self.dead_letters.append(payload)


async def test_any_event_sink_can_receive() -> None:
    """A publisher to a broker, for example."""
    sink = Publisher()
    async with (
        serving(webhook_app(sink, secrets=[SECRET])) as url,
        WebhookSender(f"{url}/webhooks", SECRET) as sender,
    ):
        assert (await sender.post(ANSWERED)).json() == {"ok": True, "outcome": "moved"}
        assert (await sender.post(b"{")).json() == {"ok": True, "outcome": "dead letter"}
    assert (sink.received, sink.dead_letters) == ([body_of(ANSWERED)], [b"{"])
