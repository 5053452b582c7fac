"""The bodies of requests that nobody has verified yet, and a budget for all of them.

Whoever has a secret sends a body within milliseconds. So over the budget the oldest body gives way, not the newest: else a stranger
could use up the budget, and keep others out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

__all__ = ["UnverifiedBodies", "UnverifiedBody"]


class UnverifiedBody:
    """A body that is being read.

    Args:
        timeout: seconds in which it must arrive.
    """

    def __init__(self, timeout: float) -> None:
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + timeout)
        self.data = bytearray()  # not a list of chunks: those of a byte take forty
        self.is_displaced: bool = False

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return len(self.data)

    def displace(self) -> None:
        """Give way: free the memory, and end the reading."""
        self.is_displaced = True
        self.data.clear()
        self.scope.cancel()


class UnverifiedBodies:
    """All bodies that are being read.

    Args:
        budget: bytes that they may have together.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: dict[UnverifiedBody, None] = {}
        """The oldest first."""
        self._size = 0

    @contextmanager
    def reading(self, timeout: float) -> Iterator[UnverifiedBody]:
        """Read a body inside the block, which ends silently when its time is up or when the body gives way."""
        body = UnverifiedBody(timeout)
        self._held[body] = None
        try:
            with body.scope:
                yield body
        finally:
            self._forget(body)

    def add(self, body: UnverifiedBody, chunk: bytes) -> None:
        """Add what has arrived of a body; the oldest ones give way if it is too much for all."""
        if body.is_displaced:
            return
        body.data += chunk
        self._size += len(chunk)
        while self._size > self._budget:
            oldest = next(iter(self._held))
            self._forget(oldest)
            oldest.displace()

    def _forget(self, body: UnverifiedBody) -> None:
        if body in self._held:
            del self._held[body]
            self._size -= body.size
