"""Run as a process with one release of daily-python on the path: prints, as JSON, what it has and what telstate made of it."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import daily

from telstate import DailyError, Dispatcher, Router
from telstate.calls._session import Session
from telstate.control import ClientControl
from telstate.events import Direction
from telstate.options import Dtmf, PhoneDialout, Refer, Transfer
from telstate.sources import DailyEvents
from telstate.sources._callbacks import EVENTS, STATE

METHODS = (
    *("start_dialout", "stop_dialout", "send_dtmf", "sip_call_transfer", "sip_refer"),
    *("eject_remote_participants", "update_remote_participants", "participants"),
)
SETTINGS = {"phoneNumber": "+12025550101"}
SESSION = "7d208e2a-520b-4a8d-a2c9-3a36dfa0d342"


async def refused_start(client: Any, calls: Dispatcher, events: DailyEvents) -> str | None:
    """Start a call without a room, and return the cause of the session that comes of it."""
    client.start_dialout(SETTINGS, completion=events.completion(SETTINGS))
    for _ in range(500):
        if sessions := list(calls.sessions()):
            return sessions[0].cause
        await asyncio.sleep(0.01)
    return None


async def answers(client: Any) -> dict[str, str]:
    """Send each request without a room, and return the type of error that comes back."""
    control = ClientControl(client, timeout=10)
    dialout, dialin = Session(SESSION, Direction.DIALOUT), Session(SESSION, Direction.DIALIN)
    requests: dict[str, Callable[[], Awaitable[object]]] = {
        "start": lambda: control.start(PhoneDialout(phone_number=SETTINGS["phoneNumber"])),
        "stop": lambda: control.stop(dialout),
        "eject": lambda: control.stop(dialin),
        "send_dtmf": lambda: control.send_dtmf(dialout, Dtmf(tones="1")),
        "transfer": lambda: control.transfer(dialout, Transfer(to_end_point="sip:bob@example.com")),
        "refer": lambda: control.refer(dialout, Refer(to_end_point="sip:bob@example.com")),
        "presence": control.presence,
    }
    found = {}
    for name, request in requests.items():
        try:
            await request()
            found[name] = "accepted"
        except DailyError as error:
            found[name] = type(error).__name__
    return found


async def main() -> dict[str, Any]:
    """Use it as a program does."""
    daily.Daily.init()
    async with Dispatcher(Router()) as calls, DailyEvents(calls) as events:
        client = daily.CallClient(event_handler=events)
        cause = await refused_start(client, calls, events)
        found = await answers(client)
        client.release()
    return {
        "file": daily.__file__,
        "handlers": sorted(name for name in dir(daily.EventHandler) if name.startswith("on_")),
        "own": [
            name
            for name in (*EVENTS, STATE)
            if getattr(DailyEvents, name) is not getattr(daily.EventHandler, name, None)
        ],
        "arguments": {name: list(inspect.signature(getattr(daily.CallClient, name)).parameters) for name in METHODS},
        "handler_arguments": {
            name: list(inspect.signature(getattr(daily.EventHandler, name)).parameters)
            for name in EVENTS
            if hasattr(daily.EventHandler, name)
        },
        "cause": cause,
        "answers": found,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main())))
