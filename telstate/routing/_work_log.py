"""What became of work: which jobs are done, which were given up, and what others outside are to be told, written to the journal a little later.

Late is early enough: what a crash loses is only that something was done, and handlers run at least once anyway. So marks wait for the
next append, which takes them along in its own transaction; where none comes within some milliseconds, they are written by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from shlex import quote
from time import monotonic
from typing import TypeVar

import anyio

from telstate.errors import JournalError, ParseError
from telstate.routing._abilities import abilities_of, append
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._job_codec import letter_of
from telstate.routing._lanes import Job
from telstate.routing._log import Log, failure_of
from telstate.routing._ports import Clock, DeadLetter, Entry, Journal, Notification, Record

__all__ = ["GIVEN_UP", "PROCESS_DIED", "UNDELIVERED", "WorkLog"]

T = TypeVar("T")

PROCESS_DIED = "ProcessDied"
"""The reason of a dead letter whose handlers did not raise, but ended the process."""
RAISED, UNREADABLE, UNDELIVERED = "handler-raised", "unreadable", "not-delivered"
_KINDS = {PROCESS_DIED: "process-died", "LaneFull": "lane-full"}
"""Kinds of reasons. Any other reason is the name of an exception."""
GIVEN_UP = (RAISED, *_KINDS.values(), UNREADABLE, UNDELIVERED)
"""Every kind."""
_TRIES = 10
_FLUSH_AFTER = 0.02
"""Seconds of real time after which is written what no append took along. Events that come one after another take all along."""
_FLUSH_AGAIN = 1.0
"""Seconds after which a write that failed is tried again."""
_TICK = 0.01
"""Seconds after which marks are written to a shared journal: so much work runs again where this process dies."""
_LOG_EVERY = 10.0
"""Seconds between two lines of one name while a write fails again and again."""


class WorkLog:
    """Marks and dead letters on their way to the journal.

    Args:
        journal: keeps them.
        clock: says when a job was given up.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._marks: list[int] = []
        self._letters: list[DeadLetter] = []
        self._messages: list[Notification] = []
        self.posted: Callable[[Sequence[Notification]], None] = _ignore
        """Called with messages that the journal has from now on."""
        self._forgotten: list[int] = []
        self._flushing = anyio.Lock()
        self._writing: anyio.CancelScope | None = None
        self._has_failed = False
        """True if the last write did."""
        self._is_running = False
        """True from `open` to `close`: then a write is finished within the time that `close` gives."""
        self._log = Log()
        self._log_of_failures = Log(burst=1, every=_LOG_EVERY)
        path = getattr(journal, "path", None)
        self.see: str | None = None if path is None else f"telstate dead list {quote(str(path))}"
        """The command that shows dead letters, for the lines of the log that tell of one; None for a journal that is no file."""
        abilities = abilities_of(journal)
        self._is_shared = abilities.is_shared
        self._done_with_next = abilities.done_with_next
        self._add_messages = abilities.add_messages
        self._riding: list[int] = []
        """The marks that an append under way takes along."""
        self.done_before: set[int] = set()
        """Retirements whose handlers have run, and whose sessions are still known here: the clock of who ran them was ahead of ours."""
        self._rides = 0
        """How many appends took marks along."""
        self._marked = anyio.Event()
        """There is something to write."""
        self.given_up: Counter[str] = Counter(dict.fromkeys(GIVEN_UP, 0))
        """How many dead letters were kept, by the kind of their reason."""
        self.done: Callable[[int], None] = abilities.done_now or self._mark
        """Mark work as done, by its number: see `Journal`."""

    def _mark(self, seq: int) -> None:
        self._marks.append(seq)
        self._marked.set()

    def finished(self, job: Job) -> None:
        """All handlers of a job have run."""
        if job.letter:
            self.forget(job.letter)  # if a handler failed again, there is a new one
        else:
            self.done(job.seq)

    def give_up(self, job: Job, reason: str, detail: str, handler: str | None = None) -> None:
        """Keep a dead letter for a job, or for one handler of it."""
        self.given_up[_KINDS.get(reason, RAISED)] += 1
        self._letters.append(letter_of(job, reason, detail, self._clock.now() or 0.0, handler))
        self._marked.set()

    def give_up_poisoned(self, job: Job, deliveries: int) -> None:
        """Keep a dead letter for a job whose handlers end the process each time."""
        detail = (
            f"the process ended {deliveries} times while its handlers ran, the last times with no other beside them: one of them"
            " exits, crashes or hangs until it is killed. They do not run again unless the dead letter is retried"
        )
        self._give_up_deadly(job, detail)
        self.done(job.seq)

    def give_up_filters(self, job: Job, deliveries: int) -> None:
        """Keep a dead letter for the handlers of a job one of whose filters ends the process each time. Its others may run."""
        detail = (
            f"the process ended {deliveries} times while the filters (where=) of its handlers were asked: the handlers that have one"
            " do not run for this event unless the dead letter is retried"
        )
        self._give_up_deadly(job, detail)

    def _give_up_deadly(self, job: Job, detail: str) -> None:
        event_id = job.outcome.event_id if job.outcome is not None else f"retirement of {job.session}"
        self._log.error("handlers.dead_letter", event_id=event_id, reason=PROCESS_DIED, detail=detail)
        self.give_up(job, PROCESS_DIED, detail)

    def give_up_unreadable(self, record: Record, error: ParseError) -> None:
        """Keep a dead letter for a record that was an event once and cannot be read any more."""
        event_id = f"{self._journal.id}:{record.seq}"
        self._log.error("journal.unreadable_event", event_id=event_id, error=str(error))
        if not record.done:
            self.given_up[UNREADABLE] += 1
            self._letters.append(
                DeadLetter(record.seq, "ParseError", None, str(error), record.at, record.dialect, record.payload)
            )
            self.done(record.seq)

    def forget(self, letter: int) -> None:
        """Drop a dead letter that was tried again."""
        self._forgotten.append(letter)
        self._marked.set()

    def post(self, messages: Sequence[Notification]) -> None:
        """Keep messages to receivers outside. They are written before the marks of the work that they are about."""
        self._messages.extend(messages)
        self._marked.set()

    @property
    def unwritten(self) -> list[int]:
        """The marks that are not written yet, as far as is known."""
        return [*self._riding, *self._marks]

    async def append(self, entries: Sequence[Entry], after: int) -> Sequence[int]:
        """Append to the journal as `_abilities.append`, and let the marks that there are go along, if the journal can do that.

        Not while dead letters or messages wait or are written: as in a flush, these come first.
        """
        ride = self._done_with_next
        comes_first = self._letters or self._messages or self._flushing.locked()
        if ride is None or not entries or not self._marks or comes_first:
            return await append(self._journal, entries, after)
        self._riding = _taken(self._marks)
        try:
            ride(self._riding)
            seqs = await append(self._journal, entries, after)
        except BaseException:
            self._marks[:0] = self._riding  # it may have written them: then they are written again
            raise
        finally:
            self._riding = []
        self._rides += 1
        return seqs

    async def end_commit(self) -> None:
        """Write what there is, if no later append can take it along. Dead letters are written now: marks wait for them."""
        if self._is_shared:
            return  # they are written at the next tick, with those of other journals
        if self._done_with_next is None or self._letters or self._forgotten:
            await self.flush()

    async def add_now(self, letter: DeadLetter, kind: str = UNREADABLE) -> None:
        """Write one letter; durable on return. If that fails, nothing is kept: the sender brings it again.

        Args:
            letter: the dead letter.
            kind: one of `GIVEN_UP`, by which it is counted.

        Raises:
            JournalError: if it cannot be written.
        """
        if self._letters:
            await self.flush()  # those that were given up before it get their numbers before it
        try:
            await self._journal.add_dead_letters([letter])
        except JournalError:
            raise
        except Exception as error:
            raise JournalError(f"the journal could not keep the dead letter: {error}") from error
        self.given_up[kind] += 1

    async def flush(self) -> None:
        """Write what there is. A failure is logged; what it concerns is written the next time."""
        async with self._flushing:  # on return all is written that was there before, also by a flush under way
            if self._letters or self._messages or self._marks or self._forgotten or self._riding:
                # A write cut off may be in the journal all the same, and would be made again.
                with anyio.CancelScope(shield=self._is_running) as self._writing:
                    await self._flush()

    async def _flush(self) -> None:
        letters, marks, forgotten = _taken(self._letters), _taken(self._marks), _taken(self._forgotten)
        messages = _taken(self._messages)
        marks += self._riding  # whoever flushes must know them to be written, and the append may fail yet
        self._has_failed = True
        try:
            with own_cancellation_only():
                if letters:  # first: nobody looks again at what is marked
                    await self._journal.add_dead_letters(letters)
                    letters = []
                if messages and self._add_messages is not None:  # before the marks, for the same reason
                    await self._add_messages(messages)
                    self.posted(messages)
                    messages = []
                if marks:
                    await self._journal.done(marks)
                    marks = []
                if forgotten:
                    await self._journal.drop_dead_letters(forgotten)
                    forgotten = []
            self._has_failed = False
        except Exception as error:
            hint = "tried again later; if that never works, their handlers run again at the next start"
            facts = {"events": len(marks), "letters": len(letters), **failure_of(error)}
            self._log_of_failures.error("journal.marks_failed", **facts, hint=hint)
        finally:
            self._letters[:0], self._marks[:0], self._forgotten[:0] = letters, marks, forgotten
            self._messages[:0] = messages

    async def settle(self) -> bool:
        """Write all dead letters and messages, so that a checkpoint taken directly afterwards loses none.

        Returns:
            False if new ones come as fast as they are written.

        Raises:
            JournalError: if they cannot be written.
        """
        for _ in range(_TRIES):
            await self.flush()
            if not self._letters and not self._messages:
                return True
        if self._has_failed:
            raise JournalError("dead letters or messages could not be written")
        return False

    def open(self) -> None:
        """Finish each write from now on, also where the task that asked for it is cancelled."""
        self._is_running = True

    def close(self, within: float) -> None:
        """Give a write under way so many seconds. Those who write from now on have a deadline of their own."""
        self._is_running = False
        if self._writing is not None:
            self._writing.deadline = anyio.current_time() + within

    async def run(self) -> None:
        """Write what no append took along, soon after it is there; on a shared journal, at the next tick."""
        while True:
            rides = self._rides
            await self._wait()
            if rides == self._rides or self._letters or self._messages or self._forgotten:
                await self.flush()

    async def _wait(self) -> None:
        """Wait until there is something to write, and then a little. The shared journals of a process write at the same tick."""
        if self._has_failed:
            await anyio.sleep(_FLUSH_AGAIN)
            return
        if not (
            self._marks or self._letters or self._messages or self._forgotten
        ):  # some may have come during the last write
            self._marked = anyio.Event()
            await self._marked.wait()
        await anyio.sleep(_TICK - monotonic() % _TICK if self._is_shared else _FLUSH_AFTER)


def _ignore(messages: Sequence[Notification]) -> None:
    """Nobody sends messages."""


def _taken(items: list[T]) -> list[T]:
    """Empty a list in place; return what was in it."""
    taken = items.copy()
    items.clear()
    return taken
