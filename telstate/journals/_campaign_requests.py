"""What other processes ask of campaigns, as `telstate campaign pause`: rows that the process with the campaign looks for.

The table is made at the first request: most journals never have one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from telstate.routing._ports import CampaignRequest

__all__ = ["add", "drop", "of_campaign"]

_SCHEMA = "CREATE TABLE campaign_requests (number INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT NOT NULL, wish TEXT NOT NULL)"


def add(database: sqlite3.Connection, campaign: str, wish: str) -> None:
    """Keep a request, in the caller's transaction."""
    if not _exists(database):
        database.execute(_SCHEMA)
    database.execute("INSERT INTO campaign_requests (campaign, wish) VALUES (?, ?)", (campaign, wish))


def of_campaign(database: sqlite3.Connection, campaign: str) -> list[CampaignRequest]:
    """Return what was asked of a campaign, in order."""
    if not _exists(database):
        return []
    rows = database.execute(
        "SELECT number, wish FROM campaign_requests WHERE campaign = ? ORDER BY number", (campaign,)
    )
    return [CampaignRequest(*row) for row in rows]


def drop(database: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget requests, in the caller's transaction."""
    database.executemany("DELETE FROM campaign_requests WHERE number = ?", [(number,) for number in numbers])


def _exists(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'campaign_requests'").fetchone()[0])
