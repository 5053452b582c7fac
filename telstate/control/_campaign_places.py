"""The places of a campaign: each call has one from its start to its end, also after the answer, when nobody dials it any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from anyio.abc import TaskGroup

from telstate.calls._table import State
from telstate.control._campaign_plan import CampaignPlan
from telstate.control._dialer import Dialer
from telstate.errors import CallEnded, NotRunning

__all__ = ["CampaignPlaces"]


class CampaignPlaces:
    """The places of one run.

    Args:
        plan: says how many there are, and how many for one caller id.
        dialer: has limits, too.
        freed: is called when there is one more.
    """

    def __init__(self, plan: CampaignPlan, dialer: Dialer, freed: Callable[[], None]) -> None:
        self._calls = dialer._calls
        self._slots = dialer._slots
        self._freed = freed
        self._at_once, of_key = plan.at_once, [plan.per_caller_id, dialer._per_key]
        self._per_caller_id = min((limit for limit in of_key if limit is not None), default=None)
        if not callable(plan.room) and dialer._per_room is not None:
            self._at_once = min(plan.at_once, dialer._per_room)  # who waits must not hold a place
        self._taken: Counter[str | None] = Counter()
        """By caller id."""
        self._talking: dict[str, str | None] = {}
        """The sessions that were answered and live, with their caller id. Each has a place."""

    @property
    def is_full(self) -> bool:
        """True if nobody can be called now."""
        return self._taken.total() >= self._at_once

    @property
    def talking(self) -> int:
        """How many calls were answered and go on."""
        return len(self._talking)

    def has_room(self, caller_id: str | None) -> bool:
        """Return whether one more call may have a caller id."""
        limit = self._per_caller_id
        return limit is None or self._taken[caller_id] < limit

    def take(self, caller_id: str | None) -> None:
        """Take one for a call."""
        self._taken[caller_id] += 1

    def free(self, caller_id: str | None) -> None:
        """Give one back."""
        self._taken[caller_id] -= 1
        if not self._taken[caller_id]:
            del self._taken[caller_id]
        self._freed()

    def follow(self, session_id: str | None, caller_id: str | None, group: TaskGroup) -> None:
        """Let a call that was answered have a place until it ends. A task of the group waits for that."""
        session = self._calls.session(session_id or "")
        if session is not None and not session.ended and session.session_id not in self._talking:
            self._talking[session.session_id] = caller_id
            self.take(caller_id)
            group.start_soon(self._follow_to_end, session.session_id)

    async def _follow_to_end(self, session_id: str) -> None:
        with suppress(CallEnded, NotRunning):
            await self._calls.wait_for(session_id, State.STOPPED)
        self.free(self._talking.pop(session_id))

    async def check(self, is_awaited: Callable[[], bool]) -> None:
        """While somebody waits for a place, ask Daily whether the calls that have them still exist: an event may be lost."""
        while True:
            await self._calls.clock.sleep(self._slots.check_every)
            if is_awaited():
                for session_id in tuple(self._talking):
                    await self._slots.check_exists(session_id)
