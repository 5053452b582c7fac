"""What happens in a `FakeDaily`, a line of text each. Numbers and names are in full: whoever shows the lines masks them."""

from __future__ import annotations

from typing import Any

from telstate.testing._domain import DomainEvent
from telstate.testing._webhook_delivery import SentWebhook

__all__ = ["event_line", "request_line", "undelivered_line"]

_SHOWN_OF_REQUESTS = ("phoneNumber", "sipUri", "toEndPoint", "sessionId", "callId", "url", "to")
"""Not the tones: they may be somebody's PIN."""
_SHOWN_OF_EVENTS = ("destination", "sipFrom", "sipEndpoint", "toEndpoint", "errorMsg")


def request_line(method: str, path: str, body: Any, status: int | None) -> str:
    """Say what was asked, and with which status it was answered; None: the connection broke."""
    about = _values(body, _SHOWN_OF_REQUESTS) if isinstance(body, dict) else []
    return " ".join(["request", method, path, *about, "->", "no answer" if status is None else str(status)])


def event_line(happened: DomainEvent, answered_by: str | None) -> str:
    """Say what happened in a room."""
    facts = happened.event.facts
    kind = happened.event.name.replace("-", ".", 1)
    about = [str(facts["sessionId"])] if facts.get("sessionId") else []
    if facts.get("owner"):
        about.append("the bot")
    if kind == "dialout.answered" and answered_by is not None:
        about.append(f"by a simulated {answered_by}")
    return " ".join(["event", kind, happened.room, *about, *_values(facts, _SHOWN_OF_EVENTS)])


def undelivered_line(webhook: SentWebhook) -> str:
    """Say that a receiver did not take a webhook."""
    return f"given up: {webhook.type} to {webhook.url}"


def _values(of: Any, names: tuple[str, ...]) -> list[str]:
    return [str(of[name]) for name in names if of.get(name)]
