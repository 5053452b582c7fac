"""How much handlers' work waits: the counters that backpressure reads, and the ways to wait until there is less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from telstate.errors import NotRunning
from telstate.routing._cancellation import is_cancelled

__all__ = ["Backlog"]

_TURNS = 100
"""More turns of the event loop than it takes to run everything that may wait for one."""


class Backlog:
    """The jobs of all lanes, counted."""

    def __init__(self) -> None:
        self.pending: int = 0
        """How many jobs wait or run."""
        self.runnable: int = 0
        """How many of them wait only for a turn of the event loop: no suspended handler is before them in their lane."""
        self.awaiting: int = 0
        """How many handlers wait for an event that is still to come: `receive` must not wait for them."""
        self._closing = False
        self.relief: anyio.Event | None = None
        """Set when work is finished, if somebody waits for that."""

    def is_above(self, limit: int) -> bool:
        """Return True if at least `limit` jobs are pending, without handlers that wait for an event."""
        return self.pending - self.awaiting >= limit

    async def below(self, limit: int) -> None:
        """Wait until fewer than `limit` jobs are pending."""
        while self.is_above(limit) and not self._closing:
            await self._wait_for_relief()

    async def empty(self) -> None:
        """Wait until no job waits or runs.

        Raises:
            NotRunning: if the lanes close first; nobody runs what is left then.
        """
        while self.pending:
            if self._closing:
                raise NotRunning("the dispatcher was left before all handlers had finished")
            await self._wait_for_relief()

    @contextmanager
    def awaiting_events(self) -> Iterator[None]:
        """Around a handler that waits for an event: it needs `receive` to go on."""
        self.awaiting += 1
        self.relieve()
        try:
            yield
        finally:
            self.awaiting -= 1

    async def yield_to_handlers(self, limit: int) -> None:
        """Let the event loop turn until fewer than `limit` jobs are runnable.

        This waits for no suspended handler, and not at all once the caller is cancelled: the workers may be gone by then.
        """
        for _ in range(_TURNS):
            if self.runnable < limit or self._closing or is_cancelled():
                return
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def relieve(self) -> None:
        """Wake those that wait for a smaller backlog, to look again."""
        if self.relief is not None:
            self.relief.set()
            self.relief = None

    def close(self) -> None:
        """Nobody works it off any more."""
        self._closing = True
        self.relieve()

    async def _wait_for_relief(self) -> None:
        if self.relief is None:
            self.relief = anyio.Event()
        await self.relief.wait()
