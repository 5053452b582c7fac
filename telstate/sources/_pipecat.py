"""Live events from pipecat: attach a dispatcher to a transport with phone calls. Needs asyncio, as pipecat does; does not import it.

    async with Dispatcher(router) as calls, attach_pipecat(calls, transport) as source:
        await source.start_dialout({"phoneNumber": "+12025550101"})

The transport is a `DailyTransport`, or another with the same events, as pipecat's `SIPTransport`: its ids are not global, so they get a scope.

pipecat runs each handler in a task of its own, so the handlers of two events can overtake each other wherever they wait. The ones
registered here never wait: tasks begin in the order in which they were made, and put their events into a queue in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from telstate.errors import DefinitionError
from telstate.routing._id_scopes import attach_to
from telstate.routing._ports import EventSink
from telstate.sources._callbacks import EVENTS, LEFT, STATE, TELEPHONY, DialoutStart, put_callback
from telstate.sources._event_queue import LIMIT, EventQueue
from telstate.sources._forwards import ForwardWatch

__all__ = ["PipecatEvents", "attach_pipecat"]

_LONGEST_NAME = 1024
_ERROR = "on_error"
_READY = "on_dialin_ready"
_HEARD = (*EVENTS, STATE, LEFT, _ERROR)


class PipecatEvents:
    """Returned by `attach_pipecat`: listens from the moment it is made until its `async with` block is left.

    Leaving delivers what still waits; later events are ignored.
    """

    def __init__(self, queue: EventQueue, transport: Any) -> None:
        self._queue = queue
        self._transport = transport
        self._forwards = ForwardWatch(queue, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._queue.aclose()

    async def start_dialout(self, settings: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Start a dial-out through the transport, and deliver what Daily answered to the dispatcher.

        Returns:
            What the transport returns: the session id and the error, one of which is None. The id is the one by which the dispatcher
            knows the session.

        Raises:
            Exception: what the transport raises; then nothing is delivered.
        """
        start = DialoutStart(self._queue, settings)
        answer: tuple[str | None, str | None] = await self._transport.start_dialout(settings)
        start.complete(*answer)
        session_id, error = answer
        return (self.session_id(session_id), error) if session_id and error is None else answer

    @property
    def scope(self) -> str:
        """What the ids of this transport's sessions begin with; empty for Daily's."""
        return self._queue.ids.name

    def session_id(self, transport_id: str) -> str:
        """Return the id by which the dispatcher knows a session, from the one that the transport uses. With Daily they are the same."""
        return self._queue.ids.session_id(transport_id)

    def transport_id(self, session_id: str) -> str:
        """Return the id by which the transport knows a session, for requests of yours that are sent through it.

        Raises:
            ValueError: if the session is not one of this transport's.
        """
        found = self._queue.ids.transport_id(session_id)
        if found is None:
            raise ValueError(
                f"{session_id!r} is not a session of this transport, whose ids begin with {self._queue.ids.name!r}"
            )
        return found


_ATTACHED: WeakValueDictionary[int, PipecatEvents] = WeakValueDictionary()
"""The source of each transport that has one, by the identity of the transport, which holds its source as long as it lives."""


def attach_pipecat(
    calls: EventSink,
    transport: Any,
    *,
    client: str | None = None,
    limit: int = LIMIT,
    room: str | None = None,
    scope: str | None = None,
) -> PipecatEvents:
    """Deliver a transport's events about calls, participants and key presses to a dispatcher, in order.

    Your own handlers keep working, on the same events too. When the bot has left the call, that is a sign of the end of the
    sessions that nobody else reports (`ClientLeft`). A caller on hold whom a `DailyTransport` cannot forward becomes a
    `ForwardRefused`.

    Args:
        calls: the dispatcher, inside its `async with`.
        transport: a `DailyTransport`, or any that has `add_event_handler` and some of Daily's telephony events.
        client: an id for the call client, if a dispatcher has several: events and gaps then carry it. Without it, a gap makes all
            live sessions uncertain. By default the scope, if there is one.
        limit: how many events may wait. More are dropped, which is logged and leaves a `SourceGap`.
        room: the name of the transport's room, which events then carry; by default that in the URL that the transport joins. With it, a
            dial-in is known to have come by the room's endpoint.
        scope: what session ids begin with, to make them unique. By default none for Daily's transport, whose ids are global, and a new one
            for every other transport: pipecat's `SIPTransport` numbers its calls anew in each process. Pass "" for a transport
            of another kind if its ids are global.

    Raises:
        TypeError: if the transport has no events, or none about phone calls.
        DefinitionError: if the transport is attached already. Each event would be delivered twice.
        ValueError: if the limit is below 1, or `client`, `room` or `scope` is not a valid id.
        NotRunning: if the dispatcher is not open.
        RuntimeError: without a running asyncio event loop.
    """
    add = getattr(transport, "add_event_handler", None)
    if add is None:
        raise TypeError(
            f"attach_pipecat takes a pipecat transport, such as DailyTransport(…), not {type(transport).__name__}"
        )
    kind = type(transport).__name__
    names = [name for name in _HEARD if _has(transport, name)]
    if not set(names) & set(TELEPHONY):
        hint = "attach to the DailyTransport itself, or to another transport that has these events, as pipecat's SIPTransport"
        raise TypeError(f"{kind} has none of Daily's dial-in and dial-out events: {hint}")
    known = _ATTACHED.get(id(transport))
    if known is not None and known._transport is transport and known._queue.is_open:
        raise DefinitionError(f"this {kind} is attached already: leave the block of the first attach_pipecat before")
    room = room or _room_of(transport)
    ids = attach_to(transport, "" if scope is None and _is_daily(transport) else scope)
    queue = EventQueue(calls, client or ids.name or None, limit, room, ids)
    queue.open()
    source = PipecatEvents(queue, transport)
    for name in names:
        add(name, _callback(source, name))
    _ATTACHED[id(transport)] = source
    return source


def _is_daily(transport: Any) -> bool:
    """Return True for a `DailyTransport`, also one that was derived from or wrapped: only that one joins the URL of a room."""
    names = {base.__name__ for base in type(transport).__mro__}
    return "DailyTransport" in names or isinstance(getattr(transport, "room_url", None), str)


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


def _callback(source: PipecatEvents, handler: str) -> Callable[..., None]:
    def called(_transport: object, *args: object) -> None:
        if handler == _ERROR:
            source._forwards.note_error(args[0] if args else "")
            return
        if handler == _READY:
            source._forwards.note_ready(args[0] if args else None)
        put_callback(source._queue, handler, args)

    called.__name__ = f"telstate_{handler}"
    return called
