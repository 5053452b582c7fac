"""What daily-python calls its handlers, and what each call becomes in an inbox; pipecat has the same names.

Source of the names and arguments: the type list and the compiled class of daily-python 0.36, whose `.pyi` leaves out four of
the `on_dialin_*`. Tests compare them with the installed version.
"""

from __future__ import annotations

from telstate.sources._event_queue import EventQueue

__all__ = ["HANDLERS", "STATE", "TELEPHONY", "hear"]

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
"""Those that tell of calls. A transport that has none of them has no telephones."""

HANDLERS = (*TELEPHONY, "on_dtmf_event", "on_participant_joined", "on_participant_left")
"""All that tell an event."""

STATE = "on_call_state_updated"
"""Tells what has become of the client itself: after `left` it hears nothing."""

_LEFT = "on_left"
"""pipecat's: it stops handing on daily-python's states before the client has left, and tells this instead."""


def hear(inbox: EventQueue, handler: str, args: tuple[object, ...]) -> None:
    """Put into the inbox what a handler was called with."""
    if handler == _LEFT or (handler == STATE and args == ("left",)):
        inbox.put(handler, inbox.gap("the client left the call"))
    elif handler != STATE:
        data = args[0] if len(args) == 1 else list(args)
        client = {} if inbox.client is None else {"callClientId": inbox.client}
        inbox.put(handler, {"handler": handler, "data": data, **client})
