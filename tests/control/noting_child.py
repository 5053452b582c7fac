"""A campaign, and who hears of its call when it was killed: `python -m tests.control.noting_child JOURNAL PORT DAILY WHO`.

WHO is `caller`: it calls somebody; or `heir`: it only receives what Daily reports, and says the notes that the end of that call is given
with, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys

import anyio

from telstate import Dispatcher, Router, Session
from telstate.control import Campaign, Contact, DailyApi, Dialer, RestControl
from telstate.journals import SqliteJournal
from telstate.sources import serve_webhooks
from tests.control.dialing_child import KEY, ROOMS, SECRET
from tests.control.hanging_up_child import NUMBER

__all__ = ["NOTES"]

NOTES = {"plan": "gold"}


async def main(journal: str, port: int, daily: str, who: str) -> None:
    """Call, or listen."""
    router, ended = Router(), anyio.Event()

    @router.on_end()
    async def say_notes(session: Session) -> None:
        sys.stdout.write(json.dumps(dict(session.notes)))
        ended.set()

    listening = socket.create_server(("127.0.0.1", port))
    async with (
        DailyApi(KEY, url=daily, timeout=3.0) as api,
        Dispatcher(router, journal=SqliteJournal(journal), control=RestControl(api)) as calls,
        serve_webhooks(calls, secrets=[SECRET], listening=listening),
        Dialer(calls) as dialer,
    ):
        if who == "caller":
            campaign = Campaign("spring", [Contact(NUMBER, notes=NOTES)], room=ROOMS[0])
            async for _ in campaign.run(dialer):
                pass
        await ended.wait()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
