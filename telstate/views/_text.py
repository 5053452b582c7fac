"""Text for terminals: times, and text from outside, made harmless."""

from __future__ import annotations

from datetime import UTC, datetime

from telstate.errors import printable, printable_lines

__all__ = ["cut", "printable", "printable_lines", "utc_time"]


def utc_time(at: float | None) -> str:
    """Unix seconds as date and time of day in UTC, to the second; empty if the time is not known."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")[:19]  # strftime is slower


def cut(text: str, width: int) -> str:
    """At most `width` characters of a text."""
    return text if len(text) <= width else text[: width - 1] + "…"
