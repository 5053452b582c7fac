"""Receivers publish what they verified: each event to its room's partition, answered when the stream has it, never lost silently."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog

from telstate import JournalError, NotRunning, ParseError
from telstate.errors import EventTooLarge
from telstate.events import Dialect, DialoutAnswered, SourceGap, StopRequested
from telstate.journals.nats import Names, NatsConnection, Published, Publisher, StreamSettings, declare
from telstate.journals.nats import _publisher as publishing
from telstate.journals.nats._connection import Stored
from telstate.journals.nats._errors import NatsUnavailable, StreamFull
from telstate.journals.nats._names import partition_of, room_token
from telstate.journals.nats._records import record_of
from telstate.sources import webhook_app
from telstate.testing import WebhookSender
from tests.nats_server import NatsServer
from tests.routing import until
from tests.sources.serving import serving
from tests.sources.test_trunk import INCOMING

pytestmark = pytest.mark.anyio

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SMALL = StreamSettings(partitions=8, max_bytes=1 << 20)
PINLESS = {"To": "+12025550100", "From": "+12025550142", "callId": "call-7", "callDomain": "d"}


def webhook(session: str, room: str | None = "lobby", **more: Any) -> dict[str, Any]:
    """A webhook about a session."""
    payload = {"session_id": session, "timestamp": "1730000000", **({} if room is None else {"room": room}), **more}
    return {
        "version": "1.0.0",
        "type": "dialout.answered",
        "id": f"id-{session}",
        "payload": payload,
        "event_ts": 1.7e9,
    }


@pytest.fixture
async def publisher(connection: NatsConnection, names: Names) -> AsyncGenerator[Publisher, None]:
    """A publisher to streams that are declared."""
    await declare(connection, names, SMALL)
    async with Publisher(connection, names) as opened:
        yield opened


async def last(connection: NatsConnection, names: Names) -> Stored:
    """The last message of the events."""
    found = await connection.last(names.events, names.events_of("*"))
    assert found is not None
    return found


async def test_an_event_is_in_the_stream_when_receive_returns(
    publisher: Publisher, connection: NatsConnection, names: Names
) -> None:
    """In the partition of its room, as a receiver's, with its time and its dialect; its number is known."""
    before = time.time()
    receipt = await publisher.receive(webhook("s1"), Dialect.WEBHOOK)
    found = await last(connection, names)
    assert receipt == Published(found.seq)
    assert found.subject == names.events_in(partition_of("lobby", 8))
    record = record_of(found)
    assert (record.dialect, before - 0.01 <= record.at <= time.time()) == ("webhook", True)
    assert b'"session_id":"s1"' in record.payload.replace(b" ", b"")


@pytest.mark.parametrize(
    ("payload", "token"),
    [
        (webhook("s1"), "lobby"),
        (webhook("s1", "a room.of > people"), room_token("a room.of > people")),
        (PINLESS, "call-7"),
        (INCOMING, "r1"),
        ({"type": "meeting.ended", "id": "m", "payload": {"room": "lobby"}}, "lobby"),
        ({"type": "dialin.ready", "id": "m", "payload": {"room": "lobby", "sip_endpoint": "a@b"}}, "lobby"),
        ({"type": "recording.started", "id": "m", "payload": {"room": "lobby"}}, "lobby"),
    ],
)
async def test_the_partition_follows_from_the_room_or_the_waiting_caller(
    publisher: Publisher, connection: NatsConnection, names: Names, payload: Any, token: str
) -> None:
    """Or from the scope, if one is given. Nothing is said in the log then."""
    with structlog.testing.capture_logs() as logs:
        await publisher.receive(payload, Dialect.WEBHOOK)
        assert (await last(connection, names)).subject == names.events_in(partition_of(token, 8))
        await publisher.receive(payload, Dialect.WEBHOOK, scope="elsewhere")
        assert (await last(connection, names)).subject == names.events_in(partition_of("elsewhere", 8))
    assert [line for line in logs if line["event"] == "publisher.without_room"] == []


@pytest.mark.parametrize(
    ("payload", "token"),
    [
        (webhook("s1", None), "s1"),
        ({"type": "meeting.ended", "id": "m", "payload": {}}, "unscoped"),
        ({"type": "meeting.ended", "id": "m", "payload": {"domain_id": "dom"}}, "dom"),
        ({"type": "never.heard.of", "id": "m", "payload": {}}, "unscoped"),
    ],
)
async def test_an_event_without_a_room_is_kept_and_the_log_says_where(
    publisher: Publisher, connection: NatsConnection, names: Names, payload: Any, token: str
) -> None:
    """Under what it does name, so that all such events of one session are together."""
    with structlog.testing.capture_logs() as logs:
        await publisher.receive(payload, Dialect.WEBHOOK)
    assert (await last(connection, names)).subject == names.events_in(partition_of(token, 8))
    (line,) = [line for line in logs if line["event"] == "publisher.without_room"]
    assert (line["scope"], line["log_level"]) == (token, "warning")


