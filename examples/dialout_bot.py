"""A dial-out bot that tries again: busy, no answer and a passing refusal cost an attempt, and never are there two calls at once.

    python examples/dialout_bot.py                              # simulated: telstate.testing._daily.FakeDaily stands in for Daily
    DAILY_API_KEY=… DAILY_ROOM=… TELSTATE_WEBHOOK_SECRET=… python examples/dialout_bot.py +12025550101

With a key it dials by Daily's REST API. That way is untested against Daily itself. It needs a room that may dial out with your bot
in it, and a webhook to https://<your host>/webhooks (`telstate webhook create`) that reaches PORT here, 8080 unless it is set.

What you would copy ends where the simulation begins. Two things are stand-ins: the bot in the room, which you start by whatever you
have, and what it says, which your pipeline would speak.

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-dial-out/bot.py) has 263
lines, this file 128. They are not the same lines: theirs hold a pipeline with its services, ours the receiver of the webhooks, a
journal and the simulation. Only what keeps book of the call can be compared, counted without blank lines, comments and docstrings:
theirs 68 (DialoutManager and 8 handlers, 3 of which only log), ours 17 (call, talk, ended).
"""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64encode
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import anyio
import structlog

from telstate import Dispatcher, Router, Session, State
from telstate.control import DailyApi, Dialer, DialResult, PhoneDialout, RestControl
from telstate.journals import SqliteJournal
from telstate.sources._server import serve_webhooks

router = Router("dial-out")


@router.on_state(State.ANSWERED, live_only=True)
async def talk(session: Session, calls: Dispatcher) -> None:
    """Here your pipeline speaks; this stand-in prints. If they hang up, it is cancelled where it stands."""
    for line in ("Hello, this is the bot of your garage.", "Your car is ready.", "Goodbye."):
        print(f"bot to {session.destination}: {line}")
        await anyio.sleep(0.05)
    await calls.stop(session)


@router.on_end()
async def ended(session: Session) -> None:
    """Once for each attempt. Who ended it, the journal knows, and `on_retired`: it may be told a moment later."""
    print(f"{session.destination}: {session.cause}")


async def call(calls: Dispatcher, dialer: Dialer, number: str, ring_timeout: float) -> DialResult:
    """Reach somebody, and stay until the call is over."""
    result = await dialer.dial(PhoneDialout(phone_number=number), attempts=5, ring_timeout=ring_timeout)
    print(f"{number}: {result.outcome} ({', '.join(attempt.outcome for attempt in result.attempts)})")
    if result.error is not None:
        print(f"{number}: {result.error}")
    if result.answered and result.session is not None:
        await calls.wait_for(result.session.session_id, State.STOPPED)
    return result


async def main(
    api: DailyApi,
    room: str,
    number: str,
    *,
    secret: str,
    listening: socket.socket,
    journal: str,
    ring_timeout: float = 30,
    pauses: Sequence[float] = (2, 10, 30),
) -> bool:
    """Call one number from a room; True if somebody picked up. The webhooks come in at `listening`, signed with `secret`."""
    async with (
        api,
        Dispatcher(router, control=RestControl(api), journal=SqliteJournal(journal)) as calls,
        serve_webhooks(calls, secrets=[secret], listening=listening),
        Dialer(calls, room=room, pauses=pauses) as dialer,
    ):
        return (await call(calls, dialer, number, ring_timeout)).answered


async def call_by_daily(number: str) -> bool:
    """As the environment says."""
    return await main(
        DailyApi(os.environ["DAILY_API_KEY"]),
        os.environ["DAILY_ROOM"],
        number,
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
        journal=os.environ.get("TELSTATE_JOURNAL", "calls.db"),
    )


# --- the simulation: no part of the program above ---------------------------------------------------------------------


async def simulate(number: str) -> bool:
    """The number is busy, then nobody picks up, then somebody does."""
    from telstate.testing import FakeDaily, PhoneLine

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody is called.")
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks"
    with FakeDaily(webhook=url, secret=secret) as daily, TemporaryDirectory() as folder:
        daily.host("garage")  # the bot joins
        daily.lines[number] = [PhoneLine(busy=True), PhoneLine(answers=None), PhoneLine(answers=0.2)]
        answered = await main(
            DailyApi(daily.key, url=daily.url),
            "garage",
            number,
            secret=secret,
            listening=listening,
            journal=os.environ.get("TELSTATE_JOURNAL", f"{folder}/calls.db"),
            ring_timeout=0.5,
            pauses=[0.05],
        )
        print(f"the fake was dialled {daily.starts(number)} times, {daily.most_at_once(number)} at once")
    return answered


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    program = call_by_daily if "DAILY_API_KEY" in os.environ else simulate
    sys.exit(not anyio.run(program, sys.argv[1] if len(sys.argv) > 1 else "+12025550101"))
