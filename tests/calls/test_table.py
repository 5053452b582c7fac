"""The table: machine, lookup and engine agree with its rows over all states and events, and invalid tables are refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import telstate
from telstate import DefinitionError, Direction, Engine, OutcomeKind, Session, State, event_types, machine, parse
from telstate.calls._evidence import Evidence
from telstate.calls._table import END_INFERRED, RANK, ROWS, SILENCE_PASSED, TARGETS, TERMINAL, Row, row_of
from tests.calls import SESSION, feed, joined, js

IDLE, CONNECTED, ANSWERED, STOPPED, ERROR = State
LIMITS = {SILENCE_PASSED, END_INFERRED}
"""The triggers that no event has for its name."""
TRIGGERS = sorted({*event_types(), *LIMITS, "no-such-event"})

machine_of = cache(machine)
"""Making one takes longer than a test of it."""


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_machine_and_lookup_agree(direction: Direction, state: State, trigger: str) -> None:
    """Over the whole product the lookup leads where the machine leads, and states only rise."""
    made = machine_of(direction)
    made.set_state(state)
    if trigger in made.events:
        made.trigger(trigger)
    target = TARGETS[direction][state].get(trigger) or state
    assert made.state is target
    assert target is state or RANK[target] > RANK[state]
    assert state not in TERMINAL or target in (state, ERROR)


@pytest.mark.parametrize("direction", Direction)
def test_every_event_of_a_session_is_declared(direction: Direction) -> None:
    """Every event that can be about a session has a row, so nothing is decided by omission."""
    of_sessions = {
        name for name, cls in event_types().items() if cls._subject <= 2 and cls.direction in (None, direction)
    }
    assert of_sessions | LIMITS == {row.event for row in ROWS if direction in row.directions}


# --- the engine does what the rows say ----------------------------------------------------------------------------


def session_in(state: State, direction: Direction) -> tuple[Engine, Session]:
    """Bring a session to a state by events that a test of another event does not need."""
    engine = Engine()
    start = js(f"{direction}-warning")
    answer = [js("dialout-answered")] if direction is Direction.DIALOUT else [joined()]
    ways = {
        IDLE: [start],
        CONNECTED: [start, js(f"{direction}-connected")],
        ANSWERED: [start, *answer],
        STOPPED: [start, js(f"{direction}-stopped")],
        ERROR: [start, js(f"{direction}-error")],
    }
    feed(engine, *ways[state])
    session = engine.session(SESSION)
    assert session is not None
    return engine, session


def payload_of(row: Row) -> dict[str, Any]:
    """Make an event of a row."""
    if row.event.startswith("participant"):
        return joined(action=row.event)
    required: dict[str, dict[str, Any]] = {
        "presence-checked": {"presence": "alive"},
        "sessions-linked": {"otherSessionId": "b"},
        "session-annotated": {"notes": {"x": 1}},
    }
    return js(row.event, **required.get(row.event, {}))


CELLS = [
    pytest.param(row_of(event, direction), direction, state, id=f"{direction}-{state}-{event}")
    for event, direction, state in product(sorted({row.event for row in ROWS}), Direction, State)
    if event not in (*LIMITS, "deadline-passed") and row_of(event, direction) is not None
]


@pytest.mark.parametrize(("row", "direction", "state"), CELLS)
def test_the_engine_obeys_the_row(row: Row, direction: Direction, state: State) -> None:
    """In each state: outcome, target, evidence, time, sign of life and single occurrence are those of the row."""
    engine, session = session_in(state, direction)
    evidence, before = session._evidence, session.to_dict()
    already_seen = bool(row.once and evidence & row.evidence)
    outcome = engine.receive(parse(payload_of(row)), 50.0)

    targets = TARGETS[direction][state]
    if already_seen:
        expected = OutcomeKind.DUPLICATE
    elif row.event not in targets:
        expected = OutcomeKind.LATE
    else:
        expected = OutcomeKind.NOTED if targets[row.event] is None else OutcomeKind.MOVED
    assert outcome.kind is expected
    assert session.state is (targets.get(row.event) or state)
    told_by = 0 if type(outcome.event).local else Evidence.BY_OTHERS
    assert session._evidence == evidence | row.evidence | told_by
    assert [sign.kind for sign in session._signs] == ([row.sign] if row.sign and not session.ended else [])
    changed = {name for name, value in session.to_dict().items() if value != before[name] and name.endswith("_at")}
    assert changed == ({"started_at", {"_told_at": "ended_at"}.get(row.time, row.time)} if row.time else set())
    accepted = expected in (OutcomeKind.MOVED, OutcomeKind.NOTED)
    is_alive = accepted and row.event == "presence-checked" and not session.ended  # its content decides
    assert (session.alive_at == 50.0) == (row.life or is_alive)
    if row.once:
        assert engine.receive(parse(payload_of(row)), 51.0).kind is OutcomeKind.DUPLICATE


def test_conditional_events_are_those_whose_content_decides() -> None:
    """A deadline that no longer runs is late; a silence that passed is the row of its own name."""
    assert {row.event for row in ROWS if row.conditional} == {"deadline-passed", "presence-checked"}
    engine, session = session_in(CONNECTED, Direction.DIALOUT)
    engine.advance(100.0)
    (limit,) = engine.passed(700.0)
    assert engine.receive(parse(js("deadline-passed", deadline="silence", dueAt=699.0)), 700.0).kind is OutcomeKind.LATE
    assert engine.receive(limit, 700.0).moves[0].event == SILENCE_PASSED
    assert session.state is STOPPED


# --- no second place knows ----------------------------------------------------------------------------------------

SOURCES = Path(telstate.__file__).parent
EVENT_CLASSES = {cls.__name__ for cls in event_types().values()}
KNOWN_BY_THE_TABLE = {*State.__members__, *(name for name in vars(Evidence) if name.isupper())}


def is_event(node: ast.AST) -> bool:
    """Return whether an expression is the name or the class of an event."""
    if isinstance(node, ast.Constant):
        return node.value in event_types()
    return isinstance(node, ast.Name) and node.id in EVENT_CLASSES


def is_rule(node: ast.AST) -> bool:
    """Return whether an expression is a state or evidence."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id in ("State", "Evidence") and node.attr in KNOWN_BY_THE_TABLE
    return isinstance(node, ast.Name) and node.id in State.__members__


