"""Apps with a receiver survive a second `TestClient`, whose lifespan enters the dispatcher again."""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from telstate import Dispatcher, Router
from telstate.journals import SqliteJournal
from telstate.sources import Secret, sign, webhook_app
from telstate.testing._spelling import body_of

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
BODY = body_of({"type": "dialout.answered", "id": "1", "payload": {"session_id": "s", "room": "lobby"}})


def outcome_of(client: TestClient, url: str) -> Any:
    """Send a signed event; return its outcome."""
    headers = sign(Secret(SECRET), f"{time.time():.0f}", BODY)
    answer = client.post(url, content=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["outcome"]


@pytest.mark.parametrize("mounted", [True, False])
def test_an_app_survives_a_second_test_client(tmp_path: Path, mounted: bool) -> None:
    """Its journal is read again, so the second event is a duplicate."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with calls:
            yield

    app: Any = webhook_app(calls, secrets=[SECRET])
    if mounted:
        outer = FastAPI(lifespan=lifespan)
        outer.mount("/daily", app)
        app = outer
    for expected in ("moved", "duplicate"):
        with TestClient(app) as client:
            assert outcome_of(client, "/daily/webhooks" if mounted else "/webhooks") == expected


def test_the_example_survives_a_second_test_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows the call that its journal has."""
    monkeypatch.setenv("TELSTATE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("TELSTATE_JOURNAL", str(tmp_path / "calls.db"))
    app = importlib.import_module("examples.fastapi_app").app
    for expected in ("moved", "duplicate"):
        with TestClient(app) as client:
            assert outcome_of(client, "/daily/webhooks") == expected
            assert client.get("/calls").json() == [{"id": "s", "state": "answered", "cause": None, "room": "lobby"}]
