"""The checks that a dispatcher makes of itself each second: what hangs, fails or is odd is said in the log, before somebody asks.

reason = checks.not_ready        # None, or why it should get no new calls now, in words
"""

from __future__ import annotations

from time import monotonic

import anyio

from telstate.errors import JournalError, NotRunning
from telstate.events import SourceGap
from telstate.events._masking import mask
from telstate.routing._backlog import Backlog
from telstate.routing._clock import SystemClock
from telstate.routing._clock_watch import ClockWatch
from telstate.routing._lanes import Lanes
from telstate.routing._log import Log, report_repeated
from telstate.routing._loop_watch import watching
from telstate.routing._ports import Clock
from telstate.routing._sequencer import Sequencer

__all__ = ["SelfChecks"]

_EVERY = 1.0
_PROBE_EVERY = 2
"""Looks between two attempts to write to a journal that has failed."""
_SAY_EVERY = 30.0
"""Seconds between two log lines about too many waiting events."""
_BLOCKED_AFTER = 1.0
_STOOD_STILL = 5.0
"""Seconds. Whoever sends events may give up a receiver that does not answer for so long, and send them never again."""


class SelfChecks:
    """Looks at the parts of a dispatcher.

    Args:
        clock: of the dispatcher; only a `SystemClock` can be compared with the machine's.
        sequencer: knows whether the journal keeps events.
        backlog: knows how many events wait.
        lanes: know which handlers run for long.
        slow_after: seconds after which a handler is slow; a loop that is blocked is named after one second at most.
        patience: how much longer than a second to wait between two looks while the journal keeps events.
    """

    def __init__(
        self, clock: Clock, sequencer: Sequencer, backlog: Backlog, lanes: Lanes, slow_after: float, *, patience: float
    ) -> None:
        self._clocks = ClockWatch(clock) if isinstance(clock, SystemClock) else None
        self._sequencer = sequencer
        self._backlog = backlog
        self._lanes = lanes
        self._blocked_after = min(slow_after, _BLOCKED_AFTER)
        self._every = _EVERY * patience
        self.standstills: int = 0
        """How often events may have been missed since the start, as the process or the machine stood still."""
        self._log = Log(burst=1, every=_SAY_EVERY)

    @property
    def not_ready(self) -> str | None:
        """Why no new calls should come, in words; None if they may."""
        problems = (self._sequencer.health.problem, self._crowd())
        return mask("; ".join(problem for problem in problems if problem is not None)) or None

    async def run(self) -> None:
        """Look, again and again."""
        looks = 0
        while True:
            pause, begun = _EVERY if self._sequencer.health.has_failed else self._every, monotonic()
            await anyio.sleep(pause)
            stood_still = monotonic() - begun - pause
            looks += 1
            self._sequencer.health.look()
            self._look_at_backlog()
            report_repeated()
            if self._sequencer.health.has_failed and looks % _PROBE_EVERY == 0:
                await self._sequencer.health.probe()
            if self._clocks is not None and (seconds := self._clocks.look()):
                await self._after_gap(f"the machine was suspended for {seconds:.0f} seconds")
            elif self._clocks is not None and stood_still >= _STOOD_STILL:
                self._log.warning(
                    "clock.stood_still", seconds=round(stood_still, 3), hint="events may have been missed meanwhile"
                )
                await self._after_gap(f"the process stood still for {stood_still:.0f} seconds")

    async def watch_loop(self) -> None:
        """Have a thread look at the event loop."""
        with watching(self._blocked_after) as watch:
            await watch.run()

    def _look_at_backlog(self) -> None:
        crowd = self._crowd()
        if crowd is not None:
            hint = "give handlers that can hang a timeout=, or find out why they are slow"
            self._log.warning("handlers.near_pending_limit", receiving=self._backlog.senders, detail=crowd, hint=hint)

    def _crowd(self) -> str | None:
        """Say that the pending limit is near, and which handler has run longest; None if it is not."""
        if not self._backlog.is_nearly_full:
            return None
        text = f"{self._backlog.pending} events wait for handlers, and from {self._backlog.limit} on receive waits too"
        longest = self._lanes.longest()
        return text if longest is None else f"{text}; {longest[0]} has run for {longest[1]:.0f} seconds"

    async def _after_gap(self, reason: str) -> None:
        """Events may have been missed, as while a service is down."""
        self._sequencer.look_at_limits()
        if self._sequencer.is_shared:  # others went on to append
            return
        self.standstills += 1
        if not self._sequencer.engine.live():
            return
        try:
            await self._sequencer.submit_events(SourceGap(reason=reason))
        except (JournalError, NotRunning) as error:
            self._log.error("clock.gap_not_kept", error=str(error), hint="live sessions are not marked as uncertain")
