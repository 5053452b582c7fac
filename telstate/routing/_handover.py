"""Handing a caller on hold over: they wait with one dispatcher, and the room they are forwarded to is another's.

The room's dispatcher gets the forward with what is known of the caller, so the session that connects there becomes theirs; it also reports
them if they are lost. The dispatcher where they waited gets the forward, and only notes that they are not its own any more. A caller may be
handed over again: forwarded to a third dispatcher's room, or back.
"""

from __future__ import annotations

from telstate.calls._caller import Caller
from telstate.calls._endpoints import Endpoint
from telstate.events import Event, PinlessDialin, PinlessForwarded
from telstate.routing._across import Across

__all__ = ["Handover"]


class Handover:
    """Hands over one caller.

    Args:
        across: where callers are known.
        event: told of the caller.
        forwarded: the forward.
        room: the endpoint, if others know it; None if it is this dispatcher's.
    """

    def __init__(
        self, across: Across, event: PinlessDialin, forwarded: PinlessForwarded, room: Endpoint | None
    ) -> None:
        self._across = across
        self._event = event
        self._forwarded = forwarded
        self._room = room
        own = across.own_caller(forwarded.call_id)
        self._waits_here = own is not None and not own.is_elsewhere
        self._waiting = own if self._waits_here else across.caller_elsewhere(forwarded.call_id) or own

    @property
    def known(self) -> Caller | None:
        """The caller, as the room's dispatcher knows them."""
        call_id = self._forwarded.call_id
        if self._room is None:
            return self._across.own_caller(call_id)
        found = self._across.caller_elsewhere(call_id)
        return found if found is not None and found.forwarded_to is not None else None

    async def tell(self) -> None:
        """Tell both dispatchers, first the room's: until the other one knows, it goes on with the caller.

        Raises:
            JournalError: if one of them cannot keep it.
        """
        goes_on = self._forwarded.model_copy(update={"held": self._held()})
        await self._append(goes_on, self._room)
        gone = self._forwarded.model_copy(update={"handed_over": True})
        await self._append(gone, None if self._waits_here else self._waiting)

    async def _append(self, event: Event, place: Endpoint | Caller | None) -> None:
        await (self._across.submit(event) if place is None else self._across.publish(place, event))

    def _held(self) -> dict[str, object]:
        if self._waiting is not None:
            return self._waiting.held()
        event = self._event
        return {
            "from": event.from_,
            "to": event.to,
            "callDomain": event.call_domain,
            "startedAt": event.occurred_at,
        }
