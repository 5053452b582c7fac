"""daily-python's events, live: an event handler for `daily.CallClient`. Needs `telstate[daily]`, and asyncio.

    async with Dispatcher(router) as calls, DailyEvents(calls) as events:
        client = daily.CallClient(event_handler=events)

daily-python calls every handler and completion on one native thread of its own, one at a time; whatever waits there stops all
of them, and an exception there is swallowed. So nothing here waits or raises on it: the inbox takes everything to the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

try:
    import daily
except ModuleNotFoundError as error:
    if error.name != "daily":
        raise
    raise ModuleNotFoundError("DailyEvents needs daily-python: pip install 'telstate[daily]'", name="daily") from error

from telstate.routing._dispatcher import Dispatcher
from telstate.sources._event_queue import LIMIT, EventQueue
from telstate.sources._handlers import HANDLERS, STATE, hear
from telstate.sources._starts import Start

__all__ = ["DailyEvents"]


class DailyEvents(daily.EventHandler):
    """Hands what a call client tells of calls, participants and key presses to a dispatcher, in order.

    Use it as `async with`, inside the dispatcher's block. Leaving it takes in what still waits; later callbacks do nothing. A
    client has one event handler: for callbacks of your own derive from this class, and call `super()` in those named in
    `telstate.sources._handlers`. When the client has left, its sessions become uncertain (`SourceGap`).

    Args:
        calls: who takes the events in.
        client: an id for the call client, for a dispatcher that hears several: events and gaps then carry it. Without it a
            gap makes all live sessions uncertain.
        limit: how many events may wait to be taken in. More are dropped, which is logged and leaves a `SourceGap`.

    Raises:
        ValueError: if the limit is below 1, or `client` is no id.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """The native class takes no keywords."""
        return super().__new__(cls)

    def __init__(self, calls: Dispatcher, *, client: str | None = None, limit: int = LIMIT) -> None:
        super().__init__()
        self._inbox = EventQueue(calls, client, limit)

    async def __aenter__(self) -> Self:
        self._inbox.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inbox.aclose()

    def completion(self, settings: Mapping[str, Any]) -> Callable[[str | None, str | None], None]:
        """Make a completion for `client.start_dialout(settings, completion=events.completion(settings))`.

        A start that Daily refuses becomes a `DialoutRefused` with an id of ours, one that it accepts a `DialoutRequested`.
        """
        return Start(self._inbox, settings).answered


def _hearing(handler: str) -> Callable[..., None]:
    def called(self: DailyEvents, *args: object) -> None:
        hear(self._inbox, handler, args)

    called.__name__ = handler
    called.__qualname__ = f"DailyEvents.{handler}"
    called.__doc__ = f"Hand on what daily-python tells by `{handler}`. Never waits and never raises."
    return called


# daily-python finds them by their names. All are alike, and the four that its type stub leaves out are among them.
for _handler in (*HANDLERS, STATE):
    setattr(DailyEvents, _handler, _hearing(_handler))
