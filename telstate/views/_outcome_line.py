"""What became of one event, on one line: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.calls._transition import Transition
from telstate.events._masking import mask
from telstate.views._text import cut, printable, utc_time

__all__ = ["outcome_as_dict", "outcome_as_json", "outcome_as_text"]

_LONGEST_NAME = 40


def outcome_as_text(outcome: Outcome, at: float | None = None, *, numbers: bool = False) -> str:
    """One line for people: time, outcome, session, direction, the states or the event's name, then anomalies.

    Args:
        outcome: what became of an event.
        at: when it happened, in Unix seconds; None if not known.
        numbers: show phone numbers, SIP users and names in full.
    """
    session = outcome.session
    session_id, direction = (
        ("", "") if session is None else (session.session_id, session.direction.removeprefix("dial"))
    )
    row = f"{utc_time(at):<19}  {outcome.kind:<10}  {printable(session_id):<36}  {direction:<3}  "
    show = _shown_as(session, numbers=numbers)
    words = [_states(outcome.moves) or cut(show(outcome.event.action), _LONGEST_NAME)]
    if session is not None and session.ended and outcome.moves:
        words.append(f"({session.cause})")
    return row + printable(" ".join([*words, *(f"! {show(anomaly)}" for anomaly in outcome.anomalies)]))


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
        "moves": [[move.source, move.target, "parked" if move.parked else move.event] for move in outcome.moves],
        "state": None if session is None else session.state,
        "cause": None if session is None else session.cause,
        "anomalies": [show(anomaly) for anomaly in outcome.anomalies],
    }


def outcome_as_json(outcome: Outcome, at: float | None = None, *, numbers: bool = False) -> str:
    """One JSON object on one line; its only key is its kind, as in `telstate replay --json`. Plain ASCII."""
    return json.dumps({"outcome": outcome_as_dict(outcome, at, numbers=numbers)})


def _shown_as(session: Session | None, *, numbers: bool) -> Callable[[str], str]:
    """How texts about a session are shown: masked unless asked for."""
    if numbers:
        return str
    names = () if session is None else (session.display_name,)
    return lambda text: mask(text, names)


def _states(moves: tuple[Transition, ...]) -> str:
    """The states it went through; `*` marks one from an event that had waited for its session."""
    if not moves:
        return ""
    return " > ".join([moves[0].source, *(f"{move.target}{'*' if move.parked else ''}" for move in moves)])
