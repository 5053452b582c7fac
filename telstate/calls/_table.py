"""The states of a session and every rule that moves it. Nothing outside this file knows which event leads where.

Theory of operation
===================

One session is one telephone leg between a caller or callee and a room. Its life has five states:

    idle ──▶ connected ──▶ answered ──▶ stopped ──▶ error
    (0)         (1)           (2)          (3)        (4)

  * `idle`: it is known, nothing has happened. A session opens here with its first event; opening is no transition.
  * `connected`: dial-out: it rings at the other end. Dial-in: the caller is there and media is being negotiated.
  * `answered`: media flows. A dial-out says so (`dialout-answered`). A dial-in has no such event: Daily's guide tells to
    wait for `participant-joined`, so the joining of the session's own participant is the dial-in's answer.
  * `stopped`: it ended. `error`: it failed. Both are terminal.

**States only rise.** Every event that moves a session leads to one fixed state, whatever the state before, and only
upward. So a session's state is the highest that any of its events stands for, and the order in which the events arrive,
or how often, cannot matter. That is the whole trick: webhooks are retried for minutes and promise no order, a client and
a webhook tell of the same call, and still every observer ends with the same answer. It also means that a late
`connected` never revives an ended call.

**The only exit from a terminal state is stopped → error.** Nothing documents whether a `stopped` follows an `error` or
goes before it. Ranking error above stopped makes both orders end in `error`, and keeps the error's text.

**Silence ends a session too.** A hang-up may never come. When nothing was heard of a session for its silence limit, it is
stopped (trigger `silence-passed`); the limits are time, so they live with the engine, not here.

**What does not move** is declared as well, with no target: the table is total over states and events, and a test walks it.

From the rows a `transitions` machine is built and checked, for each direction; from the machine a lookup is compiled,
and the lookup is what runs (a dict access instead of 6 to 200 µs); from the same machine the diagrams are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from transitions import Machine

from telstate.errors import DefinitionError
from telstate.events import Direction

__all__ = ["IDLE", "LASTING", "MOVES", "RANK", "ROWS", "SILENCE_PASSED", "TERMINAL", "Row", "State", "machine"]


class State(StrEnum):
    """Where a session stands."""

    IDLE = "idle"
    """EngineState, but nothing has happened yet."""
    CONNECTED = "connected"
    """Dial-out: it rings. Dial-in: media is being negotiated, none flows."""
    ANSWERED = "answered"
    """Media flows."""
    STOPPED = "stopped"
    """Ended."""
    ERROR = "error"
    """Failed."""


IDLE, CONNECTED, ANSWERED, STOPPED, ERROR = State
LIVE = (IDLE, CONNECTED, ANSWERED)
TERMINAL = frozenset({STOPPED, ERROR})
RANK: Mapping[State, int] = {state: rank for rank, state in enumerate(State)}

SILENCE_PASSED = "silence-passed"
"""The trigger of a session's silence limit; the event is a DeadlinePassed."""

DIALIN, DIALOUT = (Direction.DIALIN,), (Direction.DIALOUT,)
BOTH = (Direction.DIALIN, Direction.DIALOUT)


class Row(NamedTuple):
    """One row of the table: in these states, for sessions of these directions, this event leads there, because."""

    event: str
    directions: tuple[Direction, ...]
    sources: tuple[State, ...]
    target: State | None
    """None: the event is noted and the state stays."""
    reason: str


ROWS: tuple[Row, ...] = (
    # what moves
    Row("dialin-connected", DIALIN, (IDLE,), CONNECTED, "the caller is there, media is being negotiated"),
    Row("dialout-connected", DIALOUT, (IDLE,), CONNECTED, "it rings at the other end"),
    Row("dialout-answered", DIALOUT, (IDLE, CONNECTED), ANSWERED, "the other end picked up; its connected may be late"),
    Row("participant-joined", DIALIN, (IDLE, CONNECTED), ANSWERED, "Daily's only sign that a dial-in's media flows"),
    Row("dialin-stopped", DIALIN, LIVE, STOPPED, "a caller may hang up at any time, even before connected is told"),
    Row("dialout-stopped", DIALOUT, LIVE, STOPPED, "without connected or answered: busy, declined or no answer"),
    Row(SILENCE_PASSED, BOTH, LIVE, STOPPED, "a hang-up that never comes must not leave a call for ever"),
    Row("dialout-refused", DIALOUT, (*LIVE, STOPPED), ERROR, "the start failed; in Python no event ever says so"),
    Row("dialin-error", DIALIN, (*LIVE, STOPPED), ERROR, "fatal, and its text outweighs a stopped in either order"),
    Row("dialout-error", DIALOUT, (*LIVE, STOPPED), ERROR, "fatal, and its text outweighs a stopped in either order"),
    # what does not
    Row("dialout-requested", DIALOUT, (IDLE,), None, "it opens the session, which opening is no transition"),
    Row("dialin-warning", DIALIN, LIVE, None, "non-fatal, by Daily's word"),
    Row("dialout-warning", DIALOUT, LIVE, None, "non-fatal, by Daily's word"),
    Row("dtmf-event", BOTH, LIVE, None, "a key press says nothing of the call's progress"),
    Row("participant-joined", DIALOUT, LIVE, None, "a dial-out's party joins while it still rings"),
    Row("participant-joined", DIALIN, (ANSWERED,), None, "joined again: media flowed already"),
    Row("participant-left", BOTH, LIVE, None, "a transfer emits it too, so it ends nothing"),
    Row("stop-requested", BOTH, LIVE, None, "we asked; only Daily's stopped ends it"),
    Row("transfer-requested", BOTH, LIVE, None, "we asked; the stopped of this leg follows"),
    Row("sessions-linked", BOTH, tuple(State), None, "says which legs are one call, not how they fare"),
    Row("deadline-passed", BOTH, LIVE, None, "a deadline tells the handlers, who decide"),
    Row("presence-checked", BOTH, LIVE, None, "alive goes on; gone is the silence limit's passing, not this"),
    Row(
        "calltransfer-triggered", BOTH, tuple(State), None, "transfers are told by webhooks, often after the leg ended"
    ),
    Row("calltransfer-initiated", BOTH, tuple(State), None, "likewise"),
    Row("calltransfer-answered", BOTH, tuple(State), None, "likewise"),
    Row("calltransfer-completed", BOTH, tuple(State), None, "likewise"),
)


