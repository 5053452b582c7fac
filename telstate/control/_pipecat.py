"""CallControl on sessions by pipecat's `DailyTransport`, from inside the room. Needs asyncio, as pipecat does; does not import it.

async with Dispatcher(router, control=TransportControl(transport)) as calls, attach(calls, transport):
    ...
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import anyio

from telstate.control._in_room import InRoom, failed, unknown

__all__ = ["TransportControl"]


class TransportControl(InRoom):
    """A `CallTransport`: what a dispatcher acts by, and a dialer dials by. Any number of requests may be under way at once.

    pipecat's own `send_dtmf`, `sip_call_transfer` and `sip_refer` go to its latest call if no session is named; from here one
    always is. Its transport (1.14) has no public way to eject, so that who dialled in cannot be stopped by it, nor a caller on
    hold be forwarded: let `RestControl` do both, as `ClientControl` shows for one.

    Args:
        transport: a `DailyTransport`, in its room by the time it is used.
        timeout: seconds to wait for an answer.

    Raises:
        TypeError: if it is no such transport.
        DefinitionError: if the timeout is not above 0.
    """

    _missing = {  # noqa: RUF012 - a ClassVar in the base
        "eject_remote_participants": "pipecat cannot remove who dialled in; end that call by RestControl(api), or by"
        " ClientControl(client) where the program has the call client itself"
    }

    def __init__(self, transport: Any, *, timeout: float = 30.0) -> None:
        start = getattr(transport, "start_dialout", None)
        is_client = hasattr(transport, "eject_remote_participants") and not iscoroutinefunction(start)
        if start is None or is_client:  # a call client would send a start, and then have nothing to wait for
            hint = "for daily-python's CallClient take ClientControl" if start else "other transports make no calls"
            raise TypeError(f"TransportControl takes pipecat's DailyTransport, not {type(transport).__name__}: {hint}")
        super().__init__(transport, timeout)

    async def _ask(self, name: str, argument: Any) -> tuple[Any, ...]:
        method = self._method(name)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("pipecat needs asyncio: do this in a coroutine that asyncio runs") from None
        others: list[bool] = []  # not empty once the event loop has run anything else
        loop.call_soon(others.append, True)
        with anyio.move_on_after(self._timeout):
            try:
                answer = await method(argument)
            except Exception as error:
                if not others:  # pipecat sends, and waits for the answer only then
                    raise failed(name, error) from error
                raise unknown(name, "pipecat failed on the answer") from error
            if name != "start_dialout":
                return (answer,)
            return tuple(answer) if isinstance(answer, (tuple, list)) else ()
        raise unknown(name, f"no answer within {self._timeout:g} seconds")
