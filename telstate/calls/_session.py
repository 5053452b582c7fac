"""A session: one telephone leg, what was seen of it, and what follows from that.

A session keeps what its events said, never the events. Why it ended and by whom is not stored but follows from the
evidence, so it converges like the state: the same events in any order give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._evidence import Cause, EndedBy, Evidence, Kind, cause_of, ended_by_of
from telstate.calls._table import TERMINAL, State
from telstate.calls._transition import Transition, path_of, step_of, transitions_of
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


_BLANK: dict[str, Any] = {
    "session_id": "",
    "opened": 0,
    "ended": False,
    "_path": b"",
    "seen": 0,
    "wrong_kinds": (),
    **dict.fromkeys(FACTS),
    **dict.fromkeys(("caller", "pinless_call_id", "transferred_to", "error_msg")),
    "warnings": (),
    "anomalies": (),
    **dict.fromkeys(("events", "duplicates", "late", "unexpected", "dtmf"), 0),
    **dict.fromkeys(("started_at", "requested_at", "connected_at", "answered_at", "ended_at", "heard_at", "alive_at")),
    "amended": False,
    "uncertain": False,
    "_context": None,
}
"""What nothing is known of. Every session begins with a copy; see `Session`."""


class Session:
    """One telephone session. Read-only for its users, but for `context`.

    Of each fact the first value seen is kept; a later one that disagrees is an anomaly. What no event told is None.

    Which it is: `session_id`, `direction`, `sip_call_id`, `room`, `domain_id`, `provider`, `user_id`, `display_name`. Of a
    dial-out `destination`, `origin`, `caller_id`, `phone_number_id`; of a dial-in `sip_from`, `sip_endpoint`, `sip_headers`, and of
    one that was on hold `caller`, `pinless_call_id`.
    Where it stands: `state`, `ended`, `cause`, `ended_by`, `error_msg`, `transferred_to`, `warnings`, `anomalies`, `dtmf` (how
    many keys), `amended`, `uncertain`, `transitions`, and the counts `events`, `duplicates`, `late`, `unexpected`.
    When, in Unix seconds: `started_at`, `requested_at`, `connected_at`, `answered_at`, `ended_at`, `heard_at`, `alive_at`; and for how
    long: `setup_s`, `ring_s`, `talk_s`.

    What it keeps is texts, numbers and truth values in one plain dict, and its two enums have slots: a dict of nothing else
    is no concern of the garbage collector, unless there are headers or a context in it. 100 000 live sessions make a full
    collection longer by about 12 ms, and did by 43 with a slot for each value.
    """

    __slots__ = ("__dict__", "direction", "state")

    direction: Direction
    state: State

    session_id: str
    opened: int
    """The number of the event that opened it, counted from 1: the order of first sight."""
    ended: bool
    """True in a terminal state."""
    seen: int
    """What was seen of it: bits of Evidence."""
    wrong_kinds: tuple[str, ...]
    """Lifecycle events of the other direction that named it."""

    sip_call_id: str | None
    room: str | None
    domain_id: str | None
    call_client_id: str | None
    provider: str | None
    user_id: str | None
    destination: str | None
    origin: str | None
    caller_id: str | None
    phone_number_id: str | None
    sip_from: str | None
    sip_endpoint: str | None
    display_name: str | None
    caller: str | None
    """The number of the waiting caller (pinless dial-in) that became this session."""
    pinless_call_id: str | None
    transferred_to: str | None
    """Where it is or was being transferred."""
    error_msg: str | None
    """The text of the error or the refusal, or what came with the stop."""
    warnings: tuple[str, ...]

    events: int
    duplicates: int
    late: int
    unexpected: int
    dtmf: int
    """How many keys were pressed. Which ones is not kept: people type PINs."""
    anomalies: tuple[str, ...]

    started_at: float | None
    """The earliest time that any of its events tells; this and all times are Unix seconds, None if unknown."""
    requested_at: float | None
    connected_at: float | None
    answered_at: float | None
    ended_at: float | None
    heard_at: float | None
    """When Daily last had news of it, by this side's clock."""
    alive_at: float | None
    """When it last showed life: as told, else by this side's clock."""
    amended: bool
    """True if evidence came after the end, so that `on_end` was told less than is known now."""
    uncertain: bool
    """True if events may have been missed since it was last heard of."""

    sip_headers: dict[str, Any] | None

    _path: bytes
    """Its transitions."""
    _context: dict[Any, Any] | None

    def __init__(self, session_id: str, direction: Direction, opened: int = 0) -> None:
        self.__dict__ = _BLANK.copy()
        self.session_id = session_id
        self.opened = opened
        self.direction = direction
        self.state = State.IDLE

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.direction} {self.state}{f'/{self.cause}' if self.cause else ''}>"

    @property
    def context(self) -> dict[Any, Any]:
        """The program's own notes on this session; telstate never looks inside, and no journal keeps them."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every rise of its state, in their order."""
        return transitions_of(self._path)

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
        made = Transition(self.state, target, event, parked)
        self._path += step_of(made)
        self.state = target
        self.ended = target in TERMINAL
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
            if self.ended:
                self.see(kind.bit)
            else:
                self.seen |= kind.bit
            if at is not None:
                self.mark_time(kind.at, at)
        elif at is not None and (self.started_at is None or at < self.started_at):
            self.started_at = at
        told, known = facts.read(said), facts.read(self.__dict__)
        if told != known:
            if known == facts.none and all(map(_is_short, told)):
                self.__dict__.update(zip(facts.names, told, strict=True))
            else:
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
                setattr(self, name, bounded(value))
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
        return (*_plain(self.__dict__), self.direction, self.state, self.transitions)

    @classmethod
    def thaw(cls, names: Iterable[str], values: Iterable[Any]) -> Session:
        """Make a session of what `freeze` gave, also after it was written and read as JSON."""
        said = dict(zip(names, values, strict=True))
        session = cls(said["session_id"], Direction(said.pop("direction")))
        session.state = State(said.pop("state"))
        session._path = path_of(said.pop("transitions"))
        for name, value in said.items():
            setattr(session, name, tuple(value) if isinstance(value, list) else value)
        return session


_PLAIN = tuple(name for name in _BLANK if not name.startswith("_"))
_plain = itemgetter(*_PLAIN)
KEPT = (*_PLAIN, "direction", "state", "transitions")
"""The names of what `freeze` gives."""


class Facts(NamedTuple):
    """The facts that one type of event can say, read off both sides at once: mostly they agree, and that is quick."""

    names: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """Reads them off the fields of an event, or off those of a session."""
    none: tuple[None, ...]
    """What a session has that knows none of them."""


def _is_short(value: Any) -> bool:
    """Whether it can be kept as it is."""
    return value is None or (type(value) is str and len(value) <= _TEXT_LIMIT)


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
