"""A dialer's turn at an intent: it has the claim, and keeps each start before it is sent, and what came of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from telstate.calls._intents import WITHDRAWN, Intent
from telstate.control._results import Attempt
from telstate.errors import JournalError, NotRunning, TelstateError
from telstate.events import AttemptBegun, AttemptEnded, Event, IntentClaimed, IntentReleased
from telstate.events._masking import mask
from telstate.options import Dialout
from telstate.routing._intent_ledger import IntentLedger
from telstate.routing._log import Log, text_of
from telstate.routing._ports import Clock

__all__ = ["ClaimLost", "IntentTurn"]

_CLAIM_FOR = 30.0
"""Seconds. So long after the end of its process others wait, where workers share the calls."""
_RENEW_EVERY = 10.0
_LOOK_EVERY = 1.0
_KEEP_WITHIN = 5.0
"""Seconds for which an event is tried to be kept."""
_PARTS = 10
"""In so many parts those are waited for: of the time in which the process stands still only one part counts."""
_LONGEST_ERROR = 300


class ClaimLost(NotRunning):
    """This process stood still for so long that another one dials the intent: nothing was sent."""


class IntentTurn:
    """One turn. It can be held again when its claim was lost.

    Args:
        ledger: of the intent.
        clock: the dispatcher's.
        group: renews the claim.
    """

    def __init__(self, ledger: IntentLedger, clock: Clock, group: TaskGroup) -> None:
        self._ledger = ledger
        self._clock = clock
        self._group = group
        self._claim = f"{ledger.run}.{uuid4().hex[:8]}"
        self.outcome: str | None = None
        """The result that ends the intent, if there is one."""
        self.was_away: bool = False
        """True if nobody took in events between the process that dialled before and this one."""
        self._lacks_end = False
        """True if what came of a start could not be kept: then the intent is not over, as whoever takes it up has to find that out."""
        self._log = Log()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Intent]:
        """Hold the claim; yields what is known of the intent. Without the claim if that has a result already.

        Waits while another dial of the intent goes on.
        """
        known = await self._acquire()
        if known.outcome is not None:
            yield known
            return
        renewing, self._lacks_end = anyio.CancelScope(), False
        self._group.start_soon(self._renew, renewing)
        try:
            yield known
        finally:
            renewing.cancel()
            outcome = None if self._lacks_end else self.outcome
            await self._post(IntentReleased(intent=self._ledger.intent, claim=self._claim, outcome=outcome))

    async def _acquire(self) -> Intent:
        while True:
            known, now = self._ledger.read(), self._ledger.now()
            is_dead = not self._ledger.is_shared and not (known.claim or "").startswith(self._ledger.run)
            if known.outcome is not None:
                return known
            self.was_away |= is_dead and known.claim is not None
            if is_dead or not known.is_claimed(now):
                known = await self._ledger.write(self._claimed(takes_over=is_dead and known.claim is not None))
                if known.claim == self._claim or known.outcome is not None:
                    return known
            await self._clock.sleep(max(0.01, min(_LOOK_EVERY, known.claimed_until - now)))

    def _claimed(self, *, takes_over: bool = False) -> IntentClaimed:
        until = self._ledger.now() + _CLAIM_FOR
        return IntentClaimed(
            intent=self._ledger.intent, claim=self._claim, expires_at=until, takes_over=takes_over or None
        )

    async def _renew(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                await self._clock.sleep(_RENEW_EVERY)
                await self._post(self._claimed())

    async def begin(self, options: Dialout, room: str | None) -> int:
        """Keep a start that is about to be sent; return its place among those of the intent.

        Raises:
            ClaimLost: if somebody else has the claim by now: nothing may be sent.
            JournalError: if it could not be kept.
        """
        assert options.user_id is not None  # noqa: S101
        known = await self._ledger.write(
            AttemptBegun(
                intent=self._ledger.intent,
                claim=self._claim,
                user_id=options.user_id,
                destination=options.destination,
                room=room,
            )
        )
        for place, record in enumerate(known.records):
            if record.user_id == options.user_id:
                return place
        raise ClaimLost(
            f"this process stood still for so long that another one dials the intent {self._ledger.intent!r}: nothing was sent"
        )

    async def end(self, attempt: Attempt, *, counts: bool = True) -> None:
        """Keep what came of a start, even during a cancellation; or withdraw one that does not count."""
        ended = AttemptEnded(
            intent=self._ledger.intent,
            user_id=attempt.user_id,
            outcome=attempt.outcome if counts else WITHDRAWN,
            ended_session_id=attempt.session_id,
            error=None if attempt.error is None else attempt.error[:_LONGEST_ERROR],
            ended_at=attempt.ended_at if attempt.ended_at is None or math.isfinite(attempt.ended_at) else None,
            rang=attempt.rang or None,
            verdict=attempt.verdict,
        )
        self._lacks_end |= not await self._post(ended)

    async def _post(self, event: Event) -> bool:
        """Append an event; return whether it is kept. A failure is logged: what is not kept counts as not known, and is searched for later."""
        problem: str | None = f"not within {_KEEP_WITHIN:g} seconds"
        async with anyio.create_task_group() as group:
            group.cancel_scope.shield = True
            group.start_soon(_cancel_later, group.cancel_scope)
            try:
                await self._ledger.post(event)
                problem = None
            except (JournalError, NotRunning, TelstateError) as error:
                problem = mask(text_of(error))
            group.cancel_scope.cancel()
        if problem is not None:
            self._log.warning("dial.not_kept", what=event.name, intent=mask(self._ledger.intent), error=problem)
        return problem is None


async def _cancel_later(scope: anyio.CancelScope) -> None:
    """Cancel a scope after a time that does not pass while the process stands still: then it might have done what it is to do."""
    for _ in range(_PARTS):
        await anyio.sleep(_KEEP_WITHIN / _PARTS)
    scope.cancel()
