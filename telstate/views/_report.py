"""The report of a replay: JSON Lines for programs, a table for people. One method per kind of line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from telstate.calls._callers import Caller, CallerState
from telstate.calls._engine import Engine
from telstate.calls._evidence import EndedBy, EndSource
from telstate.calls._outcome import OutcomeKind, Unmatched
from telstate.calls._session import Session
from telstate.calls._table import EndSign
from telstate.calls._transfers import TransferOutcome
from telstate.errors import shorten
from telstate.events import Direction, Event
from telstate.events._known_names import names_in
from telstate.events._masking import mask, mask_address, mask_name
from telstate.views._masked import mask_record
from telstate.views._text import cut, printable, utc_time

__all__ = ["JsonReport", "TextReport"]


class JsonReport:
    """JSON Lines: one object a line, whose only key is its kind. Plain ASCII, which no terminal or pipe can garble.

    Args:
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        self._numbers = numbers

    def head(self) -> str | None:
        """JSON Lines have none."""
        return None

    def session(self, session: Session, legs: Iterable[str] | None = None) -> str:
        """A session that left memory, or that is left at the end with the other legs of its call: `session.to_dict()`."""
        return self._line("session", session.to_dict(legs=legs))

    def caller(self, caller: Caller) -> str:
        """A caller on hold who got to no session: `caller.to_dict()`."""
        return self._line("caller", caller.to_dict())

    def unmatched(self, unmatched: Unmatched) -> str:
        """An event that no session was ever found for."""
        event = unmatched.event
        record = {"event": event.action, "received_at": unmatched.received_at, "fields": _fields(event)}
        return self._line("unmatched", record)

    def invalid(self, file: str, line: int, error: str) -> str:
        """A line that could not be read."""
        return self._line("invalid", {"file": file, "line": line, "error": error})

    def summary(self, engine: Engine, invalid: int) -> str:
        """The last line: how many events had which outcome."""
        counts = {str(kind): engine.counts[kind] for kind in OutcomeKind}
        order = ("moved", "noted", "duplicate", "late", "unexpected", "unmatched")
        summary = {"received": engine.received, **{name: counts[name] for name in order}, "invalid": invalid}
        return self._line("summary", summary)

    def _line(self, kind: str, record: dict[str, Any]) -> str:
        return json.dumps({kind: record if self._numbers else mask_record(record)})


_WIDE = 170
"""A terminal of this width shows a session on one line; a narrower one needs two."""
_INDENT = " " * 21


class TextReport:
    """A table for people. Below a session stands what deserves attention.

    Args:
        width: the terminal's width in characters; None for a file or pipe, where lines may have any length.
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, width: int | None = None, *, numbers: bool = False) -> None:
        self._wide = width is None or width >= _WIDE
        self._numbers = numbers
        self._ends: Counter[str] = Counter()
        self._callers: Counter[str] = Counter()
        self._with_anomalies = 0
        self._parked = False

    def head(self) -> str:
        """The table's head."""
        return self._row(
            "START UTC", "SESSION", "", "WHO", "ROOM", "END", "BY", "SETUP", "RING", "TALK", "WHAT HAPPENED"
        )

    def session(self, session: Session, legs: Iterable[str] | None = None) -> str:  # noqa: ARG002 - as the other report has it
        """A session, with its notes below."""
        self._ends[session.cause or f"still {session.state}"] += 1
        self._parked = self._parked or any(move.parked for move in session.transitions)
        self._with_anomalies += bool(session.anomalies)
        row = self._row(
            utc_time(session.started_at),
            session.session_id,
            "in " if session.direction is Direction.DIALIN else "out",
            cut(_without_scheme(self._who(session)), 24),
            cut(session.room or "", 14),
            session.cause or f"({session.state})",
            "" if session.ended_by in (None, EndedBy.UNKNOWN) else session.ended_by,
            _duration(session.setup_s),
            _duration(session.ring_s),
            _duration(session.talk_s),
            _states(session),
        )
        names = list(names_in([session.display_name and {"display_name": session.display_name}, session.sip_from]))
        notes = _notes(session, self._address)
        return "\n".join([row, *(f"{_INDENT}{self._text(note, names)}" for note in notes)])

    def caller(self, caller: Caller) -> str:
        """A caller on hold who got to no session, with what is known of the reason below."""
        self._callers[caller.state] += 1
        still = caller.state in (CallerState.WAITING, CallerState.FORWARDED)
        row = self._row(
            utc_time(caller.started_at),
            caller.call_id,
            "in ",
            cut(_without_scheme(self._address(caller.from_ or "")), 24),
            "",
            f"({caller.state})" if still else caller.state,
            "",
            "",
            "",
            "",
            f"on hold{f' for {_duration(caller.held_s)}' if caller.held_s is not None else ''}",
        )
        notes = [f"called {self._address(caller.to)}"] if caller.to is not None else []
        notes += [f"forwarded to {self._address(caller.forwarded_to)}"] if caller.forwarded_to is not None else []
        notes += [f"error: {caller.error}"] if caller.error is not None else []
        return "\n".join([row, *(f"{_INDENT}{self._text(note)}" for note in notes)])

    def unmatched(self, unmatched: Unmatched) -> str:
        """An event that no session was ever found for."""
        event = unmatched.event
        fields = _fields(event) if self._numbers else mask_record(_fields(event))
        known = [(key, value) for key, value in fields.items() if key != "action" and value is not None]
        facts = ", ".join(f"{cut(key, 40)} {shorten(value)}" for key, value in known[:12])
        name = cut(self._text(event.action), 40)
        return printable(
            f"{utc_time(unmatched.received_at):<19}  ? {name}: matches no session ({facts or 'it has no details'})"
        )

    def invalid(self, file: str, line: int, error: str) -> str:
        """A line that could not be read."""
        return f"{printable(file)}:{line}: not read: {self._text(error)}"

    def summary(self, engine: Engine, invalid: int) -> str:
        """The totals."""
        ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
        kinds = ", ".join(f"{count} {kind}" for kind, count in engine.counts.items() if count)
        lines = ["* from an event that arrived before its session was known", ""] if self._parked else [""]
        sessions = f"{_count(self._ends.total(), 'session')}{': ' if ends else ''}{ends}"
        lines.append(f"{sessions}; {self._with_anomalies} with anomalies (!)" if self._with_anomalies else sessions)
        if self._callers:
            states = ", ".join(f"{count} {state}" for state, count in self._callers.most_common())
            lines.append(f"{_count(self._callers.total(), 'caller')} on hold without a session: {states}")
        lines.append(f"{_count(engine.received, 'event')}{': ' if kinds else ''}{kinds}")
        if invalid:
            lines.append(f"{_count(invalid, 'line')} could not be read")
        if invalid and not engine.received:
            lines.append(
                "No line could be read: is this a log with one JSON object per line, plain or compressed with gzip?"
            )
        return "\n".join(lines)

    def _row(self, *cells: str) -> str:
        start, session_id, direction, who, room, end, by, setup, ring, talk, states = map(printable, cells)
        times = f"{setup:>7} {ring:>7} {talk:>7}"
        if self._wide:
            facts = f"{who:<24} {room:<14} {end:<12} {by:<7}{times}  {states}"
            return f"{start:<19}  {session_id:<36}  {direction:<3} {facts}".rstrip()
        return f"{start:<19}  {session_id:<36}  {direction:<3} {end:<12} {by:<7}{times}".rstrip() + (
            f"\n{_INDENT}{' '.join(filter(None, (who, room, states)))}"
        )

    def _who(self, session: Session) -> str:
        """The other end: who called in, or who was called."""
        if session.direction is Direction.DIALOUT:
            return self._address(session.destination or "")
        address = session.caller or session.sip_from
        if address:
            return self._address(address)
        name = session.display_name or ""
        return printable(name if self._numbers else mask_name(name))

    def _address(self, address: str) -> str:
        """A phone number or a SIP address, as shown."""
        return printable(address if self._numbers else mask_address(address))

    def _text(self, text: str, names: Iterable[str] = ()) -> str:
        """Any other text, as shown. Masked first: what is not printable may stand between two digits."""
        return printable(text if self._numbers else mask(text, names))


