"""CallControl on sessions by daily-python's call client, from inside the room. Needs asyncio; does not import daily-python.

    async with Dispatcher(router, control=ClientControl(client)) as calls:
        ...

daily-python calls completions on one native thread of its own, one at a time; whatever waits there stops all of them, and an
exception there is swallowed. So nothing here waits or raises on it: an answer hops to the event loop, if that is still there.
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import anyio

from telstate.control._in_room import InRoom, failed, unknown
from telstate.routing._log import Log

__all__ = ["ClientControl"]


class ClientControl(InRoom):
    """A `CallTransport`: what a dispatcher acts by, and a dialer dials by. Any number of requests may be under way at once.

    To dial it needs an owner's token, and a room that has dial-out enabled. Forwarding callers on hold is the one thing that only
    REST can; both in one:

        class Both(ClientControl):
            def __init__(self, client, api):
                super().__init__(client)
                self._rest = RestControl(api)

            async def forward(self, call_id, call_domain, sip_endpoint):
                await self._rest.forward(call_id, call_domain, sip_endpoint)

    Args:
        client: a `daily.CallClient`, in its room by the time it is used.
        timeout: seconds to wait for an answer. An answer that comes later is logged: a start may have made a call.

    Raises:
        TypeError: if it is no call client.
        DefinitionError: if the timeout is not above 0.
    """

    def __init__(self, client: Any, *, timeout: float = 30.0) -> None:
        start = getattr(client, "start_dialout", None)
        if start is None or iscoroutinefunction(start):
            hint = "for pipecat's DailyTransport take TransportControl" if start else "make one by daily.CallClient()"
            raise TypeError(f"ClientControl takes a daily.CallClient, not {type(client).__name__}: {hint}")
        super().__init__(client, timeout)

    async def _ask(self, name: str, argument: Any) -> tuple[Any, ...]:
        method = self._method(name)
        answer = _Answer(name)
        try:
            method(argument, completion=answer.told)
        except Exception as error:
            raise failed(name, error) from error
        return await answer.within(self._timeout)


class _Answer:
    """The way of one answer, from daily-python's thread to whoever waits for it.

    Raises:
        RuntimeError: if asyncio does not run it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("a call client needs asyncio: do this in a coroutine that asyncio runs") from None
        self._future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()

    def told(self, *answer: Any) -> None:
        """The completion. Never waits and never raises; where the event loop has ended, nobody waits for it either."""
        try:
            self._loop.call_soon_threadsafe(self._arrived, answer)
        except RuntimeError:
            return

    async def within(self, seconds: float) -> tuple[Any, ...]:
        """Wait for it.

        Raises:
            UnknownResult: if it did not come in time.
        """
        with anyio.move_on_after(seconds):
            await self._future
        if self._future.done() and not self._future.cancelled():
            return self._future.result()
        raise unknown(self._name, f"no answer within {seconds:g} seconds")

    def _arrived(self, answer: tuple[Any, ...]) -> None:
        if not self._future.done():
            self._future.set_result(answer)
        elif self._future.cancelled():  # a second answer to one request says nothing new
            session_id = answer[0] if len(answer) == 2 and isinstance(answer[0], str) else None
            hint = "nobody waits for it any more: if it was a start with a session id, there is a call"
            log = Log()
            log.warning("daily.late_answer", request=self._name, session_id=session_id, hint=hint)
