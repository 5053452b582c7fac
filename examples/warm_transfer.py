"""A warm transfer: a bot calls an agent into its caller's room, tells the agent what it is about, and connects the two.

    python examples/warm_transfer.py                            # simulated: telstate.testing.FakeDaily stands in for Daily
    DAILY_API_KEY=… AGENT=+12025550190 TELSTATE_WEBHOOK_SECRET=… python examples/warm_transfer.py

With a key it serves all callers of your domain's rooms, until SIGTERM; that has not been tested against Daily itself. It
needs your bot in the room, dial-out enabled for the room, and a webhook to https://<your host>/webhooks (`telstate webhook create`)
that reaches PORT here (default 8080).

Copy the part above the simulation. `Bot` is a stand-in for your pipeline, which decides who hears whom, as do the permissions of the
participants. In the end the bot is silent but stays in the room: when the owner leaves, the phones in the room are disconnected
(docs.pipecat.ai/pipecat/telephony/daily-pstn).

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-warm-transfer/bot.py) has 539
lines, this file 207. The lines differ in kind: theirs hold a pipeline with its services, music, muting and a choice of targets, ours
the webhook receiver and the simulation. The code that handles the call, counted without blank lines, comments and docstrings: theirs
174 (5 states, a coordinator, 5 control frames, initiate_warm_transfer and 14 handlers, with their prompts for the model), ours 25
(hand_over, caller_gone, agent_gone). Theirs relies on the order in which people join, and takes a stopped for success or failure
depending on its own state; here each leg has a session, and the order of the lines is the order of the steps. Theirs lets the agent's
phone ring on when the caller is gone, and ends the call when the agent hangs up; here the bot goes back to the caller.
"""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import structlog

from telstate import CallEnded, Direction, Dispatcher, Router, Session, State
from telstate.control import DailyApi, Dialer, RestControl
from telstate.options import PhoneDialout
from telstate.sources import serve_webhooks


class Bot:
    """A stand-in for your pipeline: it prints."""

    async def talk(self, caller: Session) -> str:
        """Talk until the caller asks for a person; return what it is about."""
        return await self._say(caller, "Hello. I connect you with a colleague.")

    async def hold(self, caller: Session) -> None:
        """Play music to the caller, who hears nothing else."""
        await self._say(caller, "(music)")

    async def brief(self, agent: Session, summary: str) -> None:
        """Speak so that only the agent hears it."""
        await self._say(agent, f"I have somebody for you. {summary}")

    async def connect(self, caller: Session, agent: Session) -> None:
        """Let them hear each other, and be silent."""
        print(f"bot: {caller.sip_from} and {agent.destination} hear each other")

    async def take_back(self, caller: Session, why: str) -> None:
        """Stop the music: caller and bot hear each other again."""
        await self._say(caller, f"{why} What else can I do for you?")

    async def _say(self, who: Session, text: str) -> str:
        print(f"bot to {who.sip_from or who.destination}: {text}")
        await anyio.sleep(0.05)
        return "A car does not start."


def routes(bot: Bot, dialer: Dialer, agent: str, ring_timeout: float) -> Router:
    """Return the handlers of a caller.

    Args:
        bot: speaks.
        dialer: calls the agent.
        agent: the agent's number.
        ring_timeout: seconds to let the agent's phone ring.
    """
    router = Router("warm transfer")

    @router.on_state(State.ANSWERED, direction=Direction.DIALIN, live_only=True)
    async def hand_over(session: Session, calls: Dispatcher) -> None:
        """If the caller hangs up, this is cancelled, and the agent's phone stops ringing."""
        summary = await bot.talk(session)
        await bot.hold(session)
        whom = PhoneDialout(phone_number=agent)
        result = await dialer.dial(whom, attempts=1, ring_timeout=ring_timeout, room=session.room)
        if not result or result.session.ended:  # an agent who answers may hang up at once
            await bot.take_back(session, "Nobody is free.")
            return
        await calls.link(session.session_id, result.session.session_id)
        await bot.brief(result.session, summary)
        if not result.session.ended:
            await bot.connect(session, result.session)

    @router.on_end(direction=Direction.DIALIN)
    async def caller_gone(session: Session, calls: Dispatcher) -> None:
        """The agent's call ends with the caller's."""
        print(f"{session.sip_from}: {session.cause}")
        for leg in calls.legs(session.session_id):
            with suppress(CallEnded):  # the caller's own leg has ended, and perhaps the agent's
                await calls.stop(leg)

    @router.on_end(direction=Direction.DIALOUT)
    async def agent_gone(session: Session, calls: Dispatcher) -> None:
        """The bot goes back to the caller. An unanswered attempt has no linked caller."""
        print(f"{session.destination}: {session.cause}")
        for leg in calls.legs(session.session_id):
            if not leg.ended:
                await bot.take_back(leg, "My colleague has left.")

    return router


