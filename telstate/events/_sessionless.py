"""Events that name no session: callers who wait, ended meetings, our own call client, and unknown types."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from telstate.events._base import Event, Id, Subject, Text, seconds_of

__all__ = [
    "ClientLeft",
    "ConnectionChanged",
    "MeetingEnded",
    "PinlessDialin",
    "SessionlessEvent",
    "SipTrunkIncoming",
    "UnknownEvent",
    "WaitingCaller",
]


class SessionlessEvent(Event):
    """An event that names no session."""

    @property
    def session_id(self) -> str | None:
        """Always None: the event names no session."""
        return None

    @property
    def sip_call_id(self) -> None:
        """Always None: the event names no SIP call."""


class WaitingCaller(SessionlessEvent):
    """A caller who has no session yet."""

    _subject: ClassVar[Subject] = Subject.CALLER

    to: Annotated[Text | None, Field(alias="To")] = None
    """The called number."""
    from_: Annotated[Text | None, Field(alias="From")] = None
    """The caller's number."""
    call_id: Id | None = None
    """The id of the waiting call. To forward a caller on hold, it is needed."""
    call_domain: Text | None = None
    sip_headers: dict[str, Any] | None = None


class PinlessDialin(WaitingCaller):
    """A caller dialled in without a PIN and is on hold until forwarded to a room (the `room_creation_api` webhook)."""

    action: Literal["pinless-dialin"] = "pinless-dialin"


class SipTrunkIncoming(WaitingCaller):
    """A caller on one of the domain's SIP trunks hears ringback, and Daily has made a room for them (the trunk's webhook).

    Join the room and wait: Daily connects the caller to it by itself. They hear ringback for about 12 seconds, until the webhook is
    answered with 200. Source: Daily's SIP trunk documentation. How it spells the fields is known only in part, so all of them
    are optional.
    """

    action: Literal["sip-trunk-incoming"] = "sip-trunk-incoming"
    room_url: Text | None = None
    """The address of the room, to join it. `room` is its name."""
    trunk: dict[str, Any] | None = None
    """The trunk, as Daily describes it: its `description`, and what else Daily sends."""


class MeetingEnded(SessionlessEvent):
    """The room's meeting ended, and all its SIP connections with it."""

    _subject: ClassVar[Subject] = Subject.ROOM

    action: Literal["meeting-ended"] = "meeting-ended"
    meeting_id: Text | None = None

    @property
    def started_at(self) -> float | None:
        """When the meeting began, in Unix seconds, if the webhook says so: a room has one meeting after the other."""
        extra = self.__pydantic_extra__
        return seconds_of(extra.get("start_ts")) if extra else None


class ClientLeft(SessionlessEvent):
    """Our own call client left the room: daily-js `left-meeting`, daily-python and pipecat `on_left`.

    Nobody is left then who would hear of the calls in that room, so it is a sign of their end.
    """

    _subject: ClassVar[Subject] = Subject.CLIENT

    action: Literal["left-meeting"] = "left-meeting"


_SIGNALLING = (None, "signaling", "signalling")
"""How the connection is called by which events come."""


class ConnectionChanged(SessionlessEvent):
    """A connection of our call client was interrupted, or is back: daily-js `network-connection`, daily-python
    `on_network_connection_status_updated` (from 0.36). Events come by the signalling connection."""

    _subject: ClassVar[Subject] = Subject.SOURCE

    action: Literal["network-connection"] = "network-connection"
    connection: Annotated[Text | None, Field(alias="type")] = None
    """`signaling`, `sfu` or `peer-to-peer` (daily-js); `signalling`, `sendTransport` or `recvTransport` (daily-python). All but
    the first carry media, and say nothing about events."""
    status: Annotated[Text | None, Field(alias="event")] = None
    """`interrupted` or `connected`."""

    @property
    def may_lose_events(self) -> bool:
        """True if events may be missed from now on: the signalling connection was interrupted."""
        return self.status == "interrupted" and self.connection in _SIGNALLING

    @property
    def is_back(self) -> bool:
        """True if the signalling connection is there. It is the first of its client, unless an interruption came before."""
        return self.status == "connected" and self.connection in _SIGNALLING


class UnknownEvent(SessionlessEvent):
    """A type that this version does not know; all its keys are in `model_extra`. New events of Daily break nothing."""

    action: str
