"""Acting on sessions with a transport of pipecat's, from inside the room. Needs asyncio, as pipecat does; does not import it.

async with Dispatcher(router, control=TransportControl(transport)) as calls, attach(calls, transport):
    ...
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import anyio

from telstate.calls._session import Session
from telstate.control._in_room import InRoom, failed, unknown
from telstate.errors import NotSupported
from telstate.events import Direction
from telstate.routing._id_scopes import scope_of
from telstate.routing._ports import Clock

__all__ = ["TransportControl"]


class TransportControl(InRoom):
    """A `CallTransport`, for a dispatcher's `control=` and for a dialer. Any number of requests may run at once.

    pipecat's own `send_dtmf`, `sip_call_transfer` and `sip_refer` act on its latest call if no session is named; requests from here
    always name one. Its transport (1.14) has no public method to eject, so it cannot stop a dial-in, and it cannot forward a caller
    on hold: let `RestControl` do both, as `ClientControl` shows for one.

    With a transport whose ids are not global, such as pipecat's `SIPTransport`, attach it to the dispatcher (`attach_pipecat`) before the
    first request. Session ids have a scope then, which this class removes from requests and adds to the ids of the calls that it
    starts. A session of another transport, or of an earlier run of the program, is refused with `NotSupported`.

    Args:
        transport: a `DailyTransport` that has joined its room before the first request, or one with the same methods.
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

    async def stop(self, session: Session) -> None:
        """End a session: a dial-out is stopped, a dial-in is ejected.

        Raises:
            NotSupported: if the transport cannot end a dial-in. `SIPTransport` has one call; it hangs up when its pipeline ends.
        """
        ejects = hasattr(self._target, "eject_remote_participants")
        if scope_of(self._target).name and session.direction is Direction.DIALIN and not ejects:
            kind = type(self._target).__name__
            raise NotSupported(
                f"{kind} has no request that ends a dial-in: end its pipeline, for example with an EndFrame"
            )
        await super().stop(session)

    def _with_transport_ids(self, argument: Any) -> Any:
        """Return the argument of a request with the ids by which the transport knows its sessions."""
        if isinstance(argument, str):
            return self._transport_id(argument)
        if isinstance(argument, list):
            return [self._transport_id(session_id) for session_id in argument]
        if "sessionId" in argument:
            return {**argument, "sessionId": self._transport_id(argument["sessionId"])}
        return argument

    def _transport_id(self, session_id: str) -> str:
        scope = scope_of(self._target)
        transport_id = scope.transport_id(session_id)
        if transport_id is None:
            kind = type(self._target).__name__
            raise NotSupported(  # not NoSuchSession: that would end the session
                f"{session_id} is not a call of this {kind}, whose session ids begin with {scope.name}: act on it with a TransportControl"
                " of its own transport. If an earlier run of the program had the call, nobody can. Nothing was sent."
            )
        return transport_id

    async def _call(self, name: str, argument: Any) -> tuple[Any, ...]:
        method = self._method(name)
        argument = self._with_transport_ids(argument)
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
            return self._start_answer(answer)
        raise unknown(name, f"no answer within {self._timeout:g} seconds")

    def _start_answer(self, answer: Any) -> tuple[Any, ...]:
        """Return the session id, as a dispatcher knows it, and the error."""
        if not isinstance(answer, (tuple, list)):
            return ()
        session_id, *rest = answer or ("",)
        if isinstance(session_id, str) and session_id:
            return (scope_of(self._target).session_id(session_id), *rest)
        return tuple(answer)
