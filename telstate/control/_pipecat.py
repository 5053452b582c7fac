"""Acting on sessions with pipecat's `DailyTransport`, from inside the room. Needs asyncio, as pipecat does; does not import it.

async with Dispatcher(router, control=TransportControl(transport)) as calls, attach(calls, transport):
    ...
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import anyio

from telstate.control._in_room import InRoom, failed, unknown
from telstate.routing._ports import Clock

__all__ = ["TransportControl"]


class TransportControl(InRoom):
    """A `CallTransport`, for a dispatcher's `control=` and for a dialer. Any number of requests may run at once.

    pipecat's own `send_dtmf`, `sip_call_transfer` and `sip_refer` act on its latest call if no session is named; requests from here
    always name one. Its transport (1.14) has no public method to eject, so it cannot stop a dial-in, and it cannot forward a caller
    on hold: let `RestControl` do both, as `ClientControl` shows for one.

    Args:
        transport: a `DailyTransport` that has joined its room before the first request.
        timeout: seconds of real time to wait for an answer.
        clock: the dispatcher's clock, if it has one of its own: `reconcile` compares times of sessions with it.

    Raises:
        TypeError: if it is not such a transport.
        DefinitionError: if the timeout is not above 0.
    """

    _missing = {  # noqa: RUF012 - a ClassVar in the base
        "eject_remote_participants": "pipecat cannot remove a participant who dialled in; end that call with RestControl(api), or with"
        " ClientControl(client) if the program has the call client itself"
    }

    def __init__(self, transport: Any, *, timeout: float = 30.0, clock: Clock | None = None) -> None:
        start = getattr(transport, "start_dialout", None)
        is_client = hasattr(transport, "eject_remote_participants") and not iscoroutinefunction(start)
        if start is None or is_client:  # a call client would send a start, and return nothing to await
            hint = "for daily-python's CallClient use ClientControl" if start else "other transports make no calls"
            raise TypeError(f"TransportControl takes pipecat's DailyTransport, not {type(transport).__name__}: {hint}")
        super().__init__(transport, timeout, clock)

    async def _call(self, name: str, argument: Any) -> tuple[Any, ...]:
        method = self._method(name)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("pipecat needs asyncio: call this from a coroutine that asyncio runs") from None
        waited: list[bool] = []  # not empty once the event loop has run anything else
        loop.call_soon(waited.append, True)
        with anyio.move_on_after(self._timeout):
            try:
                answer = await method(argument)
            except Exception as error:
                if not waited:  # pipecat sends the request before it first waits
                    raise failed(name, error) from error
                raise unknown(name, "pipecat failed while it read the answer") from error
            if name != "start_dialout":
                return (answer,)
            return tuple(answer) if isinstance(answer, (tuple, list)) else ()
        raise unknown(name, f"no answer within {self._timeout:g} seconds")
