"""The states of a session, and every rule about the events that move it. No other file knows which event leads where.

Theory of operation
===================

A session is one telephone leg between a caller or callee and a room. It has five states:

    idle ──▶ connected ──▶ answered ──▶ stopped ──▶ error
    (0)         (1)           (2)          (3)        (4)

  * `idle`: the session is known, nothing has happened yet. Every session opens here with its first event; opening is not a
    transition.
  * `connected`: the network has accepted a dial-out, which may not ring yet. A dial-in has arrived, and its media is being negotiated.
  * `answered`: media flows. A dial-out reports this with `dialout-answered`. A dial-in has no such event: Daily's guide says
    to wait for `participant-joined`, so a dial-in is answered when the session's own participant joins.
  * `stopped`: the session ended. `error`: it failed. Both are terminal.

**States only rise.** Each event that moves a session leads to one fixed state, whatever the state before, and only upward.
The state is therefore the highest that any event of the session stands for, and neither the order nor the repetition of
events can change it. Everything else builds on this: webhooks are retried for minutes and promise no order, a client and a
webhook report the same call, and still every observer ends with the same answer. It also means that a late `connected`
never revives an ended call.

**The only way out of a terminal state is stopped → error.** Daily does not document whether a `stopped` precedes or follows
an `error`. Ranking error above stopped lets both orders end in `error`, and keeps the text of the error.

**A sign of the end ends a session too, and so does silence.** A hang-up may never arrive. There may be a sign of it instead: the
session's participant left, or the meeting ended (`EndSign`). If it holds for a while, the session is stopped (trigger
`end-inferred`). When no event of a session arrived within its silence limit, it is stopped, too (trigger `silence-passed`). These
limits are durations, so they belong to the engine, not to this file.

**What does not move a session is declared too**, as a row without a target. The table is total: in a state that no row of an
event lists, the event is late. A test walks the whole product of states and events.

**Every other rule about an event type is a column of its row**: which evidence it is, which field keeps its time, whether it
occurs once per session, whether it is a sign of life or of the end, whether its meaning depends on its content.

From the rows one `transitions` machine per direction is built and checked. From that machine a lookup is compiled, and the
lookup is what runs (a dict access instead of 6 to 200 µs). The diagrams are drawn from the same machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from transitions import Machine

from telstate.calls._evidence import Evidence
from telstate.errors import DefinitionError
from telstate.events import Direction

__all__ = [
    "END_INFERRED",
    "IDLE",
    "RANK",
    "ROWS",
    "SILENCE_PASSED",
    "STATE_EVIDENCE",
    "TARGETS",
    "TERMINAL",
    "EndSign",
    "Row",
    "State",
    "machine",
    "row_of",
]


class State(StrEnum):
    """The state of a session. See `telstate.machine` for the transitions."""

    IDLE = "idle"
    """The session is known, but nothing has happened yet."""
    CONNECTED = "connected"
    """Dial-out: it rings. Dial-in: media is being negotiated, none flows yet."""
    ANSWERED = "answered"
    """Media flows."""
    STOPPED = "stopped"
    """The session ended."""
    ERROR = "error"
    """The session failed."""


IDLE, CONNECTED, ANSWERED, STOPPED, ERROR = State
LIVE = (IDLE, CONNECTED, ANSWERED)
ALWAYS = tuple(State)
TERMINAL = frozenset({STOPPED, ERROR})
RANK: Mapping[State, int] = {state: rank for rank, state in enumerate(State)}

SILENCE_PASSED = "silence-passed"
"""The trigger of a silence limit. The event that carries it is a DeadlinePassed."""
END_INFERRED = "end-inferred"
"""The trigger of an end that no event reports. The event that carries it is a DeadlinePassed or a PresenceChecked."""


class EndSign(StrEnum):
    """A sign that a session ended, though no event of Daily's reports its end."""

    PARTICIPANT_LEFT = "participant-left"
    """The session's own participant left the room."""
    MEETING_ENDED = "meeting-ended"
    """The room's meeting ended, and according to Daily all its SIP connections with it."""
    CLIENT_LEFT = "client-left"
    """This program's call client left the room, and nobody else reports the session."""
    NEXT_CALLER = "next-caller"
    """Another caller came on its SIP endpoint, which takes one at a time."""
    GONE = "gone"
    """Daily does not know the session any more, according to `reconcile` or to its answer to a request."""


