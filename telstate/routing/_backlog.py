"""How much handlers' work waits: the counters that backpressure reads, and the ways to wait until there is less."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from time import monotonic

import anyio

from telstate.errors import NotRunning
from telstate.routing._cancellation import is_cancelled
from telstate.routing._gate import Gate

__all__ = ["Backlog"]

_NEARLY_FULL = 0.9
"""The part of the limit from which on the log warns."""
_TURNS = 100
"""More turns of the event loop than it takes to run everything that may wait for one."""


class _Handler:
    """A handler, as it and every task that it starts see it."""

    __slots__ = ("backlog", "is_pending", "outer", "waits")

    def __init__(self, backlog: Backlog, outer: _Handler | None, *, is_pending: bool) -> None:
        self.backlog = backlog
        self.outer = outer
        """The handler of another dispatcher inside which this one runs."""
        self.is_pending = is_pending
        """True for one of the pending jobs. False for what only counts as a handler, and once it has finished."""
        self.waits = 0
        """How many events it waits for now, in all its tasks."""


_HANDLER: ContextVar[_Handler | None] = ContextVar("telstate_handler", default=None)


class Backlog:
    """The jobs of all lanes, counted.

    Args:
        limit: from how many pending jobs on `wait_for_place` waits.
        gate: while it holds handlers back, nobody yields to them.
    """

    def __init__(self, limit: int, gate: Gate | None = None) -> None:
        self.limit: int = limit
        self._gate = gate
        self.pending: int = 0
        """How many jobs wait or run."""
        self.reserved: int = 0
        """How many more may come: entries that wait for their commit, and places given to senders that have not run yet."""
        self.runnable: int = 0
        """How many of the pending wait only for a turn of the event loop: no suspended handler is before them in their lane."""
        self.awaiting: int = 0
        """How many handlers wait for an event that is still to come: `receive` must not wait for them."""
        self.waits: int = 0
        """How often somebody had to wait for a place."""
        self.waited: float = 0.0
        """For how many seconds in all."""
        self.watched: bool = False
        """True if a task waits for `relieve`."""
        self._senders: OrderedDict[anyio.Event, None] = OrderedDict()
        self._emptied: anyio.Event | None = None
        self._closing = False
        self.is_resting: bool = False
        """True once no job begins any more: nobody waits for that then."""
        self.is_leaving: bool = False
        """True once the dispatcher takes nothing more, and lets handlers finish."""
        self.left: int = 0
        """How many of the pending jobs are left to the next start: their handlers cannot finish in this one."""

    # --- the limit ------------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """True at the limit. Handlers that wait for an event do not count."""
        return self.pending + self.reserved - self.awaiting >= self.limit

    @property
    def is_nearly_full(self) -> bool:
        """True shortly before the limit, and at it."""
        return self.pending + self.reserved - self.awaiting >= self.limit * _NEARLY_FULL

    @property
    def senders(self) -> int:
        """How many wait for a place."""
        return len(self._senders)

    async def wait_for_place(self) -> None:
        """Wait until the backlog is below its limit. Those that wait go on in order, as many as there are places."""
        if self._closing or not self.is_full:
            return
        place, began = anyio.Event(), monotonic()
        self._senders[place] = None
        self.watched = True
        self.waits += 1
        try:
            await place.wait()
        except BaseException:
            if self._senders.pop(place, place) is place:
                self.release(1)  # it had its place already: the next one takes it
            raise
        finally:
            self.waited += monotonic() - began
        self.reserved -= 1

    def release(self, places: int) -> None:
        """Give back reserved places."""
        self.reserved -= places
        if self.watched:
            self.relieve()

    def relieve(self) -> None:
        """The backlog is smaller: wake those that waited for that."""
        while self._senders and not self.is_full:
            self._admit()
        if self._emptied is not None and (self._closing or self.pending <= self.left):
            self._emptied.set()
            self._emptied = None
        self.watched = bool(self._senders) or self._emptied is not None

    def _admit(self) -> None:
        self._senders.popitem(last=False)[0].set()
        self.reserved += 1

    def leave(self, jobs: int) -> None:
        """So many jobs are left to the next start: nobody waits for them."""
        self.left += jobs
        self.relieve()

    async def empty(self) -> None:
        """Wait until no job waits or runs, but for those that are left to the next start.

        Raises:
            NotRunning: if the lanes close first; nobody runs what is left then.
        """
        while self.pending > self.left:
            if self._closing:
                raise NotRunning("the dispatcher was left before all handlers had finished")
            self._emptied = self._emptied or anyio.Event()
            self.watched = True
            await self._emptied.wait()

    async def yield_to_handlers(self, limit: int) -> None:
        """Let the event loop turn until fewer than `limit` jobs are runnable.

        This waits for no suspended handler, and not at all once the caller is cancelled: the workers may be gone by then.
        """
        for _ in range(_TURNS):
            if self.runnable < limit or self._closing or self._are_held or is_cancelled():
                return
            await anyio.lowlevel.cancel_shielded_checkpoint()

    @property
    def _are_held(self) -> bool:
        return self.is_resting or (self._gate is not None and not self._gate.is_open())

    def close(self) -> None:
        """Wake every task that waits: no worker runs what is left."""
        self._closing = True
        while self._senders:
            self._admit()
        self.relieve()

    # --- who asks -------------------------------------------------------------------------------------------------

    @property
    def in_handler(self) -> bool:
        """True in a handler of this dispatcher, in what it started, and in what counts as one."""
        return self._handler() is not None

    def _handler(self) -> _Handler | None:
        handler = _HANDLER.get()
        while handler is not None and handler.backlog is not self:
            handler = handler.outer
        return handler

    def begin_handler(self, *, is_pending: bool = True) -> None:
        """What runs in this context from now on is a handler."""
        outer = _HANDLER.get()
        while outer is not None and outer.backlog is self:
            outer = outer.outer
        _HANDLER.set(_Handler(self, outer, is_pending=is_pending))

    @contextmanager
    def as_handler(self) -> Iterator[None]:
        """Count what runs inside as a handler that is no pending job."""
        before = _HANDLER.get()
        self.begin_handler(is_pending=False)
        try:
            yield
        finally:
            _HANDLER.set(before)

    @contextmanager
    def suspended(self, context: Context) -> Iterator[None]:
        """Around a handler that may suspend. It runs in a copy of `context`, in which another handler begins now.

        Handlers that never suspend share one: making one for each would cost too much.
        """
        handler = context[_HANDLER]
        context.run(self.begin_handler)
        try:
            yield
        finally:
            if handler is not None:
                self.awaiting -= handler.waits > 0
                handler.is_pending = False

    @contextmanager
    def awaiting_events(self) -> Iterator[None]:
        """Around what waits for an event: a handler that does needs `receive` to go on. In how many tasks does not matter."""
        handler = self._handler()
        if handler is None or not handler.is_pending:
            yield
            return
        handler.waits += 1
        if handler.waits == 1:
            self.awaiting += 1
            self.relieve()
        try:
            yield
        finally:
            self._end_wait(handler)

    def _end_wait(self, handler: _Handler) -> None:
        handler.waits -= 1
        if handler.is_pending and not handler.waits:
            self.awaiting -= 1
