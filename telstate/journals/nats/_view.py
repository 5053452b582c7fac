"""A view: what the owner of a partition shows of one session, caller, endpoint, intent or answer to all other processes, as JSON.

A view has the number of the last event that the owner had stepped. Whoever steps the same events comes to the same views, so of two
views with one key the one with the higher number is newer, whoever published it, and in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from telstate.calls._address import plain_uri
from telstate.calls._caller import Caller
from telstate.calls._endpoints import Endpoint
from telstate.calls._far_leg import plain_address
from telstate.calls._frozen_session import SNAPSHOT_FIELDS, freeze, thaw
from telstate.calls._intents import Intent, intent_of
from telstate.calls._legs_elsewhere import chosen_legs
from telstate.calls._requested_actions import RequestedAction
from telstate.calls._session import Session, rare
from telstate.events import ActionAnswered, Direction
from telstate.journals.nats._connection import Stored

__all__ = [
    "ANSWER",
    "CALLER",
    "ENDPOINT",
    "INTENT",
    "SESSION",
    "Key",
    "SessionFacts",
    "Ties",
    "View",
    "answer_from",
    "caller_from",
    "endpoint_from",
    "facts_of",
    "intent_from",
    "key_of_endpoint",
    "session_from",
    "show_answer",
    "show_caller",
    "show_endpoint",
    "show_intent",
    "show_session",
    "ties_of",
    "view_of",
    "write_view",
]

SESSION, CALLER, ENDPOINT, ANSWER, INTENT = "session", "caller", "endpoint", "answer", "intent"

Key = tuple[str, str]
"""The kind of a view, and the id of what it shows."""

_ALWAYS = frozenset({"session_id", "_signs", "direction", "state", "transitions"})
_EMPTY = dict(zip(SNAPSHOT_FIELDS, freeze(Session("", "dialin")), strict=True))  # type: ignore[arg-type]
_LEGS = 100
"""Legs that a view names."""


class View(NamedTuple):
    """What is shown under one key."""

    key: Key
    partition: int
    seq: int
    """The last event of the partition that was stepped before."""
    by: str
    """Who published it."""
    at: float
    """When, by the server's clock, in Unix seconds."""
    content: bytes
    """JSON; empty if there is no such thing any more."""


class Ties(NamedTuple):
    """What ties a session to others: they are legs of one call, or one is where the other was transferred to."""

    sip_call_id: str | None
    legs: list[str]
    """The ids of legs that were declared, left memory, or are the far legs of its transfers. Which others name it is in their views."""
    endpoint: str | None = None
    """The plain address of the endpoint by which a dial-in came."""
    started_at: float | None = None


def view_of(stored: Stored) -> View:
    """Read a message of the stream.

    Raises:
        ValueError, KeyError, TypeError: if it is something else.
    """
    partition, kind, _ = stored.subject.rsplit(".", 3)[1:]
    head, _, content = stored.data.partition(b"\n")
    fields = from_json(head)
    return View((kind, str(fields["key"])), int(partition), int(fields["seq"]), str(fields["by"]), stored.at, content)


def write_view(key: str, seq: int, by: str, content: bytes) -> bytes:
    """Write what `view_of` reads: a line of who says so and when, and the content."""
    return to_json({"key": key, "seq": seq, "by": by}) + b"\n" + content


# --- sessions ---------------------------------------------------------------------------------------------------------


def show_session(session: Session, declared: Iterable[str]) -> bytes:
    """Write a session, and which others it says are legs of its call. Most values of most sessions are unknown, and left out."""
    values = zip(SNAPSHOT_FIELDS, freeze(session), strict=True)
    fields = {name: value for name, value in values if name in _ALWAYS or value != _EMPTY[name]}
    if ids := ties_of(session, declared).legs:
        fields["legs"] = ids[:_LEGS]
    return to_json(fields)


def ties_of(session: Session, linked: Iterable[str]) -> Ties:
    """Return what ties a session to others, as its own partition knows it, with the ids of those that are linked there."""
    ids = dict.fromkeys((*(rare(session, "legs") or ()), *chosen_legs(session), *linked))
    ids.pop(session.session_id, None)
    endpoint = plain_address(session) if session.direction is Direction.DIALIN else None
    return Ties(session.sip_call_id, list(ids), endpoint, session.started_at)


def session_from(content: bytes) -> Session:
    """Read a session. It is as it was, and changes no more."""
    fields = from_json(content)
    fields.pop("legs", None)
    return thaw(fields.keys(), fields.values())


class SessionFacts(NamedTuple):
    """By what a session is found."""

    ties: Ties
    room: str | None


def facts_of(view: View) -> SessionFacts | None:
    """Read by what a session is found; None if the view is of something else, or of nothing any more."""
    if view.key[0] != SESSION or not view.content:
        return None
    fields = from_json(view.content)
    endpoint = fields.get("sip_endpoint") if fields["direction"] == Direction.DIALIN else None
    plain = plain_uri(endpoint) if endpoint else None
    ties = Ties(fields.get("sip_call_id"), fields.get("legs", []), plain, fields.get("started_at"))
    return SessionFacts(ties, fields.get("room"))


# --- callers, endpoints, answers --------------------------------------------------------------------------------------------


def show_caller(caller: Caller) -> bytes:
    """Write a caller on hold."""
    return to_json(caller.dump())


def caller_from(content: bytes) -> Caller:
    """Read a caller on hold."""
    return Caller.load(from_json(content))


def show_endpoint(endpoint: Endpoint) -> bytes:
    """Write a SIP endpoint."""
    return to_json([endpoint.uri, endpoint.scope, endpoint.ready, endpoint.sessions])


def endpoint_from(content: bytes) -> Endpoint:
    """Read a SIP endpoint."""
    uri, scope, ready, sessions = from_json(content)
    return Endpoint(uri, (scope[0], scope[1], scope[2]), ready=ready, sessions=sessions)


def show_answer(request: RequestedAction) -> bytes:
    """Write the answer to a request: why it was not carried out, or null; of a start, that and the session in an object."""
    if request.started_id is None:
        return to_json(request.failure)
    return to_json({"started_id": request.started_id, "failure": request.failure})


def answer_from(content: bytes, request_id: str) -> ActionAnswered:
    """Read the answer to a request."""
    answer: dict[str, Any] | None = from_json(content)
    if answer is not None and "started_id" in answer:
        return ActionAnswered(request_id=request_id, **answer)
    return ActionAnswered(request_id=request_id, failure=answer)


def show_intent(intent: Intent) -> bytes:
    """Write an intent."""
    return to_json(intent)


def intent_from(content: bytes) -> Intent:
    """Read an intent."""
    return intent_of(from_json(content))


def key_of_endpoint(uri: str) -> Key:
    """Return under which key an endpoint is shown: with or without `sip:`, it is one."""
    return ENDPOINT, plain_uri(uri)
