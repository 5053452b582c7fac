"""What only this side knows: what it asked of Daily, which limits passed, where its own ears failed.

These are written and read as daily-js events with names of our own. The decoders of Daily's other dialects do not know
the names, so no webhook can pretend that we asked for a stop.
"""

from enum import StrEnum
from typing import Any, ClassVar, Literal, Self
from uuid import uuid4

from telstate.events._base import Direction, Event, Id, Seconds, Subject
from telstate.events._related import PlaceEvent
from telstate.events._telephony import DialoutEvent

__all__ = [
    "DeadlinePassed",
    "DialoutRefused",
    "DialoutRequested",
    "PinlessForwarded",
    "Presence",
    "PresenceChecked",
    "SessionsLinked",
    "SettingsChanged",
    "SourceGap",
    "StopRequested",
    "TransferRequested",
]


class DialoutRequested(DialoutEvent):
    """Our start of a dial-out was accepted, and Daily gave it this session id."""

    local: ClassVar[bool] = True

    action: Literal["dialout-requested"] = "dialout-requested"
    session_id: Id


class DialoutRefused(DialoutEvent):
    """Our start of a dial-out was refused. In Python no event of Daily's ever says so: only the answer does."""

    local: ClassVar[bool] = True

    action: Literal["dialout-refused"] = "dialout-refused"
    session_id: Id
    error_msg: str | None = None

    @classmethod
    def new(cls, error_msg: str, **fields: Any) -> Self:
        """Make the event for a start that got no session id: one is made here, `local-<uuid>`.

        Args:
            error_msg: what Daily answered.
            fields: what is known of the attempt: `destination`, `room`, `call_client_id`, `user_id`.
        """
        return cls(session_id=f"local-{uuid4()}", error_msg=error_msg, **fields)


class _Local(Event):
    """A request or a finding of ours about one session."""

    subject: ClassVar[Subject] = Subject.ATTACHED
    direction: ClassVar[Direction | None] = None
    local: ClassVar[bool] = True

    session_id: Id

    @property
    def sip_call_id(self) -> None:
        """What we know of, we know by its session id."""


class StopRequested(_Local):
    """Daily accepted our request to end this session."""

    action: Literal["stop-requested"] = "stop-requested"


class TransferRequested(_Local):
    """Daily accepted our request to transfer this session."""

    action: Literal["transfer-requested"] = "transfer-requested"
    to_endpoint: str | None = None


class SessionsLinked(_Local):
    """The program says that two sessions are legs of one call."""

    action: Literal["sessions-linked"] = "sessions-linked"
    other_session_id: Id


class DeadlinePassed(_Local):
    """A limit of the session passed. It is an event so that a replay sees it happen at the same place again."""

    action: Literal["deadline-passed"] = "deadline-passed"
    deadline: str
    """Which one: `setup`, `ring`, `media`, `silence`, `meeting` or `presence`."""
    due_at: Seconds
    """When it was due, in Unix seconds. If the session was heard of since, the event is too late and does nothing."""


class Presence(StrEnum):
    """Whether a session is still there, by whoever can ask Daily."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """Nobody knows, or the question was just asked. A session is never ended for that."""


class PresenceChecked(_Local):
    """A session fell silent, or events may have been missed, and somebody was asked whether it is still there."""

    action: Literal["presence-checked"] = "presence-checked"
    presence: Presence


class SettingsChanged(PlaceEvent):
    """The program was started with other settings than before: from here on these hold, also in a replay."""

    subject: ClassVar[Subject] = Subject.SETTINGS
    local: ClassVar[bool] = True

    action: Literal["settings-changed"] = "settings-changed"
    settings: dict[str, Any]
    """All of them, as `Settings.model_dump()` writes them."""


class PinlessForwarded(PlaceEvent):
    """Daily accepted our request to forward a waiting caller to a SIP endpoint."""

    subject: ClassVar[Subject] = Subject.CALLER
    local: ClassVar[bool] = True

    action: Literal["pinless-forwarded"] = "pinless-forwarded"
    call_id: Id
    sip_endpoint: Id


class SourceGap(PlaceEvent):
    """A source lost its connection: events may have been missed. Without room and client it speaks of all sessions."""

    subject: ClassVar[Subject] = Subject.SOURCE
    local: ClassVar[bool] = True

    action: Literal["source-gap"] = "source-gap"
    reason: str | None = None
