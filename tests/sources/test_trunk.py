"""`POST /sip-trunk` over real HTTP: the caller hears ringback for twelve seconds, so the answer comes soon, whatever happens."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from telstate import Dispatcher, Router, SipTrunkIncoming
from telstate.journals import SqliteJournal
from telstate.sources import _webhooks as webhooks
from telstate.sources import serve_webhooks, webhook_app
from telstate.testing import WebhookSender
from tests.routing.test_journal_health import full, locked
from tests.sources.live import payloads
from tests.sources.serving import serving
from tests.sources.test_webhooks import ANSWERED, OTHER, SECRET, Publisher

pytestmark = pytest.mark.asyncio

INCOMING: dict[str, Any] = {
    "version": "1.0.0",
    "type": "sip_trunk.incoming",
    "id": "trunk-1",
    "payload": {
        "timestamp": "1730000000",
        "from": "+12025550142",
        "to": "+12025550100",
        "call_id": "c1",
        "room": {"name": "r1", "url": "https://x.daily.co/r1"},
        "trunk": {"description": "the office"},
    },
    "event_ts": 1730000000.5,
}
TEST = {"version": "1.0.0", "type": "sip_trunk.test", "id": "t", "payload": {"trunk": {"description": "x" * 200}}}


def handling(handled: list[str | None]) -> Router:
    """Return a router that notes for whom its handler runs."""
    router = Router()

    @router.on(SipTrunkIncoming)
    async def join(event: SipTrunkIncoming, calls: Dispatcher) -> None:
        assert calls.waiting()
        handled.append(event.room_url)

    return router


async def test_a_call_on_a_trunk_is_kept_and_handled(tmp_path: Path) -> None:
    """Its handler runs once, however often Daily sends it; then the caller connects by webhook, on the same address."""
    handled: list[str | None] = []
    calls = Dispatcher(handling(handled), journal=SqliteJournal(tmp_path / "calls.db"))
    connected = {
        "type": "dialin.connected",
        "id": "2",
        "payload": {"session_id": "s", "room": "r1", "timestamp": "1730000003"},
    }
    async with calls, serve_webhooks(calls, secrets=[OTHER], trunk_secrets=[SECRET], port=0) as url:
        async with WebhookSender(f"{url}/sip-trunk", SECRET) as trunk:
            answers = [(await trunk.post(INCOMING)).json() for _ in range(2)]
        assert answers == [{"ok": True, "outcome": "noted"}, {"ok": True, "outcome": "duplicate"}]
        assert [(caller.call_id, caller.room, caller.state) for caller in calls.waiting()] == [("c1", "r1", "waiting")]
        await calls.idle()
        assert handled == ["https://x.daily.co/r1"]
        async with WebhookSender(f"{url}/webhooks", OTHER) as webhook:
            assert (await webhook.post(connected)).json()["outcome"] == "moved"
        session = calls.session("s")
        assert session is not None
        assert (session.caller, session.called, session.held_s) == ("+12025550142", "+12025550100", 3.0)
        assert calls.waiting() == []
    assert await payloads(tmp_path / "calls.db") == [INCOMING, INCOMING, connected]


@pytest.mark.parametrize("secret", [SECRET, OTHER, None])
async def test_the_test_of_a_new_trunk_is_answered_and_not_kept(
    secret: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if it is signed with a secret that Daily has just made, and only tells afterwards. The log says so then."""
    small = {"type": "sip_trunk.test"}
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with serving(webhook_app(calls, trunk_secrets=[SECRET])) as url:
        for path in ("/sip-trunk", "/webhooks"):
            async with httpx.AsyncClient() as unsigned, WebhookSender(f"{url}/sip-trunk", secret) as trunk:
                trunk._url = url + path
                answer = await (unsigned.post(url + path, json=small) if secret is None else trunk.post(TEST))
                assert answer.status_code == 200
                assert answer.json() == {"ok": True, "verified": secret == SECRET}
        assert sum(calls.counts.values()) == 0
    assert await payloads(tmp_path / "calls.db") == []
    assert ("trunk.test_not_verified" in caplog.text) is (secret != SECRET)


