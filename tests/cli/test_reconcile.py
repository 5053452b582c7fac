"""A service that starts again asks Daily whether its sessions are still in their rooms, over real HTTP; the domain is a fake."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate import Replay, Session
from telstate.journals.nats import NatsConnection, Publisher
from telstate.testing import FakeDaily
from tests.cli.running import telstate
from tests.cli.test_serve import SECRET, replayed, sent, serving
from tests.cli.test_work import NAMES, seen, until_ready, working
from tests.nats_server import NatsServer

pytestmark = pytest.mark.long
AGO = 120.0
"""Seconds since the answer: presence may be half a minute behind, so a younger session is not taken for gone."""


def answered(session_id: str, room: str = "support") -> dict[str, Any]:
    """A webhook of a dial-out that was answered a while ago."""
    at = time.time() - AGO
    payload = {"session_id": session_id, "room": room, "timestamp": str(int(at))}
    return {"version": "1.0.0", "type": "dialout.answered", "id": f"w-{session_id}", "payload": payload, "event_ts": at}


def in_the_room(daily: FakeDaily) -> str:
    """Dial out, and return the session id of whom is in the room."""
    daily.host("support")
    bearer = {"Authorization": f"Bearer {daily.key}"}
    start = httpx.post(f"{daily.url}/rooms/support/dialOut/start", headers=bearer, json={"phoneNumber": "+12025550101"})
    assert start.status_code == 200
    until(lambda: daily.sessions[0].joined_at is not None)
    return daily.sessions[0].session_id


def asked(daily: FakeDaily) -> int:
    """How often it was asked who is in the room."""
    return sum(request.path.endswith("/rooms/support/presence") for request in daily.seen)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def session_of(replay: Replay, session_id: str) -> Session:
    """A session of a replay."""
    session = replay.engine.session(session_id)
    assert session is not None
    return session


def test_a_restarted_service_asks_about_its_sessions(tmp_path: Path) -> None:
    """One has gone while the service was away, and ends; one is there, and goes on. Where that is switched off, Daily is not asked."""
    with FakeDaily() as daily:
        there = in_the_room(daily)
        key = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url, "TELSTATE_WEBHOOK_SECRET": SECRET}
        with serving(tmp_path, **key, TELSTATE_SETTINGS_HOLD_LIMIT="90") as (process, url):
            assert asyncio.run(sent(url, SECRET, answered(there), answered("gone"))) == [200, 200]
            process.kill()
        assert replayed(tmp_path).engine.settings.hold_limit == 90
        with serving(tmp_path, **key, TELSTATE_RECONCILE="no") as (process, url):
            assert httpx.get(f"{url}/ready").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert (asked(daily), session_of(replayed(tmp_path), "gone").ended) == (0, False)
        assert replayed(tmp_path).engine.settings.hold_limit == 600  # not set any more
        with serving(tmp_path, **key) as (process, url):
            until(lambda: session_of(replayed(tmp_path), "gone").ended)
            until(lambda: not session_of(replayed(tmp_path), there).uncertain)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert asked(daily) >= 2
    gone, alive = (session_of(replayed(tmp_path), one) for one in ("gone", there))
    assert (gone.end_source, gone.end_sign, gone.cause) == ("inferred", "gone", "completed")
    assert (alive.ended, alive.state) == (False, "answered")


def test_a_worker_asks_before_silence_ends_a_session(nats_server: NatsServer, tmp_path: Path) -> None:
    """The key is in a file, the limit in the environment. Who is there goes on; a worker misses no event by a restart, so it asks for no other reason."""

    async def publish(*payloads: dict[str, Any]) -> None:
        async with Publisher(NatsConnection(nats_server.url), NAMES) as publisher:
            for payload in payloads:
                await publisher.receive(payload, scope="support")

    def ended() -> dict[str, str | None]:
        """The sign by which each session ended, in a replay of the streams; None for one that lives."""
        run = telstate("replay", "--json", f"{nats_server.url}/telstate/production")
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        sessions = [row["session"] for row in rows if "session" in row]
        return {one["session_id"]: one["end_sign"] for one in sessions}

    with FakeDaily() as daily:
        there = in_the_room(daily)
        (tmp_path / "key").write_text(f"{daily.key}\n")
        key = {"DAILY_API_KEY_FILE": str(tmp_path / "key"), "TELSTATE_DAILY_API_URL": daily.url}
        limit = {"TELSTATE_SETTINGS_SILENCE_IN_CALL": "1"}
        with working(tmp_path, nats_server, "--partitions", 2, "--ttl", 1, **key, **limit) as (process, url):
            until_ready(url, 2)
            asyncio.run(publish(answered(there), answered("gone")))
            seen(tmp_path, 2)
            until(lambda: ended() == {there: None, "gone": "gone"} and asked(daily) > 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
