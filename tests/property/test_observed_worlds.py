"""Promise 1 for worlds that are seen by observers of all dialects: any order, any repetition, and any restart in between."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, Replay
from telstate.events._parse import parse_line
from tests.property.histories import shuffled
from tests.property.observed_worlds import World

_BY_ORDER = {"legs", "transitions", "events", "duplicates", "late", "unexpected", "anomalies", "amended", "dtmf"}
"""What tells the order of arrival, or counts repetitions. Legs are compared as a set."""
_OF_HOLD = {"caller", "called", "held_s", "pinless_call_id"}

worlds = st.integers(0, 2**32).map(lambda seed: World(Random(seed)))


def record(engine: Engine, session: Any, without: Iterable[str] = _BY_ORDER) -> dict[str, Any]:
    """Return what is known of a session, without what the order decides."""
    known = engine.record(session)
    facts = {name: value for name, value in known.items() if name not in {*without}}
    return {**facts, "transfers": sorted(map(str, known["transfers"])), "legs": sorted(known["legs"])}


def replayed(lines: list[bytes], restart: int | None = None) -> dict[str, Any]:
    """Replay a log in which no limit passes before its end; return what is known then."""
    replay = Replay({"end_grace": 1_000_000})
    for place, line in enumerate(lines):
        if place == restart:
            replay.engine = Engine.restore(json.loads(json.dumps(replay.engine.snapshot())))
        replay.feed(line)
    replay.finish()
    engine = replay.engine
    assert sum(engine.counts.values()) == engine.received == len(lines)
    callers = {caller.call_id: caller.to_dict() for caller in engine.unconnected()}
    return {session.session_id: record(engine, session) for session in engine.sessions()} | callers


@given(worlds, st.data())
def test_1_any_order_gives_the_same_answers(world: World, data: st.DataObject) -> None:
    """States, causes, ends and how they are known, durations, transfers, legs, callers on hold."""
    expected = replayed(world.readies + world.records)
    mixed = world.readies + data.draw(shuffled(world.records))
    assert replayed(mixed, data.draw(st.none() | st.integers(0, len(mixed)))) == expected


@given(worlds, st.data())
def test_1_a_told_end_converges_whatever_limits_passed(world: World, data: st.DataObject) -> None:
    """Graces, silence limits and hold limits pass between the records, at random."""
    found = []
    for records in (world.records, data.draw(shuffled(world.records))):
        rng, engine = Random(data.draw(st.integers(0, 2**32))), Engine()
        for line in world.readies + records:
            event, at, dialect, *_ = parse_line(line)
            assert event is not None
            engine.receive(event, at, dialect=dialect)
            assert engine.now is not None
            for limit in engine.passed(engine.now + rng.choice([0, 0, 61, 601])):
                engine.receive(limit, engine.now)
        told = [session for session in engine.sessions() if session.end_source == "told"]
        found.append({one.session_id: record(engine, one, _BY_ORDER | _OF_HOLD) for one in told})
    assert found[0] == found[1]


@given(worlds)
def test_no_duration_exceeds_the_span_of_what_was_reported(world: World) -> None:
    """Whatever the log, no silence is counted."""
    lines = world.readies + world.records
    known = replayed(lines)
    times = [json.loads(line)["at"] for line in lines]
    longest = max(times) - min(times) + 21  # Daily's times precede their receipts
    for one in known.values():
        assert all((one.get(name) or 0) <= longest for name in ("talk_s", "ring_s", "setup_s", "held_s"))
