"""pipecat's events, live: `attach` a dispatcher to a `DailyTransport`. Needs asyncio, as pipecat does; does not import it.

    async with Dispatcher(router) as calls, attach(calls, transport) as source:
        await source.start_dialout({"phoneNumber": "+12025550101"})

pipecat runs each handler in a task of its own, so those of two events may overtake each other wherever they wait. The ones
registered here wait for nothing: tasks begin in the order in which they were made, and in that order all is put into an inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from telstate.routing._dispatcher import Dispatcher
from telstate.sources._event_queue import LIMIT, EventQueue
from telstate.sources._handlers import HANDLERS, STATE, TELEPHONY, hear
from telstate.sources._starts import Start

__all__ = ["PipecatEvents", "attach"]


class PipecatEvents:
    """What `attach` returns: hears from the moment it is made, until its `async with` block is left.

    Leaving takes in what still waits; later events do nothing.
    """

    def __init__(self, inbox: EventQueue, transport: Any) -> None:
        self._inbox = inbox
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inbox.aclose()

    async def start_dialout(self, settings: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Start a dial-out by the transport, and have the dispatcher told what Daily answered.

        Returns:
            What the transport returns: the session id and the error, one of which is None.

        Raises:
            Exception: whatever the transport raises; then the dispatcher is told nothing.
        """
        start = Start(self._inbox, settings)
        answer: tuple[str | None, str | None] = await self._transport.start_dialout(settings)
        start.answered(*answer)
        return answer


def attach(calls: Dispatcher, transport: Any, *, client: str | None = None, limit: int = LIMIT) -> PipecatEvents:
    """Have a dispatcher hear what a transport tells of calls, participants and key presses, in order.

    Handlers of your own stay as they are, on the same names too. When the bot has left the call, sessions become uncertain
    (`SourceGap`). Attach once to each transport.

    Args:
        calls: who takes the events in.
        transport: a `DailyTransport`, or any that has `add_event_handler` and some of Daily's telephony events.
        client: an id for the call client, for a dispatcher that hears several: events and gaps then carry it. Without it a
            gap makes all live sessions uncertain.
        limit: how many events may wait to be taken in. More are dropped, which is logged and leaves a `SourceGap`.

    Raises:
        TypeError: if the transport has no events, or none of telephony.
        ValueError: if the limit is below 1, or `client` is no id.
        NotRunning: if the dispatcher is not open: attach inside its `async with`.
        RuntimeError: without a running asyncio event loop.
    """
    add = getattr(transport, "add_event_handler", None)
    if add is None:
        raise TypeError(f"attach takes a pipecat transport, such as DailyTransport(…), not {type(transport).__name__}")
    names = [name for name in (*HANDLERS, STATE, "on_left") if _has(transport, name)]
    if not set(names) & set(TELEPHONY):
        hint = "attach to the DailyTransport itself; of other transports' calls telstate knows nothing"
        raise TypeError(f"{type(transport).__name__} has none of Daily's dial-in and dial-out events: {hint}")
    inbox = EventQueue(calls, client, limit)
    inbox.open()
    for name in names:
        add(name, _hearing(inbox, name))
    return PipecatEvents(inbox, transport)


def _has(transport: Any, name: str) -> bool:
    """Whether a transport knows an event. pipecat tells only by a warning when it does not (1.14), so we look into the private
    dict it looks into itself (`BaseObject._event_handlers`); where there is none, all names are taken to be known."""
    known = getattr(transport, "_event_handlers", None)
    return not isinstance(known, Mapping) or name in known


def _hearing(inbox: EventQueue, handler: str) -> Callable[..., None]:
    def called(_transport: object, *args: object) -> None:
        hear(inbox, handler, args)

    called.__name__ = f"telstate_{handler}"
    return called
