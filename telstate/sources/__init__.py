"""Where events come from: webhooks, daily-python, pipecat, files, and any iterator of payloads. See README.md beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports
from telstate.sources._signatures import PINLESS, TRUNK, WEBHOOK, BadSignature, Secret, SignatureHeaders, sign, verify

if TYPE_CHECKING:
    from telstate.sources._daily import DailyEvents
    from telstate.sources._feed import FeedResult, feed
    from telstate.sources._follow import follow
    from telstate.sources._pipecat import PipecatEvents, attach_pipecat
    from telstate.sources._server import serve_webhooks
    from telstate.sources._webhooks import webhook_app
else:
    __getattr__ = _lazy_exports(
        __name__,
        {
            "DailyEvents": ("_daily", "daily"),
            "FeedResult": "_feed",
            "PipecatEvents": "_pipecat",
            "attach_pipecat": "_pipecat",
            "feed": "_feed",
            "follow": "_follow",
            "serve_webhooks": ("_server", "serve"),
            "webhook_app": ("_webhooks", "serve"),
        },
    )

__all__ = [
    "PINLESS",
    "TRUNK",
    "WEBHOOK",
    "BadSignature",
    "DailyEvents",
    "FeedResult",
    "PipecatEvents",
    "Secret",
    "SignatureHeaders",
    "attach_pipecat",
    "feed",
    "follow",
    "serve_webhooks",
    "sign",
    "verify",
    "webhook_app",
]
