"""Campaigns by a process that dies at any time and begins again: simulated in memory, on a clock that runs fast.

Always: nobody is reached twice, nobody has two calls at once or more starts than planned, there are never more calls at once than
allowed, and each number has exactly one result, which a further run repeats without a start.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any, Literal, NamedTuple

import anyio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from telstate.control import Campaign, Contact, ContactResult, DialOutcome, NotTried, RetryPlan
from telstate.testing import PhoneLine
from tests.control.dial_setup import _run_fast
from tests.property.test_intents import TIMES, World, lives, scripts

numbers = count(1)


class Plan(NamedTuple):
    """One campaign."""

    people: list[tuple[list[PhoneLine], int, bool]]
    """Of each contact what the phone does each time, the priority, and whether it must not be called."""
    at_once: int
    per_caller_id: int | None
    starts_per_second: float | None
    retry: RetryPlan
    deaths: list[float]


pauses = st.sampled_from([0.0, 0.1, 0.4]) | st.none()
retries = st.builds(RetryPlan, st.integers(1, 3), pauses, pauses, pauses, pauses, pauses, pauses)
ending_scripts = scripts.map(lambda script: [replace(line, talks=line.talks or 0.4) for line in script])
"""Calls that end by themselves: while they last they have a place."""
people = st.lists(
    st.tuples(ending_scripts, st.integers(0, 1), st.sampled_from([False, False, False, True])), min_size=1, max_size=6
)
plans = st.builds(
    Plan, people, st.integers(1, 3), st.sampled_from([None, 1, 2]), st.sampled_from([None, 5.0]), retries, lives
)


class CampaignWorld(World):
    """A carrier, a journal, and the lives of a process that runs a campaign."""

    def __init__(self, joins: Literal["answer", "ring"], plan: Plan, presence: str) -> None:
        super().__init__(joins)
        self.plan = plan
        self.carrier._presence_lag = {"none": 1e9, "lags": 0.3, "now": 0.0}[presence]
        self.contacts = []
        self.blocked = set()
        for place, (script, priority, is_blocked) in enumerate(plan.people):
            number = f"+1888{next(numbers):07}"
            self.carrier.lines[number] = script
            self.contacts.append(Contact(number, priority=priority, caller_id="+12025550199" if place % 2 else None))
            if is_blocked:
                self.blocked.add(number)

    @property
    def times(self) -> dict[str, Any]:
        """Of its dialers."""
        return {**TIMES, "check_slots_every": 2.0}

    def campaign(self) -> Campaign:
        """The same for each life."""
        plan = self.plan
        return Campaign(
            "spring",
            self.contacts,
            at_once=plan.at_once,
            per_caller_id=plan.per_caller_id,
            starts_per_second=plan.starts_per_second,
            retry=plan.retry,
            ring_timeout=0.5,
            do_not_call=self.blocked,
            late_events=1.0,
        )

    async def run(self, dialer: Any, into: list[ContactResult]) -> None:
        """Run it."""
        into.extend([result async for result in self.campaign().run(dialer)])

    async def live_and_die(self, seconds: float) -> None:
        """Run it for so long."""
        with anyio.CancelScope() as scope:
            async with self.life() as (dialer, control), anyio.create_task_group() as group:
                group.start_soon(self.run, dialer, [])
                await self.clock.sleep(seconds)
                control.is_dead, self.service.calls = True, None
                self.log.owner = None
                scope.cancel()

    async def run_through(self) -> list[ContactResult]:
        """Run it to the end."""
        found: list[ContactResult] = []
        async with self.life() as (dialer, _):
            await self.run(dialer, found)
        return found


@settings(
    max_examples=max(4, settings().max_examples // 10),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(joins=st.sampled_from(["answer", "ring"]), presence=st.sampled_from(["none", "lags", "now"]), plan=plans)
def test_a_campaign_reaches_nobody_twice(joins: Literal["answer", "ring"], presence: str, plan: Plan) -> None:
    """For any lines, losses and plans, and deaths at any time."""

    async def main() -> None:
        world = CampaignWorld(joins, plan, presence)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                world.carrier.group = group
                group.start_soon(_run_fast, world.clock)
                for seconds in plan.deaths:
                    await world.live_and_die(seconds)
                found = await world.run_through()
                started = list(world.carrier.requested)
                again = await world.run_through()
                group.cancel_scope.cancel()
        assert world.carrier.requested == started
        assert sorted(one.number for one in found) == sorted(contact.number for contact in world.contacts)
        results = {one.number: one for one in found}
        repeated = {one.number: one for one in again}
        for contact in world.contacts:
            check(world, contact.number, results[contact.number], repeated[contact.number])
        sure = [number for number, result in results.items() if not is_unsure(result)]
        assert most_at_once(world, sure) <= plan.at_once

    anyio.run(main)


def check(world: CampaignWorld, number: str, result: ContactResult, again: ContactResult) -> None:
    """Check what must hold of one number."""
    event(str(result.outcome))
    carrier, plan = world.carrier, world.plan
    assert carrier.most_at_once(number) <= 1
    assert carrier.requested.count(number) <= len(result.attempts) <= plan.retry.attempts
    legs = [leg for leg in carrier.sessions if leg.destination == number]
    told = [leg for leg in legs if leg.answered_at is not None and "dialout.answered" not in leg.line.loses]
    assert len(told) <= 1
    assert again.to_dict() == result.to_dict()
    assert again.was_known
    if number in world.blocked:
        assert (result.outcome, legs) == (NotTried.DO_NOT_CALL, [])
    elif result:
        assert [leg.session_id for leg in legs if leg.session_id == result.session_id]
    if not result and not is_unsure(result):
        assert carrier.live(number) == []


def is_unsure(result: ContactResult) -> bool:
    """Whether a call of it may go on of which nobody knows."""
    return any(attempt.outcome is DialOutcome.UNKNOWN for attempt in result.attempts)


def most_at_once(world: CampaignWorld, among: list[str]) -> int:
    """The highest number of calls at one moment."""
    legs = [leg for leg in world.carrier.sessions if leg.destination in among]
    return max(
        (sum(leg.started_at <= at.started_at < (leg.ended_at or 1e12) for leg in legs) for at in legs), default=0
    )
