"""The ten events of a telephone session: Daily's dialin-* and dialout-*.

Source of every field: Daily's telephony events reference, the type definitions of daily-js 0.92, the webhook pages and
the serialiser of daily-python 0.36. No dialect sends all of them, and older ones send few, so none is required but
the endpoint of a `dialin-ready`, which is about nothing else.
"""

from typing import Any, ClassVar, Literal

from telstate.events._base import Direction, Event, Id, Subject

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
    """An event that speaks of one telephone session."""

    subject: ClassVar[Subject] = Subject.SESSION

    session_id: Id | None = None
    """The session; also the id of the caller's or callee's participant. Missing in daily-js before 0.90 (dial-out)
    and 0.75 (dial-in), and on a dial-out error that comes before there is a session."""
    sip_call_id: Id | None = None
    """The SIP Call-ID header. Only daily-js has it, from 0.90 on."""
    provider: str | None = None
    """The SIP or PSTN provider (daily-js from 0.90 on)."""
    user_id: str | None = None
    action_trace_id: str | None = None
    """Daily's trace id, for its support."""


class DialinEvent(SessionEvent):
    """What all dial-in sessions may tell."""

    direction: ClassVar[Direction | None] = Direction.DIALIN

    sip_from: str | None = None
    """The caller's SIP From address."""
    sip_endpoint: Id | None = None
    """The endpoint of the room that was called."""
    sip_headers: dict[str, Any] | None = None
    display_name: str | None = None


class DialoutEvent(SessionEvent):
    """What all dial-out sessions may tell."""

    direction: ClassVar[Direction | None] = Direction.DIALOUT

    destination: Id | None = None
    """Who was called: a number in E.164 or a SIP URI."""
    origin: str | None = None
    """Who called: a number in E.164 or a SIP URI."""
    caller_id: str | None = None
    """The number shown to the callee (daily-js)."""
    phone_number_id: str | None = None
    """The id (UUID) of the purchased number that calls. Webhooks send it as `caller_id`: another thing, another field."""


class DialinReady(Event):
    """The room's SIP endpoint can be called. Comes once for each configured endpoint; no session exists yet."""

    subject: ClassVar[Subject] = Subject.ENDPOINT

    action: Literal["dialin-ready"] = "dialin-ready"
    sip_endpoint: Id
    provider: str | None = None

    @property
    def session_id(self) -> None:
        """An endpoint belongs to no session."""

    @property
    def sip_call_id(self) -> None:
        """An endpoint belongs to no SIP call."""


class DialinConnected(DialinEvent):
    """A caller has connected and media is being negotiated; none flows yet."""

    action: Literal["dialin-connected"] = "dialin-connected"


class DialinStopped(DialinEvent):
    """The caller's session ended, by either side."""

    action: Literal["dialin-stopped"] = "dialin-stopped"
    error_msg: str | None = None


class DialinError(DialinEvent):
    """A fatal error, for example a failed SDP negotiation."""

    action: Literal["dialin-error"] = "dialin-error"
    error_msg: str | None = None
    type: str | None = None
    """So far only `start-failed`; daily-js also sends null."""
    details: dict[str, Any] | None = None
    """May hold `sipEndpoint`."""


class DialinWarning(DialinEvent):
    """Something is not as asked, but the call goes on, for example with another codec."""

    action: Literal["dialin-warning"] = "dialin-warning"
    error_msg: str | None = None


class DialoutConnected(DialoutEvent):
    """The call is placed and rings at the other end."""

    action: Literal["dialout-connected"] = "dialout-connected"


class DialoutAnswered(DialoutEvent):
    """The other end picked up: media flows. A voicemail picks up too."""

    action: Literal["dialout-answered"] = "dialout-answered"


class DialoutStopped(DialoutEvent):
    """The session ended: the other end hung up, did not answer, or this side stopped it. The event does not say which."""

    action: Literal["dialout-stopped"] = "dialout-stopped"
    error_msg: str | None = None
    """daily-python's optional `message`."""


class DialoutError(DialoutEvent):
    """A fatal error. May come without a session id, before there is a session."""

    action: Literal["dialout-error"] = "dialout-error"
    error_msg: str | None = None
    details: dict[str, Any] | None = None
    """May hold `destination` and `sipHeaders`."""


class DialoutWarning(DialoutEvent):
    """Something is not as asked, but the call goes on. Webhooks send no text with it."""

    action: Literal["dialout-warning"] = "dialout-warning"
    error_msg: str | None = None
