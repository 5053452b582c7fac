"""A stand-in for what starts bots: pipecat's runner, or Pipecat Cloud. SIMULATED: a bot of the fake carries no media.

A bot is a command, or a URL, that is given what pipecat's runner gives a bot: `{"room_url", "token", "session_id", "body"}`, a command on
its standard input. A real bot joins its room by itself, connects its caller, and sees them leave. A command cannot do that in a room of
the fake: the stand-in joins and connects for it, leaves when the command ends, and sends it SIGTERM when its caller has gone.

Source: pipecat 1.14, `pipecat/runner/run.py` (the paths, the bodies and the answers) and `runner/types.py` (`DailyRunnerArguments`,
`DailyDialinRequest`).
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telstate.control._tls import tls_for
from telstate.testing._domain import CallRejected, SimulatedDomain
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._requests import answering, invalid, json_object
from telstate.testing._rooms import Meeting, SimulatedRoom
from telstate.testing._routes import room_properties

__all__ = ["RUNNER", "BotRunner"]

RUNNER = "/bot-runner"
"""The stand-in is below this path."""
_LOOKS_EVERY = 0.02
_TO_END = 5.0
"""Seconds for a bot's command to end after SIGTERM."""
_URL_TIMEOUT = 10.0


class BotRunner:
    """Starts bots.

    Args:
        domain: the domain.
        bot: a command, or a URL; None: a bot that only joins.
        joins: seconds from the start of a bot until it is in the room.
        key: the API key, for the bot and for who starts one.
        watch: is called with a line about a bot that could not be started.
        fail: is called with errors that are bugs of the fake.
    """

    def __init__(
        self,
        domain: SimulatedDomain,
        bot: str | Sequence[str] | None,
        *,
        joins: float,
        key: str,
        watch: Callable[[str], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._domain = domain
        self._bot = bot
        self._joins = joins
        self._key = key
        self._watch = watch
        self._fail = fail
        self._bots: set[asyncio.Task[None]] = set()
        self.api_url = ""

    def routes(self) -> list[Route]:
        """Return the routes: of pipecat's runner, below `RUNNER`."""
        start = answering(self._post_start, self._key)
        return [
            Route(f"{RUNNER}/start", start, methods=["POST"]),
            Route(f"{RUNNER}/daily-dialin-webhook", answering(self._post_dialin), methods=["POST"]),
        ]

    def start(self, room: SimulatedRoom, body: Any, call_id: str | None = None) -> dict[str, str]:
        """Start a bot for a room, in the background.

        Args:
            room: the room.
            body: whatever the bot is told.
            call_id: the caller on hold whom it connects; it leaves when they have gone.

        Returns:
            What pipecat's runner answers.
        """
        token, session_id = uuid4().hex, str(uuid4())
        url: str = room.to_json()["url"]
        given = {"room_url": url, "token": token, "session_id": session_id, "body": body}
        task = asyncio.create_task(self._run(room, given, call_id))
        self._bots.add(task)
        task.add_done_callback(self._done)
        return {"dailyRoom": url, "dailyToken": token, "sessionId": session_id}

    async def aclose(self) -> None:
        """End all bots."""
        for task in self._bots:
            task.cancel()
        if self._bots:
            await asyncio.wait(self._bots)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._bots.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _post_start(self, request: Request) -> Response:
        body = await json_object(request)
        if not body.get("createDailyRoom"):
            raise invalid("createDailyRoom must be true: for a room that exists, POST /simulation/rooms/:name/bot")
        given = body.get("dailyRoomProperties")
        properties = room_properties({} if given is None else {"properties": given})
        room = self._domain.make(f"pipecat-{uuid4().hex[:8]}", properties)
        return JSONResponse(self.start(room, body.get("body", {})))

    async def _post_dialin(self, request: Request) -> Response:
        """A caller is on hold: make a room with an endpoint for them, and start a bot."""
        body = await json_object(request)
        if body.get("test") or body.get("Test"):
            return JSONResponse({"status": "OK"})
        if not all(isinstance(body.get(field), str) for field in ("From", "To", "callId", "callDomain")):
            raise invalid("Missing required fields: From, To, callId, callDomain")
        if body["callId"] not in self._domain.waiting:
            raise RequestRefused(Refusal(404, "not-found", "no such caller is on hold"))
        sip = {"sip_mode": "dial-in", "display_name": body["From"], "num_endpoints": 1}
        room = self._domain.make(f"pipecat-telephony-{uuid4().hex[:8]}", {"sip": sip})
        settings = {
            "call_id": body["callId"],
            "call_domain": body["callDomain"],
            "To": body["To"],
            "From": body["From"],
            "sip_headers": body.get("sipHeaders"),
        }
        told = {"dialin_settings": settings, "daily_api_key": self._key, "daily_api_url": self.api_url}
        return JSONResponse(self.start(room, told, body["callId"]))

    # --- one bot ----------------------------------------------------------------------------------------------------

    async def _run(self, room: SimulatedRoom, given: dict[str, Any], call_id: str | None) -> None:
        meeting: Meeting | None = None
        try:
            async with self._started(given) as process:
                await asyncio.sleep(self._joins)
                if (meeting := self._join(room)) is None:
                    return
                if call_id is not None:
                    await self._forward(room, call_id)
                while room.meeting is meeting and not _has_ended(process):
                    if call_id is not None and not self._domain.live_in(room.name):
                        break
                    await asyncio.sleep(_LOOKS_EVERY)
        except (OSError, httpx.HTTPError, CallRejected) as error:
            self._watch(f"bot of {room.name}: {error}")
        finally:
            if meeting is not None and room.meeting is meeting:
                self._domain.end_meeting(room)

    def _join(self, room: SimulatedRoom) -> Meeting | None:
        """Join a room; None if it was deleted meanwhile, or another bot is in it: the fake has one in a room."""
        if self._domain.rooms.get(room.name) is not room or room.meeting is not None:
            return None
        self._domain.host(room)
        return room.meeting

    @asynccontextmanager
    async def _started(self, given: dict[str, Any]) -> AsyncIterator[Process | None]:
        """Start the bot, and end its command when the block is left."""
        if isinstance(self._bot, str):
            tls = await tls_for(self._bot)
            async with httpx.AsyncClient(timeout=_URL_TIMEOUT, verify=tls, trust_env=False) as client:
                (await client.post(self._bot, json=given)).raise_for_status()
        if self._bot is None or isinstance(self._bot, str):
            yield None
            return
        # The names of these variables are pipecat's, but for the last one.
        env = {
            "DAILY_API_KEY": self._key,
            "DAILY_API_URL": self.api_url,
            "DAILY_ROOM_URL": given["room_url"],
            "TELSTATE_DAILY_API_URL": self.api_url,
        }
        process = await asyncio.create_subprocess_exec(*self._bot, stdin=PIPE, env={**os.environ, **env})
        try:
            await _feed(process, json.dumps(given).encode())
            yield process
        finally:
            await asyncio.shield(_end(process))

    async def _forward(self, room: SimulatedRoom, call_id: str) -> None:
        """Connect the caller on hold once the endpoint is ready, as pipecat's transport does at `dialin-ready`.

        Raises:
            CallRejected: if they have hung up.
        """
        endpoint = room.endpoints[0]
        while room.meeting is not None and not endpoint.ready:  # noqa: ASYNC110 - the domain has no event for it
            await asyncio.sleep(_LOOKS_EVERY)
        self._domain.forward(call_id, endpoint.uri)


def _has_ended(process: Process | None) -> bool:
    return process is not None and process.returncode is not None


async def _feed(process: Process, text: bytes) -> None:
    """Give a process its standard input. It need not read it."""
    assert process.stdin is not None  # noqa: S101
    process.stdin.write(text + b"\n")
    with suppress(ConnectionError):
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: Process) -> None:
    """Ask it to end, and then make it."""
    for do in (process.terminate, process.kill):
        with suppress(ProcessLookupError, TimeoutError):
            do()
            await asyncio.wait_for(process.wait(), _TO_END)
            return
