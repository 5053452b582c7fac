"""How a terminal is told what strangers wrote: times, and texts that can do it no harm."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["clock", "cut", "plain"]


def clock(at: float | None) -> str:
    """Unix seconds as date and time of day in UTC, to the second; nothing where the time is not known."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def cut(text: str, width: int) -> str:
    """At most `width` characters of it."""
    return text if len(text) <= width else text[: width - 1] + "…"


def plain(text: str) -> str:
    """Take out what would move the cursor or ring the bell: logs hold what strangers sent."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
