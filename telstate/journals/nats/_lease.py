"""A worker's lease: a key that it renews, each time expecting its own last revision, so that nobody is alive and dead at once.

Nobody takes a partition from a worker that lives. A worker is dead once somebody has written so over its key, and they may do that
when its revision has not changed for the lease's time to live, by their own monotonic clock. So no two machines' clocks are compared.
The worker itself starts handlers for half of that time at most, from the moment at which it sent its last renewal. A server that is
away suspends a lease, and kills none: nobody can write then, and the next renewal resumes it.

It has a thread, an event loop and a connection of its own: a handler that blocks the worker's loop must not cost it its partitions.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from telstate.errors import JournalError, RevisionConflict
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsRefused
from telstate.journals.nats._names import Names
from telstate.routing._log import Log, failure_of, random_letters, text_of

__all__ = ["JOINING", "LEAVING", "SHARING", "Lease"]

JOINING, SHARING, LEAVING = "joining", "sharing", "leaving"
"""What a worker says in its key: whether it takes partitions that others give, not yet or not any more."""

_STARTS_FOR = 0.5
"""The part of the time to live for which handlers may start. The rest is for those that have started just before."""
_RENEWALS = 4
"""Renewals in one time to live."""
_RETRY = 0.05
_STUCK_AFTER = 60.0
"""Seconds after which a worker whose event loop does not turn renews no more: others should have its partitions."""
_TICK = 0.5
_DEAF_AFTER = 2
"""So many renewals without an answer, and a connection that seems to be open is replaced."""
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def _now() -> float:
    """Read a monotonic clock that goes on while the machine sleeps, where there is one: others' clocks go on, too."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Lease:
    """One lease. It begins once, and once it is lost or ended it is over.

    Args:
        connect: returns a new connection, not open yet. It is used in the lease's own thread.
        names: say where the key is.
        ttl: the time to live in seconds.
        lost: called, in the loop of `begin`, when somebody has declared this worker dead.
    """

    def __init__(
        self, connect: Callable[[], NatsConnection], names: Names, ttl: float, lost: Callable[[], None]
    ) -> None:
        self.id: str = random_letters(16)
        """Names the worker for as long as the lease lasts."""
        self.ttl = ttl
        self.lapses: int = 0
        """How often it was found suspended when it was renewed."""
        self._connect = connect
        self._stream, self._subject = names.owners, names.worker(self.id)
        self._lost = lost
        self._until = 0.0
        self._revision = 0
        self._unanswered = 0
        self._is_over = False
        self._says = JOINING
        self._ticked = _now()
        self._caller: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._begun: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        """Set when the key is to be written now."""
        self._thread = Thread(target=self._run, name="telstate lease", daemon=True)
        self._log = Log(burst=2, every=10.0)

    def __repr__(self) -> str:
        state = "over" if self._is_over else "valid" if self.is_valid() else "suspended"
        return f"<Lease {self.id}: {state}>"

    def is_valid(self) -> bool:
        """Return True if handlers may start now. From any thread."""
        return _now() < self._until and not self._is_over

    # --- in the worker's loop -------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Take the lease, and renew it from now on.

        Raises:
            JournalError: if the server does not answer, or refuses.
        """
        self._caller = asyncio.get_running_loop()
        self._begun = self._caller.create_future()
        self._tick()
        self._thread.start()
        try:
            await self._begun
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Give it back: whoever wants may have everything at once. No handler starts any more."""
        self._is_over, self._until = True, 0.0
        if self._ticker is not None:
            self._ticker.cancel()
        self._write_soon()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, self.ttl)

    def say(self, state: str) -> None:
        """Let all others know whether this worker takes partitions: `SHARING` or `LEAVING`."""
        self._says = state
        self._write_soon()

    def _write_soon(self) -> None:
        if self._loop is not None and self._news is not None:
            with suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(self._news.set)

    def _tick(self) -> None:
        """Show that the worker's loop turns."""
        assert self._caller is not None  # noqa: S101
        self._ticked = _now()
        self._ticker = self._caller.call_later(_TICK, self._tick)

    # --- in its own thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:
            self._log.error("lease.failed", **failure_of(error), hint="the worker begins a new one")
            self._tell(
                error if isinstance(error, JournalError) else JournalError(f"the lease failed: {text_of(error)}")
            )

    def _tell(self, error: Exception | None) -> None:
        """Tell the worker that the lease has begun, that it could not, or that it is lost."""
        caller, begun = self._caller, self._begun
        assert caller is not None  # noqa: S101
        assert begun is not None  # noqa: S101

        def tell() -> None:
            if not begun.done():
                begun.set_result(None) if error is None else begun.set_exception(error)
            elif error is not None and not self._is_over:
                self._is_over, self._until = True, 0.0
                self._lost()

        with suppress(RuntimeError):  # the worker's loop has ended
            caller.call_soon_threadsafe(tell)

    async def _live(self) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        if self._is_over:
            return
        connection = self._connect()
        try:
            await connection.open(max(1.0, self.ttl))
            await self._renew(connection)
            self._tell(None)
            while not await self._sleep(self.ttl / _RENEWALS):
                connection = await self._stay_alive(connection)
            with suppress(JournalError):  # else it expires
                await self._write(connection, alive=False)
        except _Dead as error:
            self._log.warning("lease.lost", lease=self.id, error=str(error), hint="the worker begins a new one")
            self._tell(JournalError(str(error)))
        finally:
            await connection.aclose()

    async def _sleep(self, seconds: float) -> bool:
        """Sleep, unless the key is to be written now; return True if the lease is over. Its key says so then, if that is possible."""
        assert self._news is not None  # noqa: S101
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        return self._is_over

    async def _stay_alive(self, connection: NatsConnection) -> NatsConnection:
        """Renew until that succeeds; return the connection to use from now on."""
        while not self._is_over:
            if _now() - self._ticked > _STUCK_AFTER:
                hint = "its lease is not renewed until it turns: find the handler that blocks it"
                self._log.error("lease.loop_blocked", seconds=round(_now() - self._ticked), hint=hint)
            elif await self._has_renewed(connection):
                break
            if self._unanswered >= _DEAF_AFTER and connection.is_connected:
                self._unanswered = 0
                await connection.aclose()
                connection = self._connect()
            await self._sleep(_RETRY)
        return connection

    async def _has_renewed(self, connection: NatsConnection) -> bool:
        """Try to renew. Without an answer it may have been stored all the same: what is there now says so.

        Raises:
            _Dead: if somebody has declared this worker dead, or the key is gone.
        """
        try:
            await self._renew(connection)
        except RevisionConflict:
            with suppress(JournalError):
                await self._find_revision(connection)
        except NatsRefused as error:
            raise _Dead(f"it cannot be renewed: {error}") from error
        except JournalError as error:
            self._unanswered += 1
            self._log.warning("lease.not_renewed", lease=self.id, error=str(error), starts_handlers=self.is_valid())
        else:
            self._unanswered = 0
            return True
        return False

    async def _renew(self, connection: NatsConnection) -> None:
        sent = _now()
        self._revision = await self._write(connection, alive=True)
        if sent >= self._until and self._until:
            self.lapses += 1
            self._log.info("lease.resumed", lease=self.id, after=round(sent - self._until, 1))
        self._until = sent + _STARTS_FOR * self.ttl

    async def _write(self, connection: NatsConnection, *, alive: bool) -> int:
        value = {
            "alive": alive,
            "state": self._says,
            "ttl": self.ttl,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        answer_within = self.ttl / _RENEWALS
        data = json.dumps(value).encode()
        return await connection.publish(
            self._subject, data, expect_last=self._revision, within=0, answer_within=answer_within
        )

    async def _find_revision(self, connection: NatsConnection) -> None:
        found = await connection.last(self._stream, self._subject, within=0)
        if found is None or not json.loads(found.data).get("alive"):
            raise _Dead("another worker has declared this one dead, as it renewed its lease too late")
        self._revision = found.seq


class _Dead(Exception):
    """The lease is lost."""
