"""A process that ends a call at the ring timeout, and may be killed meanwhile: `python -m tests.control.hanging_up_child JOURNAL PORT DAILY WHEN`.

WHEN is `heard`: it dies by itself once the journal has the call's end; or `never`. It says the result as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

import anyio

from telstate import Dispatcher, Router
from telstate.calls._outcome import Outcome
from telstate.control import DailyApi, Dialer, RestControl
from telstate.events import DialoutStopped
from telstate.journals import SqliteJournal
from telstate.options import PhoneDialout
from telstate.sources import serve_webhooks
from tests.control.dialing_child import KEY, ROOMS, SECRET

__all__ = ["NUMBER"]

NUMBER = "+12025550101"


class _DiesOnceHeard:
    """Sees what the journal has."""

    def stepped(self, outcome: Outcome) -> None:
        """It has an event."""
        if isinstance(outcome.event, DialoutStopped):
            os.kill(os.getpid(), signal.SIGKILL)

    def closed(self) -> None:
        """Nothing more comes."""


async def main(journal: str, port: int, daily: str, when: str) -> None:
    """Dial once."""
    listening = socket.create_server(("127.0.0.1", port))
    async with (
        DailyApi(KEY, url=daily, timeout=3.0) as api,
        Dispatcher(Router(), journal=SqliteJournal(journal), control=RestControl(api)) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening),
        Dialer(calls, room=ROOMS[0], find_within=4.0, find_intervals=[0.2], stop_timeouts=[4.0]) as dialer,
    ):
        if when == "heard":
            calls.observe(_DiesOnceHeard())
        result = await dialer.dial(PhoneDialout(phone_number=NUMBER), intent="order", attempts=1, ring_timeout=0.3)
        sys.stdout.write(json.dumps({"outcome": result.outcome, "starts": len(result.attempts)}))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
