"""`/ready` says why no new calls should come, in words; `/health` only that the process lives; a refusal says why."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog

from telstate import Dialect, Dispatcher, Outcome, ParseError, Router
from telstate.events import DialoutAnswered
from telstate.journals import SqliteJournal
from telstate.sources import _webhooks as webhooks
from telstate.sources import webhook_app
from telstate.sources._signatures import WEBHOOK, Secret, sign
from telstate.testing import WebhookSender
from telstate.testing._sender import body_of
from tests.routing import until
from tests.sources.serving import serving

pytestmark = pytest.mark.asyncio

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def answered(number: int) -> dict[str, Any]:
    """An event of a session of its own."""
    return {"type": "dialout.answered", "id": str(number), "payload": {"session_id": f"s{number}", "room": "lobby"}}


async def state(client: httpx.AsyncClient, url: str) -> str | None:
    """Return why it is not ready; it always lives."""
    assert (await client.get(f"{url}/health")).json() == {"ok": True}
    answer = await client.get(f"{url}/ready")
    if answer.status_code == 200:
        assert answer.json() == {"ok": True}
        return None
    assert answer.status_code == 503
    assert answer.json()["ok"] is False
    return str(answer.json()["error"])


class SlowStart(SqliteJournal):
    """A journal that takes its time to open."""

    gate: anyio.Event

    async def open(self, settings: dict[str, Any]) -> None:
        """Wait, then open."""
        await self.gate.wait()
        await super().open(settings)


async def test_it_is_ready_between_its_start_and_its_end(tmp_path: Path) -> None:
    """Not while it reads its journal, and not while it drains."""
    router, gate = Router(), anyio.Event()

    @router.on(DialoutAnswered)
    async def work() -> None:
        await gate.wait()

    journal = SlowStart(tmp_path / "calls.db")
    journal.gate = anyio.Event()
    calls = Dispatcher(router, journal=journal)
    leave = anyio.Event()

    async def run() -> None:
        async with calls:
            await leave.wait()

    app = webhook_app(calls, secrets=[SECRET])
    async with serving(app, lifespan="off") as url, httpx.AsyncClient() as client, anyio.create_task_group() as group:
        assert await state(client, url) == "it is not running"
        group.start_soon(run)
        await anyio.sleep(0.05)
        assert await state(client, url) == "it is starting: it reads its journal"
        journal.gate.set()
        await until(lambda: calls.is_open)
        assert await state(client, url) is None
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            assert (await sender.post(answered(1))).status_code == 200
        leave.set()
        await until(lambda: not calls.is_open)
        assert await state(client, url) == "it is stopping: its handlers finish, and new calls should go elsewhere"
        gate.set()
        await until(lambda: calls.not_ready == "it is not running")


async def test_a_refusal_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is locked: the 503 says so, as does `/ready`, and the log in a few lines."""
    monkeypatch.setattr("telstate.routing._journal_health._SAY_EVERY", 600.0)  # however slow the machine is
    journal = SqliteJournal(tmp_path / "calls.db", busy=0.01)
    with structlog.testing.capture_logs() as logs:
        async with (
            Dispatcher(Router(), journal=journal) as calls,
            serving(webhook_app(calls, secrets=[SECRET]), lifespan="off") as url,
            httpx.AsyncClient() as client,
            WebhookSender(f"{url}/webhooks", SECRET) as sender,
        ):
            with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                refusals = [await sender.post(body_of(answered(number))) for number in range(60)]
                assert {refusal.status_code for refusal in refusals} == {503}
                assert "database is locked" in refusals[0].json()["error"]
                assert "database is locked" in str(await state(client, url))
    assert len([log for log in logs if log["event"] == "journal.cannot_keep_events"]) == 1
    assert len([log for log in logs if log["event"] == "webhook.refused"]) == 1


async def test_near_the_limit_of_hanging_handlers_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names the limit, once, and the handler that has run longest; a request that waits too long is told as well."""
    monkeypatch.setattr("telstate.routing._self_checks._EVERY", 0.02)
    router = Router()

    @router.on(DialoutAnswered)
    async def hang() -> None:
        await anyio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, pending_limit=10, drain=0) as calls:
            app = webhook_app(calls, secrets=[SECRET])
            hasty_app = webhook_app(calls, secrets=[SECRET], receive_timeout=0.2)
            async with (
                serving(app, lifespan="off") as url,
                serving(hasty_app, lifespan="off") as hasty_url,
                httpx.AsyncClient() as client,
                WebhookSender(f"{hasty_url}/webhooks", SECRET) as hasty,
            ):
                async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
                    for number in range(8):
                        assert (await sender.post(answered(number))).status_code == 200
                    assert await state(client, url) is None
                    assert (await sender.post(answered(8))).status_code == 200
                    reason = str(await state(client, url))
                    assert reason.startswith("9 events wait for handlers, and from 10 on receive waits too; ")
                    assert f"{hang.__qualname__} has run for " in reason
                    assert (await sender.post(answered(9))).status_code == 200
                    refusal = await hasty.post(body_of(answered(10)))
                    assert refusal.status_code == 503
                    assert "events could not be taken in for 0.2 seconds: 10 events wait" in refusal.json()["error"]
                await anyio.sleep(0.1)
    (line,) = [log for log in logs if log["event"] == "handlers.near_pending_limit"]
    assert "events wait for handlers" in line["detail"]


class Sink:
    """A sink of another kind, as a publisher to a broker."""

    is_open = False

    async def receive(self, payload: Any, dialect: Dialect | str | None = None) -> Outcome:
        """Never called here."""
        raise NotImplementedError

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:
        """Never called here."""


async def test_another_sink_need_only_say_whether_it_is_open() -> None:
    """The protocol asks for no more."""
    sink = Sink()
    async with serving(webhook_app(sink, secrets=[SECRET])) as url, httpx.AsyncClient() as client:
        assert "not accepted" in str(await state(client, url))
        sink.is_open = True
        assert await state(client, url) is None


async def test_a_wall_clock_that_is_wrong_for_a_while_refuses_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daily's timestamp is right, and so is what the monotonic clock says. A signature that is really old is still refused."""
    real, off = time.time, [0.0]
    fake = lambda: real() + off[0]  # noqa: E731
    monkeypatch.setattr(webhooks, "time", fake)
    secret = Secret(SECRET)

    async def post(client: httpx.AsyncClient, url: str, number: int, at: float) -> int:
        body = body_of(answered(number))
        headers: Mapping[str, str] = sign(secret, f"{at:.3f}", body, WEBHOOK)
        return (await client.post(f"{url}/webhooks", content=body, headers=dict(headers))).status_code

    async with Dispatcher(Router()) as calls:
        app = webhook_app(calls, secrets=[SECRET], clock=fake)
        async with serving(app, lifespan="off") as url, httpx.AsyncClient() as client:
            for off[0] in (0.0, 25 * 3600.0, -25 * 3600.0):
                assert await post(client, url, int(off[0]), real()) == 200
                assert await post(client, url, int(off[0]) + 1, real() - 3 * 3600) == 401
