"""What the ledger of an intent says of an attempt, as a program sees it."""

from __future__ import annotations

from typing import Any

from telstate.calls._engine import Engine
from telstate.calls._intents import DialRecord
from telstate.calls._session import Session
from telstate.control._error_mapping import error_type_of
from telstate.control._results import Attempt, DialOutcome
from telstate.errors import DailyError, UnknownResult
from telstate.events import DialoutAnswered, DialoutStopped

__all__ = ["answered_session", "attempt_of", "error_of"]


def attempt_of(record: DialRecord) -> Attempt:
    """Return an attempt that was kept. A newer telstate may know more outcomes."""
    known = record.outcome in DialOutcome.__members__.values()
    return Attempt(
        DialOutcome(record.outcome) if known and record.outcome is not None else DialOutcome.UNKNOWN,
        record.session_id,
        record.user_id,
        record.error,
        record.destination,
        record.started_at,
        record.ended_at,
        record.rang,
        record.verdict,
    )


def error_of(attempt: Attempt) -> DailyError | None:
    """Return the error of an attempt that was kept: its type follows from its text, as far as that says more than that."""
    if attempt.error is None or attempt.outcome not in (DialOutcome.REFUSED, DialOutcome.UNKNOWN):
        return None
    if attempt.outcome is DialOutcome.UNKNOWN:
        return UnknownResult(attempt.error)
    kind = error_type_of(attempt.error)
    return kind(attempt.error) if issubclass(kind, DailyError) else DailyError(attempt.error)


def answered_session(attempt: Attempt, room: str | None) -> Session:
    """Return what is known of a session that was answered, and has left memory: what the ledger has of it."""
    engine, session_id = Engine(), attempt.session_id or ""
    facts = {"destination": attempt.destination, "user_id": attempt.user_id, "room": room}
    known: dict[str, Any] = {name: value for name, value in facts.items() if value}
    engine.receive(DialoutAnswered(session_id=session_id, occurred_at=attempt.ended_at, **known), attempt.ended_at)
    engine.receive(DialoutStopped(session_id=session_id), attempt.ended_at)
    session = engine.session(session_id)
    assert session is not None  # noqa: S101
    return session
