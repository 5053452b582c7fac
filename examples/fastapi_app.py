"""A FastAPI backend with telstate's webhook receiver mounted into it.

    TELSTATE_WEBHOOK_SECRET=… uvicorn --app-dir examples fastapi_app:app

Register https://<your host>/daily/webhooks with Daily. The app's lifespan enters the dispatcher: it restores the calls from the journal
and runs unfinished handlers again; at the end, running handlers get time to finish.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from telstate import Dispatcher, Router, Session
from telstate.journals import SqliteJournal
from telstate.sources import webhook_app

router = Router("backend")
calls = Dispatcher(router, journal=SqliteJournal(os.environ.get("TELSTATE_JOURNAL", "calls.db")))


@router.on_retired()
async def write_record(session: Session) -> None:
    """The final record of a call: store it in your database here."""
    print(f"{session.session_id} {session.cause} {session.talk_s}")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with calls:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/daily", webhook_app(calls, secrets=os.environ["TELSTATE_WEBHOOK_SECRET"].replace(",", " ").split()))


def summary(session: Session) -> dict[str, Any]:
    return {"id": session.session_id, "state": session.state, "cause": session.cause, "room": session.room}


@app.get("/calls")
async def live() -> list[dict[str, Any]]:
    """Return all live calls."""
    return [summary(session) for session in calls.live()]


@app.get("/calls/{session_id}")
async def one(session_id: str) -> dict[str, Any]:
    """Return one call."""
    session = calls.session(session_id)
    if session is None:
        raise HTTPException(404, "no such call, or it ended more than two hours ago")
    return summary(session)
