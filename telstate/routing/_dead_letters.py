"""Dead letters: what was given up, for a person to look at, to try again or to drop."""

from __future__ import annotations

import builtins
from contextlib import aclosing

import anyio

from telstate.errors import JournalError, NotRunning, ParseError
from telstate.routing._abilities import abilities_of
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._deliveries import Deliveries
from telstate.routing._handlers import HandlerTable
from telstate.routing._job_codec import JobContext, job_of_letter, lane_of
from telstate.routing._lanes import Lanes
from telstate.routing._log import Log, failure_of
from telstate.routing._outbox import Outbox, notification_in
from telstate.routing._payload import read_entry
from telstate.routing._ports import Journal, KeptLetter
from telstate.routing._sequencer import Sequencer
from telstate.routing._work_log import PROCESS_DIED, WorkLog

__all__ = ["DeadLetters"]

_LOOK_EVERY = 2.0
"""Seconds of real time between two looks for letters that another process asked to retry."""
_LOG_EVERY = 10.0
"""Seconds between two log lines while looking for them fails again and again."""


class DeadLetters:
    """The dead letters of a dispatcher: `calls.dead_letters`.

    Handlers that raised or ended the process, events beyond a lane's limit, payloads that are not events, and messages that a receiver
    outside did not accept.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        journal: Journal,
        handlers: HandlerTable,
        sequencer: Sequencer,
        work_log: WorkLog,
        lanes: Lanes,
        deliveries: Deliveries,
        outbox: Outbox | None = None,
    ) -> None:
        self._outbox = outbox
        self._journal = journal
        self._every = _LOOK_EVERY * abilities_of(journal).patience
        self._deliveries = deliveries
        self._handlers = handlers
        self._sequencer = sequencer
        self._work_log = work_log
        self._lanes = lanes
        self._taken: set[int] = set()
        """Letters that are being tried again."""
        self._looking = anyio.Lock()
        self.starting: bool = True
        """True until the retries that were requested before the start have been queued."""
        self._log = Log()
        self._log_of_failures = Log(burst=1, every=_LOG_EVERY)

    async def list(self) -> builtins.list[KeptLetter]:
        """Return the dead letters that were not dropped.

        Raises:
            JournalError: if the journal cannot be read.
        """
        await self._work_log.flush()
        return [kept async for kept in self._journal.dead_letters()]

    async def retry(self, *numbers: int) -> None:
        """Try dead letters again, now, in the lane of their session. One that fails again becomes a new letter.

        Raises:
            JournalError: if the journal cannot be read or written.
            NotRunning: outside the dispatcher's `async with`.
        """
        await self._journal.request_retry(numbers)
        await self._take_up()

    async def drop(self, *numbers: int) -> None:
        """Forget dead letters.

        Raises:
            JournalError: if the journal cannot be written.
        """
        await self._journal.drop_dead_letters(numbers)

    async def run(self) -> None:
        """Try again what another process, as `telstate dead retry`, asks for."""
        while True:
            try:
                with own_cancellation_only():
                    await self._take_up()
            except Exception as error:
                hint = "it looks for them again soon"
                self._log_of_failures.error("dead_letters.failed", **failure_of(error), hint=hint)
            self.starting = False
            await anyio.sleep(self._every)

    async def _take_up(self) -> None:
        # One look at a time: an older list would make it forget what a newer one has found.
        async with self._looking:
            requested = [kept.number async for kept in self._journal.dead_letters(retry_requested=True)]
            self._taken &= set(requested)  # the others were dropped
            if new := set(requested) - self._taken:
                await self._deliveries.retrying(number for number in new if self._deliveries.may_be_retried(number))
                await self._take(new)

    async def _take(self, new: set[int]) -> None:
        async with aclosing(self._journal.dead_letters(retry_requested=True)) as letters:
            async for kept in letters:
                if kept.number in new:
                    self._taken.add(kept.number)
                    await self._try(kept)

    async def _try(self, kept: KeptLetter) -> None:
        try:
            if not self._deliveries.may_be_retried(kept.number):
                await self._withdraw(kept)
            elif notification_in(kept.letter) is not None:
                self._send(kept)
            elif kept.letter.seq:
                self._put(kept)
            else:
                await self._receive(kept)
        except (NotRunning, JournalError):
            self._taken.discard(kept.number)  # it is taken up again when events can be kept
            raise
        except (ParseError, KeyError, TypeError, ValueError) as error:
            self._log.error("dead_letter.unreadable", number=kept.number, error=str(error))

    async def _withdraw(self, kept: KeptLetter) -> None:
        """Keep a letter whose retry ends the process each time, but do not try it again: as a new one, which nobody asked for."""
        detail = (
            f"the process ended {self._deliveries.limit} times while it was tried again: one of its handlers may exit, crash or hang"
            " until it is killed. Retry it only when that is mended"
        )
        self._log.error("dead_letter.withdrawn", number=kept.number, handler=kept.letter.handler, detail=detail)
        at = self._sequencer.now() or kept.letter.at
        await self._journal.add_dead_letters([kept.letter._replace(reason=PROCESS_DIED, detail=detail, at=at)])
        await self._journal.drop_dead_letters([kept.number])

    def _put(self, kept: KeptLetter) -> None:
        context = JobContext(self._sequencer.engine, self._handlers, self._journal.id)
        job = job_of_letter(kept.letter, context)
        if not job.handlers:
            hint = "it is tried again when a program starts that has the handler"
            self._log.error("dead_letter.without_handler", number=kept.number, handler=kept.letter.handler, hint=hint)
            return
        job.letter = kept.number
        self._lanes.put(lane_of(job), job, force=True)

    def _send(self, kept: KeptLetter) -> None:
        if self._outbox is None or not self._outbox.retry(kept):
            hint = "it is sent when a program starts that has the receiver"
            self._log.error("dead_letter.without_receiver", number=kept.number, handler=kept.letter.handler, hint=hint)

    async def _receive(self, kept: KeptLetter) -> None:
        """Take in a payload that no journal has as an event yet."""
        entry = read_entry(kept.letter.payload, kept.letter.dialect, self._sequencer.now(), live=True)
        await self._sequencer.submit([entry])
        self._work_log.forget(kept.number)
