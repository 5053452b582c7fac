"""The dialects of events, one module each: how to detect it, and how to translate it to the keys of daily-js.

Translation never fails: missing or invalid fields are found when the result is validated.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from telstate.events._dialects import daily_js, daily_python, journal, webhook

__all__ = ["TRANSLATORS", "Dialect", "detect"]


class Dialect(StrEnum):
    """The format of a payload."""

    DAILY_JS = "daily-js"
    """daily-js and react-native: has an `action`. telstate's own local events use it too."""
    WEBHOOK = "webhook"
    """Daily's webhooks: `type` and `payload`; pinless dial-in: `To` and `From`, or `callId`."""
    DAILY_PYTHON = "daily-python"
    """daily-python and pipecat: `{"handler": "on_dialout_answered", "data": {…}}`."""
    JOURNAL = "journal"
    """telstate's own record around any of the above: has `v` and `dialect`."""


TRANSLATORS: dict[Dialect, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Dialect.DAILY_JS: daily_js.translate,
    Dialect.WEBHOOK: webhook.translate,
    Dialect.DAILY_PYTHON: daily_python.translate,
}


def detect(payload: dict[str, Any]) -> Dialect | None:
    """Detect the dialect by the keys that only it has; None if there are none."""
    for dialect, matches in (
        (Dialect.DAILY_JS, daily_js.matches),  # first: a daily-js event can have any other key too
        (Dialect.JOURNAL, journal.matches),
        (Dialect.WEBHOOK, webhook.matches),
        (Dialect.DAILY_PYTHON, daily_python.matches),
        (Dialect.WEBHOOK, webhook.is_pinless),
    ):
        if matches(payload):
            return dialect
    return None
