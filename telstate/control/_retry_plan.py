"""When a number is called again, by what came of the calls before. Pure: what the ledger has of them decides, so it is the same after a
restart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias

from telstate.control._results import Attempt, DialOutcome
from telstate.errors import DefinitionError

__all__ = ["RetryPause", "RetryPlan", "RetryReason", "reason_of"]

RetryPause: TypeAlias = float | Sequence[float] | None
"""Seconds until the next start; several for the first, the second, … time, of which the last repeats; None for no further start."""

_BUSY_WITHIN = 20.0
"""Seconds. Daily reports a busy number as an early stop, without a reason. A carrier lets a phone ring for longer before it gives up."""
_BUSY = re.compile(r"\b(486|600|603)\b|busy|declin|reject", re.IGNORECASE)
_NO_ANSWER = re.compile(r"\b(408|480|487)\b|no ?answer|timeout|timed out|not established", re.IGNORECASE)


class RetryReason(StrEnum):
    """What came of an attempt, as a `RetryPlan` distinguishes it."""

    BUSY = "busy"
    """Busy or declined: an error says so, or the call was over early, and this program did not end it. Daily's webhooks give no reason."""
    NO_ANSWER = "no_answer"
    """It rang until the ring timeout, or until the carrier gave up; or the call was ended here before the answer."""
    NEVER_RANG = "never_rang"
    """As `no_answer`, and no event says that the network took the call up: a phone that is off, or an event that was lost."""
    UNCONFIRMED = "unconfirmed"
    """`confirm` said that the answer does not count, for example a voicemail."""
    FAILED = "failed"
    """The call failed, and may succeed later."""
    REFUSED = "refused"
    """Daily refused the start for now: it is overloaded, cannot be reached, or the room is full."""


@dataclass(frozen=True)
class RetryPlan:
    """How often a number is called, and how long to wait between two starts, by what came of the last one.

        RetryPlan(attempts=4, busy=300, no_answer=[1800, 14_400], failed=None)

    A pause is a number of seconds from the end of the attempt; or several, for the first, second, … attempt that ended so, of which the
    last repeats; or None: no further start then. Who was reached, what would be refused or fail again, and what is unknown are not
    called again, whatever the plan says.

    Attributes:
        attempts: how many starts at most, refused ones included.
        busy: after busy or declined.
        no_answer: after a call that rang, and nobody answered.
        never_rang: after one of which no event says that it rang.
        unconfirmed: after an answer that `confirm` did not count.
        failed: after a call that failed.
        refused: after a start that Daily refused for now.

    Raises:
        DefinitionError: if one of these is something else.
    """

    attempts: int = 3
    busy: RetryPause = 300.0
    no_answer: RetryPause = 1800.0
    never_rang: RetryPause = 1800.0
    unconfirmed: RetryPause = 7200.0
    failed: RetryPause = 7200.0
    refused: RetryPause = 60.0

    def __post_init__(self) -> None:
        """Check what was given."""
        attempts: Any = self.attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise DefinitionError(f"attempts={self.attempts!r} must be a whole number of at least 1")
        for reason in RetryReason:
            pauses = self._pauses(reason)
            if pauses is not None and (not pauses or not all(map(_is_pause, pauses))):
                raise DefinitionError(
                    f"{reason.value}={getattr(self, reason.value)!r} must be seconds from 0 on, several of them, or None"
                )

    @property
    def longest_pause(self) -> float:
        """The longest pause of all, in seconds."""
        return max((max(pauses) for reason in RetryReason if (pauses := self._pauses(reason))), default=0.0)

    def next_start(self, attempts: Sequence[Attempt], ring_timeout: float) -> float | None:
        """Return from when on a number may be called again, in Unix seconds; None if it may not.

        Args:
            attempts: those that were made. 0 is returned if there are none.
            ring_timeout: how long they were let ring.
        """
        if not attempts:
            return 0.0
        last = reason_of(attempts[-1], ring_timeout)
        pauses = None if last is None else self._pauses(last)
        if pauses is None or len(attempts) >= self.attempts:
            return None
        alike = sum(reason_of(one, ring_timeout) is last for one in attempts)
        ended = attempts[-1].ended_at or attempts[-1].started_at or 0.0
        return ended + pauses[min(alike, len(pauses)) - 1]

    def _pauses(self, reason: RetryReason) -> Sequence[float] | None:
        value: RetryPause = getattr(self, reason.value)
        if value is None or (isinstance(value, Sequence) and not isinstance(value, str)):
            return value
        return (value,)


def reason_of(attempt: Attempt, ring_timeout: float) -> RetryReason | None:
    """Return what came of an attempt, as far as the events say; None if the number must not be called again after it.

    Whether an error would come again is not asked here: the ledger says that the intent is over then.
    """
    match attempt.outcome:
        case DialOutcome.UNCONFIRMED:
            return RetryReason.UNCONFIRMED
        case DialOutcome.FAILED:
            return RetryReason.FAILED
        case DialOutcome.REFUSED:
            return RetryReason.REFUSED
        case DialOutcome.UNANSWERED:
            return RetryReason.BUSY if _was_busy(attempt, ring_timeout) else _unanswered(attempt)
        case DialOutcome.CANCELLED:
            return _unanswered(attempt)
        case _:
            return None


def _unanswered(attempt: Attempt) -> RetryReason:
    return RetryReason.NO_ANSWER if attempt.rang else RetryReason.NEVER_RANG


def _was_busy(attempt: Attempt, ring_timeout: float) -> bool:
    text = attempt.error or ""
    if _BUSY.search(text):
        return True
    if _NO_ANSWER.search(text) or attempt.started_at is None or attempt.ended_at is None:
        return False
    return attempt.ended_at - attempt.started_at < min(_BUSY_WITHIN, ring_timeout)


def _is_pause(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


assert {reason.value for reason in RetryReason} | {"attempts"} == {one.name for one in fields(RetryPlan)}  # noqa: S101