DIALIN, DIALOUT = (Direction.DIALIN,), (Direction.DIALOUT,)
BOTH = (Direction.DIALIN, Direction.DIALOUT)


class Row(NamedTuple):
    """One row of the table: in these states, for sessions of these directions, this event leads to that target."""

    event: str
    directions: tuple[Direction, ...]
    sources: tuple[State, ...]
    """The states in which the event is not late. A row that lists terminal states is valid after the end too."""
    target: State | None
    """The state it leads to, or None: the event is noted and the state stays."""
    reason: str
    evidence: int = 0
    """The evidence that the event adds to the session: one bit of `Evidence`."""
    time: str | None = None
    """The field of the session that keeps its time; None if its time is not a time of the call."""
    life: bool = False
    """True if it is a sign that the call goes on. It renews the silence limit."""
    once: bool = False
    """True for a lifecycle event, which occurs once per session. A second one is a duplicate."""
    conditional: bool = False
    """True if its content and the running limits decide what it is: itself, late, or the reason for an end."""
    sign: EndSign | None = None
    """The sign of the session's end that it is, if any."""


# fmt: off
ROWS: tuple[Row, ...] = (
    # events that move a session
    Row("dialin-connected", DIALIN, (IDLE,), CONNECTED, "the caller has arrived, media is being negotiated", Evidence.CONNECTED, "connected_at", life=True, once=True),
    Row("dialout-connected", DIALOUT, (IDLE,), CONNECTED, "the network has accepted the call", Evidence.CONNECTED, "connected_at", life=True, once=True),
    Row("dialout-answered", DIALOUT, (IDLE, CONNECTED), ANSWERED, "the other end picked up; its connected may be late", Evidence.ANSWERED, "answered_at", life=True, once=True),
    Row("participant-joined", DIALIN, (IDLE, CONNECTED), ANSWERED, "Daily's only sign that a dial-in's media flows", Evidence.JOINED, "answered_at", life=True),
    Row("dialin-stopped", DIALIN, LIVE, STOPPED, "a caller may hang up at any time, even before connected is reported", Evidence.STOPPED, "_told_at", once=True),
    Row("dialout-stopped", DIALOUT, LIVE, STOPPED, "without connected or answered: busy, declined or no answer", Evidence.STOPPED, "_told_at", once=True),
    Row(SILENCE_PASSED, BOTH, LIVE, STOPPED, "a hang-up that never arrives must not keep a call open forever"),
    Row(END_INFERRED, BOTH, LIVE, STOPPED, "there is a sign that the call ended, and no event reports it"),
    Row("dialout-refused", DIALOUT, (*LIVE, STOPPED), ERROR, "the start failed; in Python no event reports it", Evidence.REFUSED, "_told_at", once=True),
    Row("dialin-error", DIALIN, (*LIVE, STOPPED), ERROR, "fatal, and its text outweighs a stopped in either order", Evidence.ERROR, "_told_at", once=True),
    Row("dialout-error", DIALOUT, (*LIVE, STOPPED), ERROR, "fatal, and its text outweighs a stopped in either order", Evidence.ERROR, "_told_at", once=True),
    # events that do not
    Row("dialout-requested", DIALOUT, (IDLE,), None, "it opens the session, and opening is not a transition", Evidence.REQUESTED, "requested_at", once=True),
    Row("dialin-warning", DIALIN, LIVE, None, "not fatal, according to Daily", time="started_at", life=True),
    Row("dialout-warning", DIALOUT, LIVE, None, "not fatal, according to Daily", time="started_at", life=True),
    Row("dtmf-event", BOTH, LIVE, None, "a key press does not affect the progress of the call", time="started_at", life=True),
    Row("participant-joined", DIALOUT, LIVE, None, "the callee of a dial-out joins while it still rings", time="started_at", life=True),
    Row("participant-joined", DIALIN, (ANSWERED,), None, "joined again: media flowed already", Evidence.JOINED, "answered_at", life=True),
    Row("participant-left", BOTH, ALWAYS, None, "a transfer emits it too, and they may join again", time="started_at", sign=EndSign.PARTICIPANT_LEFT),
    Row("stop-requested", BOTH, LIVE, None, "a request; only Daily's stopped ends the session", evidence=Evidence.STOP_REQUESTED),
    Row("transfer-requested", BOTH, ALWAYS, None, "a request; Daily's answer may arrive after the stopped of this leg", evidence=Evidence.TRANSFER_REQUESTED),
    Row("sessions-linked", BOTH, ALWAYS, None, "it says which legs are one call, not how they progress"),
    Row("session-annotated", BOTH, ALWAYS, None, "the program's notes say nothing about its progress"),
    Row("deadline-passed", BOTH, LIVE, None, "a deadline notifies the handlers, which decide", conditional=True),
    Row("presence-checked", BOTH, LIVE, None, "alive: the call goes on; gone is an end-inferred", conditional=True),
    *(
        Row(
            f"calltransfer-{step}", BOTH, ALWAYS, None, "webhooks report transfers, often after the leg ended",
            time="started_at",
        )
        for step in ("triggered", "initiated", "answered", "completed")
    ),
    Row("transfer-failed", BOTH, ALWAYS, None, "the program may learn it at any time; the call may go on"),
)
# fmt: on


