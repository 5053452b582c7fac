"""What other partitions asked this one to do, so that each request is begun once, and answered once, whoever owns the partition."""

from __future__ import annotations

from typing import Any, NamedTuple

from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._outcome import OutcomeKind
from telstate.events import ActionAnswered, ActionBegun, ActionRequested, ActionWithdrawn, Event

__all__ = ["RequestedAction", "RequestedActions"]


class RequestedAction(NamedTuple):
    """How far a request is."""

    is_begun: bool = False
    is_answered: bool = False
    failure: dict[str, Any] | None = None
    """Why it was not done, once it is answered."""
    started_id: str | None = None
    """Of a start: the session of the call, or that of the refusal."""
    is_withdrawn: bool = False
    """True if nobody waits for it, and it was not begun: it never is."""

    @property
    def is_over(self) -> bool:
        """True if it is not to be begun any more."""
        return self.is_answered or self.is_withdrawn


class RequestedActions(ExpiringDict[str, RequestedAction]):
    """Requests by their id."""

    __slots__ = ()

    def apply(self, event: Event, now: float) -> OutcomeKind:
        """Take in an event of a request. Of two owners that begin one, or answer it, the stream has one first."""
        assert isinstance(event, (ActionRequested, ActionBegun, ActionAnswered, ActionWithdrawn))  # noqa: S101
        known = self.find(event.request_id)
        if isinstance(event, ActionRequested):
            if known is not None:
                return OutcomeKind.DUPLICATE
            after = RequestedAction()
        elif known is None and isinstance(event, ActionWithdrawn):
            after = RequestedAction(is_withdrawn=True)  # the request may come later: nobody knew that it was stored
        elif known is None:
            return OutcomeKind.LATE
        elif isinstance(event, ActionBegun):
            if known.is_begun or known.is_over:
                return OutcomeKind.DUPLICATE
            after = RequestedAction(is_begun=True)
        elif isinstance(event, ActionWithdrawn):
            if known.is_begun or known.is_over:
                return OutcomeKind.LATE
            after = RequestedAction(is_withdrawn=True)
        else:
            if known.is_over:
                return OutcomeKind.DUPLICATE
            after = RequestedAction(known.is_begun, True, event.failure, event.started_id)
        self.put(event.request_id, after, now)
        self.trim()
        return OutcomeKind.NOTED

    def load(self, entries: Any) -> None:
        """Restore what `dump` returned."""
        super().load((key, due, RequestedAction(*request)) for key, due, request in entries)
