"""A piece of work in a form that can be kept: what the handlers of one event were given, and which were to run.

A checkpoint keeps so what is not done yet, and a dead letter what was given up. Read again, it has the session that is known
by now, or, if that has left memory, the session as it was then, but for the program's own context.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from telstate.calls._endpoints import scope_of
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._recorder import SNAPSHOT_FIELDS, freeze, thaw
from telstate.calls._session import Session
from telstate.calls._transition import path_of, transitions_of
from telstate.events import Event, PinlessDialin, PinlessForwarded, parse
from telstate.routing._lanes import Job
from telstate.routing._plan import Plan
from telstate.routing._ports import DeadLetter

__all__ = ["Present", "facts_of", "key_of", "letter_of", "number_of_retirement", "read", "read_letter", "spell"]


def key_of(event: Event | None, session: Session | None) -> Hashable:
    """In whose lane it is done: its session's, or its waiting caller's, else that of its room or client.

    Callers on hold have no room yet. In one lane for all of them each would wait until the one before has found his.
    """
    if session is not None:
        return session.session_id
    if isinstance(event, (PinlessDialin, PinlessForwarded)) and event.call_id is not None:
        return ("caller", event.call_id)
    return None if event is None else scope_of(event)


def number_of_retirement(session: Session) -> int:
    """The number of the work that retires a session: that of the event which opened it, below zero."""
    return -session.opened


def facts_of(job: Job) -> dict[str, Any]:
    """What handlers are given beside the event, as JSON values."""
    outcome: Outcome | None = job.outcome
    return {
        "session": None if job.session is None else dict(zip(SNAPSHOT_FIELDS, freeze(job.session), strict=True)),
        "outcome": None
        if outcome is None
        else {
            "kind": outcome.kind,
            "opened": outcome.opened,
            "ended": outcome.ended,
            "moves": outcome.moves,
            "anomalies": outcome.anomalies,
        },
        "handlers": [call.name for call in job.calls],
    }


def spell(job: Job) -> dict[str, Any]:
    """All of it, as JSON values."""
    return {"seq": job.seq, "event": None if job.event is None else job.event.to_json().decode(), **facts_of(job)}


def letter_of(job: Job, reason: str, detail: str, at: float, handler: str | None = None) -> DeadLetter:
    """Give it up, or one handler of it."""
    payload = b"" if job.event is None else job.event.to_json()
    return DeadLetter(job.seq, reason, handler, detail, at, payload=payload, facts=facts_of(job))


class Present(NamedTuple):
    """What there is by now."""

    engine: Engine
    plan: Plan
    journal: str
    """Its id."""


def read(told: Mapping[str, Any], present: Present) -> Job:
    """Read what `spell` wrote. Handlers that are no longer registered are left out.

    Raises:
        KeyError, TypeError, ValueError: if it is not that.
    """
    event = None if told["event"] is None else parse(told["event"], "daily-js")
    return _job(told["seq"], event, told, told["handlers"], present)


def read_letter(letter: DeadLetter, present: Present) -> Job:
    """Make a letter work again; raises as `read`."""
    facts = letter.facts or {"session": None, "outcome": None, "handlers": []}
    event = parse(letter.payload, letter.dialect) if letter.payload else None
    names = facts["handlers"] if letter.handler is None else [letter.handler]
    return _job(letter.seq, event, facts, names, present)


def _job(seq: int, event: Event | None, facts: Mapping[str, Any], names: list[str], present: Present) -> Job:
    session = None if facts["session"] is None else _session(facts["session"], present.engine)
    outcome = None if event is None else _outcome(facts["outcome"], event, session)
    if outcome is not None:
        outcome.journal_id, outcome.seq, outcome.redelivered = present.journal, seq, True
    return Job(seq, present.plan.named(outcome, names), event, session, outcome)


def _session(told: Mapping[str, Any], engine: Engine) -> Session:
    known = engine.session(told["session_id"])
    if known is not None and known.opened == told["opened"]:
        return known
    return thaw(told.keys(), told.values())


def _outcome(told: Mapping[str, Any], event: Event, session: Session | None) -> Outcome:
    outcome = Outcome(OutcomeKind(told["kind"]), event, session)
    outcome.opened, outcome.ended = told["opened"], told["ended"]
    outcome.anomalies = tuple(told["anomalies"])
    outcome.moves = transitions_of(path_of(told["moves"]))
    return outcome
