"""A set of numbers is a set, and small."""

from __future__ import annotations

import sys
from random import Random

import pytest

from telstate.views._number_set import NumberSet


@pytest.mark.parametrize("most", [1, 100, 200_000, 1 << 62])
def test_it_has_what_was_added(most: int) -> None:
    """Like a set, for numbers that are near each other and for those that are not."""
    rng = Random(most)
    added = {rng.randrange(most) for _ in range(500)}
    numbers = NumberSet()
    assert not numbers
    for number in added:
        numbers.add(number)
    others = {rng.randrange(most) for _ in range(500)} | {0, 7, 8, 32_767, 32_768, 1 << 61}
    assert bool(numbers)
    assert {number for number in added | others if number in numbers} == added


def test_a_million_numbers_take_a_bit_each() -> None:
    """The lines of a log that is larger than memory fit."""
    numbers = NumberSet()
    for number in range(1 << 40, (1 << 40) + 1_000_000):
        numbers.add(number)
    assert sum(sys.getsizeof(block) for block in numbers._blocks.values()) < 130_000
