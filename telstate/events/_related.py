"""What else Daily tells that bears on a call: participants, key presses, transfers, callers on hold, a room's end.

Most participants are no callers, and transfers are told by webhooks only. None of these opens a session.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from telstate.events._base import Event, Id, Subject, _odd_fields

__all__ = [
    "DtmfReceived",
    "MeetingEnded",
    "Participant",
    "ParticipantEvent",
    "ParticipantJoined",
    "ParticipantLeft",
    "PinlessDialin",
    "PlaceEvent",
    "TransferAnswered",
    "TransferCompleted",
    "TransferEvent",
    "TransferInitiated",
    "TransferTriggered",
    "UnknownEvent",
]


class Participant(BaseModel):
    """One participant. daily-js writes these keys in snake_case; everything else it says is kept as extra."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow")

    session_id: Id
    """For a telephone participant this is the session id of the call."""
    user_id: str | None = None
    user_name: str | None = None


class ParticipantEvent(Event):
    """Somebody joined or left the room."""

    subject: ClassVar[Subject] = Subject.PARTICIPANT

    participant: Participant

    @property
    def session_id(self) -> str:
        """The participant's id, which is a call's session id if the participant is on the telephone."""
        return self.participant.session_id

    @property
    def sip_call_id(self) -> None:
        """Participants carry no SIP Call-ID."""

    @property
    def anomalies(self) -> tuple[str, ...]:
        """Odd fields of the event and of its participant."""
        outer, inner = self.__pydantic_extra__, self.participant.__pydantic_extra__
        odd = _odd_fields(type(self), outer) if outer else ()
        return odd + _odd_fields(Participant, inner) if inner else odd


class ParticipantJoined(ParticipantEvent):
    """A participant joined. For a dial-in session's own id this is the sign that media flows: Daily has no
    `dialin-answered`."""

    action: Literal["participant-joined"] = "participant-joined"


class ParticipantLeft(ParticipantEvent):
    """A participant left. No end of a call: a transfer emits it too."""

    action: Literal["participant-left"] = "participant-left"
    reason: str | None = None


class _Attached(Event):
    """An event that befell a session and opens none."""

    subject: ClassVar[Subject] = Subject.ATTACHED


class DtmfReceived(_Attached):
    """The other end pressed a key."""

    action: Literal["dtmf-event"] = "dtmf-event"
    session_id: Id | None = None
    tone: str | None = None
    volume: Annotated[float | None, Field(allow_inf_nan=False)] = None
    method: str | None = None
    """How the tone came: `sip-info` (RFC 6086) or `telephone-event` (RFC 4733)."""

    @property
    def sip_call_id(self) -> None:
        """Key presses carry no SIP Call-ID."""


class TransferEvent(_Attached):
    """A step of a call transfer, told by webhooks. No event ever says that a transfer failed."""

    session_id: Id
    mtg_session_id: str | None = None
    """The meeting's session, not the call's."""
    to_endpoint: str | None = None
    from_endpoint: str | None = None

    @property
    def sip_call_id(self) -> None:
        """Transfers carry no SIP Call-ID."""


class TransferTriggered(TransferEvent):
    """A transfer was asked for."""

    action: Literal["calltransfer-triggered"] = "calltransfer-triggered"
    is_sip_refer: bool | None = None


class TransferInitiated(TransferEvent):
    """A transfer is under way."""

    action: Literal["calltransfer-initiated"] = "calltransfer-initiated"
    is_sip_refer: bool | None = None


class TransferAnswered(TransferEvent):
    """The transfer's target answered. Not sent for a SIP REFER."""

    action: Literal["calltransfer-answered"] = "calltransfer-answered"


class TransferCompleted(TransferEvent):
    """The transfer is done. Not sent for a SIP REFER."""

    action: Literal["calltransfer-completed"] = "calltransfer-completed"


class PlaceEvent(Event):
    """An event about no session: a room, a caller on hold, a source, or a thing unknown."""

    @property
    def session_id(self) -> str | None:
        """No session is named."""
        return None

    @property
    def sip_call_id(self) -> None:
        """No SIP call is named."""


class PinlessDialin(PlaceEvent):
    """A caller dialled in without a PIN and is on hold until forwarded to a room (the `room_creation_api` webhook)."""

    subject: ClassVar[Subject] = Subject.CALLER

    action: Literal["pinless-dialin"] = "pinless-dialin"
    to: Annotated[str | None, Field(alias="To")] = None
    """The number that was called."""
    from_: Annotated[str | None, Field(alias="From")] = None
    """The number that calls."""
    call_id: Id | None = None
    """Names the waiting caller when forwarding it."""
    call_domain: str | None = None
    sip_headers: dict[str, Any] | None = None


class MeetingEnded(PlaceEvent):
    """The room's meeting ended, and all its SIP connections with it."""

    subject: ClassVar[Subject] = Subject.ROOM

    action: Literal["meeting-ended"] = "meeting-ended"
    meeting_id: str | None = None


class UnknownEvent(PlaceEvent):
    """A type this version does not know, all its keys in `model_extra`. A new event of Daily breaks no running bot."""

    action: str
