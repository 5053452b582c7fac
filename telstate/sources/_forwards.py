"""What becomes of the forwards that pipecat's transport makes by itself.

With `dialin_settings` a `DailyTransport` forwards its caller on hold to each endpoint that becomes ready. It calls `on_error` first if
that failed, with a text, and `on_dialin_ready` after each attempt. Source of the texts: pipecat 1.14, `_handle_dialin_ready`.
"""

from __future__ import annotations

import re
from typing import Any

from telstate.events import ForwardRefused, PinlessForwarded
from telstate.events._masking import mask
from telstate.sources._event_queue import EventQueue

__all__ = ["ForwardWatch"]

_FORWARD = re.compile(r"handl(?:e|ing) dialin-ready event", re.IGNORECASE)
_REFUSED = re.compile(r"\(status: [34]\d\d\b|cannot connect to host", re.IGNORECASE)
"""Daily said no, or heard nothing of it. After a timeout or an error of a gateway the caller may have been forwarded."""
_LONGEST = 1024
_ID_LIMIT = 1024


class ForwardWatch:
    """Delivers what a transport says of its forwards.

    Args:
        queue: where to put the events.
        transport: whose settings name the caller.
    """

    def __init__(self, queue: EventQueue, transport: Any) -> None:
        self._queue = queue
        self._transport = transport
        self._failed = self._refused = self._accepted = False

    def note_error(self, error: object) -> None:
        """The transport reports an error of any kind."""
        text = str(error)[:_LONGEST]
        call_id = _call_id_of(self._transport)
        if call_id is None or _FORWARD.search(text) is None:
            hint = "the transport reports an error that is not about a known call"
            self._queue.warn("source.error", hint, error=mask(text))
            return
        self._failed = True
        if self._accepted:
            return  # another endpoint took them, so they are not on hold any more
        if _REFUSED.search(text) is None:
            hint = "whether the caller on hold was forwarded is not known: they connect, or are lost after Settings.hold_limit"
            self._queue.warn("source.forward_unknown", hint, error=mask(text))
            return
        self._refused = True
        self._queue.put("on_error", ForwardRefused(call_id=call_id, error=text, **self._queue.scope))

    def note_ready(self, endpoint: object) -> None:
        """The transport has tried to forward its caller to an endpoint. It succeeded if no error came before."""
        failed, self._failed = self._failed, False
        call_id = _call_id_of(self._transport)
        if failed or call_id is None:
            return
        self._accepted = True
        if self._refused and isinstance(endpoint, str) and 0 < len(endpoint.strip()) <= _ID_LIMIT:
            self._refused = False  # they were reported as lost, and are not
            forwarded = PinlessForwarded(call_id=call_id, sip_endpoint=endpoint, **self._queue.scope)
            self._queue.put("on_dialin_ready", forwarded)


def _call_id_of(transport: Any) -> str | None:
    """Return the call id of the caller whom a transport forwards; its public interface (1.14) does not have it."""
    settings = getattr(getattr(transport, "_params", None), "dialin_settings", None)
    call_id = getattr(settings, "call_id", None)
    return call_id if isinstance(call_id, str) and 0 < len(call_id.strip()) <= _ID_LIMIT else None
