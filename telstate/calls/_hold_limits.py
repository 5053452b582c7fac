"""The limits of callers on hold: after one of them they are lost, the other one only notifies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._caller_matching import waits_since
from telstate.calls._settings import Settings
from telstate.calls._timers import Limit
from telstate.events import DeadlinePassed

__all__ = ["HoldLimits"]

_HOLD_DEADLINE = "hold"
"""The deadline that only notifies."""
_HOLD_LIMIT = "hold-limit"
"""The limit after which a caller is lost."""


class HoldLimits:
    """The running limits of all callers that are not connected."""

    def __init__(self, settings: Settings) -> None:
        self._limit = Limit(settings.hold_limit)
        self._deadline = None if settings.hold_deadline is None else Limit(settings.hold_deadline)

    @property
    def ttl(self) -> float:
        """After how many seconds a caller is lost."""
        return self._limit.ttl

    def all(self) -> list[Limit]:
        """List the limits."""
        return [self._limit] if self._deadline is None else [self._limit, self._deadline]

    def start(self, caller: Caller, now: float) -> None:
        """Begin to wait for a caller's session; a forward begins it anew, and the deadline is for those not forwarded yet."""
        self._limit.start(caller.call_id, now)
        if self._deadline is not None:
            if caller._forward is None:
                self._deadline.start(caller.call_id, now)
            else:
                self._deadline.ends.pop(caller.call_id, None)

    def resume(self, call_id: str, now: float) -> None:
        """Wait again for a caller who is not the session that they seemed to be."""
        self._limit.start(call_id, now)

    def stop(self, call_id: str) -> None:
        """Wait no more."""
        for limit in self.all():
            limit.ends.pop(call_id, None)

    def end(self, event: DeadlinePassed, call_id: str) -> bool:
        """End a limit that passed, and with the last one also the other; return False if it does not run any more."""
        limit = self._limit if self.is_last(event) else self._deadline
        if limit is None or limit.ends.get(call_id) != event.due_at:
            return False
        limit.ends.pop(call_id)
        if limit is self._limit:
            self.stop(call_id)
        return True

    @staticmethod
    def is_last(event: DeadlinePassed) -> bool:
        """Return whether it is the limit after which a caller is lost."""
        return event.deadline == _HOLD_LIMIT

    def next_due(self) -> float | None:
        """Return when the next limit passes."""
        return min((due for limit in self.all() if (due := limit.next_due()) is not None), default=None)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Return every limit that is due at `now`."""
        named = [(_HOLD_LIMIT, self._limit)] + ([] if self._deadline is None else [(_HOLD_DEADLINE, self._deadline)])
        return [
            DeadlinePassed(call_id=call_id, deadline=name, due_at=max(due, 0.0))
            for name, limit in named
            for call_id, due in limit.due(now)
        ]

    def overdue(self, now: float, caller_of: Callable[[str], Caller]) -> list[DeadlinePassed]:
        """Return the limits of lost callers that passed by the times of the events: in a log without timers, at its end.

        The times decide, not when the limits began: a log may have its lines in any order.
        """
        return [
            DeadlinePassed(call_id=call_id, deadline=_HOLD_LIMIT, due_at=max(due, 0.0))
            for call_id, due in self._limit.ends.items()
            if (since := waits_since(caller_of(call_id))) is not None and since + self._limit.ttl <= now
        ]

    def is_over(self, call_id: str, now: float, since: float = float("-inf")) -> bool:
        """Return whether a caller has waited too long, though no limit has passed, and not too long at a time before."""
        return since < self._limit.ends.get(call_id, now) < now

    def change(self, settings: Settings) -> None:
        """Use other settings, for callers that wait already too. A new deadline is for later ones."""
        self._limit.change(settings.hold_limit)
        if settings.hold_deadline is None:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = Limit(settings.hold_deadline)
        else:
            self._deadline.change(settings.hold_deadline)

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "limit": dict(self._limit.ends),
            "deadline": None if self._deadline is None else dict(self._deadline.ends),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned with the same settings."""
        self._limit.ends = dict(dumped["limit"])
        if self._deadline is not None:
            self._deadline.ends = dict(dumped["deadline"])