async def test_what_only_an_owner_knows_is_refused(
    publisher: Publisher, connection: NatsConnection, names: Names
) -> None:
    """As an object too: the owner would not believe it. A gap of a source is one that a receiver knows."""
    with pytest.raises(ParseError, match="owner of its partition"):
        await publisher.receive(StopRequested(session_id="s"))
    with pytest.raises(ParseError):
        await publisher.receive({"action": "stop-requested", "sessionId": "s"})
    assert await connection.last(names.events, names.events_of("*")) is None
    await publisher.receive(SourceGap(reason="reconnected", room="lobby"))
    await publisher.receive(DialoutAnswered(session_id="s", room="lobby"))
    assert (await last(connection, names)).subject == names.events_in(partition_of("lobby", 8))


async def test_what_is_no_event_raises_and_can_be_kept(
    publisher: Publisher, connection: NatsConnection, names: Names
) -> None:
    """Its bytes are in the stream as they came; whoever steps them makes them a dead letter."""
    raw = b'{"type": 3, \xff'
    with pytest.raises(ParseError) as caught:
        await publisher.receive(raw, Dialect.WEBHOOK)
    with structlog.testing.capture_logs() as logs:
        await publisher.add_dead_letter(raw, caught.value, Dialect.WEBHOOK)
    assert (await last(connection, names)).data == raw
    assert [line["log_level"] for line in logs] == ["error"]


async def test_while_no_server_answers_it_says_where_it_looked(names: Names) -> None:
    """`/ready` shows that, also before the first answer."""
    publisher = Publisher(NatsConnection("nats://127.0.0.1:9"), names)
    async with anyio.create_task_group() as group:
        group.start_soon(publisher.__aenter__)
        await until(lambda: publisher.not_ready == "no NATS server has answered at 127.0.0.1:9 yet")
        group.cancel_scope.cancel()
    assert publisher.not_ready == "it is not connected: it has not started, or has stopped"