def second_places(source: str) -> Iterator[int]:
    """Find the lines that pair an event type with a state or with evidence: in a dict, a tuple or a call."""
    pairs: list[list[ast.expr]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            pairs = [[key, value] for key, value in zip(node.keys, node.values, strict=True) if key is not None]
        elif isinstance(node, (ast.Tuple, ast.List)):
            pairs = [node.elts]
        elif isinstance(node, ast.Call):
            pairs = [[*node.args, *(keyword.value for keyword in node.keywords)]]
        else:
            continue
        for parts in pairs:
            found = [part for whole in parts for part in ast.walk(whole)] if isinstance(node, ast.Dict) else parts
            if any(map(is_event, found)) and any(map(is_rule, found)):
                yield node.lineno


@pytest.mark.long
def test_no_second_place_knows() -> None:
    """No other file pairs an event type with a state or with evidence, and none in `calls` even names one as text."""
    known = {}
    for path in sorted(SOURCES.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = list(second_places(source))
        if path.parent.name == "calls":
            lines += [
                node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and is_event(node)
            ]
        if lines:
            known[path.relative_to(SOURCES).as_posix()] = lines
    assert set(known) == {"calls/_table.py"}, known


@pytest.mark.parametrize(
    "source",
    [
        'KINDS = {"dialout-connected": Kind(Evidence.CONNECTED, "connected_at")}',
        "LEADS = {DialoutAnswered: State.ANSWERED}",
        'rows = [("dialin-stopped", STOPPED)]',
        'rule("dialin-stopped", target=State.STOPPED)',
    ],
)
def test_a_second_place_would_be_found(source: str) -> None:
    """The test above fails if one of these lines is added."""
    assert list(second_places(source))


# --- machines for users, and invalid tables -----------------------------------------------------------------------


def test_each_call_builds_a_new_machine() -> None:
    """Without a direction it has the moves of both."""
    one, other = machine(), machine()
    one.trigger("dialout-answered")
    assert (one.state, other.state) == (ANSWERED, IDLE)
    assert not hasattr(one, "to_STOPPED")
    assert {row.event for row in ROWS if row.target} == set(one.events)


def test_an_unknown_direction_is_refused() -> None:
    """The message names the two that exist."""
    with pytest.raises(DefinitionError, match="expected dialin or dialout, got 'inbound'"):
        machine("inbound")
    assert machine("dialin").state is IDLE


BOTH = tuple(Direction)
GOOD = [
    Row("a", BOTH, (IDLE,), CONNECTED, "x"),
    Row("b", BOTH, (CONNECTED,), ANSWERED, "x"),
    Row("c", BOTH, (ANSWERED,), STOPPED, "x"),
    Row("d", BOTH, (STOPPED,), ERROR, "x"),
]


def test_a_valid_table_is_accepted() -> None:
    """The invalid ones below differ from it by one row."""
    machine(rows=GOOD)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (Row("e", BOTH, (STOPPED,), ANSWERED, "x"), "only stopped → error leaves a terminal state"),
        (Row("e", BOTH, (ERROR,), STOPPED, "x"), "only stopped → error leaves a terminal state"),
        (Row("e", BOTH, (ANSWERED,), CONNECTED, "x"), "states only rise"),
        (Row("e", BOTH, (ANSWERED,), ANSWERED, "x"), "states only rise"),
        (Row("a", BOTH, (IDLE,), ANSWERED, "x"), "a has two rows from idle"),
    ],
)
def test_invalid_rows_are_refused(row: Row, complaint: str) -> None:
    """When the machine is built, with the name of the row."""
    with pytest.raises(DefinitionError, match=complaint):
        machine(rows=[*GOOD, row])


def test_rows_of_one_event_have_the_same_columns() -> None:
    """An event is one kind of evidence in all states."""
    rows = [*GOOD, Row("a", BOTH, (ANSWERED,), None, "x", evidence=Evidence.CONNECTED)]
    with pytest.raises(DefinitionError, match="a has rows for dialin that differ in more than their states"):
        row_of("a", Direction.DIALIN, rows)


@pytest.mark.parametrize("missing", range(4))
def test_unreachable_states_are_refused(missing: int) -> None:
    """Every state must be reachable from idle."""
    with pytest.raises(DefinitionError, match="no event leads to"):
        machine(rows=[row for n, row in enumerate(GOOD) if n != missing])
