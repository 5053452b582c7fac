"""A receiver of telstate's notifications, as another system would have it: it verifies each, and keeps each once.

    TELSTATE_NOTIFY_SECRET=whsec_… uvicorn --app-dir examples --port 8090 notify_receiver:app
    TELSTATE_NOTIFY_SECRET=whsec_… telstate serve --notify http://127.0.0.1:8090/calls --notify-allow 127.0.0.1

A message may come again, with the same id: after a crash of either side, or where an answer was lost. It is committed before it is
answered, so nothing that was answered is lost. It knows nothing of telstate but Standard Webhooks.
"""

from __future__ import annotations

import os
import sqlite3

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

webhook = Webhook(os.environ["TELSTATE_NOTIFY_SECRET"])
received = sqlite3.connect(os.environ.get("RECEIVED", "received.db"), isolation_level=None)
received.execute("PRAGMA journal_mode=WAL")
received.execute(
    "CREATE TABLE IF NOT EXISTS messages (place INTEGER PRIMARY KEY, id TEXT UNIQUE, type TEXT, body TEXT)"
)


async def receive(request: Request) -> Response:
    """Keep a message, unless it was received before."""
    body = await request.body()
    try:
        message = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return Response(status_code=401)
    message_id = request.headers["webhook-id"]
    row = (message_id, message["type"], body.decode())
    kept = received.execute("INSERT OR IGNORE INTO messages (id, type, body) VALUES (?, ?, ?)", row).rowcount
    record = message["data"].get("session") or message["data"]["caller"]
    print(f"{message['type']} {record.get('session_id') or record['call_id']}{'' if kept else ', again'}", flush=True)
    return Response(status_code=204)


app = Starlette(routes=[Route("/calls", receive, methods=["POST"])])
