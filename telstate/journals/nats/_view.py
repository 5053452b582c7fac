"""A view: what the owner of a partition shows of one session, caller, endpoint or answer to all other processes, as JSON.

A view has the number of the last event that the owner had stepped. Whoever steps the same events comes to the same views, so of two
views with one key the one with the higher number is newer, whoever published it, and in whatever order they arrive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from telstate.calls._address import plain_uri
from telstate.calls._callers import Caller
from telstate.calls._endpoints import Endpoint
from telstate.calls._recorder import SNAPSHOT_FIELDS, freeze, thaw
from telstate.calls._requested_actions import RequestedAction
from telstate.calls._session import Session, rare
from telstate.journals.nats._connection import Stored

__all__ = [
    "ANSWER",
    "CALLER",
    "ENDPOINT",
    "SESSION",
    "Key",
    "View",
    "answer_from",
    "caller_from",
    "endpoint_from",
    "key_of_endpoint",
    "legs_from",
    "session_from",
    "show_answer",
    "show_caller",
    "show_endpoint",
    "show_session",
    "view_of",
    "write_view",
]

SESSION, CALLER, ENDPOINT, ANSWER = "session", "caller", "endpoint", "answer"

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


def show_session(session: Session, legs: list[Session]) -> bytes:
    """Write a session, and the ids of the other legs of its call. Most values of most sessions are unknown, and left out."""
    values = zip(SNAPSHOT_FIELDS, freeze(session), strict=True)
    fields = {name: value for name, value in values if name in _ALWAYS or value != _EMPTY[name]}
    ids = dict.fromkeys([*(rare(session, "legs") or ()), *(leg.session_id for leg in legs)])
    ids.pop(session.session_id, None)
    if ids:
        fields["legs"] = list(ids)[:_LEGS]
    return to_json(fields)


def session_from(content: bytes) -> Session:
    """Read a session. It is as it was, and changes no more."""
    fields = from_json(content)
    fields.pop("legs", None)
    return thaw(fields.keys(), fields.values())


def legs_from(content: bytes) -> tuple[str | None, list[str]]:
    """Read the SIP Call-ID of a session, and the ids of the other legs that its partition knows."""
    fields = from_json(content)
    return fields.get("sip_call_id"), fields.get("legs", [])


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
    """Write the answer to a request."""
    return to_json(request.failure)


def answer_from(content: bytes) -> dict[str, Any] | None:
    """Read why a request was not carried out; None if it was."""
    failure: dict[str, Any] | None = from_json(content)
    return failure


def key_of_endpoint(uri: str) -> Key:
    """Return under which key an endpoint is shown: with or without `sip:`, it is one."""
    return ENDPOINT, plain_uri(uri)
