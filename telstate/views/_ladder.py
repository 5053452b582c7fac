"""A ladder: one call as people read it, step by step between its lanes. Only the model: renderers write it as text, Mermaid, SVG or HTML.

All texts in it are as they are shown: what is private is masked already, unless it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from telstate.calls._outcome import OutcomeKind

__all__ = ["Ladder", "LadderLane", "LadderLeg", "LadderStep", "LaneKind", "merge_lanes"]


class LaneKind(StrEnum):
    """What a lane stands for."""

    PHONE = "phone"
    """The far end of a leg: a caller or a callee."""
    DAILY = "daily"
    ROOM = "room"
    """A room, and the call client in it."""
    PROGRAM = "program"
    """This program: its requests, its timers and its handlers."""


class LadderLane(NamedTuple):
    """One lane, from left to right."""

    kind: LaneKind
    name: str
    """Short, for the head of a narrow column: `caller`, `phone a`, `Daily`, `room`."""
    detail: str = ""
    """Who or what it is: a number, the name of a room."""


class LadderStep(NamedTuple):
    """One step: what a line of the log says, or what follows without a line."""

    at: float | None
    """When its line was received, else when it happened, in Unix seconds."""
    delta: float | None
    """Seconds since the step before."""
    source: int
    """The lane where it begins."""
    target: int
    """The lane where it arrives; the same for what happens within one lane."""
    arrow: bool
    """False if nobody says from which side it came: a line without a head."""
    label: str
    leg: str
    """The tag of its leg: `a`, `b`; empty if it concerns the whole call, or the call has one leg."""
    states: tuple[str, ...] = ()
    """The states that its session went through by it, the one before included; empty if it moved nothing."""
    outcome: OutcomeKind | None = None
    """What it was to its session; None for what no line of the log says."""
    notes: tuple[str, ...] = ()
    """What else there is to say, in words: why it did not count, what followed, what is odd."""
    session_id: str | None = None
    failed: bool = False
    """True for an error, a refusal, or a handler that was given up."""
    times: int = 1
    """How often it came in a row."""
    until: float | None = None
    """When it came last, if it came more than once."""

    @property
    def counts(self) -> bool:
        """False if it changed nothing, since it came too late, twice, or for no session."""
        return self.outcome in (None, OutcomeKind.MOVED, OutcomeKind.NOTED)


class LadderLeg(NamedTuple):
    """What is known of one leg at the end, or of the caller on hold."""

    tag: str
    """`a`, `b`, …; empty if it is the only one."""
    facts: tuple[str, ...]
    """In words; the first says who it is."""
    record: dict[str, Any]
    """`session.to_dict()` or `caller.to_dict()`."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """One call with all its legs, and its caller on hold."""

    call: str
    """The id by which `--call` finds it."""
    legs: tuple[LadderLeg, ...]
    lanes: tuple[LadderLane, ...]
    steps: tuple[LadderStep, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its sessions, and of its caller on hold: `{one: ladder for ladder in ladders for one in ladder.ids}`."""
        names = ("session_id", "pinless_call_id", "call_id")
        return tuple(dict.fromkeys(one for leg in self.legs for name in names if (one := leg.record.get(name))))

    @property
    def started_at(self) -> float | None:
        """The time of the first step that has one."""
        return next((step.at for step in self.steps if step.at is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "call": self.call,
            "legs": [{"tag": leg.tag, "facts": list(leg.facts), "record": leg.record} for leg in self.legs],
            "lanes": [lane._asdict() for lane in self.lanes],
            "steps": [step._asdict() for step in self.steps],
        }


def merge_lanes(ladder: Ladder) -> Ladder:
    """Return the ladder with one lane for all phones, and one for all rooms: for where there is no space for more."""
    kinds = list(dict.fromkeys(lane.kind for lane in ladder.lanes))
    counts = [sum(lane.kind is kind for lane in ladder.lanes) for kind in kinds]
    lanes = tuple(
        next(lane for lane in ladder.lanes if lane.kind is kind) if count == 1 else LadderLane(kind, f"{kind}s")
        for kind, count in zip(kinds, counts, strict=True)
    )
    place = [kinds.index(lane.kind) for lane in ladder.lanes]
    steps = (step._replace(source=place[step.source], target=place[step.target]) for step in ladder.steps)
    return replace(ladder, lanes=lanes, steps=tuple(steps))
