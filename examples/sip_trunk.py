"""Callers of your own carrier, by a SIP trunk: Daily makes a room for each, a bot joins it, and greets the caller once they are there.

    python examples/sip_trunk.py                                # simulated: telstate.testing.FakeDaily stands in for Daily
    DAILY_API_KEY=… TELSTATE_WEBHOOK_SECRET=… BOT="python bot.py" python examples/sip_trunk.py

With a key it serves until SIGTERM; that has not been tested against Daily itself. Daily needs two URLs that reach PORT here (default
8080), both with the secret: https://<your host>/sip-trunk for the trunk, and https://<your host>/webhooks for what follows.
`telstate trunk create support https://<your host>/sip-trunk --allow <your carrier's address>` makes the trunk and prints the address for
your carrier, `telstate webhook create https://<your host>/webhooks` the webhook. BOT is the command of your bot: it is run with the
room's URL as its argument, and joins the room.

Nothing here forwards the caller, as with a number of Daily's (pinless_dialin.py): Daily connects them by itself once this program has
answered, and it answers as soon as the call is kept. From then on the caller relies on the bot.

Copy the part above the simulation. The bot's words are a stand-in.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from subprocess import DEVNULL

import anyio
import structlog

from telstate import Caller, DailyError, Direction, Dispatcher, Router, Session, Settings, SipTrunkIncoming, State
from telstate.control import DailyApi, Rooms
from telstate.sources import serve_webhooks

StartBot = Callable[[SipTrunkIncoming], Awaitable[None]]


def routes(rooms: Rooms, start_bot: StartBot) -> Router:
    """Return the handlers of a caller.

    Args:
        rooms: the rooms of the domain.
        start_bot: lets a bot join the caller's room, `event.room_url`; it need not wait until the bot has joined.
    """
    router = Router("sip trunk")

    @router.on(SipTrunkIncoming)
    async def join(event: SipTrunkIncoming) -> None:
        """A caller hears ringback, and their room exists. The bot should be there before them."""
        print(f"{event.from_} calls {event.to}")
        await start_bot(event)

    @router.on_state(State.ANSWERED, direction=Direction.DIALIN, live_only=True)
    async def greet(session: Session) -> None:
        """The caller is in the room, and media flows. Your pipeline speaks here; this stand-in prints."""
        print(f"bot to {session.caller}: Hello. What can I do for you?")

    @router.on_end(direction=Direction.DIALIN)
    async def gone(session: Session) -> None:
        """Called once, after any kind of end."""
        print(f"{session.caller}: {session.cause}")
        await drop(session.room)

    @router.on_caller_lost()
    async def lost(caller: Caller) -> None:
        """They hung up while it rang, which Daily tells nobody: they are not in the room after `connected_within` seconds."""
        print(f"{caller.from_}: hung up before the bot was there")
        await drop(caller.room)

    async def drop(room: str | None) -> None:
        """Delete the room, so that its bot leaves. It would expire by itself, an hour after the call came."""
        try:
            if room is not None:
                await rooms.delete(room)
        except DailyError as error:
            if error.status != 404:
                raise

    return router


@asynccontextmanager
async def backend(
    api: DailyApi, start_bot: StartBot, *, secret: str, listening: socket.socket, connected_within: float = 60
) -> AsyncIterator[Dispatcher]:
    """Serve callers until SIGTERM. Daily's requests arrive at `listening`, signed with `secret`."""
    router, settings = routes(Rooms(api), start_bot), Settings(hold_limit=connected_within)
    async with (
        api,
        Dispatcher(router, settings=settings, stop_on_signals=True) as calls,
        serve_webhooks(calls, secrets=[secret], listening=listening),
    ):
        yield calls


async def run_bot(event: SipTrunkIncoming) -> None:
    """Let BOT join a room. Its output appears here; it should end by itself when its room is deleted."""
    command = [*shlex.split(os.environ["BOT"]), str(event.room_url)]
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
    """One caller is served, one hangs up while it rings."""
    from pydantic import SecretStr

    from telstate.control import Trunks
    from telstate.options import SipTrunk, TrunkAccess, TrunkNotification
    from telstate.testing import FakeDaily

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody calls.")
    patient, hasty = "+12025550141", "+12025550142"
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    trunk = SipTrunk(
        trunk_name="support",
        notification=TrunkNotification(webhook_url=f"{url}/sip-trunk", hmac=SecretStr(secret)),
        trunk_config=TrunkAccess(allowed_ips=("203.0.113.7",)),
    )
    with FakeDaily(f"{url}/webhooks", secret, registers=0.2) as daily:

        async def start_bot(event: SipTrunkIncoming) -> None:
            daily.host(event.room or "")
            if event.from_ == hasty:
                daily.hang_up(event.call_id or "")

        api = DailyApi(daily.key, url=daily.url)
        async with backend(api, start_bot, secret=secret, listening=listening, connected_within=0.8) as calls:
            created = await Trunks(api).create(trunk)
            print(f"the carrier sends calls to {created.sip_uri}")
            for number in (patient, hasty):
                daily.call_trunk("+12025550100", number, talks=0.3)
            while sum(seen.method == "DELETE" for seen in daily.seen) < 2:  # noqa: ASYNC110 - it is in another thread
                await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(daily.settled)
            await calls.idle()
            rooms = (await api.request("GET", "/rooms"))["total_count"]
        states = ", ".join(call.state for call in daily.trunk_calls)
        print(f"the fake's calls: {states}; {len(daily.live())} calls and {rooms} rooms left")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(serve_daily if "DAILY_API_KEY" in os.environ else simulate)
