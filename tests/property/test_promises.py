"""The promises of the pure core, each over histories drawn by Hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telstate import (
    Caller,
    Cause,
    Dialect,
    Engine,
    Event,
    Outcome,
    OutcomeKind,
    Session,
    Settings,
    State,
    Unmatched,
    parse,
)
from telstate.calls._table import RANK, TERMINAL
from telstate.testing import SimulatedCall, simulate
from tests.property.histories import FEW, any_events, calls, reports, shuffled


def final_states(engine: Engine) -> dict[str, tuple[State, Cause | None]]:
    """Return state and cause of all sessions of an engine."""
    return {session.session_id: (session.state, session.cause) for session in engine.sessions()}


def final_transfers(engine: Engine) -> dict[str, tuple[object, ...]]:
    """Return what became of the transfers of all sessions of an engine."""
    return {s.session_id: (s.cause, s.transferred_to, s.transfers) for s in engine.sessions()}


def run(events: list[Event], now: list[float | None] | None = None) -> Engine:
    """Feed events to a new engine."""
    engine = Engine()
    for event, at in zip(events, now or [None] * len(events), strict=True):
        engine.receive(event, at)
    return engine


# --- 1: convergence -----------------------------------------------------------------------------------------------


@given(st.data())
def test_1_any_order_and_repetition_converges(data: st.DataObject) -> None:
    """Several calls, interleaved, in all dialects: the same states and causes."""
    histories = [
        data.draw(reports(call))
        for call in data.draw(st.lists(calls(), min_size=1, max_size=3, unique_by=lambda call: call.session_id))
    ]
    in_order = [event for events in histories for event in events]
    expected = final_states(run(in_order))
    for _ in range(2):
        assert final_states(run(data.draw(shuffled(in_order)))) == expected


@given(st.data())
def test_1_events_within_retention_converge(data: st.DataObject) -> None:
    """However late, up to two hours. Each record keeps the time of its receipt."""
    events = data.draw(reports(data.draw(calls())))
    times = data.draw(st.lists(st.floats(0, 7199), min_size=len(events), max_size=len(events)))
    records = [(event, 1_790_000_000.0 + at) for event, at in zip(events, times, strict=True)]
    expected = run(*columns(records))
    again = run(*columns(data.draw(shuffled(records))))
    assert final_states(again) == final_states(expected)
    assert final_transfers(again) == final_transfers(expected)


def columns(records: list[tuple[Event, float]]) -> tuple[list[Event], list[float | None]]:
    """Return the events and the times of records."""
    return [event for event, _ in records], [at for _, at in records]


def oracle(call: SimulatedCall, names: set[str]) -> tuple[State, Cause | None]:
    """Return what a perfect observer of these events knows: a second, different implementation as an oracle."""
    if f"{call.direction}-error" in names:
        return State.ERROR, Cause.FAILED
    transferred = any(name.startswith("calltransfer") for name in names)
    answered = bool(
        names & {"dialout-answered", "dialin-connected"}
        or (call.direction == "dialin" and "participant-joined" in names)
    )
    if f"{call.direction}-stopped" in names:
        done = Cause.COMPLETED if answered else Cause.UNANSWERED
        return State.STOPPED, Cause.TRANSFERRED if transferred else done
    if "dialout-answered" in names or (call.direction == "dialin" and "participant-joined" in names):
        return State.ANSWERED, None
    if f"{call.direction}-connected" in names:
        return State.CONNECTED, None
    return State.IDLE, None


@given(st.integers(0, 2**32), st.sampled_from(list(Dialect)))
def test_1_simulated_calls_end_as_their_scripts_say(seed: int, dialect: Dialect) -> None:
    """Without losses every session ends as it did, as far as its dialect reports it."""
    engine = Engine()
    truth: dict[str, SimulatedCall] = {}
    reported: dict[str, set[str]] = {}
    for sent in simulate(seed, calls=8, dialects=[dialect], span=600.0):
        event = parse(sent.payload)
        engine.receive(event, sent.at)
        if event.session_id is not None:
            truth[event.session_id] = sent.call
            reported.setdefault(event.session_id, set()).add(event.name)
    for session in engine.sessions():
        call = truth[session.session_id]
        assert (session.state, session.cause) == oracle(call, reported[session.session_id])
        if dialect is Dialect.WEBHOOK:
            assert (session.state, session.cause) == (call.state, call.cause)
    assert len(list(engine.sessions())) == 8


# --- 2, 3, 5 and 8: one machine that does everything to an engine ---------------------------------------------------


class EngineMachine(RuleBasedStateMachine):
    """Events of all types and times of all kinds, limits applied or not, and sometimes a copy from a snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(Settings(ring_deadline=30, setup_deadline=10, media_deadline=20, **FEW))
        self.copy: Engine | None = None
        self.departed: list[Session | Unmatched | Caller] = []
        self.highest: dict[int, State] = {}
        self.ended: set[int] = set()

    def receive(self, event: Event, now: float | None) -> None:
        """Receive an event, and check that the copy answers the same."""
        outcome = self.engine.receive(event, now)
        self.check(outcome)
        if self.copy is not None:
            assert as_values(self.copy.receive(event, now)) == as_values(outcome)

    def check(self, outcome: Outcome) -> None:
        """Promise 2: states never fall, a session ends once, moved means moved."""
        assert outcome.kind is not OutcomeKind.MOVED or outcome.moves
        for move in outcome.moves:
            assert RANK[move.target] > RANK[move.source]
            assert move.source not in TERMINAL or (move.source, move.target) == (State.STOPPED, State.ERROR)
        session = outcome.session
        assert (session is None) <= (not outcome.moves and not outcome.opened and not outcome.ended)
        if session is not None:
            before = self.highest.get(id(session), State.IDLE)
            assert RANK[session.state] >= RANK[before]
            self.highest[id(session)] = session.state
            assert outcome.ended == (session.ended and id(session) not in self.ended)
            if session.ended:
                self.ended.add(id(session))
                self.departed.append(session)  # keep a reference: ids of objects are reused
        self.departed += outcome.departed

    @rule(event=any_events(), now=st.none() | st.floats(0, 20_000))
    def any_event(self, event: Event, now: float | None) -> None:
        """Receive any event."""
        note(f"{event.name}")
        self.receive(event, now)

    @rule(ahead=st.sampled_from([0.0, 5.0, 30.0, 600.0, 7200.0, 90_000.0]))
    def time_passes(self, ahead: float) -> None:
        """Receive the limits that passed, as a dispatcher does."""
        now = (self.engine.now or 0.0) + ahead
        for limit in self.engine.passed(now):
            self.receive(limit, now)
        self.departed += self.engine.advance(now)
        if self.copy is not None:
            self.copy.advance(now)
        assert self.engine.passed(now) == []
        due = self.engine.next_deadline()
        assert due is None or due > now or self.engine.now is None

    @rule()
    def snapshot(self) -> None:
        """Promise 5: an engine that is restored from JSON answers as the original from now on."""
        self.copy = Engine.restore(json.loads(json.dumps(self.engine.snapshot())))

    @precondition(lambda self: self.copy is not None)
    @rule()
    def compare(self) -> None:
        """Compare all answers, not only the outcomes."""
        assert self.copy is not None
        assert json.dumps(self.copy.snapshot()) == json.dumps(self.engine.snapshot())
        assert [s.to_dict() for s in self.copy.sessions()] == [s.to_dict() for s in self.engine.sessions()]
        assert self.copy.sizes() == self.engine.sizes()
        assert self.copy.next_deadline() == self.engine.next_deadline()
        for name in "abcd":
            assert [s.session_id for s in self.copy.legs(name)] == [s.session_id for s in self.engine.legs(name)]

    @invariant()
    def counts_add_up(self) -> None:
        """Promise 3: every accepted event has exactly one outcome."""
        assert sum(self.engine.counts.values()) == self.engine.received

    @invariant()
    def bounds_hold(self) -> None:
        """Promise 8: nothing grows without bound."""
        sizes = self.engine.sizes()
        assert sizes["ended"] <= 3
        assert sizes["early"] <= 5
        assert sizes["unmatched"] <= 5

    def teardown(self) -> None:
        """Promise 7: nothing is left when all calls have ended."""
        now = (self.engine.now or 0.0) + 1.0
        self.engine.advance(now)  # what had no time is counted from here
        for session in self.engine.live():
            self.receive_stop(session, now)
        for limit in self.engine.passed(now + self.engine.settings.hold_limit):
            self.engine.receive(limit, now)
        self.engine.advance(now + max(self.engine.settings.retention, self.engine.settings.intent_ttl))
        sizes = self.engine.sizes()
        assert set(sizes.values()) == {0}, sizes

    def receive_stop(self, session: Session, now: float) -> None:
        """End a session."""
        self.engine.receive(parse({"action": f"{session.direction}-stopped", "sessionId": session.session_id}), now)


TestEngine = EngineMachine.TestCase


def as_values(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    return {
        "kind": outcome.kind,
        "session": outcome.session and outcome.session.to_dict(),
        "flags": (outcome.opened, outcome.ended),
        "moves": outcome.moves,
        "anomalies": outcome.anomalies,
        "departed": [
            gone.event.to_json() if isinstance(gone, Unmatched) else gone.to_dict() for gone in outcome.departed
        ],
    }
