"""What a campaign is asked for while it runs: to pause, to go on, to stop. The ledger has it under the campaign's name."""

from __future__ import annotations

from collections.abc import Callable

from telstate.calls._intents import HALT_STOPPED
from telstate.errors import DefinitionError
from telstate.events import IntentHeld
from telstate.routing._abilities import abilities_of
from telstate.routing._campaign_wishes import campaign_event
from telstate.routing._dispatcher import Dispatcher

__all__ = ["CampaignOrders"]

_LOOK_EVERY = 1.0


class CampaignOrders:
    """The orders of one run.

    Args:
        campaign: its name.
        calls: has the ledger.
        changed: is called when it was paused, resumed or stopped.
    """

    def __init__(self, campaign: str, calls: Dispatcher, changed: Callable[[], None]) -> None:
        self._campaign = campaign
        self._calls = calls
        self._ledger = calls.intent_ledger(campaign)
        able = None if calls.journal is None else abilities_of(calls.journal)
        self._requests = None if able is None else able.campaign_requests
        self._drop = None if able is None else able.drop_campaign_requests
        self._changed = changed
        self.halt: str | None = None
        """Whether it is `paused` or `stopped`, as of the last look."""

    def look(self) -> None:
        """Look in the ledger whether it is paused or stopped."""
        halt = self._ledger.read().halt
        if halt != self.halt:
            self.halt = halt
            self._changed()

    async def hold(self) -> None:
        """Let the journal know the campaign, and not forget it."""
        await self._ledger.post(IntentHeld(intent=self._campaign))

    async def ask(self, wish: str) -> None:
        """Pause, resume or stop it.

        Raises:
            DefinitionError: if it was stopped before.
            JournalError: if that could not be kept.
        """
        known = await self._ledger.write(campaign_event(self._campaign, wish))
        if known.halt == HALT_STOPPED and wish != "stop":
            raise DefinitionError(
                f"the campaign {self._campaign!r} was stopped, which is for good: give what is left another name"
            )

    async def follow(self) -> None:
        """Do what other processes ask for, through the journal or, where workers share it, in the ledger itself."""
        while self._requests is not None or self._ledger.is_shared:
            await self.obey()
            await self._calls.clock.sleep(_LOOK_EVERY)

    async def obey(self) -> None:
        """Do what other processes have asked for by now."""
        if self._requests is not None and self._drop is not None and (asked := await self._requests(self._campaign)):
            for request in asked:
                await self._ledger.write(campaign_event(self._campaign, request.wish))
            await self._drop([request.number for request in asked])
        self.look()
