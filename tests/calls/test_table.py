"""The table: its machine and its lookup agree over all states and events, and bad tables are refused."""

from __future__ import annotations

import pytest

from telstate import DefinitionError, Direction, State, event_types, machine
from telstate.calls._table import LASTING, MOVES, RANK, ROWS, SILENCE_PASSED, TERMINAL, Row

IDLE, CONNECTED, ANSWERED, STOPPED, ERROR = State
TRIGGERS = sorted({*event_types(), SILENCE_PASSED, "no-such-event"})


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_machine_and_lookup_agree(direction: Direction, state: State, trigger: str) -> None:
    """The whole product: where the machine goes, the lookup goes; what may not move a session moves neither."""
    fresh = machine(direction)
    fresh.set_state(state)
    if trigger in fresh.events:
        fresh.trigger(trigger)
    target = MOVES[direction][state].get(trigger, state)
    assert fresh.state is target
    assert target is state or RANK[target] > RANK[state]
    assert state not in TERMINAL or target in (state, ERROR)


@pytest.mark.parametrize("direction", Direction)
def test_every_event_of_a_session_is_declared(direction: Direction) -> None:
    """What a session may be told is in the table, moving or not, so nothing is decided by being forgotten."""
    of_sessions = {
        name for name, cls in event_types().items() if cls._subject <= 2 and cls.direction in (None, direction)
    }
    assert of_sessions | {SILENCE_PASSED} == {row.event for row in ROWS if direction in row.directions}


def test_every_row_says_why() -> None:
    """A row without a reason would be a guess."""
    assert all(len(row.reason) > 5 for row in ROWS)


def test_what_lasts() -> None:
    """Transfers are told after the leg has ended, and are no less true."""
    assert {name for name in LASTING if name.startswith("calltransfer")} == {
        name for name in event_types() if name.startswith("calltransfer")
    }
    assert "dialout-warning" not in LASTING


def test_a_fresh_machine_for_users() -> None:
    """Each call gives its own; without a direction it has the moves of both."""
    one, other = machine(), machine()
    one.trigger("dialout-answered")
    assert (one.state, other.state) == (ANSWERED, IDLE)
    assert not hasattr(one, "to_STOPPED")
    assert {row.event for row in ROWS if row.target} == set(one.events)


def test_an_unknown_direction_is_refused() -> None:
    """With the two there are."""
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


def test_a_table_that_is_right() -> None:
    """The ones below differ from it by one row."""
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
def test_bad_rows_are_refused(row: Row, complaint: str) -> None:
    """When the machine is built, with the row's name."""
    with pytest.raises(DefinitionError, match=complaint):
        machine(rows=[*GOOD, row])


@pytest.mark.parametrize("missing", range(4))
def test_unreachable_states_are_refused(missing: int) -> None:
    """Every state must be reachable from idle."""
    with pytest.raises(DefinitionError, match="no event leads to"):
        machine(rows=[row for n, row in enumerate(GOOD) if n != missing])
