"""A session: one telephone leg, what was seen of it, and what follows from that.

A session keeps what its events said, never the events. Why it ended and by whom is not stored but follows from the
evidence, so it converges like the state: the same events in any order give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from telstate.calls.address import plain_uri
from telstate.calls.evidence import Cause, EndedBy, Evidence, Kind, cause_of, ended_by_of
from telstate.calls.table import TERMINAL, State
from telstate.calls.transition import Transition, transition
from telstate.events import Direction

__all__ = ["FACTS", "KEPT", "Facts", "Session", "bounded"]


FACTS = (
    "sip_call_id",
    "room",
    "domain_id",
    "call_client_id",
    "provider",
    "user_id",
    "sip_from",
    "sip_endpoint",
    "sip_headers",
    "display_name",
    "destination",
    "origin",
    "caller_id",
    "phone_number_id",
)
"""What events say of their session, by the name that field has on both."""

_MAY_DIFFER = frozenset({"call_client_id", "display_name", "sip_headers", "provider"})
"""Two observers of one session say these differently, and rightly so."""

_TEXT_LIMIT = 1024
_HEADER_LIMIT = 64
_ANOMALY_LIMIT = 20
_WARNING_LIMIT = 5


class Session:
    """One telephone session. Read-only for its users, but for `context`.

    Of each fact the first value seen is kept; a later one that disagrees is an anomaly.
    """

    __slots__ = (
        "_context",
        "alive_at",
        "amended",
        "anomalies",
        "answered_at",
        "call_client_id",
        "caller",
        "caller_id",
        "connected_at",
        "destination",
        "direction",
        "display_name",
        "domain_id",
        "dtmf",
        "duplicates",
        "ended",
        "ended_at",
        "error_msg",
        "events",
        "heard_at",
        "late",
        "opened",
        "origin",
        "phone_number_id",
        "pinless_call_id",
        "provider",
        "requested_at",
        "room",
        "seen",
        "session_id",
        "sip_call_id",
        "sip_endpoint",
        "sip_from",
        "sip_headers",
        "started_at",
        "state",
        "transferred_to",
        "transitions",
        "uncertain",
        "unexpected",
        "user_id",
        "warnings",
        "wrong_kinds",
    )

    def __init__(self, session_id: str, direction: Direction, opened: int = 0) -> None:
        self.session_id = session_id
        self.direction = direction
        self.opened = opened
        """The number of the event that opened it, counted from 1: the order of first sight."""
        self.state = State.IDLE
        self.ended = False
        """True in a terminal state."""
        self.transitions: tuple[Transition, ...] = ()
        self.seen = 0
        """What was seen of it: bits of Evidence."""
        self.wrong_kinds: tuple[str, ...] = ()
        """Lifecycle events of the other direction that named it."""

        self.sip_call_id: str | None = None
        self.room: str | None = None
        self.domain_id: str | None = None
        self.call_client_id: str | None = None
        self.provider: str | None = None
        self.user_id: str | None = None
        self.destination: str | None = None
        self.origin: str | None = None
        self.caller_id: str | None = None
        self.phone_number_id: str | None = None
        self.sip_from: str | None = None
        self.sip_endpoint: str | None = None
        self.sip_headers: dict[str, Any] | None = None
        self.display_name: str | None = None
        self.caller: str | None = None
        """The number of the waiting caller (pinless dial-in) that became this session."""
        self.pinless_call_id: str | None = None
        self.transferred_to: str | None = None
        """Where it is or was being transferred."""
        self.error_msg: str | None = None
        """The text of the error or the refusal, or what came with the stop."""
        self.warnings: tuple[str, ...] = ()

        self.events = 0
        self.duplicates = 0
        self.late = 0
        self.unexpected = 0
        self.dtmf = 0
        """How many keys were pressed. Which ones is not kept: people type PINs."""
        self.anomalies: tuple[str, ...] = ()

        self.started_at: float | None = None
        """The earliest time that any of its events tells; this and all times are Unix seconds, None if unknown."""
        self.requested_at: float | None = None
        self.connected_at: float | None = None
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.heard_at: float | None = None
        """When Daily last had news of it, by this side's clock."""
        self.alive_at: float | None = None
        """When it last showed life: as told, else by this side's clock."""
        self.amended = False
        """True if evidence came after the end, so that `on_end` was told less than is known now."""
        self.uncertain = False
        """True if events may have been missed since it was last heard of."""
        self._context: dict[Any, Any] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.direction} {self.state}{f'/{self.cause}' if self.cause else ''}>"

    @property
    def context(self) -> dict[Any, Any]:
        """The program's own notes on this session; telstate never looks inside, and no journal keeps them."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def cause(self) -> Cause | None:
        """Why it ended; None while it lives."""
        return cause_of(self.seen, self.direction) if self.ended else None

    @property
    def ended_by(self) -> EndedBy | None:
        """Who ended it, as far as that can be known; None while it lives."""
        return ended_by_of(self.seen) if self.ended else None

    @property
    def setup_s(self) -> float | None:
        """Seconds of setting up. Dial-out: from our request to ringing. Dial-in: from connected to media."""
        if self.direction is Direction.DIALOUT:
            return _seconds(self.requested_at, self.connected_at)
        return _seconds(self.connected_at, self.answered_at)

    @property
    def ring_s(self) -> float | None:
        """Seconds a dial-out rang, until it was answered or given up. None for a dial-in."""
        if self.direction is Direction.DIALIN:
            return None
        answered = self.answered_at is not None or self.seen & Evidence.ANSWERED
        return _seconds(self.connected_at, self.answered_at if answered else self.ended_at)

    @property
    def talk_s(self) -> float | None:
        """Seconds that media flowed, once it ended."""
        return _seconds(self.answered_at, self.ended_at)

    # --- what only the engine calls -------------------------------------------------------------------------------

    def rise(self, target: State, event: str, parked: bool = False) -> Transition:
        """Move to `target` and record it."""
        made = transition(self.state, target, event, parked)
        self.state = target
        self.ended = target in TERMINAL
        self.transitions += (made,)
        return made

    def record(self, said: Mapping[str, Any], kind: Kind | None, facts: Facts, at: float | None) -> None:
        """Keep what an event says, also when it is late: it may be the first to say it.

        Args:
            said: the fields of an event of this session.
            kind: what an event of its type is evidence of.
            facts: what an event of its type can say of a session.
            at: when it happened, in Unix seconds, or None if nobody knows, or that says nothing of the session.
        """
        if kind is not None and (kind.once or self.direction is Direction.DIALIN):
            # A dial-out's party joins while it rings, so its joining is evidence of nothing.
            if not self.seen & kind.bit:
                self.see(kind.bit)
            if at is not None:
                self.mark_time(kind.at, at)
        elif at is not None and (self.started_at is None or at < self.started_at):
            self.started_at = at
        told = facts.of_event(said)
        if told != facts.of_session(self):
            self._learn(zip(facts.names, told, strict=True))

    def see(self, bit: int) -> None:
        """Add evidence; after the end it amends what was told, unless it is the stopped that follows an error."""
        if self.seen & bit:
            return
        cause = self.cause if self.ended else None
        self.seen |= bit
        if cause is not None and (bit != Evidence.STOPPED or self.cause is not cause):
            self.amended = True

    def _learn(self, told: Iterable[tuple[str, Any]]) -> None:
        """Of each fact the first value seen wins; one that disagrees is an anomaly."""
        for name, value in told:
            if value is None:
                continue
            known = getattr(self, name)
            if known is None:
                setattr(self, name, value if type(value) is str and len(value) <= _TEXT_LIMIT else bounded(value))
            elif known != value and name not in _MAY_DIFFER and not _same(known, bounded(value)):
                self.note_anomaly(f"{name}: was told {_short(known)}, then {_short(value)}")

    def mark_time(self, field: str, at: float) -> None:
        """Keep the earliest time told for `field`, and of the session as a whole."""
        known = getattr(self, field)
        if known is None or at < known:
            setattr(self, field, at)
        if self.started_at is None or at < self.started_at:
            self.started_at = at

    def note_anomaly(self, text: str) -> None:
        """Record something odd once, and no more than twenty of them."""
        if text not in self.anomalies and len(self.anomalies) < _ANOMALY_LIMIT:
            self.anomalies += (text,)

    def note_warning(self, text: str) -> None:
        """Record a warning's text once, and no more than five of them."""
        text = bounded(text)
        if text not in self.warnings and len(self.warnings) < _WARNING_LIMIT:
            self.warnings += (text,)

    def freeze(self) -> tuple[Any, ...]:
        """All its values, in the order of `KEPT`, without the program's context. Fast: a snapshot freezes all there are."""
        return _frozen(self)

    @classmethod
    def thaw(cls, names: Iterable[str], values: Iterable[Any]) -> Session:
        """Make a session of what `freeze` gave, also after it was written and read as JSON."""
        said = dict(zip(names, values, strict=True))
        session = cls(said["session_id"], Direction(said["direction"]))
        for name, value in said.items():
            setattr(session, name, tuple(value) if isinstance(value, list) else value)
        session.direction = Direction(session.direction)
        session.state = State(session.state)
        session.transitions = tuple(
            transition(State(source), State(target), event, parked)
            for source, target, event, parked in session.transitions
        )
        return session


