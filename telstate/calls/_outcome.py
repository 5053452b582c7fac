"""The outcome of an event: every accepted event has exactly one."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.calls._transition import Transition
from telstate.events import Event

__all__ = ["CallerOutcome", "Outcome", "OutcomeKind", "SourceOutcome", "Unmatched"]


class OutcomeKind(StrEnum):
    """What an event was to its session."""

    MOVED = "moved"
    """The state of the session rose."""
    NOTED = "noted"
    """It is valid and moves nothing: a warning, a key press, an event of a room."""
    DUPLICATE = "duplicate"
    """It was received before."""
    LATE = "late"
    """The session is past it. What it reports is still recorded."""
    UNEXPECTED = "unexpected"
    """A dial-in event of a dial-out session, or the other way round."""
    UNMATCHED = "unmatched"
    """It is about a session, but no session can be matched."""


class Unmatched(NamedTuple):
    """An event that left memory, or is still parked, without a session that it could be matched to."""

    event: Event
    received_at: float | None
    """Unix seconds; None if unknown."""


class Outcome:
    """What `Engine.receive` made of one event.

    Attributes:
        kind: what the event was to its session.
        event: the event.
        session: the session that the event is about; None if it is about none, or none could be matched.
        opened: True if the event opened the session.
        ended: True if the event brought the session to its first terminal state.
        moves: the transitions it caused: its own, then those of parked events that it released.
        anomalies: what is odd about the event, one sentence each.
        lost_caller: the caller on hold that is lost by this event: they got to no session.
        doubtful: the live sessions of which events may be missing, according to this event of their source.
        changed: the sessions that did not rise and yet are not what they were: notes were added, evidence arrived after the end
            (`amended`), only after the end it became known by which endpoint they came or that they were a caller on hold, or it became
            doubtful or certain whether they still exist (`uncertain`).
        departed: what left memory with this step: ended sessions past retention, callers that got to no session, and events that were never
            matched.
        journal_id: the id of the journal that keeps the event; None outside a dispatcher.
        seq: the number of the event in that journal.
        redelivered: True if its handlers may have run before: the process crashed before they were marked as done.
    """

    __slots__ = (
        "anomalies",
        "changed",
        "departed",
        "ended",
        "event",
        "journal_id",
        "kind",
        "moves",
        "opened",
        "redelivered",
        "seq",
        "session",
    )

    kind: OutcomeKind
    event: Event
    session: Session | None
    opened: bool
    ended: bool
    moves: tuple[Transition, ...]
    anomalies: tuple[str, ...]
    lost_caller: Caller | None = None
    doubtful: tuple[Session, ...] = ()
    changed: tuple[Session, ...]
    departed: tuple[Session | Unmatched | Caller, ...]
    journal_id: str | None
    seq: int
    redelivered: bool

    def __init__(self, kind: OutcomeKind, event: Event, session: Session | None) -> None:
        self.kind = kind
        self.event = event
        self.session = session
        self.opened = False
        self.ended = False
        self.moves = ()
        self.anomalies = ()
        self.changed = ()
        self.departed = ()
        self.journal_id = None
        self.seq = 0
        self.redelivered = False

    @property
    def event_id(self) -> str | None:
        """The permanent id of the event: `<journal id>:<sequence number>`. None outside a dispatcher."""
        return None if self.journal_id is None else f"{self.journal_id}:{self.seq}"

    def __repr__(self) -> str:
        of = f" of {self.session.session_id}" if self.session is not None else ""
        return f"<Outcome {self.kind}: {self.event.action}{of}>"


class CallerOutcome(Outcome):
    """An outcome of an event about a caller on hold. Those of sessions are many, and need not have this field."""

    __slots__ = ("lost_caller",)

    def __init__(self, kind: OutcomeKind, event: Event, lost_caller: Caller | None) -> None:
        super().__init__(kind, event, None)
        self.lost_caller = lost_caller


class SourceOutcome(Outcome):
    """An outcome of an event of a source that may have lost others, for the same reason."""

    __slots__ = ("doubtful",)

    def __init__(self, kind: OutcomeKind, event: Event, doubtful: tuple[Session, ...]) -> None:
        super().__init__(kind, event, None)
        self.doubtful = doubtful
