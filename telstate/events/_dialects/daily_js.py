"""daily-js and react-native: events with an `action`. All other dialects are translated into this one."""

from __future__ import annotations

from typing import Any

__all__ = ["matches", "translate"]


def matches(payload: dict[str, Any]) -> bool:
    """Only daily-js has an `action`."""
    return "action" in payload


def translate(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload: there is nothing to translate."""
    return payload
