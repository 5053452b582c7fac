"""A job in a form that can be kept: what the handlers of one event were given, and which of them were to run.

A checkpoint keeps so what is not done yet, and a dead letter what was given up. A job that is read again has the session as
it is known by now; if that has left memory, as it was then, without the program's own context.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from telstate.calls._caller import Caller
from telstate.calls._endpoints import scope_of
from telstate.calls._engine import Engine
from telstate.calls._frozen_session import SNAPSHOT_FIELDS, freeze, thaw
from telstate.calls._outcome import CallerOutcome, Outcome, OutcomeKind
from telstate.calls._session import Session
from telstate.calls._transition import path_of, transitions_of
from telstate.events import (
    ActionRequested,
    Event,
    SipTrunkIncoming,
    parse,
)
from telstate.routing._handlers import HandlerTable
from telstate.routing._lanes import Job
from telstate.routing._ports import DeadLetter

__all__ = [
    "JobContext",
    "decode_job",
    "encode_job",
    "job_of_letter",
    "lane_key",
    "lane_of",
    "letter_of",
    "retirement_of",
]


class JobContext(NamedTuple):
    """What a job is read against."""

    engine: Engine
    handlers: HandlerTable
    journal_id: str


def lane_of(job: Job) -> Hashable:
    """Return the key of the lane that a job belongs in."""
    return job.session.session_id if job.session is not None else lane_key(job.event)


def lane_key(event: Event | None) -> Hashable:
    """Return the key of the lane of an event without a session: its waiting caller's, else that of its room or client.

    Callers on hold have no room yet. In one lane for all of them each would wait until the one before is connected. A request of others
    has a lane of its own: a handler of its session may run for as long as the call.
    """
    if event is None:
        return None
    if type(event) is ActionRequested:
        return ("request", event.request_id)
    call_id = event.__dict__.get("call_id")  # pydantic makes an attribute that most events lack, and `isinstance`, slow
    if call_id is not None:
        return ("caller", call_id)
    if type(event) is SipTrunkIncoming and event.room is not None:
        return ("caller", event.room)  # in place of a call id, as in the engine
    return scope_of(event)


def retirement_of(session: Session, handlers: HandlerTable) -> Job:
    """Return the job that retires a session. Its number is that of the event which opened the session, below zero."""
    return Job(-session.opened, handlers.retired, None, session, None)


def encode_job(job: Job) -> dict[str, Any]:
    """Write a job as JSON values."""
    encoded = {"seq": job.seq, "event": None if job.event is None else job.event.to_json().decode(), **_facts_of(job)}
    if job.outcome is not None and job.outcome.redelivered:
        encoded["redelivered"] = True
    return encoded


def decode_job(encoded: Mapping[str, Any], context: JobContext) -> Job:
    """Read what `encode_job` wrote. Handlers that are no longer registered are left out.

    Raises:
        KeyError, TypeError, ValueError: if it is something else.
    """
    event = None if encoded["event"] is None else parse(encoded["event"], "daily-js")
    return _job(encoded["seq"], event, encoded, encoded["handlers"], context)


def letter_of(job: Job, reason: str, detail: str, at: float, handler: str | None = None) -> DeadLetter:
    """Make a dead letter of a job, or of one handler of it. It never raises: a worker calls it, and must not end."""
    try:
        payload = b"" if job.event is None else job.event.to_json()
    except Exception:  # an event made without validation; without it, there is nothing to try again
        payload = b""
    return DeadLetter(job.seq, reason, handler, detail, at, payload=payload, facts=_facts_of(job))


def job_of_letter(letter: DeadLetter, context: JobContext) -> Job:
    """Make a job of a dead letter; raises as `decode_job`."""
    facts = letter.facts or {"session": None, "outcome": None, "handlers": []}
    event = parse(letter.payload, letter.dialect) if letter.payload else None
    names = facts["handlers"] if letter.handler is None else [letter.handler]
    return _job(letter.seq, event, facts, names, context)


def _facts_of(job: Job) -> dict[str, Any]:
    """Return what handlers are given beside the event, as JSON values."""
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
            "lost_caller": None if outcome.lost_caller is None else outcome.lost_caller.dump(),
        },
        "handlers": [handler.name for handler in job.handlers],
    }


def _job(seq: int, event: Event | None, facts: Mapping[str, Any], names: list[str], context: JobContext) -> Job:
    session = None if facts["session"] is None else _session(facts["session"], context.engine)
    outcome = None if event is None else _outcome(facts["outcome"], event, session, context.engine)
    if outcome is not None:
        outcome.journal_id, outcome.seq, outcome.redelivered = context.journal_id, seq, True
    return Job(seq, context.handlers.named(outcome, names), event, session, outcome)


def _session(facts: Mapping[str, Any], engine: Engine) -> Session:
    known = engine.session(facts["session_id"])
    if known is not None and known.opened == facts["opened"]:
        return known
    return thaw(facts.keys(), facts.values())


def _outcome(facts: Mapping[str, Any], event: Event, session: Session | None, engine: Engine) -> Outcome:
    kind, lost = OutcomeKind(facts["kind"]), facts.get("lost_caller")
    if lost is None:
        outcome = Outcome(kind, event, session)
    else:
        caller = Caller.load(lost)
        outcome = CallerOutcome(kind, event, engine.caller(caller.call_id) or caller)
    outcome.opened, outcome.ended = facts["opened"], facts["ended"]
    outcome.anomalies = tuple(facts["anomalies"])
    outcome.moves = transitions_of(path_of(facts["moves"]))
    return outcome