@asynccontextmanager
async def backend(
    api: DailyApi, bot: Bot, agent: str, *, secret: str, listening: socket.socket, ring_timeout: float = 20
) -> AsyncIterator[Dispatcher]:
    """Serve callers until SIGTERM. Webhooks arrive at `listening`, signed with `secret`."""
    router = Router("backend")
    # A handler that dials may take a minute; that needs no warning.
    calls = Dispatcher(router, control=RestControl(api), stop_on_signals=True, slow_after=60)
    dialer = Dialer(calls)
    router.include(routes(bot, dialer, agent, ring_timeout))  # possible until `calls` is entered
    async with api, calls, serve_webhooks(calls, secrets=[secret], listening=listening), dialer:
        yield calls


async def serve_daily() -> None:
    """Read the settings from the environment."""
    async with backend(
        DailyApi(os.environ["DAILY_API_KEY"]),
        Bot(),
        os.environ["AGENT"],
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
    ):
        await anyio.sleep_forever()


# --- the simulation: not part of the program above --------------------------------------------------------------------


class Overheard(Bot):
    """A bot that the simulation listens to."""

    def __init__(self) -> None:
        self.last = ""

    async def has_said(self, text: str) -> None:
        """Wait until it has said this, and nothing since."""
        await until(lambda: text in self.last)

    async def connect(self, caller: Session, agent: Session) -> None:
        """Let them hear each other, and be silent."""
        await super().connect(caller, agent)
        self.last = "connected"

    async def _say(self, who: Session, text: str) -> str:
        summary = await super()._say(who, text)
        self.last = text
        return summary


async def until(holds: Callable[[], object]) -> None:
    """Wait for somebody in another thread."""
    while not holds():  # noqa: ASYNC110
        await anyio.sleep(0.02)


async def simulate() -> None:
    """Agent and caller talk; the agent hangs up; no agent answers; a caller does not wait for the agent."""
    from telstate.testing import FakeDaily, PhoneLine

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody calls.")
    agent = "+12025550190"
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    with FakeDaily(f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks", secret) as daily:
        api, bot = DailyApi(daily.key, url=daily.url), Overheard()
        async with backend(api, bot, agent, secret=secret, listening=listening) as calls:
            for name, line, last in (
                ("anna", PhoneLine(answers=0.1), "connected"),
                ("ben", PhoneLine(answers=0.1), "My colleague has left"),
                ("cora", PhoneLine(busy=True), "Nobody is free"),
                ("dan", PhoneLine(answers=None), "(music)"),
            ):
                print(f"--- {name}")
                daily.lines[agent], bot.last = line, ""
                [endpoint] = daily.host(name)
                caller = daily.dial_in(endpoint, f"sip:{name}@example.com")
                if name == "ben":
                    await bot.has_said("connected")
                    daily.hang_up(daily.live(agent)[0].session_id)
                if name == "dan":
                    await until(lambda: len(calls.live()) == 2)  # the agent's phone rings
                await bot.has_said(last)
                daily.hang_up(caller)
                await until(lambda: not daily.live())
                await anyio.to_thread.run_sync(daily.settled)
                await calls.idle()
        print(f"the fake saw these ends: {', '.join(str(leg.ended_by) for leg in daily.sessions)}")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(serve_daily if "DAILY_API_KEY" in os.environ else simulate)
