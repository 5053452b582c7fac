"""What processes that are killed dial, and what must hold of it. The fake Daily is the witness: it knows every call that was started.

All follows from a seed, so the processes and who checks them know the same plan.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

import anyio

from telstate import Session
from telstate.control import Attempt, Dialer, DialResult, Verdict
from telstate.options import PhoneDialout
from telstate.testing import FakeDaily, PhoneLine
from telstate.testing._rooms import Leg

__all__ = ["Plan", "broken_promises", "plan_of"]

RING_TIMEOUT = 1.5
LINES = (
    PhoneLine(answers=0.4),
    PhoneLine(answers=1.2),
    PhoneLine(answers=0.2, answer_after=1.0),
    PhoneLine(answers=0.2, answer_lost=True),
    PhoneLine(answers=0.5, talks=0.7),
    PhoneLine(busy=True),
    PhoneLine(busy=True),
    PhoneLine(answers=None),
    PhoneLine(answers=None),
    PhoneLine(fails=0.3),
    PhoneLine(start_lost=True),
)


class Plan(NamedTuple):
    """What is dialled for one intent: one number or three at once, with a `confirm` or without."""

    intent: str
    room: str
    lines: dict[str, list[PhoneLine]]
    """By number, one for each start and one more."""
    attempts: int
    confirms: bool

    async def dial(self, dialer: Dialer) -> dict[str, Any]:
        """Dial; return what a process says of the result."""
        result = await dialer.dial(
            [PhoneDialout(phone_number=number) for number in self.lines],
            room=self.room,
            attempts=self.attempts,
            ring_timeout=RING_TIMEOUT,
            intent=self.intent,
            confirm=_confirm if self.confirms else None,
        )
        return said(self.intent, result)


def plan_of(seed: int, number: int, rooms: Sequence[str]) -> Plan:
    """Return what is dialled for an intent."""
    random = Random(f"{seed} {number}")
    kind, attempts = random.random(), random.choice((1, 2, 3))
    targets = 3 if kind < 0.3 else 1
    lines = {
        f"+1202{number:04}{target:03}": [random.choice(LINES) for _ in range(attempts + 1)] for target in range(targets)
    }
    return Plan(f"call {number}", random.choice(rooms), lines, attempts, 0.2 < kind < 0.5)


def said(intent: str, result: DialResult) -> dict[str, Any]:
    """Return a result as JSON."""
    return {
        "intent": intent,
        "outcome": result.outcome,
        "session": None if result.session is None else result.session.session_id,
        "attempts": [(one.outcome, one.session_id, one.destination, one.error) for one in result.attempts],
    }


def is_person(session_id: str) -> bool:
    """Return what every process says of an answer."""
    return crc32(session_id.encode()) % 2 == 0


async def _confirm(session: Session, attempt: Attempt) -> Verdict:
    """Take a while to decide."""
    assert session.session_id == attempt.session_id
    await anyio.sleep(0.3 + crc32(session.session_id.encode()) % 10 / 10)
    is_one = is_person(session.session_id)
    return Verdict(is_one, "person" if is_one else "voicemail")


def broken_promises(
    daily: FakeDaily, plans: Sequence[Plan], results: Sequence[dict[str, Any]], calm: float
) -> dict[str, list[object]]:
    """Return what did not hold, by promise.

    Args:
        daily: the witness.
        plans: what was dialled.
        results: what the processes said, in order.
        calm: from when on all intents had a result, by the monotonic clock.
    """
    by_intent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        by_intent[one["intent"]].append(one)
    broken: dict[str, list[object]] = defaultdict(list)
    for plan in plans:
        legs = [leg for leg in daily.sessions if leg.destination in plan.lines]
        known = by_intent[plan.intent]
        found = set(_broken(daily, plan, legs, known, calm)) if known else {"every intent has a result"}
        for promise in sorted(found):
            broken[promise].append((plan.intent, plan.attempts, plan.confirms, [*map(_shown, legs)], known[-1:]))
    return broken


def _broken(daily: FakeDaily, plan: Plan, legs: list[Leg], results: list[dict[str, Any]], calm: float) -> Iterator[str]:
    last, by_number = results[-1], Counter(str(leg.destination) for leg in legs)
    if any(count > plan.attempts for count in by_number.values()):
        yield "never more starts than attempts"
    if any(daily.most_at_once(number) > 1 for number in plan.lines):
        yield "never two live calls to one number"
    counted = Counter(one[2] for one in last["attempts"])
    if any(counted[number] < count for number, count in by_number.items()):
        yield "every start that was sent is known"
    if any(leg.started_at > calm for leg in legs):
        yield "nothing is dialled once there is a result"
    rounds = _rounds(last)
    reached = [leg for leg in legs if leg.answered_at is not None and _counts(plan, leg, last)]
    if any(rounds.get(leg.session_id, 99) > rounds.get(one.session_id, 0) for leg in legs for one in reached):
        yield "who was reached is not dialled again"
    live = [leg.session_id for leg in legs if leg.live]
    if last["outcome"] == "answered":
        if live not in ([], [last["session"]]):
            yield "only the call that won goes on"
        if plan.confirms and not is_person(last["session"]):
            yield "an answer counts if it was confirmed"
    elif last["outcome"] != "unknown" and live:
        yield "without an answer no call goes on"
    has_starts_left = any(counted[number] < plan.attempts for number in plan.lines)
    if last["outcome"] == "stopped" or (last["outcome"] == "cancelled" and has_starts_left):
        yield "a dial that nobody stopped comes to its end"
    for one, other in pairwise(results):
        if one["outcome"] == "answered" and (other["outcome"], other["session"]) != ("answered", one["session"]):
            yield "an answer stays the result"


def _rounds(result: dict[str, Any]) -> dict[str, int]:
    """Return in which round each call was started. Those of one round ring together: a start under way may follow an answer."""
    seen: Counter[str] = Counter()
    rounds: dict[str, int] = {}
    for _, session_id, destination, _ in result["attempts"]:
        seen[destination] += 1
        rounds[session_id] = seen[destination]
    return rounds


def _counts(plan: Plan, leg: Leg, last: dict[str, Any]) -> bool:
    """Return whether an answer is one after which nobody may be dialled: where `confirm` decides, that is known only of the result."""
    return not plan.confirms or (last["outcome"] == "answered" and leg.session_id == last["session"])


def _shown(leg: Leg) -> tuple[object, ...]:
    times = (None if at is None else round(at, 1) for at in (leg.started_at, leg.answered_at, leg.ended_at))
    return (leg.destination, leg.session_id[:8], *times, leg.ended_by)
