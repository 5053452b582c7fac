"""A process that dials for intents, and is killed: `python -m tests.control.dialing_child JOURNAL PORT DAILY SEED INTENTS`.

It receives Daily's webhooks at a port, and says each result as a line of JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys

import anyio

from telstate import Dispatcher, Router
from telstate.control import DailyApi, Dialer, RestControl
from telstate.journals import SqliteJournal
from telstate.sources import serve_webhooks
from telstate.testing import FakeDaily
from tests.control.dial_plans import Plan, plan_of

__all__ = ["KEY", "ROOMS", "SECRET"]

KEY = FakeDaily().key
ROOMS = ["support"]
SECRET = "c2VjcmV0"


async def main(journal: str, port: int, daily: str, seed: int, intents: int) -> None:
    """Dial for all intents."""
    listening = socket.create_server(("127.0.0.1", port))
    async with (
        DailyApi(KEY, url=daily, timeout=3.0) as api,
        Dispatcher(Router(), journal=SqliteJournal(journal), control=RestControl(api)) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening),
        Dialer(
            calls,
            per_room=None,
            pauses=[0.1],
            find_within=3.0,
            find_intervals=[0.2],
            stop_timeouts=[1.0, 1.0, 1.0],
        ) as dialer,
        anyio.create_task_group() as group,
    ):

        async def dial(plan: Plan) -> None:
            os.write(1, json.dumps(await plan.dial(dialer)).encode() + b"\n")

        os.write(1, b"{}\n")
        for number in range(intents):
            group.start_soon(dial, plan_of(seed, number, ROOMS))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
