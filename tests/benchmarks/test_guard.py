"""No commit makes an event dearer unnoticed."""

from __future__ import annotations

import pytest

from tests.benchmarks.guard import (
    GUARDED,
    INSTRUCTIONS_MARGIN,
    TIME_MARGIN,
    by_instructions,
    by_time,
    dearer,
    has_valgrind,
)

NAMES = [guarded.name for guarded in GUARDED]


@pytest.mark.timeout(300)
def test_no_event_has_become_dearer() -> None:
    """By instructions, which nothing but a change can raise; where they cannot be counted, by time."""
    counted = has_valgrind()
    ratios = by_instructions(NAMES) if counted else by_time(NAMES)
    margin = INSTRUCTIONS_MARGIN if counted else TIME_MARGIN
    for guarded in GUARDED:
        recorded = guarded.instructions if counted else guarded.time
        assert not dearer(ratios[guarded.name], recorded, margin), (
            f"{guarded.name} takes {ratios[guarded.name]:.2f} times the floor, and took {recorded}: "
            "find what made it dearer; `python -m tests.benchmarks.guard` measures it"
        )
        # A record that is far too high would let everything pass.
        assert ratios[guarded.name] > recorded / margin, (
            f"{guarded.name} takes only {ratios[guarded.name]:.2f} times the floor: record that in GUARDED"
        )


def test_half_as_dear_again_is_dearer() -> None:
    """The margins let no more than that pass."""
    assert dearer(6.01, 4.0, TIME_MARGIN)
    assert not dearer(5.9, 4.0, TIME_MARGIN)
    assert INSTRUCTIONS_MARGIN < TIME_MARGIN <= 1.5
