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
    """Daily's webhooks: `type` and `payload`; pinless dial-in: `To` and `From`, or `callId` and `callDomain`; SIP trunk: its `type`."""
    DAILY_PYTHON = "daily-python"
    """daily-python and pipecat: `{"handler": "on_dialout_answered", "data": {…}}`."""
    JOURNAL = "journal"
    """telstate's own record around any of the above: has `v` and `dialect`."""


TRANSLATORS: dict[Dialect, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Dialect.DAILY_JS: daily_js.translate,
    Dialect.WEBHOOK: webhook.translate,
    Dialect.DAILY_PYTHON: daily_python.translate,
}


# The names of an enum are slow to look up, and every payload comes here.
_DAILY_JS, _WEBHOOK, _DAILY_PYTHON, _JOURNAL = Dialect


def detect(payload: dict[str, Any]) -> Dialect | None:
    """Detect the dialect by the keys that only it has; None if there are none."""
    if daily_js.matches(payload):  # first: a daily-js event can have any other key too
        return _DAILY_JS
    if journal.matches(payload):
        return _JOURNAL
    if webhook.matches(payload):
        return _WEBHOOK
    if daily_python.matches(payload):
        return _DAILY_PYTHON
    return _WEBHOOK if webhook.is_pinless(payload) else None