def machine(
    direction: Direction | str | None = None, *, rows: Iterable[Row] | None = None, model: Any = Machine.self_literal
) -> Machine:
    """Build a fresh `transitions` machine of the table, for a user's own tools, tests and pictures.

    Triggers are event names: `machine("dialout").trigger("dialout-answered")`. What may not move a session is ignored.

    Args:
        direction: the sessions it is for; None for both at once, with the moving rows only.
        rows: the table, if not telstate's own.
        model: what the machine moves; by default itself, None for nothing.

    Raises:
        DefinitionError: if there is no such direction, or the rows break a rule: all states reachable from idle, states only
            rise, only stopped → error leaves a terminal state, no event twice in a state. The message names the row.
    """
    if direction not in (None, *Direction):
        raise DefinitionError(f"direction: expected {' or '.join(Direction)}, got {direction!r}")
    chosen = [
        row
        for row in (ROWS if rows is None else rows)
        if (direction in row.directions if direction else row.target is not None)
    ]
    built = Machine(
        model=model,
        states=State,
        initial=IDLE,
        transitions=[{"trigger": row.event, "source": list(row.sources), "dest": row.target} for row in chosen],
        auto_transitions=False,  # else the model gets to_stopped(), past all rules
        ignore_invalid_triggers=True,
    )
    _check(built)
    return built


def _arrows(built: Machine) -> list[tuple[str, State, State | None]]:
    """List what a machine does as (trigger, source, target)."""
    return [
        (trigger, State[arrow.source], None if arrow.dest is None else State[arrow.dest])
        for trigger, event in built.events.items()
        for arrows in event.transitions.values()
        for arrow in arrows
    ]


def _check(built: Machine) -> None:
    """Hold a machine to the theory: transitions itself checks none of it."""
    if built.initial != IDLE.name:
        raise DefinitionError(f"the initial state must be idle, not {built.initial}")
    seen: set[tuple[str, State]] = set()
    reached = {IDLE}
    for trigger, source, target in sorted(_arrows(built), key=lambda arrow: RANK[arrow[1]]):
        if (trigger, source) in seen:
            raise DefinitionError(f"{trigger} has two rows from {source}: leave one")
        seen.add((trigger, source))
        if target is None:
            continue
        if source in TERMINAL and (source, target) != (STOPPED, ERROR):
            raise DefinitionError(
                f"{trigger} leaves {source} for {target}: only stopped → error leaves a terminal state"
            )
        if RANK[target] <= RANK[source]:
            raise DefinitionError(f"{trigger} leads from {source} to {target}: states only rise")
        if source in reached:
            reached.add(target)
    if missing := set(State) - reached:
        raise DefinitionError(f"no event leads to {', '.join(sorted(missing))}")


def _compile(built: Machine) -> dict[State, dict[str, State]]:
    """Make the lookup that runs: for each state, which event leads where. What is not in it does not move."""
    moves: dict[State, dict[str, State]] = {state: {} for state in State}  # a state without a way out is spelled out
    for trigger, source, target in _arrows(built):
        if target is not None:
            moves[source][trigger] = target
    return moves


LASTING = frozenset(row.event for row in ROWS if row.target is None and STOPPED in row.sources)
"""What is noted even of an ended session, and is not late."""

MOVES: Mapping[Direction, Mapping[State, Mapping[str, State]]] = {
    direction: _compile(machine(direction, model=None)) for direction in Direction
}
