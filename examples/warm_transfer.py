"""A bot that calls a person into the room of its caller, says what it is about, and then brings the two together: a warm transfer.

    python examples/warm_transfer.py                            # simulated: telstate.testing._daily.FakeDaily stands in for Daily
    DAILY_API_KEY=… AGENT=+12025550190 TELSTATE_WEBHOOK_SECRET=… python examples/warm_transfer.py

With a key it is a service, until SIGTERM, for all who dial into rooms of your domain. That way is untested against Daily itself. It
needs your bot in the room, the room enabled to dial out, and a webhook to https://<your host>/webhooks (`telstate webhook create`) that
reaches PORT here, 8080 unless it is set.

What you would copy ends where the simulation begins. `Bot` is a stand-in for your pipeline; who hears whom is your pipeline's, or a
matter of the participants' permissions. The bot falls silent in the end but stays in the room: when the owner leaves, the phones in the
room are cut off (docs.pipecat.ai/pipecat/telephony/daily-pstn).

Pipecat's example of the same (github.com/pipecat-ai/pipecat-examples at 39261fcd, phone-chatbot/daily-pstn-warm-transfer/bot.py) has 539
lines, this file 173. They are not the same lines: theirs hold a pipeline with its services, music, muting and several targets to choose
from, ours the receiver of the webhooks and the simulation. What keeps book of the call, counted without blank lines, comments and
docstrings: theirs 174 (5 states, a coordinator, 5 control frames, initiate_warm_transfer and 14 handlers, with what they tell the
model), ours 25 (hand_over, caller_gone, agent_gone). Theirs goes by the order in which people join, and reads a stopped as success or
failure by its own state; here each has a session, and what comes after what is the order of the lines. Theirs lets the agent's phone
ring on when the caller has gone, and ends the call when the agent hangs up; here the bot takes the caller back.
"""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import structlog

from telstate import CallEnded, Direction, Dispatcher, Router, Session, State
from telstate.control import DailyApi, Dialer, PhoneDialout, RestControl
from telstate.sources._server import serve_webhooks


class Bot:
    """The stand-in for your pipeline: it prints."""

    async def talk(self, caller: Session) -> str:
        """Talk until the caller asks for a person; return what it is about."""
        return await self._say(caller, "Hello. I connect you with a colleague.")

    async def hold(self, caller: Session) -> None:
        """Music, and the caller hears and says nothing else."""
        await self._say(caller, "(music)")

    async def brief(self, agent: Session, summary: str) -> None:
        """Only the agent hears this."""
        await self._say(agent, f"I have somebody for you. {summary}")

    async def connect(self, caller: Session, agent: Session) -> None:
        """They hear each other, and the bot falls silent."""
        print(f"bot: {caller.sip_from} and {agent.destination} hear each other")

    async def take_back(self, caller: Session, why: str) -> None:
        """No music any more: caller and bot hear each other."""
        await self._say(caller, f"{why} What else can I do for you?")

    async def _say(self, who: Session, text: str) -> str:
        print(f"bot to {who.sip_from or who.destination}: {text}")
        await anyio.sleep(0.05)
        return "A car does not start."


def routes(bot: Bot, dialer: Dialer, agent: str, ring_timeout: float) -> Router:
    """What happens to a caller.

    Args:
        bot: speaks.
        dialer: calls the agent.
        agent: a number.
        ring_timeout: seconds that the agent's phone rings.
    """
    router = Router("warm transfer")

    @router.on_state(State.ANSWERED, direction=Direction.DIALIN, live_only=True)
    async def hand_over(session: Session, calls: Dispatcher) -> None:
        """If the caller hangs up, this is cancelled where it stands; a phone that rings then stops ringing."""
        summary = await bot.talk(session)
        await bot.hold(session)
        whom = PhoneDialout(phone_number=agent)
        result = await dialer.dial(whom, attempts=1, ring_timeout=ring_timeout, room=session.room)
        if not result.answered or result.session is None or result.session.ended:  # who picks up may hang up at once
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
            with suppress(CallEnded):  # the caller's own has ended, and the agent may have been quicker
                await calls.stop(leg)

    @router.on_end(direction=Direction.DIALOUT)
    async def agent_gone(session: Session, calls: Dispatcher) -> None:
        """The caller is the bot's again. An attempt that nobody answered is linked with nobody."""
        print(f"{session.destination}: {session.cause}")
        for leg in calls.legs(session.session_id):
            if not leg.ended:
                await bot.take_back(leg, "My colleague has left.")

    return router


@asynccontextmanager
async def backend(
    api: DailyApi, bot: Bot, agent: str, *, secret: str, listening: socket.socket, ring_timeout: float = 20
) -> AsyncIterator[Dispatcher]:
    """Serve callers. The webhooks come in at `listening`, signed with `secret`; SIGTERM ends it."""
    router = Router("backend")
    # A handler that dials may take a minute, and nobody need be warned of it.
    calls = Dispatcher(router, control=RestControl(api), stop_on_signals=True, slow_after=60)
    dialer = Dialer(calls)
    router.include(routes(bot, dialer, agent, ring_timeout))  # until `calls` is entered there is time
    async with api, calls, serve_webhooks(calls, secrets=[secret], listening=listening), dialer:
        yield calls


async def serve_daily() -> None:
    """As the environment says."""
    async with backend(
        DailyApi(os.environ["DAILY_API_KEY"]),
        Bot(),
        os.environ["AGENT"],
        secret=os.environ["TELSTATE_WEBHOOK_SECRET"],
        listening=socket.create_server(("", int(os.environ.get("PORT", "8080")))),
    ):
        await anyio.sleep_forever()


# --- the simulation: no part of the program above ---------------------------------------------------------------------


async def simulate() -> None:
    """The agent and a caller talk; the agent hangs up; no agent picks up; a caller does not wait for the agent."""
    from telstate.testing import FakeDaily, PhoneLine

    print("SIMULATED: without DAILY_API_KEY a fake on this machine stands in for Daily, and nobody calls.")
    agent = "+12025550190"
    secret = b64encode(b"simulated").decode()
    listening = socket.create_server(("127.0.0.1", 0))
    with FakeDaily(f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks", secret) as daily:
        api = DailyApi(daily.key, url=daily.url)
        async with backend(api, Bot(), agent, secret=secret, listening=listening, ring_timeout=3) as calls:
            for name, line, talks in (
                ("anna", PhoneLine(answers=0.1), 0.8),
                ("ben", PhoneLine(answers=0.1, talks=0.3), 1.0),
                ("cora", PhoneLine(busy=True), 0.8),
                ("dan", PhoneLine(answers=None), 0.4),
            ):
                print(f"--- {name}")
                daily.lines[agent] = line
                [endpoint] = daily.host(name)
                daily.dial_in(endpoint, f"sip:{name}@example.com", talks=talks)
                while daily.live():  # noqa: ASYNC110 - it is in another thread
                    await anyio.sleep(0.02)
                await anyio.to_thread.run_sync(daily.settled)
                await calls.idle()
        print(f"the fake saw these ends: {', '.join(str(leg.ended_by) for leg in daily.sessions)}")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(serve_daily if "DAILY_API_KEY" in os.environ else simulate)
