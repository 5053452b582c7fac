"""The time between being asked to stop and stopping: live calls go on until they end, and no new ones should come.

A bot that is redeployed while somebody talks must hear the end of that call; so events are taken in as before.
"""

from __future__ import annotations

import anyio

from telstate.routing._log import Log
from telstate.routing._ports import Clock
from telstate.routing._sequencer import Sequencer

__all__ = ["WindDown"]

_LOOK_EVERY = 0.1


class WindDown:
    """Waits for the end of the live calls.

    Args:
        within: seconds that they may go on; 0 for no such time.
        clock: counts the seconds.
        sequencer: knows the calls.
    """

    def __init__(self, within: float, clock: Clock, sequencer: Sequencer) -> None:
        self._within = within
        self._clock = clock
        self._sequencer = sequencer
        self.has_begun = False
        """True from the first request to stop on."""
        self._cut_short = False
        self._log = Log()

    @property
    def calls(self) -> int:
        """How many calls are live, callers on hold included."""
        engine = self._sequencer.engine
        return len(engine.live()) + len(engine.waiting())

    @property
    def goes_on(self) -> str:
        """What goes on, in words."""
        calls = self.calls
        return "1 call goes on until it ends" if calls == 1 else f"{calls} calls go on until they end"

    def begin(self) -> bool:
        """Begin. Return False if there is nothing to wait for: no such time, it has begun before, or no call is live."""
        if not self._within or self.has_begun or not self.calls:
            return False
        self.has_begun = True
        return True

    def cut_short(self) -> None:
        """Wait no longer."""
        self._cut_short = True

    async def over(self) -> None:
        """Wait until no call is live, or the time is over. The log says which calls are left then."""
        self._log.info("dispatcher.calls_go_on", calls=self.calls, seconds=self._within)
        with self._clock.move_on_after(self._within):
            while self.calls and not self._cut_short:  # noqa: ASYNC110 - calls end by events, limits and signs: no one event tells
                await anyio.sleep(_LOOK_EVERY)
        if left := self._sequencer.engine.live():
            hint = "the next start goes on with them, if there is a journal"
            ids = [session.session_id for session in left[:20]]
            self._log.warning("dispatcher.calls_left", calls=len(left), session_ids=ids, hint=hint)
