"""What a program does by hand in place of `telstate serve`: FastAPI, a pydantic model, an HMAC check, and a commit per request.

    JOURNAL=events.db SECRET=… uvicorn tests.benchmarks.by_hand:app --no-access-log

Written as a competent user would: the signature over the raw body is checked, with its age; an event is committed before it is
acknowledged; the id in the primary key finds duplicates; a state that has ended is not revived.
"""

from __future__ import annotations

import base64
import hmac
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, ValidationError

__all__ = ["app"]

KEY = base64.b64decode(os.environ["SECRET"])
MAX_AGE = 7200.0
STATES = {
    "dialin.connected": "connected",
    "dialin.stopped": "stopped",
    "dialin.error": "error",
    "dialout.connected": "connected",
    "dialout.answered": "answered",
    "dialout.stopped": "stopped",
    "dialout.error": "error",
}


class Payload(BaseModel):
    """What a webhook says about a call."""

    domain_id: str | None = None
    room: str
    session_id: str | None = None
    timestamp: str | None = None
    user_id: str | None = None
    destination: str | None = None
    origin: str | None = None


class Webhook(BaseModel):
    """A webhook."""

    version: str
    type: str
    id: str
    payload: Payload
    event_ts: float


class Calls:
    """The events on the disk, and the state of each call in memory.

    Args:
        path: the database.
    """

    def __init__(self, path: str) -> None:
        self.states: dict[str, str] = {}
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA journal_mode=WAL")  # and synchronous=FULL, its default
        self._database.execute("CREATE TABLE events (id TEXT PRIMARY KEY, received REAL, body BLOB)")

    def keep(self, event: Webhook, body: bytes) -> bool:
        """Commit an event; return False if it is known."""
        with self._database:
            row = (event.id, time.time(), body)
            return self._database.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", row).rowcount == 1

    async def handle(self, event: Webhook) -> None:
        """Follow the state of the call."""
        session_id, state = event.payload.session_id, STATES.get(event.type)
        if session_id is not None and state is not None and self.states.get(session_id) not in ("stopped", "error"):
            self.states[session_id] = state


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database."""
    app.state.calls = Calls(os.environ["JOURNAL"])
    yield


app = FastAPI(lifespan=lifespan)


def verify(request: Request, body: bytes) -> None:
    """Check the signature and its age."""
    stamp = request.headers.get("x-webhook-timestamp", "")
    signature = base64.b64encode(hmac.digest(KEY, stamp.encode() + b"." + body, "sha256")).decode()
    if not hmac.compare_digest(signature, request.headers.get("x-webhook-signature", "")):
        raise HTTPException(401)
    if abs(time.time() - float(stamp)) > MAX_AGE:
        raise HTTPException(401)


@app.post("/webhooks")
async def receive(request: Request) -> dict[str, bool]:
    """Receive a webhook."""
    body = await request.body()
    verify(request, body)
    try:
        event = Webhook.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400) from error
    calls: Calls = request.app.state.calls
    if calls.keep(event, body):
        await calls.handle(event)
    return {"ok": True}
