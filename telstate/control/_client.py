"""Acting on sessions with daily-python's call client, from inside the room. Needs asyncio; does not import daily-python.

    async with Dispatcher(router, control=ClientControl(client)) as calls:
        ...

daily-python calls completions on one native thread, one at a time. A completion that waits blocks all of them, and an exception
is swallowed. So a completion here neither waits nor raises: it passes the answer to the event loop, if that still runs.
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import anyio

from telstate.control._in_room import InRoom, failed, unknown
from telstate.routing._log import Log
from telstate.routing._ports import Clock

__all__ = ["ClientControl"]


class ClientControl(InRoom):
    """A `CallTransport`, for a dispatcher's `control=` and for a dialer. Any number of requests may run at once.

    To dial, the client needs an owner's token, and the room needs dial-out enabled. Only REST can forward callers on hold. To
    combine both:

        class Both(ClientControl):
            def __init__(self, client, api):
                super().__init__(client)
                self._rest = RestControl(api)

            async def forward(self, call_id, call_domain, sip_endpoint):
                await self._rest.forward(call_id, call_domain, sip_endpoint)

    Args:
        client: a `daily.CallClient` that has joined its room before the first request.
        timeout: seconds of real time to wait for an answer. A later answer is logged: a start may have made a call.
        clock: the dispatcher's clock, if it has one of its own: `reconcile` compares times of sessions with it.

    Raises:
        TypeError: if it is not a call client.
        DefinitionError: if the timeout is not above 0.
    """

    def __init__(self, client: Any, *, timeout: float = 30.0, clock: Clock | None = None) -> None:
        start = getattr(client, "start_dialout", None)
        if start is None or iscoroutinefunction(start):
            hint = (
                "for pipecat's DailyTransport use TransportControl" if start else "create one with daily.CallClient()"
            )
            raise TypeError(f"ClientControl takes a daily.CallClient, not {type(client).__name__}: {hint}")
        super().__init__(client, timeout, clock)

    async def _call(self, name: str, argument: Any) -> tuple[Any, ...]:
        method = self._method(name)
        answer = _Answer(name)
        try:
            method(argument, completion=answer.deliver)
        except Exception as error:
            raise failed(name, error) from error
        return await answer.within(self._timeout)


class _Answer:
    """One answer, on its way from daily-python's thread to the coroutine that waits for it.

    Raises:
        RuntimeError: outside asyncio.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("a call client needs asyncio: call this from a coroutine that asyncio runs") from None
        self._future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()

    def deliver(self, *answer: Any) -> None:
        """The completion. Never waits and never raises; if the event loop has ended, nobody waits for the answer."""
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
        elif self._future.cancelled():  # else it is a second answer to one request, which says nothing new
            session_id = answer[0] if len(answer) == 2 and isinstance(answer[0], str) else None
            hint = "nobody waits for it any more; if it answers a start and has a session id, there is a call"
            log = Log()
            log.warning("daily.late_answer", request=self._name, session_id=session_id, hint=hint)
