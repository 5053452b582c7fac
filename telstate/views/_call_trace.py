"""What happened in one call: the events of a log that concern it, each with what it did at that moment."""

from __future__ import annotations

from typing import Any, NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._caller import Caller
from telstate.calls._outcome import OutcomeKind
from telstate.calls._session import Session
from telstate.calls._table import EndSign, State
from telstate.calls._transition import Transition
from telstate.events import Event, SettingsChanged, SourceGap
from telstate.events._base import Subject
from telstate.views._call_groups import CallIds

__all__ = ["CallTrace", "KnownEnd", "Seen", "end_of_session"]


class KnownEnd(NamedTuple):
    """How a session ended, as far as it was known at a moment."""

    cause: str | None
    ended_by: str | None
    source: str | None
    sign: EndSign | None
    at: float | None


class Seen(NamedTuple):
    """An event of a call, and what it did at that moment."""

    number: int
    """Its place in the log."""
    at: float | None
    """When its line was received or sent, in Unix seconds."""
    event: Event
    kind: OutcomeKind | None
    """None for an end that is inferred: no line of the log says it."""
    dialect: str | None = None
    key: Any = None
    """Of its record in a journal: the file and the sequence number."""
    session: Session | None = None
    session_id: str | None = None
    state: State | None = None
    """Of the session, after the event."""
    moves: tuple[Transition, ...] = ()
    opened: bool = False
    foreign: bool = False
    """True for an event of another call, which says something about this one."""
    continued: bool = False
    """True for the first event of a session that was known before: the log was pruned."""
    reused: bool = False
    """True if an earlier session had the same id."""
    ended: bool = False
    before: KnownEnd | None = None
    """How the session had ended before this event, if it had."""
    after: KnownEnd | None = None
    signs: tuple[tuple[str, float | None], ...] = ()
    """The sessions of which it is a sign of the end, and when they end by it."""
    relieved: tuple[str, ...] = ()
    """The sessions of which the sign of the end does not hold any more."""
    doubtful: tuple[str, ...] = ()
    """The sessions of which events may be missed from here on."""
    anomalies: tuple[str, ...] = ()
    lost: str | None = None
    """The state in which a caller on hold is lost by it."""


class CallTrace:
    """The events of one call."""

    def __init__(self, ids: CallIds) -> None:
        self.ids = ids
        self.seen: list[Seen] = []
        self.sessions: dict[str, Session] = {}
        """The latest session of each id: an id may be used again."""
        self.callers: dict[str, Caller] = {}
        self.records: dict[str, dict[str, Any]] = {}
        """By id, as of the end."""
        self.rooms: dict[str, None] = {}
        self._clients: set[str] = set()
        self._endpoints: set[str] = set()
        self._destinations: set[str] = set()
        self.sip_calls: dict[str, Seen | None] = {}
        """The SIP Call-IDs of its sessions, each with the event that told it."""
        self.users: set[str] = set()
        """The user ids of its sessions."""
        self.anomalies: dict[str, int] = {}
        """How many anomalies of a session were seen."""
        self.ends: dict[str, KnownEnd] = {}
        """How a session had ended as of its last event."""
        self.doubted: set[str] = set()
        """The sessions with a sign of their end."""
        self.uncertain: set[str] = set()
        """The sessions of which events may be missed, for another reason."""
        self._numbers: set[int] = set()

    def add(self, seen: Seen) -> None:
        """Add an event, once."""
        if seen.number not in self._numbers:
            self._numbers.add(seen.number)
            self.seen.append(seen)

    @property
    def is_open(self) -> bool:
        """True from the first event until all that is known of the call has ended."""
        waits = any(caller.ended_at is None and caller.session_id is None for caller in self.callers.values())
        return waits or any(not session.ended for session in self.sessions.values())

    def learn(self, session: Session) -> None:
        """Keep the facts by which events of rooms, clients and endpoints are found to concern the call."""
        self.sessions[session.session_id] = session
        if session.room is not None:
            self.rooms.setdefault(session.room)
        if session.call_client_id is not None:
            self._clients.add(session.call_client_id)
        if session.sip_endpoint is not None:
            self.learn_endpoint(session.sip_endpoint)
        if session.destination is not None:
            self._destinations.add(plain_uri(session.destination))

    def learn_endpoint(self, uri: str) -> None:
        """Keep an endpoint of the call."""
        self._endpoints.add(plain_uri(uri))

    def concerns_it(self, event: Event, subject: Subject) -> bool:
        """Return whether an event that names no session of the call concerns it all the same."""
        if subject is Subject.SETTINGS:
            return isinstance(event, SettingsChanged)
        if subject is Subject.ENDPOINT:
            return plain_uri(getattr(event, "sip_endpoint", "")) in self._endpoints
        if subject is Subject.SOURCE and event.room is None and event.call_client_id is None:
            return isinstance(event, SourceGap)
        if event.room in self.rooms or event.call_client_id in self._clients:
            return True
        if subject is Subject.SESSION:
            destination = getattr(event, "destination", None)
            if destination is not None:
                return plain_uri(destination) in self._destinations
            return event.room is None and event.call_client_id is None  # it may be of any call
        if subject is Subject.UNKNOWN:
            extra = event.model_extra or {}
            return any(extra.get(key) in self.sessions for key in ("session_id", "sessionId", "participant_id"))
        return False


def end_of_session(session: Session) -> KnownEnd:
    """Return how a session ended, as far as it is known now."""
    return KnownEnd(session.cause, session.ended_by, session.end_source, session.end_sign, session.ended_at)
