"""A pipecat bot for callers who dial in, with telstate for the telephone's side of it.

    DAILY_ROOM_URL=… DAILY_TOKEN=… python examples/pipecat_dialin.py

The bot says hello when media flows, which for a dial-in no single event tells: `on_state(ANSWERED)` does. It leaves when the
caller is gone, for whatever reason and however often that is told. No flag, no session id by hand, no handler that runs twice.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from telstate import Dispatcher, Router, Session, State
from telstate.sources._pipecat import attach

Say = Callable[[str], Awaitable[None]]


async def bot(
    transport: Any, say: Say, leave: Callable[[], Awaitable[None]], talk: Callable[[], Awaitable[None]]
) -> None:
    """Serve the calls of one room.

    Args:
        transport: a DailyTransport.
        say: has the bot say something.
        leave: ends the conversation.
        talk: runs the pipeline until it ends.
    """
    router = Router("dial-in")

    @router.on_state(State.ANSWERED, live_only=True)
    async def greet(session: Session) -> None:
        """Only now does the caller hear anything. If the caller hangs up meanwhile, this is cancelled."""
        await say(f"Hello, you call from {session.sip_from or 'somewhere'}.")

    @router.on("dtmf-event")
    async def key() -> None:
        await say("You pressed a key.")

    @router.on_end()
    async def gone(session: Session) -> None:
        """Once for each call."""
        print(f"{session.session_id}: {session.cause}, {session.talk_s or 0:.0f} s of talk")
        await leave()

    async with Dispatcher(router) as calls, attach(calls, transport):
        await talk()


async def main() -> None:
    """With a real pipeline: what says and hears stands between the transport's input and output."""
    from pipecat.frames.frames import TTSSpeakFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.transports.daily.transport import DailyParams, DailyTransport
    from pipecat.workers.runner import WorkerRunner

    params = DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    transport = DailyTransport(os.environ["DAILY_ROOM_URL"], os.environ.get("DAILY_TOKEN"), "bot", params)
    worker = PipelineWorker(Pipeline([transport.input(), transport.output()]))  # your services go between these two

    async def say(text: str) -> None:
        await worker.queue_frame(TTSSpeakFrame(text))

    await bot(transport, say, worker.cancel, lambda: WorkerRunner().run(worker))


if __name__ == "__main__":
    anyio.run(main)
