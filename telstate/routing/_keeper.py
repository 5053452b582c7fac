"""The keeper: between the dispatcher and its journal. Many events share one append, and are stepped in the order it gave.

Marks and dead letters are written with the next commit or soon after: late is early enough, as a crash only runs
handlers again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio

from telstate.calls._outcome import Outcome
from telstate.errors import JournalError, NotRunning
from telstate.events import Dialect, Event
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import DeadLetter, Entry, Journal

__all__ = ["Keeper", "append", "entry_of"]

_TRIES = 10


class _Waiting:
    """Events that wait for their commit together, and whoever brought them; without any, it is the time that passed."""

    __slots__ = ("at", "done", "entries", "error", "events", "outcomes")

    def __init__(self, at: float, events: Sequence[Event] = (), entries: Sequence[Entry] = ()) -> None:
        self.at = at
        self.events = events
        self.entries = entries
        self.done = anyio.Event()
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None


class Keeper:
    """Keeps events, marks and dead letters in a journal.

    Args:
        journal: where.
        passed: tells the limits that passed by a time, which are kept and stepped first; `alone` is true if no event comes
            after them, which would win over a limit of its own instant.
        step: takes in one event that is kept: with its time and its number.
        advance: lets time pass where no event does.
        have_turns: lets handlers run that wait only for their turn, so that a fast disk does not fill their lanes.
        at_once: events in one commit at most: they are stepped in one go.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        passed: Callable[[float, bool], Sequence[Event]],
        step: Callable[[Event, float, int], Outcome],
        advance: Callable[[float], None],
        have_turns: Callable[[], Awaitable[None]],
        at_once: int,
    ) -> None:
        self._journal = journal
        self._at_once = at_once
        self._passed = passed
        self._step = step
        self._advance = advance
        self._have_turns = have_turns
        self._inbox: dict[_Waiting, None] = {}
        """In order; a dict, so that one can leave from the middle."""
        self._filled = anyio.Event()
        self._commit_scope: anyio.CancelScope | None = None
        self._marks: list[int] = []
        self._letters: list[DeadLetter] = []
        self._dropped: list[int] = []
        self._flushing = anyio.Lock()
        self._closed = False
        self._log = Log()

    @property
    def busy(self) -> bool:
        """True while an event is not yet kept and stepped."""
        return self._commit_scope is not None or bool(self._inbox)

    async def keep(self, event: Event, entry: Entry) -> Outcome:
        """Keep an event and step it.

        Raises:
            JournalError: if it could not be kept. It is not stepped then.
            NotRunning: if the dispatcher was closed before the journal answered. It is not stepped; the next start may find it.
        """
        return (await self._wait(self._enter(_Waiting(entry.at, (event,), (entry,)))))[0]

    async def keep_many(self, events: Sequence[Event], entries: Sequence[Entry]) -> list[Outcome]:
        """Keep events in one commit, and step them; all or none. Raises as `keep`."""
        return await self._wait(self._enter(_Waiting(entries[0].at, events, entries))) if entries else []

    async def keep_local(self, events: Sequence[Event], at: float) -> None:
        """Keep events of our own; raises as `keep`."""
        await self.keep_many(events, [entry_of(event, at) for event in events])

    async def pass_time(self, at: float) -> None:
        """Keep and step whatever limits have passed by then, and let time pass, all of it after the events that came before;
        raises as `keep`."""
        await self._wait(self._enter(_Waiting(at)))

    def _enter(self, waiting: _Waiting) -> _Waiting:
        if self._closed:
            raise NotRunning("the dispatcher was closed before the journal had the event")
        self._inbox[waiting] = None
        self._filled.set()
        return waiting

    async def _wait(self, waiting: _Waiting) -> list[Outcome]:
        try:
            await waiting.done.wait()
        finally:
            self._inbox.pop(waiting, None)  # who gave up before its commit began leaves nothing behind
        if isinstance(waiting.error, NotRunning):
            raise waiting.error
        if waiting.error is not None:
            raise JournalError(
                f"the journal could not keep the event, so it was not taken in: {waiting.error}"
            ) from waiting.error
        return waiting.outcomes

    async def run(self) -> None:
        """Append whatever came since the last append, in one go, again and again."""
        try:
            while True:
                await self._filled.wait()
                await self._have_turns()
                batch = self._take()
                if not self._inbox:
                    self._filled = anyio.Event()
                if batch:
                    await self._commit_shielded(batch)
        finally:
            self._refuse()  # cancelled from further out, nobody has closed it: who is shielded would wait here for ever

    async def _commit_shielded(self, batch: list[_Waiting]) -> None:
        """A batch is appended and stepped, or neither."""
        try:
            with anyio.CancelScope(shield=True) as self._commit_scope:
                await self._commit(batch)
        finally:
            self._commit_scope = None
            _tell(
                batch,
                NotRunning("the dispatcher was closed before the journal answered: whether it has it is not known"),
            )

    def _take(self) -> list[_Waiting]:
        """What goes into the next commit: as much as is bounded, but at least something."""
        batch: list[_Waiting] = []
        room = self._at_once
        for waiting in self._inbox:
            room -= max(1, len(waiting.events))
            if batch and room < 0:
                break
            batch.append(waiting)
        for waiting in batch:
            del self._inbox[waiting]
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        at = batch[0].at
        events = [entry for waiting in batch for entry in waiting.entries]
        # Asked here and nowhere else: what was listed any earlier could be kept twice, or be overtaken by an event.
        limits = self._passed(at, not events)
        entries = [*(entry_of(limit, at) for limit in limits), *events]
        try:
            seqs = await append(self._journal, entries)
        except Exception as error:
            _tell(batch, error)
            return
        numbers = iter(seqs)
        for limit in limits:
            self._step(limit, at, next(numbers))
        for waiting in batch:
            for event, entry in zip(waiting.events, waiting.entries, strict=True):
                waiting.outcomes.append(self._step(event, entry.at, next(numbers)))
            if not waiting.events:
                self._advance(waiting.at)
            waiting.done.set()
        await self.flush()

    def mark(self, seq: int) -> None:
        """An event's handlers are done."""
        self._marks.append(seq)

    def bury(self, letter: DeadLetter) -> None:
        """Something was given up."""
        self._letters.append(letter)

    async def bury_now(self, letter: DeadLetter) -> None:
        """Write one letter, on the disk on return; who is refused brings it again, so nothing is kept of it then.

        Raises:
            JournalError: if it cannot be written.
        """
        async with self._flushing:
            try:
                await self._journal.add_dead_letters([letter])
            except JournalError:
                raise
            except Exception as error:
                raise JournalError(f"the journal could not keep the dead letter: {error}") from error

    async def settle(self) -> None:
        """Write the letters there are, so that who freezes what there is directly after loses none.

        Raises:
            JournalError: if they cannot be written.
        """
        for _ in range(_TRIES):
            await self.flush()
            if not self._letters:
                return
        raise JournalError("dead letters could not be written")

    @property
    def unwritten(self) -> list[int]:
        """The marks that are not written yet."""
        return list(self._marks)

    def drop(self, letter: int) -> None:
        """A dead letter was tried again."""
        self._dropped.append(letter)

    async def flush(self) -> None:
        """Write marks and dead letters, if there are any; on return all that was told before is written, or a try failed."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        letters, self._letters = self._letters, []
        marks, self._marks = self._marks, []
        dropped, self._dropped = self._dropped, []
        try:
            if letters:  # first: what is marked is not looked at again
                await self._journal.add_dead_letters(letters)
                letters = []
            if marks:
                await self._journal.done(marks)
                marks = []
            if dropped:
                await self._journal.drop_dead_letters(dropped)
                dropped = []
        except Exception as error:
            hint = "tried again later; if that never works, their handlers run again at the next start"
            facts = {"events": len(marks), "letters": len(letters), "exception": traceback_of(error)}
            self._log.error("journal.marks_failed", **facts, hint=hint)
        finally:
            self._letters[:0], self._marks[:0], self._dropped[:0] = letters, marks, dropped

    def close(self, within: float) -> None:
        """Nothing more is kept: tell those who still wait, and give a commit that is under way so many seconds."""
        self._refuse()
        if self._commit_scope is not None:
            self._commit_scope.deadline = anyio.current_time() + within

    def _refuse(self) -> None:
        self._closed = True
        _tell(self._inbox, NotRunning("the dispatcher was closed before the journal had the event"))
        self._inbox.clear()


def _tell(batch: Iterable[_Waiting], error: Exception) -> None:
    """Tell those who wait for nothing else that it failed."""
    for waiting in batch:
        if not waiting.done.is_set():
            waiting.error = error
            waiting.done.set()


async def append(journal: Journal, entries: Sequence[Entry]) -> Sequence[int]:
    """Append to a journal, and see that it gave a number for each."""
    seqs = await journal.append(entries) if entries else []
    if len(seqs) != len(entries):
        raise JournalError(f"it gave {len(seqs)} numbers for {len(entries)} events, against its contract")
    return seqs


def entry_of(event: Event, at: float) -> Entry:
    """An event of our own, as it is kept."""
    return Entry(at, Dialect.DAILY_JS, None, event)