async def test_only_the_type_makes_it_a_test(tmp_path: Path) -> None:
    """A call whose trunk is called so is a call."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with serving(webhook_app(calls, secrets=[SECRET])) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as trunk:
        named = {**INCOMING, "payload": {**INCOMING["payload"], "trunk": {"description": "sip_trunk.test"}}}
        assert (await trunk.post(named)).json()["outcome"] == "noted"
        assert (await trunk.post(b'["sip_trunk.test"]')).json()["outcome"] == "dead letter"
        assert (await trunk.post(b'{"type": "sip_trunk.test"')).json()["outcome"] == "dead letter"


async def test_a_full_disk_is_answered_at_once(tmp_path: Path) -> None:
    """Daily retries while the caller hears ringback, and the retry is kept."""
    journal = SqliteJournal(tmp_path / "calls.db")
    calls = Dispatcher(Router(), journal=journal)
    async with serving(webhook_app(calls, secrets=[SECRET])) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as trunk:
        long = {**INCOMING, "more": "x" * 9000}
        async with full(journal):
            answer = await trunk.post(long)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "full" in answer.json()["error"]
            assert "could not be taken in" not in answer.json()["error"], "it did not wait"
        assert (await trunk.post(long)).json() == {"ok": True, "outcome": "noted"}


@pytest.mark.long
async def test_a_locked_journal_is_answered_within_three_seconds(tmp_path: Path) -> None:
    """SQLite itself waits for five. What it keeps after the answer is one call with its retry; the handler runs once."""
    handled: list[str | None] = []
    calls = Dispatcher(handling(handled), journal=SqliteJournal(tmp_path / "calls.db"))
    async with serving(webhook_app(calls, secrets=[SECRET])) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as trunk:
        with closing(sqlite3.connect(tmp_path / "calls.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):  # also while the log says already that it is locked
                answer = await trunk.post(INCOMING)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert re.match(r"events could not be taken in for [13] seconds", answer.json()["error"])
            other.execute("ROLLBACK")
        for _ in range(20):
            answer = await trunk.post(INCOMING)
            if answer.status_code == 200:  # else the disk is slow: Daily tries again
                break
        assert answer.status_code == 200
        assert len(calls.waiting()) == 1
        await calls.idle()
    assert len(handled) == 1


async def test_a_lock_is_answered_when_sqlite_gives_up(tmp_path: Path) -> None:
    """Where that is sooner."""
    journal = SqliteJournal(tmp_path / "calls.db", busy=0.05)
    calls = Dispatcher(Router(), journal=journal)
    async with serving(webhook_app(calls, secrets=[SECRET])) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as trunk:
        async with locked(journal):
            answer = await trunk.post(INCOMING)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "locked" in answer.json()["error"]
        assert (await trunk.post(INCOMING)).status_code == 200


class Hanging(Publisher):
    """A sink that takes nothing in for now."""

    not_ready: str | None = None

    async def receive(self, payload: Any, dialect: Any = None) -> Any:  # noqa: ARG002
        """Wait forever."""
        await anyio.sleep_forever()


@pytest.mark.parametrize(("not_ready", "within"), [(None, 0.15), ("the journal cannot keep events", 0.05)])
async def test_a_trunk_waits_less_than_others(
    not_ready: str | None, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least while it is known that nothing can be kept. The kind decides, not the path; a shorter limit of the program holds."""
    monkeypatch.setattr(webhooks, "_TRUNK_TIMEOUT", 0.15)
    monkeypatch.setattr(webhooks, "_TRUNK_TIMEOUT_IN_TROUBLE", 0.05)
    sink = Hanging()
    sink.not_ready = not_ready
    async with serving(webhook_app(sink, secrets=[SECRET], receive_timeout=0.3)) as url:
        for signs, path, seconds, retry in (
            ("/sip-trunk", "/webhooks", within, "1"),
            ("/webhooks", "/sip-trunk", 0.3, "5"),
        ):
            async with WebhookSender(url + signs, SECRET) as sender:
                sender._url = url + path
                started = time.monotonic()
                answer = await sender.post(ANSWERED)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, retry)
                assert time.monotonic() - started >= seconds
                assert f"could not be taken in for {seconds:g} seconds" in answer.json()["error"]
    short = webhook_app(sink, secrets=[SECRET], receive_timeout=0.02)
    async with serving(short) as url, WebhookSender(f"{url}/sip-trunk", SECRET) as sender:
        assert "could not be taken in for 0.02 seconds" in (await sender.post(INCOMING)).json()["error"]


async def test_without_a_secret_a_local_call_is_taken(tmp_path: Path) -> None:
    """For trying out, as on the other paths."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    async with serving(webhook_app(calls)) as url, httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/sip-trunk/", json=INCOMING)).json() == {"ok": True, "outcome": "noted"}
