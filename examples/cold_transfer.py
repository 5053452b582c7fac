"""A cold transfer: a bot transfers its caller to a person and leaves the call.

    python examples/cold_transfer.py                            # simulated: telstate.testing.FakeDaily stands in for Daily
    DAILY_API_KEY=… OPERATORS=+12025550190,+12025550191 TELSTATE_WEBHOOK_SECRET=… python examples/cold_transfer.py

With a key it serves all callers of your domain's rooms, until SIGTERM; that has not been tested against Daily itself. It
needs your bot in the room, and a webhook to https://<your host>/webhooks (`telstate webhook create`) that reaches PORT here (default
8080).

Copy the part above the simulation. The bot's words are a stand-in, and that the caller asks for a person. No event reports that a
transfer failed. If the caller is still there some seconds after Daily accepted it, the bot says so (`transfer_failed`) and tries the
next operator.

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-cold-transfer/bot.py) has 270
lines, this file 149. The lines differ in kind: theirs hold a pipeline with its services, ours the webhook receiver and the
simulation. The code that handles the call, counted without blank lines, comments and docstrings: theirs 69 (dial_operator and 13
handlers, with their prompts for the model), ours 22 (talk, picked_up, ended). Theirs waits for on_dialout_answered before the bot
leaves, which is sent for a dial-out and not for a transfer, and ends the bot when any participant leaves. Here the end of the session
ends it, with the cause `transferred`.
"""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from telstate import CallEnded, DailyError, Direction, Dispatcher, Router, Session, State, TransferAnswered
from telstate.control import DailyApi, RestControl
from telstate.sources import serve_webhooks

Say = Callable[[Session, str], Awaitable[None]]


def routes(say: Say, operators: Sequence[str], patience: float = 20.0) -> Router:
    """Return the handlers of a caller.

    Args:
        say: lets the bot say something.
        operators: where callers are transferred to, one after the other: numbers or SIP URIs.
        patience: seconds after which a transfer has failed if the caller is still there.
    """
    router = Router("cold transfer")

    @router.on_state(State.ANSWERED, direction=Direction.DIALIN, live_only=True)
    async def talk(session: Session, calls: Dispatcher) -> None:
        """Your pipeline talks until the caller asks for a person. If the caller hangs up, it is cancelled."""
        await say(session, "Hello. What can I do for you?")
        for operator in operators:
            await say(session, "I connect you with a colleague.")
            try:
                await calls.transfer(session, operator)
            except CallEnded:  # the caller hung up at this moment
                return
            except DailyError as error:
                print(f"{session.sip_from}: not transferred: {error}")
                break
            await anyio.sleep(patience)  # the session's end by the transfer cancels this
            await calls.transfer_failed(session, operator, "nobody answered")
        await say(session, "I cannot reach anybody. May I take a message?")

    @router.on(TransferAnswered)
    async def picked_up(session: Session) -> None:
        """This event comes after the session's end."""
        print(f"{session.sip_from}: the operator picked up")

    @router.on_end(direction=Direction.DIALIN)
    async def ended(session: Session) -> None:
        """Your bot leaves the room here, after any kind of end."""
        targets = ", ".join(f"{outcome} {target}" for target, outcome in session.transfers)
        print(f"{session.sip_from}: {session.cause}{f' ({targets})' if targets else ''}")

    return router


@asynccontextmanager
async def backend(api: DailyApi, router: Router, *, secret: str, listening: socket.socket) -> AsyncIterator[Dispatcher]:
    """Serve callers until SIGTERM. Webhooks arrive at `listening`, signed with `secret`."""
    async with (
        api,
        Dispatcher(router, control=RestControl(api), stop_on_signals=True) as calls,
        serve_webhooks(calls, secrets=[secret], listening=listening),
    ):
        yield calls


async def say(session: Session, text: str) -> None:
    """A stand-in for your pipeline: it prints."""
    print(f"bot to {session.sip_from}: {text}")
    await anyio.sleep(0.15)


async def serve_daily() -> None:
    """Read the settings from the environment."""
    async with backend(
        DailyApi(os.environ["DAILY_API_KEY"]),
        routes(say, os.environ["OPERATORS"].split(",")),
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
    ):
        await anyio.sleep_forever()


# --- the simulation: not part of the program above --------------------------------------------------------------------


async def simulate() -> None:
    """One caller gets to the second operator, one hangs up first, and one transfer is refused by Daily."""
    from telstate.testing import FakeDaily, PhoneLine, faults

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody calls.")
    away, there = "+12025550190", "+12025550191"
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    with FakeDaily(f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks", secret) as daily:
        daily.lines |= {
            away: PhoneLine(answers=None, keeps_caller=True),
            there: PhoneLine(answers=0.1, keeps_caller=True),
        }
        api = DailyApi(daily.key, url=daily.url)

        async def say_and_hear(session: Session, text: str) -> None:
            await say(session, text)
            if "hangs-up" in str(session.sip_from) or "message" in text:  # the caller hangs up, and the bot is cut off
                daily.hang_up(session.session_id)
                await anyio.sleep_forever()

        refusal = faults.instead(400, b'{"error": "invalid-request-error", "info": "not enabled for domain"}')
        daily.rules["/rooms/refused/sipCallTransfer"] = refusal
        async with backend(api, routes(say_and_hear, [away, there], 2.0), secret=secret, listening=listening) as calls:
            for room in ("handed-on", "hangs-up", "refused"):
                [endpoint] = daily.host(room)
                daily.dial_in(endpoint, f"sip:{room}@example.com")
            while daily.live():  # noqa: ASYNC110 - it is in another thread
                await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(daily.settled)
            await calls.idle()
        print(f"the fake saw these ends: {', '.join(str(leg.ended_by) for leg in daily.sessions)}")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(serve_daily if "DAILY_API_KEY" in os.environ else simulate)