async def test_without_a_stream_it_starts_and_says_what_is_missing(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the order in which receivers and workers start does not matter."""
    monkeypatch.setattr(publishing, "_LOOK_EVERY", 0.05)
    async with Publisher(connection, names) as publisher:
        assert "no stream for it is declared" in str(publisher.not_ready)
        began = time.monotonic()
        with pytest.raises(NatsUnavailable, match="no stream for it is declared"):
            await publisher.receive(webhook("s1"), Dialect.WEBHOOK)
        assert time.monotonic() - began < 10  # senders do not wait for what a worker has yet to declare
        await declare(connection, names, SMALL)
        await until(lambda: publisher.not_ready is None)
        assert await publisher.receive(webhook("s1"), Dialect.WEBHOOK) == Published(1)
        publisher.shut_down()
        assert str(publisher.not_ready) == "it is stopping"
        assert publisher.is_stopping
        assert publisher.is_open
        assert await publisher.receive(webhook("s2"), Dialect.WEBHOOK) == Published(2)
    assert not publisher.is_open
    with pytest.raises(NotRunning):
        await publisher.receive(webhook("s3"), Dialect.WEBHOOK)
    assert connection.is_connected, "it closes only a connection that it has opened"


async def test_looking_stores_nothing(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looks."""
    monkeypatch.setattr(publishing, "_LOOK_EVERY", 0.01)
    await declare(connection, names, SMALL)
    async with Publisher(connection, names) as publisher:
        await anyio.sleep(0.3)
        await until(lambda: publisher.not_ready is None)  # a look that got no answer within 10 ms is no answer
    assert (await connection.ask(f"STREAM.INFO.{names.events}"))["state"]["last_seq"] == 0


async def test_a_full_stream_is_an_error_at_once_and_passes(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not ready then, with the reason, until an event was kept or some time has passed; looking proves nothing."""
    monkeypatch.setattr(publishing, "_LOOK_EVERY", 0.1)
    await declare(connection, names, SMALL)
    async with Publisher(connection, names) as publisher:

        async def fill() -> None:
            while True:
                await publisher.receive(webhook("s1", filler="x" * 60_000), Dialect.WEBHOOK)

        with pytest.raises(StreamFull):
            await fill()
        await anyio.sleep(0.3)
        await until(
            lambda: "maximum bytes exceeded" in str(publisher.not_ready)
        )  # a look without an answer comes first
        monkeypatch.setattr(publishing, "_FULL_FOR", 0.05)
        with pytest.raises(StreamFull):
            await fill()
        await connection.ask(f"STREAM.PURGE.{names.events}")
        await until(lambda: publisher.not_ready is None)
        await publisher.receive(webhook("s1"), Dialect.WEBHOOK)


async def test_an_event_waits_for_a_server_that_is_away(nats_server: NatsServer, names: Names) -> None:
    """And is stored once. Meanwhile it is not ready, and says which server does not answer."""
    async with Publisher(NatsConnection(nats_server.url), names) as publisher, NatsConnection(nats_server.url) as other:
        await declare(other, names, SMALL)
        assert await publisher.receive(webhook("s0"), Dialect.WEBHOOK) == Published(1)
        nats_server.kill()
        found: list[Published] = []

        async def receive() -> None:
            found.append(await publisher.receive(webhook("s1"), Dialect.WEBHOOK))

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await until(lambda: "no NATS server answers at 127.0.0.1" in str(publisher.not_ready))
            nats_server.start()
        assert found == [Published(2)]
        assert (await other.ask(f"STREAM.INFO.{names.events}"))["state"]["messages"] == 2


async def test_nobody_to_talk_to_is_an_error_at_the_start(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is noticed by whoever starts it."""
    connection = NatsConnection("nats://127.0.0.1:1")
    monkeypatch.setattr(connection, "open", lambda: NatsConnection.open(connection, 0.2))
    with pytest.raises(JournalError, match=r"no connection to NATS at 127\.0\.0\.1:1"):
        async with Publisher(connection, names):
            pass


# --- behind the webhooks ------------------------------------------------------------------------------------------


async def test_webhooks_are_answered_when_the_stream_has_them(
    publisher: Publisher, connection: NatsConnection, names: Names
) -> None:
    """An unreadable one too, as a dead letter; without a valid signature nothing is published."""
    async with serving(webhook_app(publisher, secrets=[SECRET]), lifespan="off") as url, httpx.AsyncClient() as client:
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            answer = await sender.post(webhook("s1"))
            assert (answer.status_code, answer.json()) == (200, {"ok": True, "outcome": "published"})
            answer = await sender.post({"type": 3})
            assert (answer.status_code, answer.json()["outcome"]) == (200, "dead letter")
        async with WebhookSender(f"{url}/webhooks", "c29tZWJvZHk=") as stranger:
            assert (await stranger.post(webhook("s2"))).status_code == 401
        assert (await last(connection, names)).seq == 2
        assert (await client.get(f"{url}/ready")).json() == {"ok": True}
        publisher.shut_down()
        async with WebhookSender(f"{url}/sip-trunk", SECRET) as sender:
            refused = await sender.post(INCOMING)
            assert (refused.status_code, refused.json()["error"]) == (503, "it is stopping")
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            assert (await sender.post(webhook("s3"))).status_code == 200, "of calls that go on webhooks tell"


async def test_a_full_stream_is_503_with_the_reason(publisher: Publisher) -> None:
    """At once, so that Daily retries; `/ready` says it too."""
    async with serving(webhook_app(publisher, secrets=[SECRET]), lifespan="off") as url, httpx.AsyncClient() as client:
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            while (answer := await sender.post(webhook("s1", filler="x" * 60_000))).status_code == 200:
                pass
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "maximum bytes exceeded" in answer.json()["error"]
        ready = await client.get(f"{url}/ready")
        assert (ready.status_code, "maximum bytes exceeded" in ready.json()["error"]) == (503, True)
        assert (await client.get(f"{url}/health")).json() == {"ok": True}


async def test_an_event_that_the_server_does_not_take_is_413_with_the_limit(tmp_path: Path, names: Names) -> None:
    """No retry helps, and all others can be kept: the receiver stays ready. What cannot be read is not kept either then."""
    with NatsServer(tmp_path / "nats", "max_payload: 8192") as server:
        async with NatsConnection(server.url) as connection:
            await declare(connection, names, SMALL)
            async with (
                Publisher(connection, names) as publisher,
                serving(webhook_app(publisher, secrets=[SECRET]), lifespan="off") as url,
                httpx.AsyncClient() as client,
                WebhookSender(f"{url}/webhooks", SECRET) as sender,
            ):
                for payload in (
                    webhook("s1", filler="x" * 8000),
                    webhook("s1", filler="x" * 9000),
                    {"type": "x" * 9000, "payload": 1},
                ):
                    answer = await sender.post(payload)
                    assert answer.status_code == 413
                    assert "max_payload of 8192 bytes" in answer.json()["error"]
                    assert (await client.get(f"{url}/ready")).json() == {"ok": True}
                assert (await sender.post(webhook("s1"))).status_code == 200
                assert (await last(connection, names)).seq == 1
                assert connection.reconnects == 0
                with pytest.raises(EventTooLarge, match="max_payload"):
                    await publisher.receive(webhook("s1", filler="x" * 9000))


@pytest.mark.long
async def test_a_frozen_server_keeps_no_trunk_waiting(tmp_path: Path, names: Names) -> None:
    """The caller hears ringback for twelve seconds; other webhooks wait for ten."""
    with NatsServer(tmp_path / "nats") as server:
        async with NatsConnection(server.url) as connection:
            await declare(connection, names, SMALL)
        publisher = Publisher(NatsConnection(server.url), names)
        app = webhook_app(publisher, secrets=[SECRET])
        async with serving(app) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as sender:
            assert (await sender.post(INCOMING)).status_code == 200
            server.pause()
            answer = await sender.post(INCOMING)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            await until(lambda: publisher.not_ready)
            answer = await sender.post(INCOMING)
            assert answer.status_code == 503
            assert "could not be taken in for 1 seconds" in answer.json()["error"], "the trouble is known by now"
            assert "did not answer" in str(publisher.not_ready)
            server.resume()
            await until(lambda: publisher.not_ready is None, 10)
            assert (await sender.post(INCOMING)).status_code == 200
