"""A worker process with handlers that act on Daily: `python -m tests.journals.nats.across_worker URL APP ENVIRONMENT DAILY ENDPOINT…`.

Callers on hold are forwarded to the endpoint whose place is the last digit of the number that they called. It says `ready` once it owns its share, and each end of a call.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from telstate import Dispatcher, PinlessDialin, Router, Session
from telstate.control import DailyApi, RestControl
from telstate.journals.nats import Names, NatsConnection, StreamSettings, Worker
from telstate.testing import FakeDaily

__all__ = ["KEY", "PARTITIONS", "TTL", "router_to"]

PARTITIONS = 2
TTL = 2.0
KEY = FakeDaily().key


def router_to(*endpoints: str) -> Router:
    """Forward callers on hold, and say who ended."""
    router = Router()

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, calls: Dispatcher) -> None:
        assert event.to is not None
        ready = await calls.wait_ready(endpoints[int(event.to[-1])], timeout=30)
        await calls.forward(event, ready.uri)

    @router.on_end()
    async def gone(session: Session) -> None:
        say(f"ended {session.session_id} {session.ended_by} {session.caller}")

    return router


def say(text: str) -> None:
    """Report to the test."""
    os.write(1, f"{text}\n".encode())


async def main(url: str, app: str, environment: str, daily: str, *endpoints: str) -> None:
    """Work until SIGTERM."""
    async with DailyApi(KEY, url=daily) as api:
        worker = Worker(
            router_to(*endpoints),
            NatsConnection(url),
            names=Names(app, environment),
            streams=StreamSettings(partitions=PARTITIONS, max_bytes=1 << 26),
            ttl=TTL,
            control=RestControl(api),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shut_down)
        running = asyncio.ensure_future(worker.run())
        while not any(one.is_open for one in worker.partitions()):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
        say("ready")
        await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
