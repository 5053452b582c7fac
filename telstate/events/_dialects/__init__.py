"""The spellings in which events arrive. Each module knows one: whether a JSON object is written in it, and how it reads
in daily-js's keys. Translating never fails: what is missing or wrong is found when the result is validated.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from telstate.events._dialects import daily_js, daily_python, journal, webhook

__all__ = ["TRANSLATORS", "Dialect", "detect"]


class Dialect(StrEnum):
    """How a payload is spelled."""

    DAILY_JS = "daily-js"
    """daily-js and react-native: told by `action`. Our own local events are written in it too."""
    WEBHOOK = "webhook"
    """Daily's webhooks: `type` and `payload`; pinless dial-in: `To` and `From`, or `callId`."""
    DAILY_PYTHON = "daily-python"
    """daily-python and pipecat: `{"handler": "on_dialout_answered", "data": {…}}`."""
    JOURNAL = "journal"
    """telstate's own record around any of the above: told by `v` and `dialect`."""


TRANSLATORS: dict[Dialect, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Dialect.DAILY_JS: daily_js.translate,
    Dialect.WEBHOOK: webhook.translate,
    Dialect.DAILY_PYTHON: daily_python.translate,
}


def detect(payload: dict[str, Any]) -> Dialect | None:
    """Tell the dialect by the keys that only it has; None if there are none such."""
    for dialect, matches in (
        (Dialect.DAILY_JS, daily_js.matches),  # first: whatever else an event of daily-js carries, it is one
        (Dialect.JOURNAL, journal.matches),
        (Dialect.WEBHOOK, webhook.matches),
        (Dialect.DAILY_PYTHON, daily_python.matches),
        (Dialect.WEBHOOK, webhook.is_pinless),
    ):
        if matches(payload):
            return dialect
    return None