def machine(
    direction: Direction | str | None = None, *, rows: Iterable[Row] | None = None, model: Any = Machine.self_literal
) -> Machine:
    """Build a new `transitions` machine from the table, for your own tools, tests and diagrams.

    Triggers are event names: `machine("dialout").trigger("dialout-answered")`. Events that do not move a session are ignored.

    Args:
        direction: the direction of the sessions; None for both, with only the rows that move a session.
        rows: another table than telstate's own.
        model: the object that the machine moves; by default the machine itself, None for no model.

    Raises:
        DefinitionError: if the direction does not exist, or if the rows break a rule: every state is reachable from idle,
            states only rise, only stopped → error leaves a terminal state, one row per event and state. The message names
            the row.
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
        auto_transitions=False,  # otherwise the model gets to_stopped(), which ignores all rules
        ignore_invalid_triggers=True,
    )
    _check(built)
    return built


def _arrows(built: Machine) -> list[tuple[str, State, State | None]]:
    """List the transitions of a machine as (trigger, source, target)."""
    return [
        (trigger, State[arrow.source], None if arrow.dest is None else State[arrow.dest])
        for trigger, event in built.events.items()
        for arrows in event.transitions.values()
        for arrow in arrows
    ]


def _check(built: Machine) -> None:
    """Check a machine against the theory above. `transitions` itself checks none of it."""
    if built.initial != IDLE.name:
        raise DefinitionError(f"the initial state must be idle, not {built.initial}")
    seen: set[tuple[str, State]] = set()
    reached = {IDLE}
    for trigger, source, target in sorted(_arrows(built), key=lambda arrow: RANK[arrow[1]]):
        if (trigger, source) in seen:
            raise DefinitionError(f"{trigger} has two rows from {source}: remove one")
        seen.add((trigger, source))
        if target is None:
            continue
        if source in TERMINAL and (source, target) != (STOPPED, ERROR):
            raise DefinitionError(
                f"{trigger} leads from {source} to {target}: only stopped → error leaves a terminal state"
            )
        if RANK[target] <= RANK[source]:
            raise DefinitionError(f"{trigger} leads from {source} to {target}: states only rise")
        if source in reached:
            reached.add(target)
    if missing := set(State) - reached:
        raise DefinitionError(f"no event leads to {', '.join(sorted(missing))}")


def _compile(built: Machine) -> dict[State, dict[str, State | None]]:
    """Make the lookup that runs from a machine."""
    targets: dict[State, dict[str, State | None]] = {state: {} for state in State}
    for trigger, source, target in _arrows(built):
        targets[source][trigger] = target
    return targets


def row_of(event: str, direction: Direction, rows: Iterable[Row] = ROWS) -> Row | None:
    """Find a row of the event for sessions of this direction: all of them have the same columns.

    Raises:
        DefinitionError: if they do not.
    """
    found = [row for row in rows if row.event == event and direction in row.directions]
    if len({(row.evidence, row.time, row.life, row.once, row.conditional, row.sign) for row in found}) > 1:
        raise DefinitionError(f"{event} has rows for {direction} that differ in more than their states")
    return found[0] if found else None


TARGETS: Mapping[Direction, Mapping[State, Mapping[str, State | None]]] = {
    direction: _compile(machine(direction, model=None)) for direction in Direction
}
"""For each direction and state, where each event leads: None if it is noted. An event that is missing is late."""

STATE_EVIDENCE: Mapping[Direction, Mapping[State, int]] = {
    direction: {
        state: sum({row.evidence for row in ROWS if row.target is state and direction in row.directions})
        for state in State
        if state is not IDLE
    }
    for direction in Direction
}
"""For each direction and state, the evidence of the events that lead there."""
