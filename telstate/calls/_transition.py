"""A transition: one rise of a session's state.

The table allows a few dozen transitions, so a session stores each of them as one byte. A tuple of tuples per session would
cost memory, and the garbage collector would have to traverse it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

from telstate.calls._table import TARGETS, State

__all__ = ["STEPS", "Transition", "path_of", "transitions_of"]


class Transition(NamedTuple):
    """One rise of a session's state."""

    source: State
    target: State
    event: str
    """Daily's name of the event, or `silence-passed`."""
    parked: bool = False
    """True if the event arrived earlier and was parked until its session was known."""


_ALL = tuple(
    dict.fromkeys(
        Transition(source, target, event, parked)
        for states, parked in product(TARGETS.values(), (False, True))
        for source, targets in states.items()
        for event, target in targets.items()
        if target is not None
    )
)
STEPS: Mapping[tuple[object, ...], tuple[Transition, bytes]] = {
    tuple(transition): (transition, bytes([number])) for number, transition in enumerate(_ALL)
}
"""Each transition and its byte, by its values."""


def transitions_of(path: bytes) -> tuple[Transition, ...]:
    """Decode the transitions of a path."""
    return tuple(_ALL[number] for number in path)


def path_of(transitions: Iterable[Iterable[object]]) -> bytes:
    """Encode transitions, also those read from JSON; KeyError if the table does not have one of them."""
    return b"".join(STEPS[tuple(transition)][1] for transition in transitions)
