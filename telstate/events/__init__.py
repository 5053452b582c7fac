"""The typed events, and `parse` to read them from any dialect. Pure: no I/O and no clock."""

from __future__ import annotations

from telstate.events._base import Direction, Event, event_types
from telstate.events._dialects import Dialect
from telstate.events._in_call import (
    DtmfReceived,
    TransferAnswered,
    TransferCompleted,
    TransferEvent,
    TransferInitiated,
    TransferTriggered,
)
from telstate.events._local import (
    DeadlinePassed,
    DialoutRefused,
    DialoutRequested,
    PinlessForwarded,
    Presence,
    PresenceChecked,
    SessionAnnotated,
    SessionsLinked,
    SettingsChanged,
    SourceGap,
    StopRequested,
    TransferRequested,
)
from telstate.events._parse import parse
from telstate.events._participants import Participant, ParticipantEvent, ParticipantJoined, ParticipantLeft
from telstate.events._sessionless import MeetingEnded, PinlessDialin, UnknownEvent
from telstate.events._telephony import (
    DialinConnected,
    DialinError,
    DialinEvent,
    DialinReady,
    DialinStopped,
    DialinWarning,
    DialoutAnswered,
    DialoutConnected,
    DialoutError,
    DialoutEvent,
    DialoutStopped,
    DialoutWarning,
    SessionEvent,
)

__all__ = [
    "DeadlinePassed",
    "Dialect",
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
    "DialoutRefused",
    "DialoutRequested",
    "DialoutStopped",
    "DialoutWarning",
    "Direction",
    "DtmfReceived",
    "Event",
    "MeetingEnded",
    "Participant",
    "ParticipantEvent",
    "ParticipantJoined",
    "ParticipantLeft",
    "PinlessDialin",
    "PinlessForwarded",
    "Presence",
    "PresenceChecked",
    "SessionAnnotated",
    "SessionEvent",
    "SessionsLinked",
    "SettingsChanged",
    "SourceGap",
    "StopRequested",
    "TransferAnswered",
    "TransferCompleted",
    "TransferEvent",
    "TransferInitiated",
    "TransferRequested",
    "TransferTriggered",
    "UnknownEvent",
    "event_types",
    "parse",
]
