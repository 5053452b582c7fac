"""A transition: one rise of a session's state.

The table allows a few dozen transitions, so a session stores each of them as one byte. A tuple of tuples per session would
cost memory, and the garbage collector would have to traverse it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from telstate.calls._table import TARGETS, State

__all__ = ["STEPS", "Transition", "path_of", "plain_of", "rows_of", "transitions_of"]


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

_ROWS = tuple((str(step.source), str(step.target), "parked" if step.parked else step.event) for step in _ALL)

_PLAIN = tuple((str(step.source), str(step.target), step.event, step.parked) for step in _ALL)


@lru_cache(maxsize=1024)  # nearly all sessions went one of a few paths
def transitions_of(path: bytes) -> tuple[Transition, ...]:
    """Decode the transitions of a path."""
    return tuple(_ALL[number] for number in path)


def rows_of(path: bytes) -> list[list[str]]:
    """Decode the transitions of a path, as JSON values: from, to, and the event, or `parked`."""
    return [list(_ROWS[number]) for number in path]


def plain_of(path: bytes) -> tuple[tuple[str, str, str, bool], ...]:
    """Decode the transitions of a path, as plain values: pydantic takes ten times as long to write enums and named tuples as JSON."""
    return tuple(_PLAIN[number] for number in path)


def path_of(transitions: Iterable[Iterable[object]]) -> bytes:
    """Encode transitions, also those read from JSON; KeyError if the table does not have one of them."""
    return b"".join(STEPS[tuple(transition)][1] for transition in transitions)
