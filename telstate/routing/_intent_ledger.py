"""The ledger of one intent: its events, and what is known after each, whichever dispatcher keeps it.

Where many dispatchers share the calls, the events of an intent go where those of a room of its name would: so all that dial it meet there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from telstate.calls._intents import Intent
from telstate.events import Event
from telstate.routing._across import Across

__all__ = ["IntentLedger"]


class IntentLedger:
    """The ledger of one intent.

    Args:
        intent: its name.
        run: names this run of the dispatcher.
        receive: takes in an event here.
        across: what this dispatcher and the others know.
        now: tells the time, in Unix seconds.
    """

    def __init__(
        self,
        intent: str,
        run: str,
        receive: Callable[[Event], Awaitable[object]],
        across: Across,
        now: Callable[[], float],
    ) -> None:
        self.intent: str = intent
        self.run: str = run
        self.now: Callable[[], float] = now
        self._receive = receive
        self._across = across
        elsewhere = across.elsewhere
        self.is_shared: bool = elsewhere is not None
        """True if dispatchers in other processes may dial it, too."""
        self._elsewhere = elsewhere if elsewhere is not None and elsewhere.has_room(intent) else None

    def read(self) -> Intent:
        """Return what is known. Of another dispatcher's ledger it may be a moment old."""
        if self._elsewhere is None:
            return self._across.own_intent(self.intent) or Intent()
        known = self._elsewhere.intent(self.intent)
        return Intent() if known is None else known[0]

    async def write(self, event: Event) -> Intent:
        """Append an event; return what is known after it. The event counts only if that says so.

        Raises:
            JournalError: if it could not be kept.
            NotRunning: if the dispatcher was left.
        """
        if self._elsewhere is None:
            await self._receive(event)
            return self.read()
        seq = await self._elsewhere.publish(self.intent, event)
        while True:
            changed = anyio.Event()
            end = self._elsewhere.watch_intent(self.intent, changed.set)
            try:
                known = self._elsewhere.intent(self.intent)
                # What has a result never changes it, so an event that is not shown yet did not count.
                if known is not None and (known[1] >= seq or known[0].outcome is not None):
                    return known[0]
                await changed.wait()
            finally:
                end()

    async def post(self, event: Event) -> None:
        """Append an event, and do not wait for what comes of it; raises as `write`."""
        await (self._receive(event) if self._elsewhere is None else self._elsewhere.publish(self.intent, event))
