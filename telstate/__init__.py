"""telstate tells a program where every phone call stands, from Daily's dial-in and dial-out events."""

from __future__ import annotations

from telstate.calls.endpoints import Endpoint
from telstate.calls.engine import Engine
from telstate.calls.evidence import Cause, EndedBy
from telstate.calls.outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls.replay import Replay
from telstate.calls.session import Session
from telstate.calls.settings import Settings
from telstate.calls.table import State, machine
from telstate.calls.transition import Transition
from telstate.errors import (
    Busy,
    CallEnded,
    Closed,
    DailyError,
    DefinitionError,
    DialoutInProgress,
    ForwardingFailed,
    JournalError,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotSupported,
    ParseError,
    RevisionConflict,
    RoomFull,
    TelstateError,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import *  # noqa: F403 - the events are the vocabulary of everything; the list is in telstate.events
from telstate.events import __all__ as _events
from telstate.routing.clock import LogClock
from telstate.routing.dispatcher import Dispatcher
from telstate.routing.retry import Retry
from telstate.routing.router import Router

__version__ = "0.1.0"

__all__ = [  # noqa: PLE0604 - both parts are lists of names
    "Busy",
    "CallEnded",
    "Cause",
    "Closed",
    "DailyError",
    "DefinitionError",
    "Dispatcher",
    "EndedBy",
    "Endpoint",
    "Engine",
    "Outcome",
    "JournalError",
    "LogClock",
    "OutcomeKind",
    "ParseError",
    "Replay",
    "Retry",
    "RevisionConflict",
    "Router",
    "Session",
    "Settings",
    "State",
    "TelstateError",
    "Transition",
    "UnknownResult",
    "Unmatched",
    "DialoutInProgress",
    "ForwardingFailed",
    "NoSuchSession",
    "NotAllowed",
    "NotHosting",
    "NotSupported",
    "RoomFull",
    "TemporarilyNotAvailable",
    "machine",
    *_events,
]
