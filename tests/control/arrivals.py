"""Which types of events have arrived, and what must hold before others may: so a test decides in which order they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

__all__ = ["Arrivals"]


class Arrivals:
    """Of one carrier.

    Attributes:
        types: of the events that have arrived, in order.
        held: for types of events, what must hold before they arrive.
    """

    def __init__(self) -> None:
        self.types: list[str] = []
        self.held: dict[str, Callable[[], object]] = {}

    async def turn(self, kind: str, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait until an event of a type may arrive."""
        while kind in self.held and not self.held[kind]():
            await sleep(0.02)
