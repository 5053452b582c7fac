"""A program under test beside a `FakeDaily`: a dispatcher behind a webhook receiver, and a client of the REST API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from telstate import Dispatcher, Router, Settings
from telstate.sources import webhook_app
from telstate.testing import FakeDaily
from tests.sources.serving import serving

__all__ = ["ROOM", "SECRET", "World", "watched"]

ROOM = "support"
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class World:
    """The fake, the program's dispatcher, and a client of the REST API."""

    def __init__(self, daily: FakeDaily, calls: Dispatcher, rest: httpx.AsyncClient) -> None:
        self.daily = daily
        self.calls = calls
        self.rest = rest

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """Send a request about the room."""
        return await self.rest.post(f"/rooms/{ROOM}/{path}", json=body)

    async def dial(self, destination: str, **body: Any) -> str:
        """Dial out; return the session's id."""
        key = "sipUri" if destination.startswith("sip:") else "phoneNumber"
        answer = await self.post("dialOut/start", **{key: destination, **body})
        assert answer.status_code == 200, answer.text
        assert answer.json()["ok"] == "true"
        session_id: str = answer.json()["sessionId"]
        return session_id

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, then for all webhooks."""
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
        await self.settled()

    async def settled(self) -> None:
        """Wait until the program has all webhooks."""
        await anyio.to_thread.run_sync(self.daily.settled, 90)

    def webhook_types(self, session_id: str | None = None) -> list[str]:
        """Return the types of the webhooks that were delivered, of one session or of all."""
        of = [one for one in self.daily.sent if session_id in (None, one.body.get("payload", {}).get("session_id"))]
        return [one.type for one in of]


@asynccontextmanager
async def watched(settings: Settings | None = None, **options: Any) -> AsyncIterator[World]:
    """A hosted room, and a program that receives its events."""
    calls = Dispatcher(Router(), settings=settings)
    async with serving(webhook_app(calls, secrets=[SECRET])) as url:
        with FakeDaily(f"{url}/webhooks", SECRET, pinless=f"{url}/pinless", **options) as daily:
            daily.host(ROOM)
            headers = {"Authorization": f"Bearer {daily.key}"}
            async with httpx.AsyncClient(base_url=daily.url, headers=headers, trust_env=False) as rest:
                yield World(daily, calls, rest)
