"""What the workers run: `telstate work handlers:router --nats nats://localhost:4222`.

It writes a line when a handler begins and one when it has finished: a stand-in for the work of a real service, and for its database. A
handler may run again after a crash, with the same `outcome.seq`, so a real one writes under that key, and the second write changes nothing.
"""

from __future__ import annotations

import json
import os

import anyio

from telstate import Event, Outcome, Router, Session

router = Router("cluster")


@router.on(Event)
async def follow(outcome: Outcome, session: Session | None) -> None:
    """Runs for each event that changes a call: a dashboard would show its state."""
    if session is not None:  # a caller on hold has none yet
        await work("follow", outcome, session)


@router.on_end()
async def ended(outcome: Outcome, session: Session) -> None:
    """Runs at the end of each call: a call record would be written."""
    await work("ended", outcome, session)


async def work(handler: str, outcome: Outcome, session: Session) -> None:
    """Take a moment, as a request to a database does."""
    write("begin", handler, outcome, session)
    await anyio.sleep(0.02)
    write("finish", handler, outcome, session)


def write(what: str, handler: str, outcome: Outcome, session: Session) -> None:
    """Append a line to the file that all workers share, in one piece."""
    line = {
        "what": what,
        "handler": handler,
        "event": outcome.seq,
        "call": session.session_id,
        "state": session.state,
        "cause": session.cause,
        "worker": os.getpid(),
    }
    file = os.open(os.environ.get("CALLS_FILE", "calls.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)
