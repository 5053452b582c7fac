"""What a call is: the table, sessions, correlation, the engine. Pure: no I/O, no clock, no async."""

from __future__ import annotations

from telstate.calls._caller import Caller, CallerState
from telstate.calls._endpoints import Endpoint
from telstate.calls._engine import Engine
from telstate.calls._evidence import Cause, EndedBy, EndSource
from telstate.calls._outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import EndSign, State, machine
from telstate.calls._transfers import TransferOutcome, TransferRecord
from telstate.calls._transition import Transition

__all__ = [
    "Caller",
    "CallerState",
    "Cause",
    "EndSign",
    "EndSource",
    "EndedBy",
    "Endpoint",
    "Engine",
    "Outcome",
    "OutcomeKind",
    "Replay",
    "Session",
    "Settings",
    "State",
    "TransferOutcome",
    "TransferRecord",
    "Transition",
    "Unmatched",
    "machine",
]
