"""Errors that mean that nobody answered: pipecat's SIPTransport reports busy, declined and no answer as errors."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest

from telstate import Engine, parse
from tests.calls import SESSION, js

CONNECTED = {"handler": "on_dialout_connected", "data": {"sessionId": SESSION}}
STOPPED = {"handler": "on_dialout_stopped", "data": {"sessionId": SESSION, "reason": "486 Busy Here"}}
FAILED = {"handler": "on_dialout_error", "data": {"sessionId": SESSION, "message": "SDP negotiation failed"}}


def error(kind: str, text: str) -> dict[str, Any]:
    """Make the error that SIPTransport reports."""
    return {"handler": "on_dialout_error", "data": {"sessionId": SESSION, "error": kind, "errorMsg": text}}


BUSY = error("CallBusy", "call failed: 486 Busy Here")


def cause_of(*payloads: dict[str, Any]) -> tuple[str, str | None]:
    """Return the state and the cause of the session that these events report."""
    engine = Engine()
    for payload in payloads:
        engine.receive(parse(payload), dialect="daily-python")
    (session,) = engine.sessions()
    return str(session.state), session.cause


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("CallBusy", "call failed: 486 Busy Here"),
        ("CallDeclined", "call failed: 603 Decline"),
        ("CallTimeout", "call not established within 30 s"),
        ("CallFailed", "call failed: 480 Temporarily Unavailable"),
        ("CallFailed", "call failed: 408 Request Timeout"),
        ("CallFailed", "call failed: 487 Request Terminated"),
        ("CallFailed", "call failed: 600 Busy Everywhere"),
        ("CallFailed", "call failed: Rejected by user"),
    ],
)
def test_nobody_answered(kind: str, text: str) -> None:
    """With the state `error`, as the event says. Its text is kept."""
    assert cause_of(CONNECTED, error(kind, text)) == ("error", "unanswered")


@pytest.mark.parametrize(
    "failure",
    [
        FAILED,
        error("CallFailed", "call failed: 404 Not Found"),
        error("CallFailed", "call failed: 503 Service Unavailable"),
        error("CallFailed", "call failed: Connection refused [111]"),
        error("CallFailed", "call failed: no reason given"),
        error("CommandTimeout", "no completion within 10 s"),
        error("RuntimeDead", "the SIP thread has exited"),
        {"handler": "on_dialout_error", "data": {"sessionId": SESSION, "message": "486 Busy Here"}},
        js("dialout-error", errorMsg="486 Busy Here"),
    ],
)
def test_another_error_is_a_failure(failure: dict[str, Any]) -> None:
    """Also one of Daily's with such a text: Daily reports a busy callee with a stopped, so that one failed on its way."""
    assert cause_of(CONNECTED, failure) == ("error", "failed")


@pytest.mark.parametrize("order", list(permutations([CONNECTED, STOPPED, BUSY])))
def test_in_any_order_and_repeated(order: tuple[dict[str, Any], ...]) -> None:
    """SIPTransport reports the stop too."""
    assert cause_of(*order) == ("error", "unanswered")
    assert cause_of(*[payload for payload, _ in product(order, range(2))]) == ("error", "unanswered")


@pytest.mark.parametrize("order", list(permutations([STOPPED, BUSY, FAILED])))
def test_a_failure_outweighs_it_in_any_order(order: tuple[dict[str, Any], ...]) -> None:
    """The strongest evidence counts."""
    assert cause_of(*order) == ("error", "failed")


def test_what_else_such_events_say() -> None:
    """The reason of a stop, and the address that was called."""
    engine = Engine()
    connected = {"sessionId": SESSION, "sipFrom": "sip:a@example.com", "sipTo": "sip:bot@example.com"}
    engine.receive(parse({"handler": "on_dialin_connected", "data": connected}))
    engine.receive(parse({"handler": "on_dialin_stopped", "data": {**connected, "reason": "Connection reset by peer"}}))
    (session,) = engine.sessions()
    assert (session.called, session.error_msg, session.anomalies) == (
        "sip:bot@example.com",
        "Connection reset by peer",
        (),
    )
    assert session.to_dict()["called"] == "sip:bot@example.com"
