"""What a replay tells: as JSON Lines for programs, as a table for people. One function a line, nothing is held back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from telstate.calls._engine import Engine
from telstate.calls._evidence import EndedBy
from telstate.calls._outcome import OutcomeKind, Unmatched
from telstate.calls._session import Session
from telstate.errors import shorten
from telstate.events import Direction
from telstate.events._masking import mask
from telstate.views._text import clock, cut, plain

__all__ = ["JsonReport", "TextReport"]


_PERSONAL = (
    *("destination", "origin", "caller_id", "sip_from", "sip_endpoint", "sip_headers", "caller", "called"),
    *("display_name", "user_id", "error", "warnings", "transferred_to", "anomalies"),
)
"""The keys of a record whose values may hold numbers, SIP users or names of people."""


def _masked(value: Any) -> Any:
    """Mask every text in JSON values."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask(value) if isinstance(value, str) else value


class JsonReport:
    """JSON Lines: one object a line, its only key says what it is. Plain ASCII, so no terminal or pipe can spoil it."""

    def session(self, session: Session) -> str:
        """A session that left memory, or is left at the end."""
        record = session.to_dict()
        return json.dumps({"session": {**record, **{key: _masked(record[key]) for key in _PERSONAL}}})

    def unmatched(self, unmatched: Unmatched) -> str:
        """An event of which nobody ever told whose it was."""
        event = unmatched.event
        said = json.loads(event.to_json())
        return json.dumps({"unmatched": {"event": event.action, "received_at": unmatched.received_at, "said": said}})

    def invalid(self, file: str, line: int, error: str) -> str:
        """A line that could not be read."""
        return json.dumps({"invalid": {"file": file, "line": line, "error": error}})

    def summary(self, engine: Engine, invalid: int) -> str:
        """The last line: how many events had which outcome."""
        counts = {str(kind): engine.counts[kind] for kind in OutcomeKind}
        order = ("moved", "noted", "duplicate", "late", "unexpected", "unmatched")
        summary = {"received": engine.received, **{name: counts[name] for name in order}, "invalid": invalid}
        return json.dumps({"summary": summary})


_WIDE = 170
"""A terminal of this width takes a session in one line; a narrower one gets two."""
_INDENT = " " * 21


class TextReport:
    """A table for a person. Below a session stands what deserves attention.

    Args:
        width: the terminal's width in characters; None for a file or pipe, which take any.
        numbers: show phone numbers and SIP users in full.
    """

    def __init__(self, width: int | None = None, *, numbers: bool = False) -> None:
        self._wide = width is None or width >= _WIDE
        self._numbers = numbers
        self._ends: Counter[str] = Counter()
        self._strange = 0
        self._parked = False

    def head(self) -> str:
        """The table's head."""
        return self._row(
            "START UTC", "SESSION", "", "WHO", "ROOM", "END", "BY", "SETUP", "RING", "TALK", "WHAT HAPPENED"
        )

    def session(self, session: Session) -> str:
        """A session, with its notes below."""
        self._ends[session.cause or f"still {session.state}"] += 1
        self._parked = self._parked or any(move.parked for move in session.transitions)
        row = self._row(
            clock(session.started_at),
            session.session_id,
            "in " if session.direction is Direction.DIALIN else "out",
            cut(_without_scheme(self._hide(_who(session))), 24),
            cut(session.room or "", 14),
            session.cause or f"({session.state})",
            "" if session.ended_by in (None, EndedBy.UNKNOWN) else session.ended_by,
            _duration(session.setup_s),
            _duration(session.ring_s),
            _duration(session.talk_s),
            _path(session),
        )
        return "\n".join([row, *(f"{_INDENT}{self._hide(note)}" for note in self._notes(session))])

    def _notes(self, session: Session) -> list[str]:
        """Everything that is not as it should be, one line each."""
        odd = [("repeated", session.duplicates), ("late", session.late), ("unexpected", session.unexpected)]
        counts = ", ".join(f"{count} {name}" for name, count in odd if count)
        notes = [f"of {session.events} events {counts}"] if counts else []
        if session.error_msg is not None:
            notes.append(f"error: {session.error_msg}")
        notes += [f"warning: {text}" for text in session.warnings]
        if session.transferred_to is not None:
            notes.append(f"transfer to {session.transferred_to}")
        if not session.ended and session.started_at is not None:
            notes.append(f"no end was told; last heard of at {clock(session.alive_at)}")
        if session.uncertain:
            notes.append("uncertain: events may have been missed since it was last heard of")
        self._strange += bool(session.anomalies)
        return notes + [f"! {text}" for text in session.anomalies]

    def unmatched(self, unmatched: Unmatched) -> str:
        """An event of which nobody ever told whose it was."""
        event = unmatched.event
        said = {
            key: value for key, value in json.loads(event.to_json()).items() if key != "action" and value is not None
        }
        facts = ", ".join(f"{cut(key, 40)} {shorten(value)}" for key, value in list(said.items())[:12])
        name = cut(event.action, 40)
        return self._hide(
            f"{clock(unmatched.received_at):<19}  ? {name}: no telling whose it is ({facts or 'it says nothing'})"
        )

    def invalid(self, file: str, line: int, error: str) -> str:
        """A line that could not be read."""
        return self._hide(f"{plain(file)}:{line}: not read: {error}")

    def summary(self, engine: Engine, invalid: int) -> str:
        """The totals."""
        ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
        kinds = ", ".join(f"{count} {kind}" for kind, count in engine.counts.items() if count)
        lines = ["* told by an event that came before its session was known", ""] if self._parked else [""]
        sessions = f"{_count(self._ends.total(), 'session')}{': ' if ends else ''}{ends}"
        lines.append(f"{sessions}; {self._strange} with anomalies (!)" if self._strange else sessions)
        lines.append(f"{_count(engine.received, 'event')}{': ' if kinds else ''}{kinds}")
        if invalid:
            lines.append(f"{_count(invalid, 'line')} could not be read")
        if invalid and not engine.received:
            lines.append("Not one could: is this a log with one JSON object a line, and not compressed?")
        return "\n".join(lines)

    def _row(self, *cells: str) -> str:
        start, session_id, way, who, room, end, by, setup, ring, talk, path = map(plain, cells)
        times = f"{setup:>7} {ring:>7} {talk:>7}"
        if self._wide:
            return f"{start:<19}  {session_id:<36}  {way:<3} {who:<24} {room:<14} {end:<12} {by:<7}{times}  {path}".rstrip()
        return f"{start:<19}  {session_id:<36}  {way:<3} {end:<12} {by:<7}{times}".rstrip() + (
            f"\n{_INDENT}{' '.join(filter(None, (who, room, path)))}"
        )

    def _hide(self, text: str) -> str:
        text = plain(text)
        return text if self._numbers else mask(text)


def _who(session: Session) -> str:
    """The other end: who called in, or who was called."""
    if session.direction is Direction.DIALIN:
        return session.caller or session.sip_from or session.display_name or ""
    return session.destination or ""


def _without_scheme(uri: str) -> str:
    return uri.partition(":")[2] if uri.lower().startswith(("sip:", "sips:")) else uri


def _path(session: Session) -> str:
    """The states it went through, then what was told only after it was past them.

    `*` marks a state told by an event that had to wait for its session.
    """
    path = " > ".join(f"{move.target}{'*' if move.parked else ''}" for move in session.transitions) or "nothing yet"
    been = {move.target for move in session.transitions}
    late = [state for state in session.states_reported if state not in been]
    return f"{path} (late: {', '.join(late)})" if late else path


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    """Seconds as people say them: 1.2s, 45s, 3m07s, 2h05m."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
