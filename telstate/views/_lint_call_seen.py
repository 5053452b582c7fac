"""One call as the rules of the check see it."""

from __future__ import annotations

from typing import NamedTuple

from telstate.calls._session import Session
from telstate.events import Direction
from telstate.views._lint_facts import CallFacts, LogFacts

__all__ = ["CallSeen", "noun_of"]


class CallSeen(NamedTuple):
    """A session that leaves memory, with what was seen of it."""

    session: Session
    facts: CallFacts
    log: LogFacts
    was_used: bool
    """Whether its id had a call before."""
    ended_before: float | None
    """When that one ended."""


def noun_of(session: Session) -> str:
    """What a session is called in a sentence."""
    return "dial-in" if session.direction is Direction.DIALIN else "dial-out"
