"""Live events from daily-python: an event handler for `daily.CallClient`. Needs `telstate[daily]`, and asyncio.

    async with Dispatcher(router) as calls, DailyEvents(calls) as events:
        client = daily.CallClient(event_handler=events)

daily-python calls every handler and completion on one native thread of its own, one at a time. Code that waits there blocks all of
them, and an exception there is swallowed. So nothing here waits or raises on that thread: a queue hands everything to the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import daily

from telstate.routing._ports import EventSink
from telstate.sources._callbacks import EVENTS, STATE, DialoutStart, put_callback
from telstate.sources._event_queue import LIMIT, EventQueue

__all__ = ["DailyEvents"]


class DailyEvents(daily.EventHandler):
    """Delivers a call client's events about calls, participants and key presses to a dispatcher, in order.

    Use it as `async with`, inside the dispatcher's block. Leaving it delivers what still waits; later callbacks do nothing. A
    client has one event handler: for callbacks of your own, derive from this class and call `super()` in `__init__` and in every
    handler that you override. When the client has left, that is a sign of the end of the sessions that nobody else reports (`ClientLeft`).

    Args:
        calls: the dispatcher.
        client: an id for the call client. Give one if a dispatcher has several: otherwise a gap makes all live sessions uncertain,
            and the leaving of one client without a room is a sign of the end of the sessions of all.
        limit: how many events may wait. More are dropped, which is logged and leaves a `SourceGap`.
        room: the name of the room that the client joins: daily-python names it nowhere. With it, a dial-in is known to have come by the
            room's endpoint, and a caller on hold who was forwarded there becomes that session.

    Raises:
        ValueError: if the limit is below 1, or `client` or `room` is not a valid id.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Drop the arguments: the native class takes no keywords."""
        return super().__new__(cls)

    def __init__(
        self, calls: EventSink, *, client: str | None = None, limit: int = LIMIT, room: str | None = None
    ) -> None:
        super().__init__()
        self._queue = EventQueue(calls, client, limit, room)

    async def __aenter__(self) -> Self:
        self._queue.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._queue.aclose()

    def completion(self, settings: Mapping[str, Any]) -> Callable[[str | None, str | None], None]:
        """Make a completion for `client.start_dialout(settings, completion=events.completion(settings))`.

        If Daily refuses the start, it becomes a `DialoutRefused` with an id made here; otherwise a `DialoutRequested`.
        """
        return DialoutStart(self._queue, settings).complete


def _callback(handler: str) -> Callable[..., None]:
    def called(self: DailyEvents, *args: object) -> None:
        put_callback(self._queue, handler, args)

    called.__name__ = handler
    called.__qualname__ = f"DailyEvents.{handler}"
    called.__doc__ = f"Queue the event of daily-python's `{handler}`. Never waits and never raises."
    return called


# daily-python finds them by name. All are alike, and the four that its type stub leaves out are among them.
for _handler in (*EVENTS, STATE):
    setattr(DailyEvents, _handler, _callback(_handler))
