"""A session in words: which states, and everything that is not as it should be."""

from __future__ import annotations

from collections.abc import Callable

from telstate.calls._evidence import EndSource
from telstate.calls._session import Session
from telstate.events import Direction
from telstate.views._text import utc_time
from telstate.views._words import SIGNS, TRANSFERS

__all__ = ["counted", "notes_of", "other_end", "states_of", "without_scheme"]


def notes_of(session: Session, address: Callable[[str], str]) -> list[str]:
    """Everything that is not as it should be, one line each.

    Args:
        session: of the row above.
        address: returns a phone number or a SIP address as it is shown.
    """
    odd = [("repeated", session.duplicates), ("late", session.late), ("unexpected", session.unexpected)]
    counts = ", ".join(f"{count} {name}" for name, count in odd if count)
    notes = [f"{counted(session.events, 'event')}, of which {counts}"] if counts else []
    if session.error_msg is not None:
        notes.append(f"error: {session.error_msg}")
    notes += [f"warning: {text}" for text in session.warnings]
    notes += [
        f"transfer to {address(to) if to else 'an unknown target'}: {TRANSFERS[outcome]}"
        for to, outcome in session.transfers
    ]
    if not session.ended and session.started_at is not None:
        notes.append(f"no end was reported; last sign of life at {utc_time(session.alive_at)}")
    notes += _end_notes(session)
    if session.uncertain:
        notes.append("uncertain: events may have been missed since the last one")
    return notes + [f"! {text}" for text in session.anomalies]


def _end_notes(session: Session) -> list[str]:
    """How an end is known that Daily did not report, and until when the durations count."""
    if session.end_source is EndSource.INFERRED and session.end_sign is not None:
        at = "" if session.ended_at is None else f" at {utc_time(session.ended_at)}"
        return [f"end inferred{at}: {SIGNS[session.end_sign]}, and no event reports the end"]
    if session.end_source is EndSource.ASSUMED:
        return [f"end assumed after silence: durations count to the last sign of life at {utc_time(session.ended_at)}"]
    return []


def other_end(session: Session) -> tuple[str, bool]:
    """Return who called in, or who was called: a phone number or a SIP address; else a display name, and True."""
    if session.direction is Direction.DIALOUT:
        return session.destination or "", False
    address = session.caller or session.sip_from
    return (address, False) if address else (session.display_name or "", True)


def without_scheme(uri: str) -> str:
    """A SIP address without `sip:`."""
    return uri.partition(":")[2] if uri.lower().startswith(("sip:", "sips:")) else uri


def states_of(session: Session) -> str:
    """The states it went through, then those whose event came too late to move it.

    `*` marks a state from an event that had to wait for its session.
    """
    path = " > ".join(f"{move.target}{'*' if move.parked else ''}" for move in session.transitions) or "nothing yet"
    passed = {move.target for move in session.transitions}
    late = [state for state in session.states_reported if state not in passed]
    return f"{path} (late: {', '.join(late)})" if late else path


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the singular or the plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
