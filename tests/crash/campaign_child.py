"""A process that runs a campaign, and is killed: `python -m tests.crash.campaign_child JOURNAL PORT DAILY PEOPLE`.

It receives Daily's webhooks at a port, and says each result as a line of JSON; `{}` says that it begins.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

import anyio

from telstate import Dispatcher, Router
from telstate.control import Campaign, DailyApi, Dialer, RestControl, RetryPlan, read_contacts
from telstate.journals import SqliteJournal
from telstate.sources import serve_webhooks
from telstate.testing import FakeDaily

__all__ = ["AT_ONCE", "PLAN", "RING_TIMEOUT", "ROOM", "SECRET"]

KEY = FakeDaily().key
ROOM = "support"
SECRET = "c2VjcmV0"
RING_TIMEOUT = 1.0
AT_ONCE = 20
PLAN = RetryPlan(attempts=3, busy=0.5, no_answer=0.7, never_rang=0.7, failed=1.0, refused=0.2)
TIMES: dict[str, Any] = {
    "find_within": 3.0,
    "find_intervals": [0.3],
    "stop_timeouts": [1.0, 1.0, 1.0],
    "check_slots_every": 3.0,
}


async def main(journal: str, port: int, daily: str, people: str) -> None:
    """Run the campaign to its end."""
    listening = socket.create_server(("127.0.0.1", port))
    async with (
        DailyApi(KEY, url=daily, timeout=3.0) as api,
        Dispatcher(Router(), journal=SqliteJournal(journal), control=RestControl(api)) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening),
        Dialer(calls, room=ROOM, per_room=None, **TIMES) as dialer,
    ):
        os.write(1, b"{}\n")
        campaign = Campaign(
            "spring", read_contacts(people), at_once=AT_ONCE, retry=PLAN, ring_timeout=RING_TIMEOUT, late_events=2.5
        )
        async for result in campaign.run(dialer):
            os.write(1, json.dumps(result.to_dict()).encode() + b"\n")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
