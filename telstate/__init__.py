"""telstate tells a program where every phone call stands, from Daily's dial-in and dial-out events.

The packages, one line each; imports go down this list only:

    events/    what can happen: typed events, and a decoder for each dialect                              (pure)
    options/   what can be asked of Daily: dial-out, transfer, DTMF, rooms, SIP URIs                      (pure)
    calls/     what a call is: the table of states, sessions, correlation, the engine                     (pure)
    routing/   from events to handlers: router, sequencer, lanes, dispatcher; the protocols of its edges
    journals/  where events are stored: in memory, in SQLite
    sources/   where events come from: webhooks, daily-python, pipecat, files
    control/   how to act on calls: REST, daily-python, pipecat, the dialer
    views/     how to look at calls: reports, diagrams, the live board, metrics
    testing/   for tests: a fake clock, simulated calls, a fake Daily
    cli/       the command line: the only place with arguments, environment and process exit

The path of an event, in one direction only:

    a source passes a payload to `Dispatcher.receive`
      -> `events` reads it, once, into a typed event
      -> `routing/_sequencer.py` appends it to the journal, which numbers it, and applies it in the order of the numbers:
         `calls/_engine.py` finds its session (`_registry.py`), looks up what it does (`_table.py`), returns an `Outcome`
      -> `routing/_delivery.py` wakes what waits for it, and queues the handlers of the outcome in the session's lane
      -> `routing/_runner.py` runs them; `routing/_work_log.py` marks the event as done in the journal

A file that begins with an underscore is internal: public is what a package's `__init__` exports (`tests/public_names.txt`).
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from telstate.calls import (
        Caller,
        CallerState,
        Cause,
        EndedBy,
        Endpoint,
        EndSign,
        EndSource,
        Engine,
        Outcome,
        OutcomeKind,
        Replay,
        Session,
        Settings,
        State,
        TransferOutcome,
        TransferRecord,
        Transition,
        Unmatched,
        machine,
    )
    from telstate.errors import (
        Busy,
        CallEnded,
        DailyError,
        DefinitionError,
        DialoutInProgress,
        ForwardingFailed,
        HandlerTimeout,
        InvalidRequest,
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
    from telstate.events import (
        ClientLeft,
        ConnectionChanged,
        DeadlinePassed,
        Dialect,
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
        DialoutRefused,
        DialoutRequested,
        DialoutStopped,
        DialoutWarning,
        Direction,
        DtmfReceived,
        Event,
        ForwardRefused,
        MeetingEnded,
        Participant,
        ParticipantEvent,
        ParticipantJoined,
        ParticipantLeft,
        PinlessDialin,
        PinlessForwarded,
        Presence,
        PresenceChecked,
        SessionAnnotated,
        SessionEvent,
        SessionsLinked,
        SettingsChanged,
        SipTrunkIncoming,
        SourceGap,
        StopRequested,
        TransferAnswered,
        TransferCompleted,
        TransferEvent,
        TransferFailed,
        TransferInitiated,
        TransferRequested,
        TransferTriggered,
        UnknownEvent,
        event_types,
        parse,
    )
    from telstate.routing import Dispatcher, LogClock, Retry, Router

__version__ = "0.1.0"

__all__ = [
    "Busy",
    "CallEnded",
    "Caller",
    "CallerState",
    "Cause",
    "ClientLeft",
    "ConnectionChanged",
    "DailyError",
    "DeadlinePassed",
    "DefinitionError",
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
    "DialoutInProgress",
    "DialoutRefused",
    "DialoutRequested",
    "DialoutStopped",
    "DialoutWarning",
    "Direction",
    "Dispatcher",
    "DtmfReceived",
    "EndSign",
    "EndSource",
    "EndedBy",
    "Endpoint",
    "Engine",
    "Event",
    "ForwardRefused",
    "ForwardingFailed",
    "HandlerTimeout",
    "InvalidRequest",
    "JournalError",
    "LogClock",
    "MeetingEnded",
    "NoSuchSession",
    "NotAllowed",
    "NotHosting",
    "NotRunning",
    "NotSupported",
    "Outcome",
    "OutcomeKind",
    "ParseError",
    "Participant",
    "ParticipantEvent",
    "ParticipantJoined",
    "ParticipantLeft",
    "PinlessDialin",
    "PinlessForwarded",
    "Presence",
    "PresenceChecked",
    "Replay",
    "Retry",
    "RevisionConflict",
    "RoomFull",
    "Router",
    "Session",
    "SessionAnnotated",
    "SessionEvent",
    "SessionsLinked",
    "Settings",
    "SettingsChanged",
    "SipTrunkIncoming",
    "SourceGap",
    "State",
    "StopRequested",
    "TelstateError",
    "TemporarilyNotAvailable",
    "TransferAnswered",
    "TransferCompleted",
    "TransferEvent",
    "TransferFailed",
    "TransferInitiated",
    "TransferOutcome",
    "TransferRecord",
    "TransferRequested",
    "TransferTriggered",
    "Transition",
    "UnknownEvent",
    "UnknownResult",
    "Unmatched",
    "event_types",
    "machine",
    "parse",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> _Any:
        """Import a name at its first use: `telstate --help` and completion need none, and the commands that read logs need no routing."""
        for package in ("errors", "events", "calls", "routing") if name in __all__ else ():
            module = _import_module(f"{__name__}.{package}")
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
        if name in ("errors", "events", "calls", "routing"):
            return _import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
