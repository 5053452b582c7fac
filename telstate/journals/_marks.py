"""A set of whole numbers, one bit each: a journal holds one for every event it ever had."""

from __future__ import annotations

__all__ = ["Marks"]


class Marks:
    """Which work is done; numbers may be below zero."""

    def __init__(self) -> None:
        self._above = bytearray()
        self._below = bytearray()

    def add(self, number: int) -> None:
        """Add a number."""
        bits, place = (self._above, number) if number > 0 else (self._below, -number)
        missing = (place >> 3) + 1 - len(bits)
        if missing > 0:
            bits.extend(bytes(missing))
        bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, number: int) -> bool:
        bits, place = (self._above, number) if number > 0 else (self._below, -number)
        return place >> 3 < len(bits) and bool(bits[place >> 3] >> (place & 7) & 1)