def _fields(event: Event) -> dict[str, Any]:
    """The fields of an event, as daily-js spells them."""
    fields: dict[str, Any] = json.loads(event.to_json())
    return fields


def _notes(session: Session, address: Callable[[str], str]) -> list[str]:
    """Everything that is not as it should be, one line each.

    Args:
        session: of the row above.
        address: returns a phone number or a SIP address as it is shown.
    """
    odd = [("repeated", session.duplicates), ("late", session.late), ("unexpected", session.unexpected)]
    counts = ", ".join(f"{count} {name}" for name, count in odd if count)
    notes = [f"{_count(session.events, 'event')}, of which {counts}"] if counts else []
    if session.error_msg is not None:
        notes.append(f"error: {session.error_msg}")
    notes += [f"warning: {text}" for text in session.warnings]
    notes += [
        f"transfer to {address(to) if to else 'an unknown target'}: {_TRANSFERS[outcome]}"
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
        return [
            f"end inferred at {utc_time(session.ended_at)}: {_SIGNS[session.end_sign]}, and no event reports the end"
        ]
    if session.end_source is EndSource.ASSUMED:
        return [f"end assumed after silence: durations count to the last sign of life at {utc_time(session.ended_at)}"]
    return []


_SIGNS = {
    EndSign.PARTICIPANT_LEFT: "the participant left",
    EndSign.MEETING_ENDED: "the meeting ended",
    EndSign.CLIENT_LEFT: "our call client left",
    EndSign.NEXT_CALLER: "another caller came on its endpoint",
    EndSign.GONE: "Daily does not know the call any more",
}

_TRANSFERS = {
    TransferOutcome.REACHED: "reached",
    TransferOutcome.HANDED_OVER: "handed over, no event says whether it was reached",
    TransferOutcome.NOT_REACHED: "not reached",
    TransferOutcome.PENDING: "pending",
}


def _without_scheme(uri: str) -> str:
    return uri.partition(":")[2] if uri.lower().startswith(("sip:", "sips:")) else uri


def _states(session: Session) -> str:
    """The states it went through, then those whose event came too late to move it.

    `*` marks a state from an event that had to wait for its session.
    """
    path = " > ".join(f"{move.target}{'*' if move.parked else ''}" for move in session.transitions) or "nothing yet"
    passed = {move.target for move in session.transitions}
    late = [state for state in session.states_reported if state not in passed]
    return f"{path} (late: {', '.join(late)})" if late else path


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    """Seconds as people write them: 1.2s, 45s, 3m07s, 2h05m."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
