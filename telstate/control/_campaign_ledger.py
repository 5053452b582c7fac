"""What the ledger of dials has of a contact of a campaign, as the campaign reads it. Pure."""

from __future__ import annotations

from telstate.calls._intents import Intent
from telstate.control._campaign_results import ContactOutcome, NotTried
from telstate.control._recorded import attempt_of
from telstate.control._results import Attempt, DialOutcome, DialResult

__all__ = ["attempts_of", "kept_attempts", "ledger_name", "outcome_of"]


def ledger_name(campaign: str, key: str) -> str:
    """Return the intent of a contact of a campaign."""
    return f"{campaign}/{key}"


def attempts_of(known: Intent) -> tuple[Attempt, ...]:
    """Return the attempts that a ledger has of a contact."""
    return tuple(map(attempt_of, known.records))


def kept_attempts(known: Intent, result: DialResult | None) -> tuple[Attempt, ...]:
    """Return the attempts as the ledger has them, so that a later run says the same; of another worker's it may be a moment old."""
    attempts = attempts_of(known)
    if result is None or len(attempts) >= len(result.attempts):
        is_open = any(record.is_open for record in known.records)
        lacks_answer = bool(result) and not any(one.outcome is DialOutcome.ANSWERED for one in attempts)
        if result is None or not (is_open or lacks_answer):
            return attempts
    return result.attempts


def outcome_of(known: Intent) -> ContactOutcome | None:
    """Return what ended the intent of a contact; None if nothing did. A newer telstate may know more outcomes."""
    if known.outcome is None:
        return None
    if known.outcome in NotTried.__members__.values():
        return NotTried(known.outcome)
    is_known = known.outcome in DialOutcome.__members__.values()
    return DialOutcome(known.outcome) if is_known else DialOutcome.UNKNOWN
