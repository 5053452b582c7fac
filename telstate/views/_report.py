"""The report of a replay: JSON Lines for programs, a table for people. One method per kind of line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from telstate.calls._caller import Caller, CallerState
from telstate.calls._engine import Engine
from telstate.calls._evidence import EndedBy
from telstate.calls._outcome import OutcomeKind, Unmatched
from telstate.calls._session import Session
from telstate.errors import shorten
from telstate.events import Direction, Event
from telstate.events._known_names import names_in
from telstate.events._masking import mask, mask_address, mask_name
from telstate.views._masked import mask_record, mask_session
from telstate.views._session_text import counted, notes_of, other_end, states_of, without_scheme
from telstate.views._text import cut, printable, utc_time
from telstate.views._words import duration

__all__ = ["HOW_TO_RECORD", "JsonReport", "TextReport"]

HOW_TO_RECORD = (
    "No line could be read as an event. telstate reads JSON Lines of events, journals, and application logs in which events or the dicts of"
    " Daily's handlers were logged; of compressed files, gzip. To record events, give the dispatcher a journal=SqliteJournal('calls.db'); replay that, or what"
    " `telstate export calls.db` writes."
)


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
        record = session.to_dict(legs=legs)
        return _encode({"session": record if self._numbers else mask_session(record)})

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

    def noise(self, file: str, first: int, lines: int) -> str:
        """The lines of an application log without an event, in one line for all: as invalid, with the first of them."""
        return self.invalid(file, first, _noise(lines))

    def summary(self, engine: Engine, invalid: int) -> str:
        """The last line: how many events had which outcome."""
        counts = {str(kind): engine.counts[kind] for kind in OutcomeKind}
        order = ("moved", "noted", "duplicate", "late", "unexpected", "unmatched")
        summary = {"received": engine.received, **{name: counts[name] for name in order}, "invalid": invalid}
        return self._line("summary", summary)

    def _line(self, kind: str, record: dict[str, Any]) -> str:
        return _encode({kind: record if self._numbers else mask_record(record)})


_encode = json.JSONEncoder(check_circular=False).encode
"""As `json.dumps`, for what holds no value twice."""


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
            cut(without_scheme(self._who(session)), 24),
            cut(session.room or "", 14),
            session.cause or f"({session.state})",
            "" if session.ended_by in (None, EndedBy.UNKNOWN) else session.ended_by,
            duration(session.setup_s),
            duration(session.ring_s),
            duration(session.talk_s),
            states_of(session),
        )
        names = names_in([session.display_name and {"display_name": session.display_name}, session.sip_from])
        notes = notes_of(session, self._address)
        return "\n".join([row, *(f"{_INDENT}{self._text(note, names)}" for note in notes)])

    def caller(self, caller: Caller) -> str:
        """A caller on hold who got to no session, with what is known of the reason below."""
        self._callers[caller.state] += 1
        still = caller.state in (CallerState.WAITING, CallerState.FORWARDED)
        row = self._row(
            utc_time(caller.started_at),
            caller.call_id,
            "in ",
            cut(without_scheme(self._address(caller.from_ or "")), 24),
            cut(caller.room or "", 14),
            f"({caller.state})" if still else caller.state,
            "",
            "",
            "",
            "",
            f"{'in ringback' if caller.via_trunk else 'on hold'}{f' for {duration(caller.held_s)}' if caller.held_s is not None else ''}",
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

    def noise(self, file: str, first: int, lines: int) -> str:
        """The lines of an application log without an event, in one line for all."""
        return f"{printable(file)}: {_noise(lines)}, the first is line {first}"

    def summary(self, engine: Engine, invalid: int) -> str:
        """The totals."""
        ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
        kinds = ", ".join(f"{count} {kind}" for kind, count in engine.counts.items() if count)
        lines = ["* from an event that arrived before its session was known", ""] if self._parked else [""]
        sessions = f"{counted(self._ends.total(), 'session')}{': ' if ends else ''}{ends}"
        lines.append(f"{sessions}; {self._with_anomalies} with anomalies (!)" if self._with_anomalies else sessions)
        if self._callers:
            states = ", ".join(f"{count} {state}" for state, count in self._callers.most_common())
            lines.append(f"{counted(self._callers.total(), 'caller')} on hold without a session: {states}")
        lines.append(f"{counted(engine.received, 'event')}{': ' if kinds else ''}{kinds}")
        if invalid:
            lines.append(f"{counted(invalid, 'line')} could not be read")
        if invalid and not engine.received:
            lines.append(HOW_TO_RECORD)
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
        found, is_name = other_end(session)
        if not is_name:
            return self._address(found)
        return printable(found if self._numbers else mask_name(found))

    def _address(self, address: str) -> str:
        """A phone number or a SIP address, as shown."""
        return printable(address if self._numbers else mask_address(address))

    def _text(self, text: str, names: Iterable[str] = ()) -> str:
        """Any other text, as shown. Masked first: what is not printable may stand between two digits."""
        return printable(text if self._numbers else mask(text, names))


def _noise(lines: int) -> str:
    what = "1 line of this application log holds" if lines == 1 else f"{lines} lines of this application log hold"
    return f"{what} no event"


def _fields(event: Event) -> dict[str, Any]:
    """The fields of an event, as daily-js spells them."""
    fields: dict[str, Any] = json.loads(event.to_json())
    return fields
