"""A transition: one rise of a session's state.

There are a few dozen different ones at most, so a session keeps which as one byte each: it weighs nothing, and the garbage
collector, which would have to look into a tuple of tuples for every session, has nothing to look into.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from telstate.calls._table import MOVES, State

__all__ = ["Transition", "path_of", "step_of", "transitions_of"]


class Transition(NamedTuple):
    """One rise of a session's state."""

    source: State
    target: State
    event: str
    """Daily's name of the event, or `silence-passed`."""
    parked: bool = False
    """True if the event came earlier, and waited until it was known which session it meant."""


_ALL = tuple(
    dict.fromkeys(
        Transition(source, target, event, parked)
        for states, parked in product(MOVES.values(), (False, True))
        for source, targets in states.items()
        for event, target in targets.items()
    )
)
_STEPS = {made: bytes([number]) for number, made in enumerate(_ALL)}


def step_of(made: Transition) -> bytes:
    """A transition, as it is kept; KeyError if the table has no such."""
    return _STEPS[made]


def transitions_of(path: bytes) -> tuple[Transition, ...]:
    """The transitions of what was kept."""
    return tuple(_ALL[number] for number in path)


def path_of(transitions: Iterable[Iterable[object]]) -> bytes:
    """What is to be kept of transitions, also of those that were written as JSON; KeyError if the table has no such one."""
    return b"".join(_STEPS[Transition(*made)] for made in transitions)  # type: ignore[arg-type]
