"""When a number is called again: by what came of the attempts before, and of nothing else."""

from __future__ import annotations

import pytest

from telstate.control import Attempt, DialOutcome, RetryPlan, RetryReason
from telstate.control._retry_plan import reason_of
from telstate.errors import DefinitionError

RINGS = 30.0


def made(outcome: str, seconds: float = 31.0, *, rang: bool = True, error: str | None = None) -> Attempt:
    """An attempt that took so long, and ended at second 1000."""
    return Attempt(DialOutcome(outcome), "s", "u", error, "+12025550101", 1000.0 - seconds, 1000.0, rang)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (made("unanswered"), RetryReason.NO_ANSWER),
        (made("unanswered", rang=False), RetryReason.NEVER_RANG),
        (made("unanswered", 3.0), RetryReason.BUSY),
        (made("unanswered", 25.0), RetryReason.NO_ANSWER),  # the carrier gave up
        (made("unanswered", error="call failed: 486 Busy Here"), RetryReason.BUSY),
        (made("unanswered", 3.0, error="call failed: 480 Temporarily Unavailable"), RetryReason.NO_ANSWER),
        (made("unanswered", error="call failed: 603 Decline"), RetryReason.BUSY),
        (made("cancelled", 3.0), RetryReason.NO_ANSWER),
        (made("unconfirmed"), RetryReason.UNCONFIRMED),
        (made("failed"), RetryReason.FAILED),
        (made("refused"), RetryReason.REFUSED),
        (made("answered"), None),
        (made("stopped"), None),
        (made("unknown"), None),
    ],
)
def test_the_reason(attempt: Attempt, reason: RetryReason | None) -> None:
    """As far as Daily's events say it."""
    assert reason_of(attempt, RINGS) is reason


def test_pauses_by_the_reason_of_the_last_attempt() -> None:
    """Of several pauses one after another, and the last for all further ones."""
    plan = RetryPlan(attempts=6, busy=[10, 20], no_answer=100, failed=None)
    busy, silent = made("unanswered", 1.0), made("unanswered")
    assert plan.next_start([], RINGS) == 0.0
    assert plan.next_start([busy], RINGS) == 1010.0
    assert plan.next_start([busy, silent], RINGS) == 1100.0
    assert plan.next_start([busy, silent, busy], RINGS) == 1020.0
    assert plan.next_start([busy, busy, busy], RINGS) == 1020.0
    assert plan.next_start([busy, made("failed")], RINGS) is None
    assert plan.next_start([busy] * 6, RINGS) is None
    assert plan.next_start([made("answered")], RINGS) is None


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": 1.5}, {"busy": -1}, {"failed": []}, {"refused": "soon"}], ids=str
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """With what came, and what was expected."""
    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        RetryPlan(**wrong)  # type: ignore[arg-type]
