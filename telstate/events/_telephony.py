"""The ten events of a telephone session: Daily's dialin-* and dialout-*.

Source of every field: Daily's telephony events reference, the type definitions of daily-js 0.92, the webhook pages and
the serialiser of daily-python 0.36. No dialect sends all fields, and older versions send few. So no field is required,
except the endpoint of a `dialin-ready`, which has no other content.
"""

import re
from typing import Any, ClassVar, Literal

from telstate.events._base import Direction, Event, Id, Subject, Text

__all__ = [
    "DialinConnected",
    "DialinError",
    "DialinEvent",
    "DialinReady",
    "DialinStopped",
    "DialinWarning",
    "DialoutAnswered",
    "DialoutConnected",
    "DialoutError",
    "DialoutEvent",
    "DialoutStopped",
    "DialoutWarning",
    "SessionEvent",
]


class SessionEvent(Event):
    """An event of one telephone session."""

    _subject: ClassVar[Subject] = Subject.SESSION

    session_id: Id | None = None
    """The session, and the participant of the caller or callee. Missing in daily-js before 0.90 (dial-out) and 0.75
    (dial-in), and on a dial-out error that comes before there is a session."""
    sip_call_id: Id | None = None
    """The SIP Call-ID header. Only daily-js has it, from 0.90 on."""
    provider: Text | None = None
    """The SIP or PSTN provider (daily-js from 0.90 on)."""
    user_id: Text | None = None
    action_trace_id: Text | None = None
    """Daily's trace id, for its support."""


class DialinEvent(SessionEvent):
    """The fields of all dial-in events."""

    direction: ClassVar[Direction | None] = Direction.DIALIN

    sip_from: Text | None = None
    """The caller's SIP From address."""
    sip_to: Text | None = None
    """The SIP address that was called (pipecat's SIPTransport)."""
    sip_endpoint: Id | None = None
    """The endpoint of the room that was called."""
    sip_headers: dict[str, Any] | None = None
    display_name: Text | None = None


class DialoutEvent(SessionEvent):
    """The fields of all dial-out events."""

    direction: ClassVar[Direction | None] = Direction.DIALOUT

    destination: Id | None = None
    """The callee: a number in E.164 or a SIP URI."""
    origin: Text | None = None
    """The caller: a number in E.164 or a SIP URI."""
    caller_id: Text | None = None
    """The number that the callee sees (daily-js)."""
    phone_number_id: Text | None = None
    """The id (UUID) of the purchased number that calls. Webhooks send it as `caller_id`, which in daily-js is a number."""


class DialinReady(Event):
    """A SIP endpoint of the room can be called. One event for each configured endpoint, before there is any session."""

    _subject: ClassVar[Subject] = Subject.ENDPOINT

    action: Literal["dialin-ready"] = "dialin-ready"
    sip_endpoint: Id
    provider: Text | None = None

    @property
    def session_id(self) -> None:
        """Always None: an endpoint belongs to no session."""

    @property
    def sip_call_id(self) -> None:
        """Always None: an endpoint belongs to no SIP call."""


class DialinConnected(DialinEvent):
    """A caller has connected. Media is being negotiated; none flows yet."""

    action: Literal["dialin-connected"] = "dialin-connected"


class DialinStopped(DialinEvent):
    """The caller's session ended; either side can have ended it."""

    action: Literal["dialin-stopped"] = "dialin-stopped"
    error_msg: Text | None = None


class DialinError(DialinEvent):
    """A fatal error, for example a failed SDP negotiation."""

    action: Literal["dialin-error"] = "dialin-error"
    error_msg: Text | None = None
    type: Text | None = None
    """So far only `start-failed`; daily-js also sends null."""
    details: dict[str, Any] | None = None
    """Can have `sipEndpoint`."""


class DialinWarning(DialinEvent):
    """Something is not as requested, for example the codec. The call goes on."""

    action: Literal["dialin-warning"] = "dialin-warning"
    error_msg: Text | None = None


class DialoutConnected(DialoutEvent):
    """The network has accepted the call (SIP's 100 Trying); whether it rings yet is not told."""

    action: Literal["dialout-connected"] = "dialout-connected"


class DialoutAnswered(DialoutEvent):
    """The far end picked up: media flows. A voicemail picks up too."""

    action: Literal["dialout-answered"] = "dialout-answered"


class DialoutStopped(DialoutEvent):
    """The session ended: the far end hung up or did not answer, or this side stopped it. The event does not say which."""

    action: Literal["dialout-stopped"] = "dialout-stopped"
    error_msg: Text | None = None
    """daily-python's optional `message`."""


class DialoutError(DialoutEvent):
    """A fatal error. It has no session id if it comes before there is a session."""

    action: Literal["dialout-error"] = "dialout-error"
    error_msg: Text | None = None
    error: Text | None = None
    """The kind of error: `CallBusy`, `CallDeclined`, `CallTimeout` or `CallFailed` (pipecat's SIPTransport)."""
    details: dict[str, Any] | None = None
    """Can have `destination` and `sipHeaders`."""

    @property
    def is_unanswered(self) -> bool:
        """True if the callee was busy, declined or did not answer, or the call was given up before that.

        Daily reports this with a `dialout-stopped`. pipecat's SIPTransport reports it as an error, and only its kind, or the SIP
        status in its text (RFC 3261, 21), tells it from a failure.
        """
        if self.error in _UNANSWERED:
            return True
        return self.error == "CallFailed" and _NOT_PICKED_UP.search(self.error_msg or "") is not None


_UNANSWERED = frozenset({"CallBusy", "CallDeclined", "CallTimeout"})
_NOT_PICKED_UP = re.compile(r"\b(?:408|480|486|487|600|603) |rejected by user", re.IGNORECASE)
"""Request timeout, temporarily unavailable, busy here, request terminated, busy everywhere, decline; and, in baresip's words, that this
side hung up before anybody answered (measured with baresip-python 0.5.2a3)."""


class DialoutWarning(DialoutEvent):
    """Something is not as requested. The call goes on. Webhooks send no text with it."""

    action: Literal["dialout-warning"] = "dialout-warning"
    error_msg: Text | None = None
