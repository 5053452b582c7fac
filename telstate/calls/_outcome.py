"""What became of one event: every accepted event has exactly one outcome."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from telstate.calls._session import Session
from telstate.calls._transition import Transition
from telstate.events import Event

__all__ = ["Outcome", "OutcomeKind", "Unmatched"]


class OutcomeKind(StrEnum):
    """What an event was to its session, in the order in which the rules are tried (but `moved` before `late`)."""

    MOVED = "moved"
    """The session's state rose."""
    NOTED = "noted"
    """News that moves nothing: a warning, a key press, a room's event."""
    DUPLICATE = "duplicate"
    """It was told before."""
    LATE = "late"
    """The session is past it. What it says is still recorded."""
    UNEXPECTED = "unexpected"
    """A dial-in event of a dial-out session, or the other way round."""
    UNMATCHED = "unmatched"
    """It speaks of a session, but nothing tells of which."""


class Unmatched(NamedTuple):
    """An event that waited in vain for its session to be named."""

    event: Event
    received_at: float | None
    """Unix seconds, where time is known."""


class Outcome:
    """What `Engine.receive` made of one event."""

    __slots__ = (
        "anomalies",
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

    def __init__(self, kind: OutcomeKind, event: Event, session: Session | None) -> None:
        self.kind = kind
        self.event = event
        self.session = session
        """The session it was about; None where none is, or none could be named."""
        self.opened = False
        """True if the session was opened by this event."""
        self.ended = False
        """True if the session reached its first terminal state by this event."""
        self.moves: tuple[Transition, ...] = ()
        """The rises it caused: its own, then those of events that had waited for it."""
        self.anomalies: tuple[str, ...] = ()
        """What is odd about it, one sentence each."""
        self.departed: tuple[Session | Unmatched, ...] = ()
        """What left memory with this step: ended sessions past retention, and events nobody claimed."""
        self.journal_id: str | None = None
        """Of the journal that keeps the event, and below its number there; None outside a dispatcher."""
        self.seq = 0
        self.redelivered = False
        """True if its handlers may have run before: a crash came before they were marked as done."""

    @property
    def event_id(self) -> str | None:
        """Which event it was, for good: `<journal id>:<sequence number>`. None outside a dispatcher."""
        return None if self.journal_id is None else f"{self.journal_id}:{self.seq}"

    def __repr__(self) -> str:
        of = f" of {self.session.session_id}" if self.session is not None else ""
        return f"<Outcome {self.kind}: {self.event.action}{of}>"
