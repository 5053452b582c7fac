"""Events that name no session: callers on hold, ended meetings, and unknown types."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from telstate.events._base import Event, Id, Subject, Text

__all__ = ["MeetingEnded", "PinlessDialin", "SessionlessEvent", "UnknownEvent"]


class SessionlessEvent(Event):
    """An event that names no session."""

    @property
    def session_id(self) -> str | None:
        """Always None: the event names no session."""
        return None

    @property
    def sip_call_id(self) -> None:
        """Always None: the event names no SIP call."""


class PinlessDialin(SessionlessEvent):
    """A caller dialled in without a PIN and is on hold until forwarded to a room (the `room_creation_api` webhook)."""

    _subject: ClassVar[Subject] = Subject.CALLER

    action: Literal["pinless-dialin"] = "pinless-dialin"
    to: Annotated[Text | None, Field(alias="To")] = None
    """The called number."""
    from_: Annotated[Text | None, Field(alias="From")] = None
    """The caller's number."""
    call_id: Id | None = None
    """The id of the waiting caller, needed to forward the call."""
    call_domain: Text | None = None
    sip_headers: dict[str, Any] | None = None


class MeetingEnded(SessionlessEvent):
    """The room's meeting ended, and all its SIP connections with it."""

    _subject: ClassVar[Subject] = Subject.ROOM

    action: Literal["meeting-ended"] = "meeting-ended"
    meeting_id: Text | None = None


class UnknownEvent(SessionlessEvent):
    """A type that this version does not know; all its keys are in `model_extra`. New events of Daily break nothing."""

    action: str
