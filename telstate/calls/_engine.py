"""The engine: one event in, one outcome out, and between the two everything that is known of every call.

It is a function of (state so far, event, now) in the shape of an object: no I/O, no clock, no async, no randomness. The same
code therefore runs live, in replay, in recovery after a crash and in a test, and gives the same answers.

How to drive it:

    engine = Engine()
    outcome = engine.receive(event, now)      # for each event, in order; now is Unix seconds, or None where unknown
    for limit in engine.passed(now):          # when engine.next_deadline() has come
        engine.receive(limit, now)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from telstate.calls._endpoints import Endpoint, scope_of
from telstate.calls._engine_state import EngineState
from telstate.calls._event_rules import EVENT_RULES, EventRules
from telstate.calls._evidence import Evidence
from telstate.calls._outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls._parking import Parked
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import IDLE, MOVES, RANK, SILENCE_PASSED, State
from telstate.calls._timers import SILENCES
from telstate.errors import TelstateError
from telstate.events import (
    DeadlinePassed,
    DialinReady,
    DialinWarning,
    DialoutWarning,
    Event,
    MeetingEnded,
    PinlessDialin,
    PinlessForwarded,
    Presence,
    PresenceChecked,
    SettingsChanged,
    SourceGap,
)
from telstate.events._base import Subject

__all__ = ["Engine"]

MOVED, NOTED, DUPLICATE, LATE, UNEXPECTED, UNMATCHED = OutcomeKind

_SNAPSHOT_VERSION = 2
_LONG_KEY = 200
"""Keys are remembered for hours; from this length on their digest is."""


class Engine:
    """Everything known of every call.

    Args:
        settings: how long and how much it remembers.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"settings: pass telstate.Settings(…), not {type(settings).__name__}")
        self._known = EngineState(settings or Settings())
        self.counts: dict[OutcomeKind, int] = dict.fromkeys(OutcomeKind, 0)
        """How many events had which outcome; together they are `received`."""

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """How long and how much it remembers."""
        return self._known.settings

    @property
    def now(self) -> float | None:
        """The latest time it was given, in Unix seconds; None before any."""
        return self._known.clock

    @property
    def received(self) -> int:
        """How many events it took in."""
        return sum(self.counts.values())

    def session(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        return self._known.registry.get(session_id)

    def sessions(self) -> Iterator[Session]:
        """Every known session, in order of first sight."""
        return self._known.registry.all()

    def live(self) -> list[Session]:
        """Every session that has not ended, in order of first sight."""
        return list(self._known.registry.live.values())

    def legs(self, any_id: str) -> list[Session]:
        """Find all legs of a call by the session id of one of them or their SIP Call-ID, in order of first sight."""
        return self._known.registry.legs(any_id)

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint, with or without `sip:`, whatever its query."""
        return self._known.endpoints.find(uri)

    def unmatched(self) -> list[Unmatched]:
        """The events of which it is still not known whose they are."""
        return self._known.unmatched.unmatched()

    def sizes(self) -> dict[str, int]:
        """How much is remembered of what. With all calls ended and retention passed, every number is zero."""
        return self._known.sizes()

    def next_deadline(self) -> float | None:
        """When to ask again without an event: `passed` for limits, `advance` for what is to be forgotten.

        None before any time was told, as nothing can be due then.
        """
        if self._known.clock is None:
            return None
        dues = (self._known.next_due(), self._known.patience.next_due())
        return min((due for due in dues if due is not None), default=None)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Tell the limits that passed, as events: journal them, then `receive` them like all others.

        An event that came at the same instant goes before: it renews the limit, which then does nothing.
        """
        return [] if self._known.clock is None else self._known.patience.passed(now)

    # --- steps ----------------------------------------------------------------------------------------------------

    def receive(self, event: Event, now: float | None = None, number: int | None = None) -> Outcome:
        """Take in one event.

        Args:
            event: what happened.
            now: when it was received, in Unix seconds. If it is less than before, the earlier time holds. None where
                the log has no time; then nothing falls due.

        Raises:
            ValueError: if `now` is no time in Unix seconds; the event is not taken in then.
            TypeError: if `event` is none: parse the payload first.
        """
        known = self._known
        trait = EVENT_RULES[type(event)]
        if now is not None:
            known.advance(now)
        known.number = known.number + 1 if number is None else number
        if event.webhook_id is not None and self._is_repeat(event):
            outcome = self._repeated(event)
        else:
            outcome = _RULES[trait.subject](self, event, trait, now)
        self.counts[outcome.kind] += 1
        if outcome.session is None:
            outcome.anomalies += event.anomalies
        if known.leaving:
            outcome.departed = known.take_leaving()
        return outcome

    def skip(self) -> None:
        """Let an event's number pass that cannot be read any more, so that those after it keep theirs."""
        self._known.number += 1

    def advance(self, now: float) -> tuple[Session | Unmatched, ...]:
        """Let time pass without an event; return what left memory. Limits are not applied: see `passed`."""
        self._known.advance(now)
        return self._known.take_leaving()

    def retire(self) -> tuple[Session | Unmatched, ...]:
        """Let every ended session leave now, as if its retention had passed: at the end of a log."""
        self._known.retire(self._known.registry.ended.trim(0))
        return self._known.take_leaving()

    # --- duplicates -----------------------------------------------------------------------------------------------

    def _is_repeat(self, event: Event) -> bool:
        """Tell whether this webhook was seen, and remember it."""
        keys, key = self._known.keys, _key(event)
        if key in keys:
            return True
        keys.put(key, True, self._known.now)
        keys.trim()
        return False

    def _repeated(self, event: Event) -> Outcome:
        session_id = event.session_id or self._known.registry.match(event)
        session = self._known.registry.get(session_id) if session_id is not None else None
        if session is not None:
            session.events += 1
            session.duplicates += 1
        return Outcome(DUPLICATE, event, session)

    # --- events of a session --------------------------------------------------------------------------------------

    def _on_session(self, event: Event, trait: EventRules, now: float | None) -> Outcome:
        """A lifecycle event or a warning: it opens its session if need be."""
        known = self._known
        session_id = event.session_id or known.registry.match(event)
        if session_id is None:
            return self._wait_for_name(event, now)
        session = known.registry.get(session_id)
        named = None if session is None else session.sip_call_id
        if session is None:
            outcome = self._open(session_id, event, trait, now)
        else:
            outcome = self._step(session, event, trait, now)
        if (outcome.opened and known.early.shelf) or known.unmatched.shelf:
            self._recall(outcome, named)
        return outcome

    def _on_attached(self, event: Event, trait: EventRules, now: float | None) -> Outcome:
        """Something that befell a session; if that is not known yet, it waits for it."""
        session_id = event.session_id
        if session_id is None:
            return self._wait_for_name(event, now)
        session = self._known.registry.get(session_id)
        if session is not None:
            return self._step(session, event, trait, now)
        if not trait.conditional:
            self._known.early.park(self._known.number, event, session_id, now, self._known.now)
        return Outcome(NOTED, event, None)

    def _wait_for_name(self, event: Event, now: float | None) -> Outcome:
        known = self._known
        known.give_up(known.unmatched.park(known.number, event, event.sip_call_id, now, known.now))
        return Outcome(UNMATCHED, event, None)

    def _open(self, session_id: str, event: Event, trait: EventRules, now: float | None) -> Outcome:
        """Open a session in idle, and apply the event that opened it."""
        assert trait.direction is not None  # noqa: S101 - every event that opens a session tells its direction
        session = Session(session_id, trait.direction, self._known.number)
        self._known.registry.live[session_id] = session
        outcome = self._step(session, event, trait, now)
        outcome.opened = True
        if session.state is IDLE:  # most move on at once, to a state with limits of its own
            self._known.patience.entered(session, self._known.now)
        return outcome

    def _step(self, session: Session, event: Event, trait: EventRules, now: float | None) -> Outcome:
        """Apply an event to its session: say what it is to it, then do what follows."""
        odd_before = session.anomalies
        session.events += 1
        if trait.direction is not None and trait.direction is not session.direction:
            kind = self._judge_stranger(session, trait)
            outcome = Outcome(kind, event, session)
        else:
            kind, target = self._judge(session, event, trait)
            outcome = Outcome(kind, event, session)
            self._apply(outcome, session, event, trait, target, now)
        if kind is not MOVED and kind is not NOTED:
            _count_odd(session, kind)
        if session.anomalies is not odd_before:
            outcome.anomalies = session.anomalies[len(odd_before) :]
        return outcome

    def _judge(self, session: Session, event: Event, trait: EventRules) -> tuple[OutcomeKind, State | None]:
        """Say what the event is to its session, and where it leads; nothing of it is recorded yet."""
        if session.seen & trait.once:
            return DUPLICATE, None
        if trait.conditional:
            return self._judge_limit(session, event, trait)
        target = trait.moves[session.direction].get(session.state)
        if target is not None:
            return MOVED, target
        if session.ended:
            return (NOTED if trait.lasting else LATE), None
        if trait.once and trait.kind is not None and trait.kind.rank < RANK[session.state]:
            return LATE, None
        return NOTED, None

    def _judge_limit(self, session: Session, event: Event, trait: EventRules) -> tuple[OutcomeKind, State | None]:
        """A limit passed, or somebody was asked: what was heard at the same instant or since wins over both."""
        if isinstance(event, DeadlinePassed):
            stale, ends = not self._known.patience.is_due(event), event.deadline in SILENCES
        else:
            assert isinstance(event, PresenceChecked)  # noqa: S101
            ends = event.presence is Presence.GONE
            stale = ends and not self._known.patience.awaits(session)
        if stale:
            return LATE, None
        target = MOVES[session.direction][session.state].get(SILENCE_PASSED if ends else trait.name)
        if target is not None:
            return MOVED, target
        return (LATE if session.ended and not trait.lasting else NOTED), None

    def _judge_stranger(self, session: Session, trait: EventRules) -> OutcomeKind:
        """An event of the other direction; told twice, it is a duplicate all the same. It says nothing of this session."""
        if trait.kind is not None:
            if trait.name in session.wrong_kinds:
                return DUPLICATE
            session.wrong_kinds += (trait.name,)
        session.note_anomaly(f"{trait.name} came for a {session.direction} session")
        return UNEXPECTED

    def _apply(  # noqa: PLR0917 - by name they would cost each event more than the parking they serve
        self,
        outcome: Outcome,
        session: Session,
        event: Event,
        trait: EventRules,
        target: State | None,
        received_at: float | None,
        parked: bool = False,
    ) -> None:
        """Record what the event says, and let the session rise.

        What is late is recorded too, and what a second observer repeats: a webhook knows the room and the time, a
        client the SIP Call-ID, of the same session.
        """
        known, said = self._known, event.__dict__
        named, occurred_at = session.sip_call_id, said["occurred_at"]
        at = received_at if occurred_at is None else occurred_at
        session.record(said, trait.kind, trait.facts, at if trait.timed else None)
        if event.__pydantic_extra__ or trait.takes_odd:
            for text in event.anomalies:
                session.note_anomaly(f"{trait.name}: {text}")
        if session.sip_call_id is not named:
            known.registry.index_sip_call(session)
        if trait.effect is not None:
            trait.effect(known, session, event)
        if target is not None:
            self._rise(outcome, session, event, trait, target, parked)
        if session.state is IDLE and session.seen & Evidence.REQUESTED:
            # Until it moves, its destination is a way to it.
            known.registry.await_news(session)
        if not trait.local and (outcome.kind is MOVED or outcome.kind is NOTED):
            # Daily has news of the session. Somebody's leaving is news, but no sign that the call goes on.
            session.uncertain = False
            session.heard_at = known.clock
            if trait.alive:
                session.alive_at = known.clock if occurred_at is None else occurred_at
                if outcome.kind is NOTED and not session.ended:  # where it moved, its limits have just begun
                    known.patience.heard(session, known.now)

    def _rise(  # noqa: PLR0917
        self, outcome: Outcome, session: Session, event: Event, trait: EventRules, target: State, parked: bool
    ) -> None:
        """Let the session rise, and do what follows from where it arrives."""
        known, name = self._known, trait.name
        if trait.conditional:
            name = SILENCE_PASSED
            session.seen |= Evidence.EXPIRED
            session.mark_time("ended_at", event.due_at if isinstance(event, DeadlinePassed) else known.now)
        source, ended_before = session.state, session.ended
        if source is IDLE:
            known.registry.heard(session)
        outcome.moves += (session.rise(target, name, parked),)
        if not ended_before:
            known.patience.entered(session, known.now, source)
            if session.ended:
                outcome.ended = True
                self._end(session)

    def _end(self, session: Session) -> None:
        """Keep an ended session for its retention; where there is no time, until enough others have ended."""
        known = self._known
        known.endpoints.leave(session, known.now)
        known.registry.end(session, known.now)
        limit = known.settings.retain_untimed if known.clock is None else known.settings.max_ended
        if len(known.registry.ended) > limit:
            known.retire(known.registry.ended.trim(limit))

    # --- events that waited ---------------------------------------------------------------------------------------

    def _recall(self, outcome: Outcome, named: str | None) -> None:
        """Apply what waited for the session's id, or for its SIP Call-ID if it is new and means it alone, as it came."""
        session, known = outcome.session, self._known
        assert session is not None  # noqa: S101

        def is_its(event: Event) -> bool:
            return event.direction in (None, session.direction) and known.registry.match(event) == session.session_id

        waited = known.early.claim(session.session_id, lambda _: True) if outcome.opened else []
        if session.sip_call_id is not None and session.sip_call_id != named:
            waited += known.unmatched.claim(session.sip_call_id, is_its)
        for parked in sorted(waited, key=lambda parked: parked.number):
            self._apply_parked(session, outcome, parked)

    def _apply_parked(self, session: Session, outcome: Outcome, parked: Parked) -> None:
        """Give a session what waited for it: its effect, but no outcome of its own, for it had one when it came."""
        event = parked.event()
        trait = EVENT_RULES[type(event)]
        session.events += 1
        if trait.direction is not None and trait.direction is not session.direction:
            self._judge_stranger(session, trait)
            return
        _, target = self._judge(session, event, trait)
        self._apply(outcome, session, event, trait, target, parked.received_at, parked=True)

    # --- events of no session -------------------------------------------------------------------------------------

    def _on_endpoint(self, event: DialinReady, trait: EventRules, now: float | None) -> Outcome:
        self._known.endpoints.set_ready(event.sip_endpoint, scope_of(event), self._known.now)
        return self._on_other(event, trait, now)

    def _on_caller(self, event: Event, trait: EventRules, now: float | None) -> Outcome:
        endpoints = self._known.endpoints
        if isinstance(event, PinlessDialin):
            endpoints.wait(event, self._known.number, self._known.now)
        elif isinstance(event, PinlessForwarded):
            self._forward(event)
        return self._on_other(event, trait, now)

    def _forward(self, event: PinlessForwarded) -> None:
        """He is on the way. Daily's answer and the connection race: who connected there while he waited is he.

        Daily forwards to a free endpoint only, so whoever is on it since before his call can only be one whose end was lost.
        """
        known = self._known
        waiting = known.endpoints.callers.find(event.call_id)
        there = known.registry.get(known.endpoints.forward(event.call_id, event.sip_endpoint, known.now) or "")
        if waiting is None or there is None or there.pinless_call_id is not None:
            return
        if there.opened > waiting.get("number", there.opened):
            known.endpoints.arrive(event.call_id, event.sip_endpoint)
            there.caller, there.pinless_call_id = waiting["from"], waiting["call_id"]

    def _on_room(self, event: MeetingEnded, trait: EventRules, now: float | None) -> Outcome:
        """A meeting ended, and with it all its calls: whatever was not heard of since is given a minute to say so."""
        if event.room is not None:
            self._known.endpoints.close_room(event.room, event.domain_id)
        for session in self._known.registry.live.values():
            if _was_in(session, event):
                self._known.patience.meeting_ended(session, self._known.now)
        return self._on_other(event, trait, now)

    def _on_source(self, event: SourceGap, trait: EventRules, now: float | None) -> Outcome:
        """Events may have been missed: of the sessions concerned nothing is certain until they are heard of again."""
        for session in self._known.registry.live.values():
            if event.room in (None, session.room) and event.call_client_id in (None, session.call_client_id):
                session.uncertain = True
        return self._on_other(event, trait, now)

    def _on_settings(self, event: SettingsChanged, trait: EventRules, now: float | None) -> Outcome:
        outcome = self._on_other(event, trait, now)
        try:
            self._known.change(Settings.model_validate(event.settings))
        except ValidationError as error:
            outcome.anomalies = (f"settings that make no sense were not taken: {error.error_count()} errors",)
        return outcome

    def _on_other(self, event: Event, trait: EventRules, now: float | None) -> Outcome:  # noqa: ARG002 - all rules take the same
        return Outcome(NOTED, event, None)

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Write all of it down as JSON values, but for the programs' own `context`."""
        counts = {str(kind): count for kind, count in self.counts.items()}
        return {"version": _SNAPSHOT_VERSION, "counts": counts, **self._known.dump()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Engine:
        """Make an engine that answers as the one that wrote `snapshot`.

        Raises:
            TelstateError: if it is none, is damaged, or another telstate wrote it.
        """
        try:
            version = snapshot["version"]
        except (KeyError, TypeError):
            version = None
        if version != _SNAPSHOT_VERSION:
            raise TelstateError(
                f"expected a snapshot of version {_SNAPSHOT_VERSION}, got {version!r}: read it with the telstate that wrote it"
            )
        engine = cls()
        try:
            engine._known = EngineState.load(dict(snapshot))
            engine.counts = {kind: snapshot["counts"][kind] for kind in OutcomeKind}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TelstateError(
                f"the snapshot is damaged ({error!r}): restore an older one, or replay the journal"
            ) from error
        return engine


def _count_odd(session: Session, kind: OutcomeKind) -> None:
    if kind is DUPLICATE:
        session.duplicates += 1
    elif kind is UNEXPECTED:
        session.unexpected += 1
    else:
        session.late += 1


def _key(event: Event) -> str:
    """What makes a webhook the same as another. Daily reuses the ids of some: then more must agree."""
    key = f"{event.action} {event.webhook_id}"
    if type(event) is DialinReady:  # the id has only the second: two endpoints ready in one second share it
        key = f"{key} {event.sip_endpoint}"
    elif type(event) is DialinWarning or type(event) is DialoutWarning:  # one id for all warnings of a session
        key = f"{key} {event.occurred_at} {event.error_msg}"
    return key if len(key) < _LONG_KEY else blake2b(key.encode("utf-8", "replace")).hexdigest()


def _was_in(session: Session, ended: MeetingEnded) -> bool:
    """Tell whether a session was in the meeting that ended. The end may be told late, when the room has new calls, but
    those were heard of after it."""
    return (
        ended.room is not None
        and session.room == ended.room
        and (None in (session.domain_id, ended.domain_id) or session.domain_id == ended.domain_id)
        and ended.occurred_at is not None
        and (session.alive_at or 0.0) <= ended.occurred_at
    )


_RULES: Mapping[Subject, Callable[[Engine, Any, EventRules, float | None], Outcome]] = {
    Subject.SESSION: Engine._on_session,
    Subject.ATTACHED: Engine._on_attached,
    Subject.PARTICIPANT: Engine._on_attached,
    Subject.ENDPOINT: Engine._on_endpoint,
    Subject.CALLER: Engine._on_caller,
    Subject.ROOM: Engine._on_room,
    Subject.SOURCE: Engine._on_source,
    Subject.SETTINGS: Engine._on_settings,
    Subject.UNKNOWN: Engine._on_other,
}
