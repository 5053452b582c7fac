"""telstate tells a program where every phone call stands, from Daily's dial-in and dial-out events."""

from __future__ import annotations

from telstate.calls._endpoints import Endpoint
from telstate.calls._engine import Engine
from telstate.calls._evidence import Cause, EndedBy
from telstate.calls._outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import State, machine
from telstate.calls._transition import Transition
from telstate.errors import (
    Busy,
    CallEnded,
    DailyError,
    DefinitionError,
    DialoutInProgress,
    ForwardingFailed,
    JournalError,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotRunning,
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
from telstate.routing._clock import LogClock
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._retry import Retry
from telstate.routing._router import Router

__version__ = "0.1.0"

__all__ = [  # noqa: PLE0604 - both parts are lists of names
    "Busy",
    "CallEnded",
    "Cause",
    "NotRunning",
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
