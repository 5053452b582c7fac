"""Looks after a journal that wants that: one that prunes itself, or whose file can disappear under it."""

from __future__ import annotations

import anyio

from telstate.routing._abilities import abilities_of
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._checkpoints import Checkpoints
from telstate.routing._log import Log, failure_of
from telstate.routing._ports import Journal
from telstate.routing._sequencer import Sequencer

__all__ = ["Tender"]

_EVERY = 1.0
"""Seconds of real time between two visits."""
_LOG_EVERY = 60
"""Visits that fail are logged at first, and then one in so many."""


class Tender:
    """Calls `TendedJournal.tend` again and again.

    Args:
        journal: others than a `TendedJournal` are left alone.
        sequencer: has the time.
        checkpoints: make one when the journal needs it.
    """

    def __init__(self, journal: Journal, sequencer: Sequencer, checkpoints: Checkpoints) -> None:
        abilities = abilities_of(journal)
        self._tend, self._every = abilities.tend, _EVERY * abilities.patience
        self._sequencer = sequencer
        self._checkpoints = checkpoints
        self._failed = 0
        self._log = Log()

    async def run(self) -> None:
        """Go on until cancelled. A failure is logged, and tried again."""
        while self._tend is not None:
            await anyio.sleep(self._every)
            try:
                with own_cancellation_only():
                    if await self._tend(self._sequencer.now()):
                        self._checkpoints.request()
                self._failed = 0
            except Exception as error:
                if self._failed % _LOG_EVERY == 0:
                    hint = "if its files are gone, events are refused until the program is started again"
                    self._log.error("journal.failed", **failure_of(error), hint=hint)
                self._failed += 1
