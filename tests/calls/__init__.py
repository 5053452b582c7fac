"""Tests of the pure core, and helpers that make events."""

from __future__ import annotations

from typing import Any

from telstate import Engine, Outcome, parse

__all__ = ["SESSION", "feed", "joined", "js", "webhook"]

SESSION = "7d208e2a-520b-4a8d-a2c9-3a36dfa0d342"


def js(action: str, session_id: str | None = SESSION, **fields: Any) -> dict[str, Any]:
    """Make a daily-js payload."""
    return {"action": action, **({"sessionId": session_id} if session_id else {}), **fields}


def joined(session_id: str = SESSION, action: str = "participant-joined") -> dict[str, Any]:
    """Make the payload of a participant event."""
    return {"action": action, "participant": {"session_id": session_id}}


def webhook(kind: str, session_id: str | None = SESSION, *, id: str = "", **fields: Any) -> dict[str, Any]:  # noqa: A002
    """Make the payload of a webhook."""
    payload = {**({"session_id": session_id} if session_id else {}), **fields}
    return {"type": kind, "id": id or f"{kind}-{session_id}", "payload": payload}


def feed(engine: Engine, *payloads: dict[str, Any], at: float | None = None) -> Outcome:
    """Feed payloads to an engine; return the last outcome."""
    outcomes = [engine.receive(parse(payload), at) for payload in payloads]
    return outcomes[-1]
