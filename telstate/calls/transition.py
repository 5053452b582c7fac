"""A transition: one rise of a session's state."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from telstate.calls.table import State

__all__ = ["Transition", "transition"]


class Transition(NamedTuple):
    """One rise of a session's state."""

    source: State
    target: State
    event: str
    """Daily's name of the event, or `silence-passed`."""
    parked: bool = False
    """True if the event came earlier, and waited until it was known which session it meant."""


transition = lru_cache(maxsize=256)(Transition)
"""There are a few dozen different transitions at most, so sessions share them."""
