"""Callers of a phone number, each with their own room and bot: on hold until the bot is there, then connected and greeted.

    python examples/pinless_dialin.py                           # simulated: telstate.testing.FakeDaily stands in for Daily
    DAILY_API_KEY=… TELSTATE_WEBHOOK_SECRET=… BOT="python bot.py" python examples/pinless_dialin.py

With a key it serves until SIGTERM; that has not been tested against Daily itself. Daily needs two URLs that reach PORT here (default
8080), both with the secret as their hmac: https://<your host>/pinless as the number's `room_creation_api`, and
https://<your host>/webhooks as a webhook (`telstate webhook create`). BOT is the command of your bot: it is run with the room's URL
as its argument, and joins the room.

Copy the part above the simulation. The bot's words are a stand-in.

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-dial-in/bot.py) has 182
lines, this file 158. The lines differ in kind: theirs hold a pipeline with its services, and leave room, webhook and forwarding to
pipecat's runner and transport; ours hold all of these, and the simulation. The code that handles the call, counted without blank
lines, comments and docstrings: theirs 28 (8 handlers, 4 of which only log, and none of which handles a caller who hung up on hold),
ours 28 (connect, greet, gone, drop).
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from subprocess import DEVNULL

import anyio
import structlog

from telstate import DailyError, Direction, Dispatcher, ForwardingFailed, PinlessDialin, Router, Session, State
from telstate.control import DailyApi, RestControl, Room, Rooms
from telstate.options import SipRoom
from telstate.sources import serve_webhooks

StartBot = Callable[[Room, PinlessDialin], Awaitable[None]]


def routes(rooms: Rooms, start_bot: StartBot, ready_within: float) -> Router:
    """Return the handlers of a caller.

    Args:
        rooms: the rooms of the domain.
        start_bot: lets a bot join a room for this caller; it need not wait until the bot has joined.
        ready_within: seconds that a caller waits for the bot.
    """
    router = Router("pinless")

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, calls: Dispatcher) -> None:
        """A caller is on hold. Wait until the endpoint is ready: Daily would drop the call otherwise."""
        within_an_hour = {"exp": time.time() + 3600}  # even if this program ends
        room = await rooms.create(sip=SipRoom(display_name="caller"), properties=within_an_hour)
        try:
            await start_bot(room, event)
            endpoint = await calls.wait_ready(room.endpoints[0], timeout=ready_within)
            await calls.forward(event, endpoint.uri)
        except TimeoutError:
            print(f"{event.from_}: no bot came within {ready_within:g} seconds")
            await drop(room.name)
        except ForwardingFailed:
            print(f"{event.from_}: hung up before the bot was there")
            await drop(room.name)

    @router.on_state(State.ANSWERED, direction=Direction.DIALIN, live_only=True)
    async def greet(session: Session) -> None:
        """Media flows. Your pipeline speaks here; this stand-in prints."""
        print(f"bot to {session.caller}: Hello. What can I do for you?")

    @router.on_end(direction=Direction.DIALIN)
    async def gone(session: Session) -> None:
        """Called once, after any kind of end."""
        print(f"{session.caller}: {session.cause}")
        if session.room is not None:
            await drop(session.room)

    async def drop(name: str) -> None:
        """Delete the room, if it still exists."""
        try:
            await rooms.delete(name)
        except DailyError as error:
            if error.status != 404:
                raise

    return router


@asynccontextmanager
async def backend(
    api: DailyApi, start_bot: StartBot, *, secret: str, listening: socket.socket, ready_within: float = 30
) -> AsyncIterator[Dispatcher]:
    """Serve callers until SIGTERM. Daily's requests arrive at `listening`, signed with `secret`."""
    router = routes(Rooms(api), start_bot, ready_within)
    async with (
        api,
        Dispatcher(router, control=RestControl(api), stop_on_signals=True) as calls,
        serve_webhooks(calls, secrets=[secret], listening=listening),
    ):
        yield calls


async def run_bot(room: Room, caller: PinlessDialin) -> None:
    """Let BOT join a room. Its output appears here; it should end by itself when its caller has left."""
    print(f"{caller.from_}: waits for a bot in {room.url}")
    command = [*shlex.split(os.environ["BOT"]), str(room.url)]
    await anyio.open_process(command, stdin=DEVNULL, stdout=None, stderr=None)


async def serve_daily() -> None:
    """Read the settings from the environment."""
    async with backend(
        DailyApi(os.environ["DAILY_API_KEY"]),
        run_bot,
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
    ):
        await anyio.sleep_forever()


# --- the simulation: not part of the program above --------------------------------------------------------------------


async def simulate() -> None:
    """One caller is served, one hangs up on hold, and one gets no bot."""
    from telstate.testing import FakeDaily

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody calls.")
    patient, hasty, unlucky = "+12025550141", "+12025550142", "+12025550143"
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with FakeDaily(f"{url}/webhooks", secret, pinless=f"{url}/pinless", registers=0.2) as daily:

        async def start_bot(room: Room, caller: PinlessDialin) -> None:
            if caller.from_ != unlucky:
                daily.host(room.name)
            if caller.from_ == hasty:
                daily.hang_up(caller.call_id or "")

        api = DailyApi(daily.key, url=daily.url)
        async with backend(api, start_bot, secret=secret, listening=listening, ready_within=0.8) as calls:
            for number in (patient, hasty, unlucky):
                daily.call_in("+12025550100", number, talks=0.3)
            while sum(seen.method == "DELETE" for seen in daily.seen) < 3:  # noqa: ASYNC110 - it is in another thread
                await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(daily.settled)
            await calls.idle()
            rooms = (await api.request("GET", "/rooms"))["total_count"]
        print(f"the fake has {len(daily.live())} calls and {rooms} rooms left, {len(daily.waiting)} caller on hold")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(serve_daily if "DAILY_API_KEY" in os.environ else simulate)
