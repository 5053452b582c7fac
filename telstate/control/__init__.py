"""What is asked of Daily: its REST API. Needs the extra `telstate[rest]`."""

from __future__ import annotations

from telstate.control.api import DAILY, DailyApi
from telstate.control.hooks import NEEDED, Webhook, Webhooks, watch

__all__ = ["DAILY", "NEEDED", "DailyApi", "Webhook", "Webhooks", "watch"]
