"""The callbacks of daily-python, and the events they become; pipecat uses the same names.

Source of the names and arguments: the type list and the compiled class of daily-python 0.36, whose `.pyi` leaves out four of
the `on_dialin_*`. Tests compare them with the installed version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.events import DialoutRefused, DialoutRequested
from telstate.routing._id_scopes import IdScope
from telstate.sources._event_queue import EventQueue

__all__ = ["EVENTS", "LEFT", "STATE", "TELEPHONY", "DialoutStart", "put_callback"]

TELEPHONY = (
    "on_dialin_ready",
    "on_dialin_connected",
    "on_dialin_stopped",
    "on_dialin_error",
    "on_dialin_warning",
    "on_dialout_connected",
    "on_dialout_answered",
    "on_dialout_stopped",
    "on_dialout_error",
    "on_dialout_warning",
)
"""The callbacks about calls. A transport that has none of them carries no phone calls."""

EVENTS = (
    *TELEPHONY,
    "on_dtmf_event",
    "on_participant_joined",
    "on_participant_left",
    "on_network_connection_status_updated",
)
"""All callbacks that report an event about a call, or about the connection by which events come."""

STATE = "on_call_state_updated"
"""Reports the state of the client itself: after `left` it receives no events."""

LEFT = "on_left"
"""pipecat's own: it stops forwarding daily-python's states before the client has left, and calls this instead."""

_MAX_ID = 1024
_ID_KEYS = ("sessionId", "participantId")
_READY = "on_dialin_ready"
_FIELDS = {"sipUri": "destination", "phoneNumber": "destination", "userId": "user_id"}


def put_callback(queue: EventQueue, handler: str, args: tuple[object, ...]) -> None:
    """Queue the event that a callback reports."""
    if handler == LEFT or (handler == STATE and args == ("left",)):
        queue.put(handler, {"handler": LEFT, "data": None, **queue.scope_keys})
    elif handler != STATE:
        keys = queue.scope_keys
        if queue.ids.name:
            args = tuple(_with_scope(handler, argument, queue.ids) for argument in args)
            if handler == _READY:  # an account's address, which may take any number of calls: no endpoint of the room
                keys = {key: value for key, value in keys.items() if key != "room"}
        data = args[0] if len(args) == 1 else list(args)
        queue.put(handler, {"handler": handler, "data": data, **keys})


def _with_scope(handler: str, argument: object, ids: IdScope) -> object:
    """Copy what a callback got, with the ids of a dispatcher in place of the transport's."""
    if not isinstance(argument, Mapping):
        return argument
    keys = ("id", *_ID_KEYS) if handler.startswith("on_participant_") else _ID_KEYS
    scoped = {key: ids.session_id(str(argument[key])) for key in keys if _is_id(argument.get(key))}
    return {**argument, **scoped}


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or (isinstance(value, int) and not isinstance(value, bool))


class DialoutStart:
    """A request to start a dial-out. In Python only its answer says that it was refused; no event does.

    Args:
        queue: where to put what Daily answered.
        settings: as `start_dialout` takes them; the destination is read at once.
    """

    def __init__(self, queue: EventQueue, settings: Mapping[str, Any] | None) -> None:
        self._queue = queue
        self._fields = dict(queue.scope)
        for key, field in _FIELDS.items():
            value = (settings or {}).get(key)
            if isinstance(value, str) and 0 < len(value) <= _MAX_ID:  # Daily reports what is wrong with any other
                self._fields[field] = value

    def complete(self, session_id: str | None, error: object) -> None:
        """Queue a `DialoutRefused` if there is an error, else a `DialoutRequested`."""
        if error is not None:
            self._queue.put("start_dialout", DialoutRefused.new(str(error), **self._fields))
        elif isinstance(session_id, str) and 0 < len(session_id) <= _MAX_ID:
            known_as = self._queue.ids.session_id(session_id)
            self._queue.put("start_dialout", DialoutRequested(session_id=known_as, **self._fields))
        else:
            hint = (
                "Daily answered a start with neither a session id nor an error; the call's events will open the session"
            )
            self._queue.warn("source.start_unanswered", hint)
