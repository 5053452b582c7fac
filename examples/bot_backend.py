"""A bot backend that embeds telstate: answered callers are spoken to, and whatever they had is cleaned up when they end.

    python examples/bot_backend.py < events.jsonl

Events come from standard input, one JSON object a line; in a real backend they come from a webhook or a client's callbacks.
The bot is a stand-in that says its lines slowly. There is no session dictionary, no flag and no "is this my call?".
"""

from __future__ import annotations

import sys

import anyio

from telstate import Cause, Dispatcher, ParseError, Router, Session, State

router = Router("bots")
LINES = ("Hello, this is the bot.", "How can I help you?", "Let me look that up.")


class Bot:
    """The stand-in: where a real one runs a pipeline, this one prints."""

    open_bots = 0

    def __init__(self, session: Session) -> None:
        self.name = session.session_id[:8]
        Bot.open_bots += 1

    async def say(self, line: str) -> None:
        """Speaking takes time."""
        print(f"{self.name} bot: {line}")
        await anyio.sleep(0.01)

    def close(self) -> None:
        """Let go of what a call needs: a transport, a model, a slot."""
        Bot.open_bots -= 1
        print(f"{self.name} closed")


@router.on_start()
async def prepare(session: Session) -> None:
    """At the first sign of a call, whatever it is."""
    session.context["bot"] = Bot(session)


@router.on_state(State.ANSWERED, live_only=True)
async def talk(session: Session) -> None:
    """Media flows. If the caller hangs up, this is cancelled where it stands."""
    for line in LINES:
        await session.context["bot"].say(line)


@router.on("dtmf-event")
async def pressed(session: Session) -> None:
    """A key press comes after what was said before it: one session's handlers never overlap."""
    await session.context["bot"].say("You pressed a key.")


@router.on_end()
async def clean_up(session: Session) -> None:
    """Once, whatever ended the call, in whichever order its events came."""
    session.context["bot"].close()
    if session.cause is Cause.FAILED:
        print(f"{session.session_id[:8]} failed: {session.error_msg}")


async def main() -> None:
    """Take in what comes until there is no more; leaving the block lets the bots finish."""
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
