"""A dial-out bot with retries: busy, no answer and a temporary refusal cost one attempt, and there are never two calls at once.

    python examples/dialout_bot.py                              # simulated: telstate.testing.FakeDaily stands in for Daily
    DAILY_API_KEY=… DAILY_ROOM=… TELSTATE_WEBHOOK_SECRET=… python examples/dialout_bot.py +12025550101

With a key it dials with Daily's REST API; that has not been tested against Daily itself. It needs a room with dial-out enabled and
your bot in it, and a webhook to https://<your host>/webhooks (`telstate webhook create`) that reaches PORT here (default 8080).

Copy the part above the simulation. Two things are stand-ins: the bot in the room, which you start yourself, and its words, which
your pipeline would speak.

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-dial-out/bot.py) has 263
lines, this file 129. The lines differ in kind: theirs hold a pipeline with its services, ours the webhook receiver, a journal and
the simulation. Only the code that handles the call can be compared, counted without blank lines, comments and docstrings:
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
from telstate.control import DailyApi, Dialer, DialResult, RestControl
from telstate.journals import SqliteJournal
from telstate.options import PhoneDialout
from telstate.sources import serve_webhooks

router = Router("dial-out")


@router.on_state(State.ANSWERED, live_only=True)
async def talk(session: Session, calls: Dispatcher) -> None:
    """Your pipeline speaks here; this stand-in prints. If the callee hangs up, it is cancelled."""
    for line in ("Hello, this is the bot of your garage.", "Your car is ready.", "Goodbye."):
        print(f"bot to {session.destination}: {line}")
        await anyio.sleep(0.05)
    await calls.stop(session)


@router.on_end()
async def ended(session: Session) -> None:
    """Once per attempt. Who ended it may be known a moment later: the journal and `on_retired` have it."""
    print(f"{session.destination}: {session.cause}")


async def call(calls: Dispatcher, dialer: Dialer, number: str, ring_timeout: float) -> DialResult:
    """Dial, and wait until the call is over."""
    result = await dialer.dial(PhoneDialout(phone_number=number), attempts=5, ring_timeout=ring_timeout)
    print(f"{number}: {result.outcome} ({', '.join(attempt.outcome for attempt in result.attempts)})")
    if result.error is not None:
        print(f"{number}: {result.error}")
    if result:
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
    """Call a number from a room; return whether it was answered. Webhooks arrive at `listening`, signed with `secret`."""
    async with (
        api,
        Dispatcher(router, control=RestControl(api), journal=SqliteJournal(journal)) as calls,
        serve_webhooks(calls, secrets=[secret], listening=listening),
        Dialer(calls, room=room, pauses=pauses) as dialer,
    ):
        return bool(await call(calls, dialer, number, ring_timeout))


async def call_by_daily(number: str) -> bool:
    """Read the settings from the environment."""
    return await main(
        DailyApi(os.environ["DAILY_API_KEY"]),
        os.environ["DAILY_ROOM"],
        number,
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
        journal=os.environ.get("TELSTATE_JOURNAL", "calls.db"),
    )


# --- the simulation: not part of the program above --------------------------------------------------------------------


async def simulate(number: str) -> bool:
    """The number is busy, then nobody answers, then somebody does."""
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
