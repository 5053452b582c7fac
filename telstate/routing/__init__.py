"""From events to handlers: the router, the dispatcher, and the protocols of a journal, a clock and a control."""

from __future__ import annotations

from telstate.routing._clock import LogClock, SystemClock
from telstate.routing._dead_letters import DeadLetters
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._payload import Payload
from telstate.routing._ports import (
    Clock,
    Control,
    DeadLetter,
    Entry,
    EventSink,
    ImmediateJournal,
    Journal,
    KeptLetter,
    Record,
    SharedJournal,
)
from telstate.routing._presence import Reconcile
from telstate.routing._retry import Retry
from telstate.routing._router import Router

__all__ = [
    "Clock",
    "Control",
    "DeadLetter",
    "DeadLetters",
    "Dispatcher",
    "Entry",
    "EventSink",
    "ImmediateJournal",
    "Journal",
    "KeptLetter",
    "LogClock",
    "Payload",
    "Reconcile",
    "Record",
    "Retry",
    "Router",
    "SharedJournal",
    "SystemClock",
]
