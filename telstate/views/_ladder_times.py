"""Times, deltas and repetitions as all renderers of a ladder write them."""

from __future__ import annotations

from datetime import UTC, datetime

from telstate.views._ladder import Ladder, LadderStep
from telstate.views._words import duration

__all__ = ["delta_in_words", "has_fractions", "step_label", "time_of_day"]


def time_of_day(at: float | None, *, fractions: bool = True) -> str:
    """Unix seconds as the time of day in UTC, to the millisecond or to the second; empty if the time is not known."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.strftime("%H:%M:%S.%f")[:12] if fractions else moment.strftime("%H:%M:%S")


def has_fractions(ladder: Ladder) -> bool:
    """Return whether a step has a time that is no whole second."""
    return any(step.at is not None and round(step.at, 3) % 1 != 0 for step in ladder.steps)


def delta_in_words(seconds: float | None) -> str:
    """The time since the step before: `+0.250s`, `+3m07s`; negative if a line is older than the one before it."""
    if seconds is None:
        return ""
    if not seconds:
        return "+0s"
    size = abs(seconds)
    return f"{'-' if seconds < 0 else '+'}{f'{size:.3f}s' if size < 1 else duration(size)}"


def step_label(step: LadderStep) -> str:
    """The label of a step, with its leg before it, and how often it came after it."""
    tag = f"{step.leg}: " if step.leg else ""
    if step.times == 1:
        return f"{tag}{step.label}"
    last = f", the last at {time_of_day(step.until, fractions=False)}" if step.until is not None else ""
    return f"{tag}{step.label} ({step.times} times{last})"
