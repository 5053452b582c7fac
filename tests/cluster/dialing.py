"""The worker process of a storm of dials: `python -m tests.cluster.dialing FOLDER URLS --daily URL --seed N`.

A call with the id `ask 7 …` asks for the intent 7: its handler dials, and writes down the result with one `os.write`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from telstate import DialinConnected, Dispatcher, Router, Session, Settings
from telstate.control import DailyApi, Dialer, RestControl, _intent_turn
from telstate.journals.nats import _journal
from telstate.testing import FakeDaily
from tests.cluster.worker import arguments_of, run_worker
from tests.control.dial_plans import plan_of

__all__ = ["ROOMS"]

KEY = FakeDaily().key
ROOMS = [f"room{number}" for number in range(8)]


def router_of(path: Path, seed: int) -> Router:
    """Dial whom a call asks for."""
    router = Router()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(**what: Any) -> None:
        os.write(file, json.dumps({"at": time.monotonic(), **what}).encode() + b"\n")

    @router.on(DialinConnected)
    async def dial(session: Session, calls: Dispatcher) -> None:
        kind, number, *_ = session.session_id.split()
        if kind != "ask":
            return
        times: dict[str, Any] = {"pauses": [0.1], "find_intervals": [0.2], "stop_timeouts": [1.0, 2.0, 3.0]}
        try:
            async with Dialer(calls, per_room=None, find_within=6.0, **times) as dialer:
                result = await plan_of(seed, int(number), ROOMS).dial(dialer)
        except BaseException as error:
            say(ask=session.session_id, raised=type(error).__name__)
            raise
        say(ask=session.session_id, **result)

    return router


async def work() -> None:
    """Be a worker of a storm."""
    options = arguments_of(sys.argv[1:], "--daily", "--seed")
    _journal.IN_TRANSIT = options.in_transit
    _intent_turn._CLAIM_FOR, _intent_turn._RENEW_EVERY = 3 * options.ttl, options.ttl
    router = router_of(options.folder / f"said-{os.getpid()}.jsonl", int(options.seed))
    async with DailyApi(KEY, url=options.daily, timeout=3.0) as api:
        await run_worker(router, options, Settings(), RestControl(api), max_deliveries=100)


if __name__ == "__main__":
    asyncio.run(work())
