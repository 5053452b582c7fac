"""A bot backend that embeds telstate: a bot talks to every answered call, and is closed when the call ends.

    python examples/bot_backend.py < events.jsonl

Events come from standard input, one JSON object a line; in a real backend they come from a webhook or a client's callbacks.
The bot is a stand-in that prints its lines slowly. There is no session dictionary, no flag and no "is this my call?".
"""

from __future__ import annotations

import sys

import anyio

from telstate import Cause, Dispatcher, ParseError, Router, Session, State

router = Router("bots")
LINES = ("Hello, this is the bot.", "How can I help you?", "Let me look that up.")


class Bot:
    """A stand-in: it prints, where a real bot runs a pipeline."""

    open_bots = 0

    def __init__(self, session: Session) -> None:
        self.name = session.session_id[:8]
        Bot.open_bots += 1

    async def say(self, line: str) -> None:
        """Say a line; that takes time."""
        print(f"{self.name} bot: {line}")
        await anyio.sleep(0.01)

    def close(self) -> None:
        """Release what a call uses: a transport, a model, a slot."""
        Bot.open_bots -= 1
        print(f"{self.name} closed")


@router.on_start()
async def prepare(session: Session) -> None:
    """Runs at the first event of a call, whichever it is."""
    session.context["bot"] = Bot(session)


@router.on_state(State.ANSWERED, live_only=True)
async def talk(session: Session) -> None:
    """Runs when media flows; cancelled if the caller hangs up."""
    for line in LINES:
        await session.context["bot"].say(line)


@router.on("dtmf-event")
async def pressed(session: Session) -> None:
    """Runs after the earlier handlers of the session: they never overlap."""
    await session.context["bot"].say("You pressed a key.")


@router.on_end()
async def clean_up(session: Session) -> None:
    """Runs once, for every kind of end and any order of events."""
    session.context["bot"].close()
    if session.cause is Cause.FAILED:
        print(f"{session.session_id[:8]} failed: {session.error_msg}")


async def main() -> None:
    """Receive events until standard input ends; leaving the block lets the bots finish."""
    async with Dispatcher(router) as calls:
        async for line in anyio.wrap_file(sys.stdin.buffer):
            try:
                await calls.receive(line)
            except ParseError as error:
                print(f"not understood: {error}", file=sys.stderr)
        await calls.idle()
        print(f"{len(calls.live())} calls still live, {Bot.open_bots} bots open")


if __name__ == "__main__":
    anyio.run(main)
