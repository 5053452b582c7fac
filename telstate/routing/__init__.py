"""From events to handlers: the router, the dispatcher, and the protocols of a journal, a clock and a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports

if TYPE_CHECKING:
    from telstate.routing._clock import LogClock, SystemClock
    from telstate.routing._dead_letters import DeadLetters
    from telstate.routing._dispatcher import Dispatcher
    from telstate.routing._payload import Payload
    from telstate.routing._ports import (
        Clock,
        Control,
        DeadLetter,
        Elsewhere,
        Entry,
        EventSink,
        ImmediateJournal,
        Journal,
        KeptLetter,
        MarkingJournal,
        Observer,
        Receipt,
        Record,
        SharedJournal,
    )
    from telstate.routing._presence import Reconcile
    from telstate.routing._retry import Retry
    from telstate.routing._router import Router
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
            "Journal": "_ports",
            "KeptLetter": "_ports",
            "LogClock": "_clock",
            "MarkingJournal": "_ports",
            "Observer": "_ports",
            "Payload": "_payload",
            "Receipt": "_ports",
            "Reconcile": "_presence",
            "Record": "_ports",
            "Retry": "_retry",
            "Router": "_router",
            "SharedJournal": "_ports",
            "SystemClock": "_clock",
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
    "Journal",
    "KeptLetter",
    "LogClock",
    "MarkingJournal",
    "Observer",
    "Payload",
    "Receipt",
    "Reconcile",
    "Record",
    "Retry",
    "Router",
    "SharedJournal",
    "SystemClock",
]
