"""One partition that a worker owns: an ordinary dispatcher on the partition's journal, opened again after every error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

from telstate.errors import JournalError, NotRunning
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._journal import NatsJournal
from telstate.journals.nats._streams import Streams
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log, failure_of, text_of

__all__ = ["Partition"]

_ANSWER_WITHIN = 5.0
_STILL_AFTER = 30.0
"""Seconds after which a partition that does not go on, though it has events, is opened again."""
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
"""Seconds before a partition is opened again, doubled each time."""


class Partition:
    """Runs one partition from when it is taken until it is handed over or lost.

    Args:
        connection: open.
        streams: theirs.
        number: which one.
        make: makes the dispatcher for a journal.
        show: shows others what an open dispatcher knows, until it is cancelled.
        interrupted: called when a handler raised KeyboardInterrupt: the worker ends in order.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        connection: NatsConnection,
        streams: Streams,
        number: int,
        make: Callable[[NatsJournal], Dispatcher],
        show: Callable[[Dispatcher], Coroutine[Any, Any, None]],
        interrupted: Callable[[], None],
    ) -> None:
        self.number: int = number
        self.calls: Dispatcher | None = None
        """The dispatcher, while it is open."""
        self.problem: str | None = None
        """Why it could not be opened, in words."""
        self._connection = connection
        self._streams = streams
        self._make = make
        self._show = show
        self._interrupted = interrupted
        self.is_lost: bool = False
        """True once another worker owns it."""
        self.seconds_behind: float = 0.0
        """For how long it has not come to the event that was its last at that time, as of the last look."""
        self._goal: tuple[int, float, int] | None = None
        """The last event of an earlier look, its time, and the last event that was stepped then."""
        self._looked_at = 0
        """The last event of all partitions when the goal was asked for."""
        self._opening: Dispatcher | None = None
        self._journal: NatsJournal | None = None
        self._ending = asyncio.Event()
        self._log = Log(burst=5, every=10.0)

    # --- running --------------------------------------------------------------------------------------------------

    async def run(self, before: asyncio.Task[None] | None = None) -> None:
        """Run until it is handed over or dropped. It raises nothing.

        Args:
            before: what ran this partition here before, and may not have ended yet.
        """
        if before is not None:
            await asyncio.wait({before})
        pause = _PAUSE
        while not self._ending.is_set():
            began = asyncio.get_running_loop().time()
            problem = await self._run_once()
            if problem is None or self._ending.is_set():
                return
            self.problem = problem
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE:
                pause = _PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_once(self) -> str | None:
        """Run the dispatcher; return what went wrong, in words."""
        try:
            await self._serve()
        except NotRunning:  # it was dropped while it started
            return None if self._ending.is_set() else "it was shut down"
        except KeyboardInterrupt:
            self._ending.set()
            self._interrupted()
        except Exception as error:
            if not self._ending.is_set() or not isinstance(error, JournalError):
                hint = "the partition is opened again; its events wait in the stream"
                self._log.error("partition.failed", partition=self.number, **failure_of(error), hint=hint)
            return text_of(error)
        finally:
            self.calls = self._opening = None
        return None if self._ending.is_set() else "it stood still"

    async def _serve(self) -> None:
        self._journal = NatsJournal(self._connection, self._streams, self.number)
        self._opening = self._make(self._journal)
        async with self._opening as calls:
            self.calls, self.problem = calls, None
            showing = asyncio.ensure_future(self._show(calls))
            try:
                await self._ending.wait()
            finally:
                showing.cancel()
                await asyncio.wait({showing})  # `gather` would bring its cancellation here

    # --- ending ---------------------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Let what runs finish, and leave the rest to the next owner."""
        if self.calls is None:  # nothing runs in one that is not open yet
            self._cut_off()
        self._ending.set()

    def cut_off(self) -> None:
        """Hand it over without waiting for what runs: the next owner runs that again."""
        self._cut_off()
        self._ending.set()

    def drop(self, reason: str) -> None:
        """Cut off what runs: another worker owns the partition, and runs it too."""
        self.is_lost = True
        if self._journal is not None:
            self._journal.lose(reason)
        self._cut_off()
        self._ending.set()

    def _cut_off(self) -> None:
        if self._opening is not None:
            self._opening.shut_down()
            self._opening.shut_down()

    # --- where it stands ------------------------------------------------------------------------------------------

    @property
    def stepped(self) -> int:
        """The number of the last event that was stepped."""
        return 0 if self.calls is None else self.calls._sequencer.seq

    @property
    def behind(self) -> int | None:
        """How many events were not read yet, as far as its reader knows; None while it is not open."""
        return None if self.calls is None or self._journal is None else self._journal.behind

    async def look(self, end: int) -> None:
        """Ask the server how far it is. One that stands still, though its events are there, is opened again.

        Args:
            end: the last event of all partitions. While there is no new one, nothing is asked.

        Raises:
            JournalError: if the server does not answer.
        """
        if self.calls is None:
            self._goal, self._looked_at = None, 0
            return
        if self._goal is None or self.stepped >= self._goal[0]:
            if end == self._looked_at:
                self.seconds_behind = 0.0
                return
            self._looked_at = end
            last = await self._connection.last(
                self._streams.names.events, self._streams.names.events_of(self.number), within=_ANSWER_WITHIN
            )
            self._goal = None if last is None else (last.seq, monotonic(), self.stepped)
        goal = self._goal
        self.seconds_behind = 0.0 if goal is None or self.stepped >= goal[0] else monotonic() - goal[1]
        if goal is not None and self.seconds_behind > _STILL_AFTER and self.stepped == goal[2] and not self._is_full:
            hint = "it is opened again"
            self._log.error("partition.stands_still", partition=self.number, seconds=self.seconds_behind, hint=hint)
            self._goal = None
            self._cut_off()

    @property
    def _is_full(self) -> bool:
        """True while it waits for handlers: then it stands still for a reason."""
        return self.calls is not None and self.calls._backlog.is_full
