"""Live events from pipecat: attach a dispatcher to a `DailyTransport`. Needs asyncio, as pipecat does; does not import pipecat.

    async with Dispatcher(router) as calls, attach_pipecat(calls, transport) as source:
        await source.start_dialout({"phoneNumber": "+12025550101"})

pipecat runs each handler in a task of its own, so the handlers of two events can overtake each other wherever they wait. The ones
registered here never wait: tasks begin in the order in which they were made, and put their events into a queue in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from telstate.routing._ports import EventSink
from telstate.sources._callbacks import EVENTS, STATE, TELEPHONY, DialoutStart, put_callback
from telstate.sources._event_queue import LIMIT, EventQueue

__all__ = ["PipecatEvents", "attach_pipecat"]

_LONGEST_NAME = 1024


class PipecatEvents:
    """Returned by `attach_pipecat`: listens from the moment it is made until its `async with` block is left.

    Leaving delivers what still waits; later events are ignored.
    """

    def __init__(self, queue: EventQueue, transport: Any) -> None:
        self._queue = queue
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._queue.aclose()

    async def start_dialout(self, settings: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Start a dial-out through the transport, and deliver what Daily answered to the dispatcher.

        Returns:
            What the transport returns: the session id and the error, one of which is None.

        Raises:
            Exception: what the transport raises; then nothing is delivered.
        """
        start = DialoutStart(self._queue, settings)
        answer: tuple[str | None, str | None] = await self._transport.start_dialout(settings)
        start.complete(*answer)
        return answer


def attach_pipecat(
    calls: EventSink,
    transport: Any,
    *,
    client: str | None = None,
    limit: int = LIMIT,
    room: str | None = None,
) -> PipecatEvents:
    """Deliver a transport's events about calls, participants and key presses to a dispatcher, in order.

    Your own handlers keep working, on the same events too. When the bot has left the call, that is a sign of the end of the
    sessions that nobody else reports (`ClientLeft`). Attach once to each transport.

    Args:
        calls: the dispatcher, inside its `async with`.
        transport: a `DailyTransport`, or any that has `add_event_handler` and some of Daily's telephony events.
        client: an id for the call client, if a dispatcher has several: events and gaps then carry it. Without it, a gap makes all
            live sessions uncertain.
        limit: how many events may wait. More are dropped, which is logged and leaves a `SourceGap`.
        room: the name of the transport's room, which events then carry; by default that in the URL that the transport joins. With it, a
            dial-in is known to have come by the room's endpoint.

    Raises:
        TypeError: if the transport has no events, or none about phone calls.
        ValueError: if the limit is below 1, or `client` or `room` is not a valid id.
        NotRunning: if the dispatcher is not open.
        RuntimeError: without a running asyncio event loop.
    """
    add = getattr(transport, "add_event_handler", None)
    if add is None:
        raise TypeError(
            f"attach_pipecat takes a pipecat transport, such as DailyTransport(…), not {type(transport).__name__}"
        )
    names = [name for name in (*EVENTS, STATE, "on_left") if _has(transport, name)]
    if not set(names) & set(TELEPHONY):
        hint = "attach to the DailyTransport itself; telstate does not read the calls of other transports"
        raise TypeError(f"{type(transport).__name__} has none of Daily's dial-in and dial-out events: {hint}")
    queue = EventQueue(calls, client, limit, room or _room_of(transport))
    queue.open()
    for name in names:
        add(name, _callback(queue, name))
    return PipecatEvents(queue, transport)


def _has(transport: Any, name: str) -> bool:
    """Return True if a transport has an event. If it does not, pipecat (1.14) only logs a warning, so this reads the private dict
    that pipecat reads itself (`BaseObject._event_handlers`); without that dict, all names are assumed to exist."""
    known = getattr(transport, "_event_handlers", None)
    return not isinstance(known, Mapping) or name in known


def _room_of(transport: Any) -> str | None:
    """Return the name of the room in the URL that a `DailyTransport` joins: `https://<domain>.daily.co/<room>`. Others have none."""
    url = getattr(transport, "room_url", None)
    name = unquote(urlsplit(url).path).strip("/") if isinstance(url, str) else ""
    return name if 0 < len(name) <= _LONGEST_NAME and "/" not in name else None


def _callback(queue: EventQueue, handler: str) -> Callable[..., None]:
    def called(_transport: object, *args: object) -> None:
        put_callback(queue, handler, args)

    called.__name__ = f"telstate_{handler}"
    return called
