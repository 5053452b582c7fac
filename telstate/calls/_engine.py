"""The engine: one event in, one outcome out, and everything that is known of every call.

It is a function of (state so far, event, now) in the shape of an object: no I/O, no clock, no async, no randomness. The same
code runs live, in replay, in recovery after a crash and in tests, and gives the same answers.

How to drive it:

    engine = Engine()
    outcome = engine.receive(event, now)      # for each event, in order; now is Unix seconds, or None if unknown
    for limit in engine.passed(now):          # when engine.next_deadline() has come
        engine.receive(limit, now)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from telstate.calls._arrivals import place, replace_endpoint
from telstate.calls._caller import Caller
from telstate.calls._callers import Callers
from telstate.calls._endings import (
    ending_of,
    forget_told,
    give_shared_signs,
    holds_sign,
    note_amended,
    note_untold,
    review_end,
)
from telstate.calls._endpoints import Endpoint
from telstate.calls._engine_state import EngineState
from telstate.calls._event_rules import END_VERDICTS, EVENT_RULES, SILENCE_VERDICTS, EventRules, SessionRules, Verdict
from telstate.calls._evidence import Evidence
from telstate.calls._intents import Intent
from telstate.calls._other_events import OTHER_EVENTS, apply_to_no_session
from telstate.calls._outcome import Outcome, OutcomeKind, Unmatched
from telstate.calls._parked_events import ParkedEvent
from telstate.calls._recorder import AMENDED, FACTS, note_anomaly, rise, set_rare
from telstate.calls._requested_actions import RequestedAction
from telstate.calls._session import Session, rare
from telstate.calls._settings import Settings
from telstate.calls._table import END_INFERRED, IDLE, SILENCE_PASSED, STOPPED, State
from telstate.calls._timers import END, OLD_END, SILENCE, Limit
from telstate.calls._updates import take_notes_ahead
from telstate.calls._webhook_delivery import key_of, received_or_sent
from telstate.errors import TelstateError
from telstate.events import (
    DeadlinePassed,
    Dialect,
    Event,
    Presence,
    PresenceChecked,
    SessionsLinked,
)
from telstate.events._base import Subject
from telstate.events._sessionless import WaitingCaller

__all__ = ["Engine"]

MOVED, NOTED, DUPLICATE, LATE, UNEXPECTED, UNMATCHED = OutcomeKind

_COUNTED_AS = {DUPLICATE: "duplicates", LATE: "late", UNEXPECTED: "unexpected"}
"""The field of the session that counts its events with this outcome."""

_SNAPSHOT_VERSION = 5

_DAILY_JS = Dialect.DAILY_JS
_TOLD_BY: Mapping[str | None, int] = {
    Dialect.DAILY_JS: Evidence.BY_DAILY_JS,
    Dialect.WEBHOOK: Evidence.BY_WEBHOOK,
    Dialect.DAILY_PYTHON: Evidence.BY_DAILY_PYTHON,
}


class Engine:
    """Everything that is known of every call.

    Args:
        settings: how long and how much it remembers, and its limits.
    """

    counts: dict[OutcomeKind, int]
    """How many events had which outcome. Their sum is `received`."""

    def __init__(self, settings: Settings | None = None) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"settings: expected telstate.Settings(…), got {type(settings).__name__}")
        self._state = EngineState(settings or Settings())
        self.counts = dict.fromkeys(OutcomeKind, 0)

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """How long and how much it remembers, and its limits."""
        return self._state.settings

    @property
    def now(self) -> float | None:
        """The latest time it was given, in Unix seconds; None before any."""
        return self._state.clock

    @property
    def received(self) -> int:
        """How many events it received."""
        return sum(self.counts.values())

    def session(self, session_id: str) -> Session | None:
        """Find a session: live, or ended and within retention."""
        return self._state.registry.get(session_id)

    def sessions(self) -> Iterator[Session]:
        """Iterate over all known sessions, in order of first sight."""
        return self._state.registry.all()

    def live(self) -> list[Session]:
        """List all sessions that have not ended, in order of first sight."""
        return list(self._state.registry.live.values())

    def legs(self, any_id: str) -> list[Session]:
        """List all legs of a call, in order of first sight. Give the session id of one of them, or their SIP Call-ID."""
        return self._state.registry.legs(any_id)

    def record(self, session: Session) -> dict[str, Any]:
        """Return the record of a session: `session.to_dict()` with the other legs of its call."""
        return session.to_dict(legs=[leg.session_id for leg in self._state.registry.other_legs(session)])

    def declared_legs(self, session_id: str) -> list[str]:
        """List the ids of the sessions that were declared to be legs of one call with a session."""
        return self._state.registry.declared(session_id)

    def take_relinked(self) -> list[str]:
        """Return the ids of the transferred sessions of which another session is the far leg since the last call."""
        relinked = self._state.far_legs.relinked
        if not relinked:
            return []
        taken = list(relinked)
        relinked.clear()
        return taken

    def awaited_links(self) -> list[SessionsLinked]:
        """List the links that the program declared and that wait for a session not yet known."""
        links = (event for event in self._state.early.events() if isinstance(event, SessionsLinked))
        return [link for link in links if not link.derived and not link.elsewhere]

    def dialins_of(self, room: str) -> list[str]:
        """List the ids of the dial-ins of a room, also of ended ones."""
        return self._state.rooms.dialins_of(room)

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint, with or without `sip:` and query."""
        return self._state.endpoints.find(uri)

    def endpoints(self) -> list[Endpoint]:
        """List all known SIP endpoints."""
        return self._state.endpoints.all()

    def request(self, request_id: str) -> RequestedAction | None:
        """Find what another partition asked for, within its time to live."""
        return self._state.requests.find(request_id)

    def answered_requests(self) -> list[str]:
        """List the ids of what other partitions asked for that was answered, within its time to live."""
        return [one for one, (_, request) in self._state.requests.items() if request.is_answered]

    def intent(self, name: str) -> Intent | None:
        """Find what is known of a dialer's intent, within its time to live."""
        return self._state.intents.find(name)

    def intents(self) -> list[str]:
        """List the names of all known intents."""
        return list(self._state.intents)

    def waiting(self) -> list[Caller]:
        """List the callers on hold, also those that were forwarded and are not connected yet, in order of first sight."""
        return self._state.callers.waiting()

    def unconnected(self) -> list[Caller]:
        """List all known callers on hold that got to no session, also those that are lost, in order of first sight."""
        return self._state.callers.unconnected()

    def caller(self, call_id: str) -> Caller | None:
        """Find a caller by the id of the waiting call: on hold, or connected or lost and within retention."""
        return self._state.callers.find(call_id)

    def caller_of(self, event: WaitingCaller) -> Caller | None:
        """Find the caller of an event, as `caller`: the event of a trunk may have no call id."""
        return self._state.callers.of(event)

    def unmatched(self) -> list[Unmatched]:
        """List the parked events that no session could be matched to yet."""
        return self._state.unmatched.unmatched()

    def sizes(self) -> dict[str, int]:
        """Count what is remembered. When all calls have ended and retention has passed, every number is zero."""
        return self._state.sizes()

    def known_numbers(self) -> list[int]:
        """List the numbers of the events that opened what is known: sessions, callers on hold, parked events."""
        return self._state.numbers()

    def next_deadline(self) -> float | None:
        """Return when to call `passed` for limits and `advance` for what is to be forgotten, if no event arrives before.

        None before any time was given, because nothing can be due then.
        """
        if self._state.clock is None:
            return None
        dues = (self._state.next_due(), self._state.timers.next_due(), self._state.callers.next_due())
        return min((due for due in dues if due is not None), default=None)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Return the limits that passed, as events: journal them, then `receive` them like all others.

        If an event of the session is received first, it restarts the limit, which is then late and does nothing.
        """
        if self._state.clock is None:
            return []
        limits = self._state.timers.passed(now)
        if of_callers := self._state.callers.passed(now):
            limits = sorted([*limits, *of_callers], key=lambda limit: limit.due_at)
        return limits

    # --- steps ----------------------------------------------------------------------------------------------------

    def receive(
        self,
        event: Event,
        now: float | None = None,
        number: int | None = None,
        dialect: Dialect | str | None = None,
    ) -> Outcome:
        """Take in one event.

        Args:
            event: what happened.
            now: when it was received, in Unix seconds. If it is less than before, the earlier time holds. None if the log has
                no times; then nothing is ever due.
            number: the number of the event in its journal; by default the previous number plus one.
            dialect: the dialect that the event came in; None if unknown. It tells the observers of a session apart: our own leaving
                ends the sessions that nobody else reports.

        Raises:
            ValueError: if `now` is not a time in Unix seconds, or if `number` does not rise; the event is not taken in then.
            TypeError: if `event` is not an event: parse the payload first.
        """
        state = self._state
        rules = EVENT_RULES[type(event)]
        if number is None:
            number = state.number + 1
        elif number <= state.number:
            raise ValueError(f"number: expected more than {state.number}, the number of the event before, got {number}")
        if now is not None:
            state.advance(now)
        state.number = number
        fields = event.__dict__  # pydantic makes every attribute slow
        if fields["webhook_id"] is not None:
            state.told_by, is_repeated = Evidence.BY_WEBHOOK, self._is_repeated(event, fields)
        else:
            is_repeated = False
            state.told_by = Evidence.BY_DAILY_JS if dialect is _DAILY_JS else _TOLD_BY.get(dialect, Evidence.BY_OTHERS)
        outcome = self._on_repeated(event, now) if is_repeated else _BY_SUBJECT[rules.subject](self, event, rules, now)
        self.counts[outcome.kind] += 1
        if outcome.session is None:
            outcome.anomalies += event.anomalies
        if state.departed:
            outcome.departed = state.take_departed()
        if state.changed:
            outcome.changed = state.take_changed()
        return outcome

    def advance(self, now: float) -> tuple[Session | Unmatched | Caller, ...]:
        """Let time pass without an event; return what left memory. Limits are not applied: see `passed`."""
        self._state.advance(now)
        return self._state.take_departed()

    @property
    def _grace(self) -> Limit:
        """The limit of the sessions with a sign of their end."""
        return self._state.timers.grace

    @property
    def _callers(self) -> Callers:
        """The callers on hold."""
        return self._state.callers

    def ends_due(self, now: float | None) -> list[DeadlinePassed]:
        """Return the limits of signs of an end that are due at `now`, as `passed` does of all limits.

        None is for the end of a log without timers: then all signs count, and callers whose hold limit passed in its own time are lost.
        """
        limits = self._state.timers.ends_due(now)
        return limits if now is not None else [*limits, *self._state.callers.overdue(self._state.clock)]

    def infer_ends(self, now: float | None) -> list[Outcome]:
        """End the sessions of `ends_due`, and return the outcomes. Callers who are lost have none: ask for `unconnected`.

        The log does not have these ends, so they do not count as received.
        """
        outcomes = []
        for limit in self.ends_due(now):
            if limit.call_id is not None:
                self._state.callers.pass_limit(limit, limit.call_id)
                continue
            session = self._state.registry.live[limit.session_id or ""]
            rules = EVENT_RULES[DeadlinePassed].by_direction[session.direction]
            outcome = Outcome(MOVED, limit, session)
            self._rise(outcome, session, limit, rules, STOPPED, parked=False)
            outcome.departed, outcome.changed = self._state.take_departed(), self._state.take_changed()
            outcomes.append(outcome)
        return outcomes

    def retire(self) -> tuple[Session | Unmatched | Caller, ...]:
        """Remove all ended sessions and lost callers now, as if their retention had passed, and return them: at the end of a log."""
        self._state.retire(self._state.registry.ended.leaving(keep=0))
        self._state.departed += self._state.callers.retire()
        return self._state.take_departed()

    # --- duplicates -----------------------------------------------------------------------------------------------

    def _is_repeated(self, event: Event, fields: Mapping[str, Any]) -> bool:
        """Return whether this webhook was received before, and remember it."""
        keys, key = self._state.keys, key_of(event, fields)
        if key in keys:
            return True
        keys.add(key, True, self._state.now)
        if keys.limit is not None and len(keys) > keys.limit:
            keys.trim()
        return False

    def _on_repeated(self, event: Event, now: float | None) -> Outcome:
        state = self._state
        if isinstance(event, WaitingCaller) and state.callers.of(event) is not None:
            # Pipecat's runner may know the number, and the webhook not.
            state.callers.hold(event, state.number, now, state.now)
        session_id = event.session_id or self._state.registry.match(event)
        session = self._state.registry.get(session_id) if session_id is not None else None
        if session is not None:
            fields = session.__dict__
            fields["events"] += 1
            fields["duplicates"] += 1
        return Outcome(DUPLICATE, event, session)

    # --- events of a session --------------------------------------------------------------------------------------

    def _on_session(self, event: Event, rules: EventRules, now: float | None) -> Outcome:
        """Apply a lifecycle event or a warning. It opens its session if necessary."""
        state = self._state
        session_id = event.session_id or state.registry.match(event)
        if session_id is None:
            return self._park_unmatched(event, now)
        session = state.registry.get(session_id)
        sip_call_id = None if session is None else session.sip_call_id
        if session is None:
            outcome = self._open(session_id, event, rules, now)
        else:
            outcome = self._step(session, event, rules, now)
        if (outcome.opened and state.early.entries) or state.unmatched.entries:
            self._release(outcome, sip_call_id)
        return outcome

    def _on_attached(self, event: Event, rules: EventRules, now: float | None) -> Outcome:
        """Apply an event that opens no session, or park it until its session is known."""
        session_id = event.session_id
        if session_id is None:
            return apply_to_no_session(self._state, event) or self._park_unmatched(event, now)
        session = self._state.registry.get(session_id)
        if session is not None:
            return self._step(session, event, rules, now)
        if isinstance(event, (DeadlinePassed, PresenceChecked)):
            # Its session has left memory, or is in another log.
            return Outcome(LATE, event, None)
        self._state.early.park(self._state.number, event, session_id, now, self._state.now, self._state.told_by)
        return Outcome(NOTED, event, None)

    def _park_unmatched(self, event: Event, now: float | None) -> Outcome:
        state = self._state
        state.give_up(state.unmatched.park(state.number, event, event.sip_call_id, now, state.now, state.told_by))
        return Outcome(UNMATCHED, event, None)

    def _open(self, session_id: str, event: Event, rules: EventRules, now: float | None) -> Outcome:
        """Open a session in idle, and apply the event that opened it."""
        assert rules.direction is not None  # noqa: S101 - every event that opens a session has a direction
        session = Session(session_id, rules.direction, self._state.number)
        self._state.registry.live[session_id] = session
        outcome = self._step(session, event, rules, now)
        outcome.opened = True
        if session.state is IDLE:  # most rise at once, to a state with limits of its own
            self._state.timers.enter(session, self._state.now)
        return outcome

    def _step(self, session: Session, event: Event, rules: EventRules, now: float | None) -> Outcome:
        """Apply an event to its session: judge it, then do what follows."""
        fields, anomalies_before = session.__dict__, session.anomalies
        fields["events"] = session.events + 1
        for_session = rules.by_direction.get(session.direction)
        if for_session is None:
            kind = self._judge_wrong_direction(session, event)
            outcome = Outcome(kind, event, session)
        else:
            kind, target = self._judge(session, event, for_session)
            outcome = Outcome(kind, event, session)
            self._apply(outcome, session, event, for_session, target, now)
        if kind is not MOVED and kind is not NOTED:
            fields[_COUNTED_AS[kind]] += 1
        if session.anomalies is not anomalies_before:
            outcome.anomalies = session.anomalies[len(anomalies_before) :]
        return outcome

    def _judge(self, session: Session, event: Event, rules: SessionRules) -> Verdict:
        """Return what the event is to its session, and where it leads. Nothing is recorded yet."""
        if session._evidence & rules.once:
            return DUPLICATE, None
        if rules.conditional:
            return self._judge_conditional(session, event, rules)
        return rules.verdicts[session.state]

    def _judge_conditional(self, session: Session, event: Event, rules: SessionRules) -> Verdict:
        """Judge a limit that passed, or the answer of a `reconcile`. Any sign of life received before outweighs both."""
        direction, state = session.direction, session.state
        if isinstance(event, PresenceChecked):
            if event.presence is not Presence.GONE:
                return rules.verdicts[state]
            return END_VERDICTS[direction][state] if self._state.timers.awaits_presence(session) else (LATE, None)
        assert isinstance(event, DeadlinePassed)  # noqa: S101
        if event.deadline == OLD_END:  # it was counted from the meeting's end, not from the first sign
            return END_VERDICTS[direction][state] if holds_sign(session) else (LATE, None)
        if not self._state.timers.is_due(event):
            return LATE, None
        if event.deadline == SILENCE:
            return SILENCE_VERDICTS[direction][state]
        if event.deadline == END:
            return END_VERDICTS[direction][state] if holds_sign(session) else (LATE, None)
        return rules.verdicts[state]

    def _judge_wrong_direction(self, session: Session, event: Event) -> OutcomeKind:
        """Judge an event of the other direction, which says nothing about this session. A second one is a duplicate."""
        if any(rules.once for rules in EVENT_RULES[type(event)].by_direction.values()):
            seen = rare(session, "wrong_direction") or []
            if event.name in seen:
                return DUPLICATE
            set_rare(session, "wrong_direction", [*seen, event.name])
        note_anomaly(session, f"{event.name} came for a {session.direction} session")
        return UNEXPECTED

    def _apply(  # noqa: PLR0917 - keyword arguments would cost each event more than parked events are worth
        self,
        outcome: Outcome,
        session: Session,
        event: Event,
        rules: SessionRules,
        target: State | None,
        received_at: float | None,
        parked: bool = False,
    ) -> None:
        """Record what the event reports, and let the session rise.

        Late events and duplicates are recorded too: a webhook knows the room and the time of a session, a client its SIP
        Call-ID.
        """
        state, reported = self._state, event.__dict__
        at, by_daily = reported["occurred_at"], True
        if at is None:
            at, by_daily = received_or_sent(received_at, reported["sent_at"]), False
        ending = ending_of(session) if session.ended else None
        evidence = session._evidence
        if rules.names_endpoint and evidence & Evidence.ENDPOINT_DERIVED:
            replace_endpoint(state, session, reported["sip_endpoint"])
        found = rules.recorder.record(session, reported, at, by_daily, 0 if rules.local else state.told_by)
        if found & FACTS:
            state.registry.index_sip_call(session)
            state.far_legs.arrive(session)
            if state.notes_ahead:
                take_notes_ahead(state, session)
            if rules.places:
                place(state, session)
        elif rules.places and state.callers.known:
            state.callers.links.see(session, state.now)
        if found & AMENDED:
            state.changed.append(session)
        if rules.told:
            state.untold.pop(session.session_id, None)
            if session._signs:
                forget_told(session)
        if state.shared_signs and (found & FACTS or evidence != session._evidence or (ending and rules.life)):
            give_shared_signs(state, session)
        extras = event.__pydantic_extra__
        if rules.nested_anomalies or (extras and not rules.known_keys.isdisjoint(extras)):
            for text in event.anomalies:
                note_anomaly(session, f"{rules.name}: {text}")
        if rules.life and at is not None:
            name = "_alive" if by_daily else "_alive_by_receipt"
            known = session.__dict__[name]
            if known is None or at > known:
                session.__dict__[name] = at
        if rules.update is not None:
            state.event_at = at
            rules.update(state, session, event)
        if target is not None:
            self._rise(outcome, session, event, rules, target, parked)
        if session.state is IDLE and session._evidence & Evidence.REQUESTED:
            state.registry.index_request(session)
        if not rules.local and (outcome.kind is MOVED or outcome.kind is NOTED):
            fields = session.__dict__
            if session.uncertain and not holds_sign(session):
                fields["uncertain"] = False
                state.changed.append(session)
            fields["heard_at"] = state.clock
            if (
                rules.life and outcome.kind is NOTED and not session.ended
            ):  # when it moved, its limits have just started
                state.timers.restart_silence(session, state.now)
        if session._signs:
            review_end(state, session)
        if ending is not None:
            note_amended(state, session, ending)
        if state.far_legs.concerned and session.session_id in state.far_legs.concerned:
            state.far_legs.review(session)

    def _rise(  # noqa: PLR0917
        self, outcome: Outcome, session: Session, event: Event, rules: SessionRules, target: State, parked: bool
    ) -> None:
        """Let the session rise, and do what follows from its new state."""
        state, trigger = self._state, rules.name
        if rules.conditional:
            is_silence = isinstance(event, DeadlinePassed) and event.deadline == SILENCE
            trigger = SILENCE_PASSED if is_silence else END_INFERRED
        source, ended_before = session.state, session.ended
        if source is IDLE:
            state.registry.forget_request(session)
        outcome.moves += (rise(session, target, trigger, parked),)
        if not ended_before:
            state.timers.enter(session, state.now, source)
            if session.ended:
                outcome.ended = True
                self._end(session)

    def _end(self, session: Session) -> None:
        """Keep an ended session for its retention; without any time, until enough others have ended."""
        state = self._state
        if session.uncertain:
            vars(session)["uncertain"] = False
            state.changed.append(session)
        if not session._evidence & Evidence.TOLD:
            note_untold(state, session)
        state.endpoints.vacate(session, state.now)
        if session.room is not None:
            state.rooms.end(session.room, state.now)
        state.registry.end(session, state.now)
        if state.far_legs.concerned and session.session_id in state.far_legs.concerned:
            state.far_legs.review(session)
        limit = state.settings.retain_untimed if state.clock is None else state.settings.max_ended
        if len(state.registry.ended) > limit:
            state.retire(state.registry.ended.leaving(keep=limit))

    # --- parked events --------------------------------------------------------------------------------------------

    def _release(self, outcome: Outcome, sip_call_id: str | None) -> None:
        """Apply the events that waited for the session's id, or for its SIP Call-ID if that is new, in order of arrival."""
        session, state = outcome.session, self._state
        assert session is not None  # noqa: S101

        def belongs(event: Event) -> bool:
            return event.direction in (None, session.direction) and state.registry.match(event) == session.session_id

        released = state.early.release(session.session_id, lambda _: True) if outcome.opened else []
        if session.sip_call_id is not None and session.sip_call_id != sip_call_id:
            released += state.unmatched.release(session.sip_call_id, belongs)
        for parked in sorted(released, key=lambda parked: parked.number):
            self._apply_parked(session, outcome, parked)
        if outcome.opened and session.amended:
            vars(session)["amended"] = False  # all of it is one step: no handler was given less

    def _apply_parked(self, session: Session, outcome: Outcome, parked: ParkedEvent) -> None:
        """Apply a parked event. It gets no second outcome: it had one when it arrived."""
        event = parked.event
        vars(session)["events"] += 1
        rules = EVENT_RULES[type(event)].by_direction.get(session.direction)
        if rules is None:
            self._judge_wrong_direction(session, event)
            return
        _, target = self._judge(session, event, rules)
        self._state.told_by = parked.told_by
        self._apply(outcome, session, event, rules, target, parked.received_at, parked=True)

    # --- everything else ------------------------------------------------------------------------------------------

    def _on_other(self, event: Event, rules: EventRules, now: float | None) -> Outcome:
        """Apply an event that is about no session."""
        return OTHER_EVENTS[rules.subject](self._state, event, now)

    def change_settings(self, settings: Settings) -> None:
        """Use other settings from now on, outside the log: for a replay with settings of its own."""
        self._state.change(settings)

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values, except the `context` of sessions."""
        counts = {str(kind): count for kind, count in self.counts.items()}
        return {"version": _SNAPSHOT_VERSION, "counts": counts, **self._state.dump()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Engine:
        """Make an engine that answers as the one that returned `snapshot`.

        Raises:
            TelstateError: if it is not a snapshot, is damaged, or was written by another version of telstate.
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
            engine._state = EngineState.load(dict(snapshot))
            engine.counts = {kind: snapshot["counts"][kind] for kind in OutcomeKind}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TelstateError(
                f"the snapshot is damaged ({error!r}): restore an older one, or replay the journal"
            ) from error
        return engine


_HANDLERS: Mapping[Subject, Callable[[Engine, Any, EventRules, float | None], Outcome]] = {
    **dict.fromkeys(Subject, Engine._on_other),
    Subject.SESSION: Engine._on_session,
    Subject.ATTACHED: Engine._on_attached,
    Subject.PARTICIPANT: Engine._on_attached,
}
_BY_SUBJECT = tuple(_HANDLERS[subject] for subject in Subject)
"""Indexed by a plain integer, which is faster than a dict of enums."""
