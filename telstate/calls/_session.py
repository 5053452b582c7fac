"""A session: one telephone leg, what its events reported, and what follows from that.

A session keeps what its events reported, never the events. Cause, ending side and durations are derived, not stored, so
they converge like the state: the same events in any order give the same answer. Only the engine writes to a session, with
the functions of `_recorder.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, dataclass_transform

from telstate.calls._evidence import Cause, EndedBy, EndSource, Evidence, cause_of, ended_by_of
from telstate.calls._signs import End, Sign, end_of, has_left_before, latest, meeting_of
from telstate.calls._table import STATE_EVIDENCE, EndSign, State
from telstate.calls._transfers import TransferRecord, records_of, transferred_to
from telstate.calls._transition import Transition, rows_of, transitions_of
from telstate.events import Direction

__all__ = ["FACTS", "Session"]

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
"""What events report about their session, by the name of the field on both."""

_EMPTY: dict[str, Any] = {
    "session_id": "",
    "opened": 0,
    "ended": False,
    "_path": b"",
    "_evidence": 0,
    "_rare": None,
    **dict.fromkeys(FACTS),
    "error_msg": None,
    "warnings": (),
    "anomalies": (),
    **dict.fromkeys(("events", "duplicates", "late", "unexpected", "dtmf"), 0),
    **dict.fromkeys(("started_at", "requested_at", "connected_at", "answered_at", "_told_at", "heard_at")),
    **dict.fromkeys(("_alive", "_alive_by_receipt", "_joined", "_joined_by_receipt")),
    "_signs": (),
    "amended": False,
    "uncertain": False,
    "_context": None,
}
"""The values of a new session. Each session starts with a copy. A dict of 43 values would take twice the memory of one of 42."""

# The names of an enum are slow to look up.
_CLIENT_LEFT, _MEETING_ENDED = EndSign.CLIENT_LEFT, EndSign.MEETING_ENDED
_TOLD, _INFERRED, _ASSUMED = EndSource
_DIALIN, _DIALOUT = Direction
_OF_OTHERS = frozenset({_CLIENT_LEFT, _MEETING_ENDED})
"""The signs of a client or a room, which concern only some of its sessions."""

SessionType = TypeVar("SessionType")


@dataclass_transform(eq_default=False, frozen_default=True)
def _read_only(cls: type[SessionType]) -> type[SessionType]:
    """Make assignment to attributes an error, for type checkers (by the `dataclass_transform`) and at run time."""

    def refuse(_: object, name: str, *__: object) -> NoReturn:
        """Refuse every change."""
        raise AttributeError(
            f"{name!r} cannot be changed: a session is read-only. Keep your own data in session.context[{name!r}]"
        )

    cls.__setattr__ = cls.__delattr__ = refuse  # type: ignore[method-assign]
    return cls


@_read_only
class Session:
    """One telephone session: a leg between a caller or callee and a room. Read-only, except for the dict `context`.

    Of each fact the first reported value is kept; a later one that differs is an anomaly. What no event reported is None.
    Times are Unix seconds, durations are seconds.

    Which session it is:
        session_id: its id, also the id of its participant in the room.
        direction: `dialin` or `dialout`.
        sip_call_id: its SIP Call-ID (daily-js from 0.90 on).
        room, domain_id: the room and the Daily domain (webhooks).
        call_client_id: the call client that reported it (daily-js).
        provider, user_id, display_name: as Daily reports them.
        destination, origin, caller_id, phone_number_id: of a dial-out: who is called, who calls, the number shown, and the id
            of the purchased number that calls.
        sip_from, sip_endpoint, sip_headers: of a dial-in: the caller's SIP address, the endpoint called, the SIP headers. If no
            event names the endpoint, it is the only one of the room that is known.
        caller, called, pinless_call_id: the caller on hold that became this session: their number, the number that they called,
            and the call id. Derived from where they were forwarded to, from the room that Daily made for them, or from their number.
        opened: the number of the event that opened it. Sorts sessions by first sight.

    What its state is:
        state: idle, connected, answered, stopped or error.
        ended: True in a terminal state.
        cause, ended_by: why it ended, and who ended it.
        end_source, end_sign: how that is known: `told`, `inferred` from a sign of the end, or `assumed` after silence.
        error_msg: the text of the error or the refusal, or the text that came with the stop.
        transfers: the targets it was transferred to, each with the outcome: `reached`, `handed-over`, `not-reached`, `pending`.
        transferred_to: the latest target that was reached, else the latest that it was handed over to.
        transitions: every rise of its state, in order.
        was_answered, stop_requested, transfer_requested, states_reported: what its events say, also those that were late.
        warnings, anomalies: the texts of warnings, and everything odd about its events.
        dtmf: how many keys were pressed. Which ones is not kept, because people type PINs.
        events, duplicates, late, unexpected: how many events it had, and how many had that outcome.
        notes: what the program wrote down about it (`Dispatcher.annotate`). They are in the journal, `context` is not.
        amended: True if evidence arrived after the end, so that `on_end` handlers were given less than is known now.
        uncertain: True while it lives if events may have been missed since the last one, or there is a sign of its end.

    When:
        started_at: the earliest time that any of its events has.
        requested_at, connected_at, answered_at: the time of each step. Daily's time outweighs that of a receipt.
        ended_at: when it ended, as far as any event says: by the end that Daily reported, else by the earliest sign of the end that
            holds, else the last sign of life. So no duration counts silence.
        heard_at: when Daily's last event arrived, by the local clock.
        alive_at: the last sign of life: the event's own time, else the local clock.
        setup_s, ring_s, talk_s: how long it was set up, rang and talked.
        held_s: how long its caller was on hold before.
    """

    # All values are texts, numbers and booleans in one plain dict, and the two enums have slots. The garbage collector does not
    # track a dict of only such values, unless it holds headers or a context. 100 000 live sessions prolong a full collection
    # by about 12 ms; with a slot for each value it was 43 ms.
    __slots__ = ("__dict__", "direction", "state")

    session_id: str
    direction: Direction
    opened: int

    sip_call_id: str | None
    room: str | None
    domain_id: str | None
    call_client_id: str | None
    provider: str | None
    user_id: str | None
    display_name: str | None
    destination: str | None
    origin: str | None
    caller_id: str | None
    phone_number_id: str | None
    sip_from: str | None
    sip_endpoint: str | None
    sip_headers: Mapping[str, Any] | None

    state: State
    ended: bool
    error_msg: str | None
    warnings: tuple[str, ...]
    anomalies: tuple[str, ...]
    dtmf: int
    events: int
    duplicates: int
    late: int
    unexpected: int
    amended: bool
    uncertain: bool

    started_at: float | None
    requested_at: float | None
    connected_at: float | None
    answered_at: float | None
    heard_at: float | None

    _told_at: float | None
    """When it ended, according to Daily."""
    _alive: float | None
    """Its last sign of life with a time of Daily's."""
    _alive_by_receipt: float | None
    """Its last sign of life with only a time of receipt."""
    _joined: float | None
    """When its participant joined last, by Daily's clock."""
    _joined_by_receipt: float | None
    """When its participant joined last, where only the receipt has a time."""
    _signs: tuple[Sign, ...]
    """The signs of its end. None of its participant once Daily has reported the end."""
    _evidence: int
    """What was seen of it: bits of `Evidence`."""
    _path: bytes
    """Its transitions, encoded."""
    _rare: dict[str, Any] | None
    """What few sessions have, as JSON values: see `rare`. A field of its own would cost every session memory.

    - `legs`: the legs of its call that left memory before it; once it has left memory itself, all other legs
    - `linked`: legs of its call in other partitions, as far as these show it
    - `caller`, `pinless_call_id`, `called`, `held_since`, `caller_notes`: of the caller on hold that it was: their number, their
      call id, the number that they called, since when they waited, and the program's notes about them
    - `sip_to`: the SIP address that was called
    - `notes`: what the program wrote down about it
    - `wrong_direction`: the lifecycle events of the other direction that named it
    - `transfers`: the evidence for each target of its transfers, see `_transfers.py`
    - `stopped_at`: when this program requested its stop
    """
    _context: dict[Any, Any] | None

    def __init__(self, session_id: str, direction: Direction, opened: int = 0, *, room: str | None = None) -> None:
        fields = _EMPTY.copy()  # much faster than a dict display
        fields["session_id"], fields["opened"], fields["room"] = session_id, opened, room
        _set_dict(self, fields)
        _set_direction(self, direction)
        set_state(self, State.IDLE)

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.direction} {self.state}{f'/{self.cause}' if self.cause else ''}>"

    @property
    def context(self) -> dict[Any, Any]:
        """Your own data about this session. telstate never reads it, and no journal keeps it."""
        if self._context is None:
            vars(self)["_context"] = {}
        return self._context  # type: ignore[return-value]

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the program wrote down about it, by name: a copy, as JSON values. Add to it with `Dispatcher.annotate`.

        What it wrote down about the caller on hold before is among them; of two notes with one name the session's own counts.
        """
        return MappingProxyType(self._copy_notes())

    def _copy_notes(self) -> dict[str, Any]:
        of_caller, own = rare(self, "caller_notes"), rare(self, "notes")
        return deepcopy({**(of_caller or {}), **(own or {})}) if of_caller or own else {}

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every rise of its state, in order."""
        return transitions_of(self._path)

    @property
    def cause(self) -> Cause | None:
        """Why it ended; None while it lives."""
        source = self.end_source
        if source is None:
            return None
        return cause_of(self._evidence, self.direction, source, transferred=self._transferred is not None)

    @property
    def ended_by(self) -> EndedBy | None:
        """Who ended it, as far as that can be known; None while it lives."""
        source = self.end_source
        if source is None:
            return None
        if source is _TOLD:
            client_left = bool(self._signs) and has_left_before(
                [sign for sign in self._signs if sign.kind == _CLIENT_LEFT and is_of_client(self, sign)], self._told_at
            )
        else:
            client_left = self.end_sign is _CLIENT_LEFT
        return ended_by_of(self._evidence, source, client_left=client_left)

    @property
    def end_source(self) -> EndSource | None:
        """How its end is known; None while it lives."""
        if not self.ended:
            return None
        if self._evidence & Evidence.TOLD:
            return _TOLD
        return _ASSUMED if inferred_end(self) is None else _INFERRED

    @property
    def end_sign(self) -> EndSign | None:
        """The sign that its end is inferred from; None if it lives, or its end is told or assumed."""
        if not self.ended or self._evidence & Evidence.TOLD or (end := inferred_end(self)) is None:
            return None
        return end.sign

    @property
    def ended_at(self) -> float | None:
        """When it ended, as far as any event says, in Unix seconds; None while it lives."""
        if not self.ended:
            return None
        if self._evidence & Evidence.TOLD:
            return self._told_at
        end = inferred_end(self)
        if end is not None:
            return end.at
        return self.started_at if self.alive_at is None else self.alive_at

    @property
    def alive_at(self) -> float | None:
        """Its last sign of life, in Unix seconds: the event's own time, else that of its receipt."""
        return latest(self._alive, self._alive_by_receipt)

    @property
    def was_answered(self) -> bool:
        """True if an event said that it was answered, even if that event arrived after the end."""
        return bool(self._evidence & STATE_EVIDENCE[self.direction][State.ANSWERED])

    @property
    def stop_requested(self) -> bool:
        """True if this program requested its stop."""
        return bool(self._evidence & Evidence.STOP_REQUESTED)

    @property
    def transfer_requested(self) -> bool:
        """True if this program requested its transfer."""
        return bool(self._evidence & Evidence.TRANSFER_REQUESTED)

    @property
    def transfers(self) -> tuple[TransferRecord, ...]:
        """The targets it was transferred to, in the order in which the transfers were first accepted, and what became of each.

        The outcome follows from the steps of the transfer, from the session of the target if there is one (its far leg), and
        from what this session did afterwards. Later events may change it, also after the end; then the session is `amended`.
        """
        known = rare(self, "transfers")
        if not known:
            return ()
        return records_of(
            known,
            ended=self.ended,
            end_known=self.end_source in (_TOLD, _INFERRED),
            ended_at=self.ended_at,
            alive_at=self.alive_at,
            stopped_at=rare(self, "stopped_at") or (),
        )

    @property
    def transferred_to(self) -> str | None:
        """The latest target that was reached, else the latest that it was handed over to; None if there is none."""
        transferred = self._transferred
        return None if transferred is None else transferred.target

    @property
    def _transferred(self) -> TransferRecord | None:
        return transferred_to(self.transfers) if rare(self, "transfers") else None

    @property
    def states_reported(self) -> tuple[State, ...]:
        """The states that its events stand for, lowest first, also those that were reported late. Never idle."""
        return tuple(state for state, bits in STATE_EVIDENCE[self.direction].items() if self._evidence & bits)

    @property
    def setup_s(self) -> float | None:
        """How long it was set up. Dial-out: from the request to connected. Dial-in: from connected to media."""
        if self.direction is _DIALOUT:
            return _seconds(self.requested_at, self.connected_at)
        return _seconds(self.connected_at, self.answered_at)

    @property
    def ring_s(self) -> float | None:
        """How long a dial-out was connected until it was answered or given up: it rang for most of that. None for a dial-in."""
        if self.direction is _DIALIN:
            return None
        answered = self.answered_at is not None or self.was_answered
        return _seconds(self.connected_at, self.answered_at if answered else self.ended_at)

    @property
    def talk_s(self) -> float | None:
        """How long media flowed, once it ended."""
        return _seconds(self.answered_at, self.ended_at)

    @property
    def caller(self) -> str | None:
        """The number of the caller on hold that it was."""
        number: str | None = rare(self, "caller")
        return number

    @property
    def pinless_call_id(self) -> str | None:
        """The call id of the caller on hold that it was, also of one on a SIP trunk: see `Caller.call_id`."""
        call_id: str | None = rare(self, "pinless_call_id")
        return call_id

    @property
    def called(self) -> str | None:
        """The number or SIP address that was called, of a caller who was on hold before, or of a dial-in of pipecat's SIPTransport:
        it tells tenants and bots apart."""
        number: str | None = rare(self, "called") or rare(self, "sip_to")
        return number

    @property
    def held_s(self) -> float | None:
        """How long its caller was on hold before it connected."""
        return _seconds(rare(self, "held_since"), self.connected_at)

    def to_dict(self, *, legs: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the record of this session: everything known of it, as JSON values. What is not known is None.

        Phone numbers, SIP users and names are not masked.

        Args:
            legs: the ids of the other known sessions of its call. `Engine.record(session)` fills them in; a session that has
                left memory (`on_retired`) knows them itself.
        """
        departed, linked = rare(self, "legs"), rare(self, "linked")
        if departed is not None or linked is not None:
            legs = dict.fromkeys((*(departed or ()), *(linked or ()), *(legs or ())))
        return {
            "session_id": self.session_id,
            "direction": str(self.direction),
            "state": str(self.state),
            "cause": _text(self.cause),
            "ended_by": _text(self.ended_by),
            "end_source": _text(self.end_source),
            "end_sign": _text(self.end_sign),
            "sip_call_id": self.sip_call_id,
            "room": self.room,
            "domain_id": self.domain_id,
            "provider": self.provider,
            "destination": self.destination,
            "origin": self.origin,
            "caller_id": self.caller_id,
            "sip_from": self.sip_from,
            "sip_endpoint": self.sip_endpoint,
            "sip_headers": self.sip_headers and dict(self.sip_headers),
            "caller": self.caller,
            "called": self.called,
            "pinless_call_id": self.pinless_call_id,
            "held_s": self.held_s,
            "display_name": self.display_name,
            "user_id": self.user_id,
            "error": self.error_msg,
            "warnings": list(self.warnings),
            "transferred_to": self.transferred_to,
            "transfers": [[record.target, record.outcome.value] for record in self.transfers],
            "notes": self._copy_notes(),
            "legs": None if legs is None else list(legs),
            "dtmf": self.dtmf,
            "events": self.events,
            "duplicates": self.duplicates,
            "late": self.late,
            "unexpected": self.unexpected,
            "anomalies": list(self.anomalies),
            "amended": self.amended,
            "uncertain": self.uncertain,
            "started_at": self.started_at,
            "requested_at": self.requested_at,
            "connected_at": self.connected_at,
            "answered_at": self.answered_at,
            "ended_at": self.ended_at,
            "setup_s": self.setup_s,
            "ring_s": self.ring_s,
            "talk_s": self.talk_s,
            "transitions": rows_of(self._path),
        }


def rare(session: Session, name: str) -> Any:
    """Return a value that few sessions have; None if this one has not."""
    return None if session._rare is None else session._rare.get(name)


def signs_of(session: Session) -> tuple[Sign, ...]:
    """Return the signs of a session's end, without those of a client or a room that turned out not to be its own."""
    signs = session._signs
    for sign in signs:
        if sign.kind in _OF_OTHERS:
            return tuple(one for one in signs if one.kind not in _OF_OTHERS or _concerns(session, one))
    return signs


def may_concern(session: Session, sign: Sign) -> bool:
    """Return whether a sign can say something about a session, as far as is known of the session by now."""
    if sign.kind == _MEETING_ENDED:
        return _agree(meeting_of(sign)[0], session.domain_id)
    return sign.kind != _CLIENT_LEFT or is_of_client(session, sign)


def is_of_client(session: Session, sign: Sign) -> bool:
    """Return whether a call client that left is one that reported a session, or started it.

    One without an id that is in a room reports that room with each event, so a session of another or unknown room is not its own.
    """
    dialect, client_id, room = sign.of
    dialects = session._evidence & Evidence.BY_DIALECTS
    return (
        session.call_client_id == client_id
        and bool(dialects & dialect or (not dialects and client_id is not None))
        and (room in (None, session.room) if client_id is None else _agree(room, session.room))
    )


def inferred_end(session: Session) -> End | None:
    """Return the end of a session that its signs tell; None if none of them holds."""
    return end_of(signs_of(session), session) if session._signs else None


def _concerns(session: Session, sign: Sign) -> bool:
    """Return whether a sign is about a session. A client that left concerns it only if nobody else reports the session."""
    if not may_concern(session, sign):
        return False
    if sign.kind != _CLIENT_LEFT:
        return True
    evidence = session._evidence
    return not evidence & Evidence.BY_CLIENTS and evidence & Evidence.BY_DIALECTS in (0, sign.of[0])


def _agree(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


# The setters that `_read_only` bypasses. For the engine alone.
_set_dict = Session.__dict__["__dict__"].__set__
_set_direction = Session.__dict__["direction"].__set__
set_state = Session.__dict__["state"].__set__


def _text(value: StrEnum | None) -> str | None:
    """Return the plain text of what may be unknown: `value` of an enum is slow."""
    return None if value is None else str(value)


def _seconds(start: float | None, end: float | None) -> float | None:
    """Return the time between, never negative: webhooks round to whole seconds, clients do not."""
    if start is None or end is None:
        return None
    return round(max(0.0, end - start), 3)
