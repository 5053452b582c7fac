"""What became of one event, on one line: as text for people, as JSON or CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.calls._table import TERMINAL
from telstate.events._masking import mask
from telstate.views._csv_report import csv_cell, csv_row
from telstate.views._text import cut, printable, utc_time

__all__ = [
    "OUTCOME_FIELDS",
    "fields_as_csv",
    "fields_as_json",
    "fields_as_text",
    "outcome_as_dict",
    "outcome_as_json",
    "outcome_as_text",
]

OUTCOME_FIELDS = ("at", "outcome", "event", "session_id", "direction", "moves", "state", "cause", "anomalies")
"""The fields of an outcome, in their order."""
_PARKED = "parked"
_LONGEST_NAME = 40


def outcome_as_text(outcome: Outcome, at: float | None = None, *, numbers: bool = False) -> str:
    """One line for people: time, outcome, session, direction, the states or the event's name, then anomalies.

    Args:
        outcome: what became of an event.
        at: when it happened, in Unix seconds; None if not known.
        numbers: show phone numbers, SIP users and names in full.
    """
    return fields_as_text(outcome_as_dict(outcome, at, numbers=numbers))


def outcome_as_dict(outcome: Outcome, at: float | None = None, *, numbers: bool = False) -> dict[str, Any]:
    """The same as JSON values; arguments as for `outcome_as_text`. State and cause are those after the event."""
    session = outcome.session
    show = _shown_as(session, numbers=numbers)
    return {
        "at": at,
        "outcome": outcome.kind,
        "event": show(outcome.event.action),
        "session_id": None if session is None else session.session_id,
        "direction": None if session is None else session.direction,
        "moves": [[move.source, move.target, _PARKED if move.parked else move.event] for move in outcome.moves],
        "state": None if session is None else session.state,
        "cause": None if session is None else session.cause,
        "anomalies": [show(anomaly) for anomaly in outcome.anomalies],
    }


def outcome_as_json(outcome: Outcome, at: float | None = None, *, numbers: bool = False) -> str:
    """One JSON object on one line; its only key is its kind, as in `telstate replay --json`. Plain ASCII."""
    return fields_as_json(outcome_as_dict(outcome, at, numbers=numbers))


def fields_as_text(fields: Mapping[str, Any]) -> str:
    """The line for people, from the fields of an outcome."""
    direction = (fields["direction"] or "").removeprefix("dial")
    time, session_id = utc_time(fields["at"]), printable(fields["session_id"] or "")
    words = [_states(fields["moves"]) or cut(fields["event"] or "", _LONGEST_NAME)]
    if fields["moves"] and fields["state"] in TERMINAL:
        words.append(f"({fields['cause']})")
    words += [f"! {anomaly}" for anomaly in fields["anomalies"]]
    return printable(f"{time:<19}  {fields['outcome']:<10}  {session_id:<36}  {direction:<3}  {' '.join(words)}")


def fields_as_json(fields: Mapping[str, Any]) -> str:
    """The line of JSON, from the fields of an outcome."""
    return json.dumps({"outcome": dict(fields)})


def fields_as_csv(fields: Mapping[str, Any]) -> str:
    """A row of CSV, from the fields of an outcome. Lists are JSON; what is not known is empty."""
    return csv_row(csv_cell(fields[name]) for name in OUTCOME_FIELDS)


def _shown_as(session: Session | None, *, numbers: bool) -> Callable[[str], str]:
    """How texts about a session are shown: masked unless asked for."""
    if numbers:
        return str
    names = () if session is None else (session.display_name,)
    return lambda text: mask(text, names)


def _states(moves: list[list[str]]) -> str:
    """The states it went through; `*` marks one from an event that had waited for its session."""
    if not moves:
        return ""
    return " > ".join([moves[0][0], *(f"{target}{'*' if event == _PARKED else ''}" for _, target, event in moves)])
