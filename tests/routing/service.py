"""A service as a process, for tests that send it signals: `python -m tests.routing.service JOURNAL DRAIN BACKEND`."""

from __future__ import annotations

import logging
import os
import sys

import anyio

from telstate import DialoutEvent, Dispatcher, Router, Session
from telstate.journals import SqliteJournal
from tests.calls import js

router = Router()


@router.on(DialoutEvent)
async def work(session: Session, calls: Dispatcher) -> None:
    """Take a moment for one call, once the service is asked to stop, and forever for the others."""
    while calls.is_open or session.session_id != "quick":  # noqa: ASYNC110 - nothing tells a handler that it is asked to stop
        await anyio.sleep(0.05)
    say(f"handled {session.session_id}")


def say(text: str) -> None:
    """Report to the test."""
    os.write(1, f"{text}\n".encode())


async def main(journal: str, drain: float) -> None:
    """Receive two events, then wait for more, as services do."""
    async with Dispatcher(router, journal=SqliteJournal(journal), drain=drain, stop_on_signals=True) as calls:
        await calls.receive(js("dialout-connected", "quick"))
        await calls.receive(js("dialout-connected", "stuck"))
        say("ready")
        await anyio.sleep_forever()
    say("left the block")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    anyio.run(main, sys.argv[1], float(sys.argv[2]), backend=sys.argv[3])
