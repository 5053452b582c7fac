"""Key presses and transfers: they happen within a session and open none."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from telstate.events._base import Event, Id, Subject, Text

__all__ = [
    "DtmfReceived",
    "TransferAnswered",
    "TransferCompleted",
    "TransferEvent",
    "TransferInitiated",
    "TransferTriggered",
]


class DtmfReceived(Event):
    """The far end pressed a key."""

    _subject: ClassVar[Subject] = Subject.ATTACHED

    action: Literal["dtmf-event"] = "dtmf-event"
    session_id: Id | None = None
    tone: Text | None = None
    volume: Annotated[float | None, Field(allow_inf_nan=False)] = None
    method: Text | None = None
    """How the tone was sent: `sip-info` (RFC 6086) or `telephone-event` (RFC 4733)."""

    @property
    def sip_call_id(self) -> None:
        """Always None: key presses have no SIP Call-ID."""


class TransferEvent(Event):
    """A step of a call transfer. Only webhooks report them, and none reports that a transfer failed."""

    _subject: ClassVar[Subject] = Subject.ATTACHED

    session_id: Id
    mtg_session_id: Text | None = None
    """The session of the meeting, not of the call."""
    to_endpoint: Text | None = None
    from_endpoint: Text | None = None

    @property
    def sip_call_id(self) -> None:
        """Always None: transfers have no SIP Call-ID."""


class TransferTriggered(TransferEvent):
    """A transfer was requested."""

    action: Literal["calltransfer-triggered"] = "calltransfer-triggered"
    is_sip_refer: bool | None = None


class TransferInitiated(TransferEvent):
    """A transfer is in progress."""

    action: Literal["calltransfer-initiated"] = "calltransfer-initiated"
    is_sip_refer: bool | None = None


class TransferAnswered(TransferEvent):
    """The target of the transfer answered. Not sent for a SIP REFER."""

    action: Literal["calltransfer-answered"] = "calltransfer-answered"


class TransferCompleted(TransferEvent):
    """The transfer is complete. Not sent for a SIP REFER."""

    action: Literal["calltransfer-completed"] = "calltransfer-completed"
