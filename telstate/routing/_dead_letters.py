"""Dead letters that somebody asked to try again: their handlers run in the lane of their session, as for a new event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from telstate.errors import JournalError, NotRunning, ParseError
from telstate.routing._lanes import Job
from telstate.routing._log import Log
from telstate.routing._ports import DeadLetter, Journal, KeptLetter

__all__ = ["DeadLetters"]


class DeadLetters:
    """Takes up letters of a journal.

    Args:
        journal: where they are.
        revive: makes a letter work again.
        put: takes the work.
        receive: takes in a payload that no journal has yet.
        drop: told of a letter that is settled.
    """

    def __init__(
        self,
        journal: Journal,
        revive: Callable[[DeadLetter], Job],
        put: Callable[[Job], None],
        receive: Callable[[bytes, str], Awaitable[object]],
        drop: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._revive = revive
        self._put = put
        self._receive = receive
        self._drop = drop
        self._taken: set[int] = set()
        self._log = Log()

    async def take_up(self) -> None:
        """Take up what is asked for and was not taken up yet."""
        asked: set[int] = set()
        async with aclosing(self._journal.dead_letters(retry_requested=True)) as letters:
            async for kept in letters:
                asked.add(kept.number)
                if kept.number not in self._taken:
                    self._taken.add(kept.number)
                    await self._try(kept)
        self._taken &= asked  # the others are dropped for good

    async def _try(self, kept: KeptLetter) -> None:
        try:
            if not kept.letter.seq:
                await self._receive(kept.letter.payload, kept.letter.dialect)
                self._drop(kept.number)
                return
            job = self._revive(kept.letter)
        except NotRunning:
            self._taken.discard(kept.number)  # it is taken up once events can be taken in
            return
        except JournalError:
            self._taken.discard(kept.number)
            raise
        except (ParseError, KeyError, TypeError, ValueError) as error:
            self._log.error("letter.unreadable", number=kept.number, error=str(error))
            return
        if not job.calls:
            hint = "it is tried again when a program starts that has the handler"
            self._log.error("letter.without_handler", number=kept.number, handler=kept.letter.handler, hint=hint)
            return
        job.letter = kept.number
        self._put(job)
