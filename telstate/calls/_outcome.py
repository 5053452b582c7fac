"""The outcome of an event: every accepted event has exactly one."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from telstate.calls._session import Session
from telstate.calls._transition import Transition
from telstate.events import Event

__all__ = ["Outcome", "OutcomeKind", "Unmatched"]


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
    """What `Engine.receive` made of one event."""

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
    """The session that the event is about; None if it is about none, or none could be matched."""
    opened: bool
    """True if the event opened the session."""
    ended: bool
    """True if the event brought the session to its first terminal state."""
    moves: tuple[Transition, ...]
    """The transitions it caused: its own, then those of parked events that it released."""
    anomalies: tuple[str, ...]
    """What is odd about the event, one sentence each."""
    changed: tuple[Session, ...]
    """The sessions that did not rise and yet are not what they were: notes were added, evidence arrived after the end
    (`amended`), or it became doubtful or certain whether they still exist (`uncertain`)."""
    departed: tuple[Session | Unmatched, ...]
    """What left memory with this step: ended sessions past retention, and events that were never matched."""
    journal_id: str | None
    """The id of the journal that keeps the event; None outside a dispatcher."""
    seq: int
    """The number of the event in that journal."""
    redelivered: bool
    """True if its handlers may have run before: the process crashed before they were marked as done."""

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
