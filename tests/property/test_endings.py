"""Promise 1 for ends: any order and any repetition of the same records gives what the model says, and a replay gives the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, Replay, Session, parse
from tests.property.endings import START, Fact, Known, facts, model, payload_of, readies_of
from tests.property.histories import shuffled

Drawn = tuple[list[Fact], dict[str, int]]


def run(records: list[Fact], endpoints: dict[str, int]) -> Engine:
    """Feed facts to an engine, then let every grace pass."""
    engine = Engine()
    for ready in readies_of(endpoints):
        engine.receive(parse(ready), START - 5, dialect="webhook")
    for fact in records:
        engine.receive(
            parse(payload_of(fact)), fact.received_at, dialect="webhook" if fact.by_daily else "daily-python"
        )
    engine.infer_ends(None)
    return engine


def known(session: Session) -> Known:
    """Return what an engine knows of a session, as the model says it."""
    return Known(
        str(session.state),
        session.cause and str(session.cause),
        session.end_source and str(session.end_source),
        session.end_sign and str(session.end_sign),
        None if session.ended_at is None else session.ended_at - START,
        session.talk_s,
        session.ring_s,
    )


def of_engine(engine: Engine) -> dict[str, Known]:
    """Return what an engine knows of all sessions."""
    return {session.session_id: known(session) for session in engine.sessions()}


@given(facts(), st.data())
def test_1_every_order_ends_as_the_model_says(drawn: Drawn, data: st.DataObject) -> None:
    """State, cause, end source, end sign, durations."""
    records, endpoints = drawn
    expected = model(records, endpoints)
    for found in expected.values():
        note(f"{found.source} {found.sign}")
    assert of_engine(run(records, endpoints)) == expected
    assert of_engine(run(data.draw(shuffled(records)), endpoints)) == expected


@given(facts(), st.data())
def test_1_a_told_end_converges_whatever_limits_passed_meanwhile(drawn: Drawn, data: st.DataObject) -> None:
    """Records arrive in any order with hours in between, so graces and silence limits pass."""
    records, endpoints = drawn
    expected = {name: found for name, found in model(records, endpoints).items() if found.source == "told"}
    engine = Engine()
    for ready in readies_of(endpoints):
        engine.receive(parse(ready), START - 5, dialect="webhook")
    now = START
    for fact in data.draw(shuffled(records)):
        now = max(now, fact.received_at)
        engine.receive(
            parse(payload_of(fact)), fact.received_at, dialect="webhook" if fact.by_daily else "daily-python"
        )
        for limit in engine.passed(now + data.draw(st.sampled_from([0.0, 61.0, 700.0]))):
            engine.receive(limit, now)
    assert {name: found for name, found in of_engine(engine).items() if name in expected} == expected


@given(facts())
def test_5_a_replay_of_a_plain_log_ends_sessions_in_the_time_of_the_log(drawn: Drawn) -> None:
    """In the order of the log; a snapshot in between changes nothing; nothing exceeds what was told."""
    records, endpoints = drawn
    lines = [*readies_of(endpoints)]
    ordered = sorted(records, key=lambda fact: fact.received_at)
    replay, live = Replay(), Engine()
    for ready in lines:
        live.receive(parse(ready), START - 5, dialect="webhook")
        replay.feed(_record(START - 5, "webhook", ready))
    for place, fact in enumerate(ordered):
        dialect = "webhook" if fact.by_daily else "daily-python"
        replay.feed(_record(fact.received_at, dialect, payload_of(fact)))
        live.receive(parse(payload_of(fact)), fact.received_at, dialect=dialect)
        for limit in live.ends_due(fact.received_at):
            live.receive(limit, fact.received_at)
        if place == len(ordered) // 2:
            live = Engine.restore(json.loads(json.dumps(live.snapshot())))
    replay.finish()
    for limit in live.ends_due(None):
        live.receive(limit, live.now)
    assert of_engine(replay.engine) == of_engine(live)
    for session in live.sessions():
        own = [fact for fact in records if fact.session == session.session_id or not fact.session]
        times = [fact.at for fact in own] + [fact.since for fact in own if fact.since is not None]
        connected = [fact.at for fact in records if fact.kind == "connected"]  # the next caller's, too
        assert (session.talk_s or 0.0) <= max(times + connected) - min(times) + 0.001


def _record(at: float, dialect: str, payload: dict[str, Any]) -> bytes:
    """Return a line of a log without a header."""
    return json.dumps({"v": 1, "seq": 1, "at": at, "dialect": dialect, "event": None, "payload": payload}).encode()