KEPT = tuple(name for name in Session.__slots__ if name != "_context")
"""The names of what `freeze` gives."""
_frozen = attrgetter(*KEPT)


class Facts(NamedTuple):
    """The facts that one type of event can say, read off both sides at once: mostly they agree, and that is quick."""

    names: tuple[str, ...]
    of_event: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    of_session: Callable[[Session], tuple[Any, ...]]


def _seconds(start: float | None, end: float | None) -> float | None:
    """The time between, never negative: webhooks round to whole seconds, clients do not."""
    if start is None or end is None:
        return None
    return round(max(0.0, end - start), 3)


def _same(one: object, other: object) -> bool:
    """Compare addresses as people mean them: `sip:` or not, with or without a query."""
    return isinstance(one, str) and isinstance(other, str) and plain_uri(one) == plain_uri(other)


def bounded(value: Any) -> Any:
    """Cut what would sit in memory for hours: real values are far below."""
    if isinstance(value, str):
        return value if len(value) <= _TEXT_LIMIT else value[:_TEXT_LIMIT] + "…"
    if isinstance(value, dict):
        return {
            bounded(key): bounded(item) if isinstance(item, (str, int, float, bool)) else bounded(str(item))
            for key, item in list(value.items())[:_HEADER_LIMIT]
        }
    return value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
