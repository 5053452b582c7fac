"""A pipecat bot for dial-in calls; telstate handles the phone side.

    DAILY_ROOM_URL=… DAILY_TOKEN=… python examples/pipecat_dialin.py

The bot says hello when media flows: for a dial-in no single event reports that, so it uses `on_state(ANSWERED)`. It leaves when the
call has ended, for any reason and however many events report it. There are no flags and no session ids to keep.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from telstate import Dispatcher, Router, Session, State
from telstate.sources import attach_pipecat

Say = Callable[[str], Awaitable[None]]


async def bot(
    transport: Any, say: Say, leave: Callable[[], Awaitable[None]], talk: Callable[[], Awaitable[None]]
) -> None:
    """Serve the calls of one room.

    Args:
        transport: a DailyTransport.
        say: makes the bot say something.
        leave: ends the conversation.
        talk: runs the pipeline until it ends.
    """
    router = Router("dial-in")

    @router.on_state(State.ANSWERED, live_only=True)
    async def greet(session: Session) -> None:
        """The caller can hear the bot from now on. Cancelled if the caller hangs up."""
        await say(f"Hello, you call from {session.sip_from or 'somewhere'}.")

    @router.on("dtmf-event")
    async def key() -> None:
        await say("You pressed a key.")

    @router.on_end()
    async def gone(session: Session) -> None:
        """Runs once for each call."""
        print(f"{session.session_id}: {session.cause}, {session.talk_s or 0:.0f} s of talk")
        await leave()

    async with Dispatcher(router) as calls, attach_pipecat(calls, transport):
        await talk()


async def main() -> None:
    """Run a real pipeline: your services go between the transport's input and output."""
    from pipecat.frames.frames import TTSSpeakFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.transports.daily.transport import DailyParams, DailyTransport
    from pipecat.workers.runner import WorkerRunner

    params = DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    transport = DailyTransport(os.environ["DAILY_ROOM_URL"], os.environ.get("DAILY_TOKEN"), "bot", params)
    worker = PipelineWorker(Pipeline([transport.input(), transport.output()]))

    async def say(text: str) -> None:
        await worker.queue_frame(TTSSpeakFrame(text))

    await bot(transport, say, worker.cancel, lambda: WorkerRunner().run(worker))


if __name__ == "__main__":
    anyio.run(main)
