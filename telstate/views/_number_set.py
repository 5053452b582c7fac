"""A set of whole numbers that takes about a bit for each: which of the millions of lines of a log are wanted."""

from __future__ import annotations

__all__ = ["NumberSet"]

_BITS = 15
"""Numbers are kept in blocks of so many bits of a number: 4 kB each."""
_LOW = (1 << _BITS) - 1


class NumberSet:
    """Numbers from 0 on. What is near each other takes little room, however large the numbers are."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        """Add a number."""
        block = self._blocks.get(number >> _BITS)
        if block is None:
            block = self._blocks[number >> _BITS] = bytearray((_LOW + 1) // 8)
        low = number & _LOW
        block[low >> 3] |= 1 << (low & 7)

    def __contains__(self, number: int) -> bool:
        block = self._blocks.get(number >> _BITS)
        low = number & _LOW
        return block is not None and bool(block[low >> 3] >> (low & 7) & 1)

    def __bool__(self) -> bool:
        return bool(self._blocks)
