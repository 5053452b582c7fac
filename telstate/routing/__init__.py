"""From events to handlers: the router, the dispatcher, and the protocols of a journal, a clock and a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports

if TYPE_CHECKING:
    from telstate.routing._clock import LogClock, SystemClock
    from telstate.routing._dead_letters import DeadLetters
    from telstate.routing._dispatcher import Dispatcher
    from telstate.routing._log_context import SessionLogFilter
    from telstate.routing._payload import Payload
    from telstate.routing._ports import (
        Clock,
        Control,
        DeadLetter,
        Elsewhere,
        Entry,
        EventSink,
        ImmediateJournal,
        Instrument,
        Journal,
        JournalUsage,
        KeptLetter,
        KeptNotification,
        MarkingJournal,
        Measured,
        Messenger,
        Notification,
        Observer,
        OutboxJournal,
        OutgoingMessages,
        Receipt,
        Record,
        SharedJournal,
    )
    from telstate.routing._presence import Reconcile
    from telstate.routing._retry import Retry
    from telstate.routing._router import Router
    from telstate.routing._vitals import Vitals
else:
    __getattr__ = _lazy_exports(
        __name__,
        {
            "Clock": "_ports",
            "Control": "_ports",
            "DeadLetter": "_ports",
            "Elsewhere": "_ports",
            "DeadLetters": "_dead_letters",
            "Dispatcher": "_dispatcher",
            "Entry": "_ports",
            "EventSink": "_ports",
            "ImmediateJournal": "_ports",
            "Instrument": "_ports",
            "Journal": "_ports",
            "JournalUsage": "_ports",
            "KeptLetter": "_ports",
            "KeptNotification": "_ports",
            "LogClock": "_clock",
            "MarkingJournal": "_ports",
            "Messenger": "_ports",
            "Notification": "_ports",
            "Measured": "_ports",
            "Observer": "_ports",
            "OutboxJournal": "_ports",
            "OutgoingMessages": "_ports",
            "Payload": "_payload",
            "Receipt": "_ports",
            "Reconcile": "_presence",
            "Record": "_ports",
            "Retry": "_retry",
            "Router": "_router",
            "SessionLogFilter": "_log_context",
            "SharedJournal": "_ports",
            "SystemClock": "_clock",
            "Vitals": "_vitals",
        },
    )

__all__ = [
    "Clock",
    "Control",
    "DeadLetter",
    "DeadLetters",
    "Dispatcher",
    "Elsewhere",
    "Entry",
    "EventSink",
    "ImmediateJournal",
    "Instrument",
    "Journal",
    "JournalUsage",
    "KeptLetter",
    "KeptNotification",
    "LogClock",
    "MarkingJournal",
    "Measured",
    "Messenger",
    "Notification",
    "Observer",
    "OutboxJournal",
    "OutgoingMessages",
    "Payload",
    "Receipt",
    "Reconcile",
    "Record",
    "Retry",
    "Router",
    "SessionLogFilter",
    "SharedJournal",
    "SystemClock",
    "Vitals",
]
