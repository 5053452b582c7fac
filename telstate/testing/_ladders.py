"""Calls as ladders, to compare a test's calls with a text that people can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from telstate.views._ladder_text import ladder_text
from telstate.views._ladders import ladders_of

__all__ = ["as_lines", "ladder"]


def ladder(lines: Iterable[bytes | str | Mapping[str, Any]], *, numbers: bool = False, width: int = 100) -> str:
    """Show what happened in every call of some events, as `telstate ladder` does: for snapshots in tests.

    Args:
        lines: events in any dialect: lines of a log, or payloads.
        numbers: show phone numbers, SIP users and names in full.
        width: of a line, in columns.

    Returns:
        The ladder of each call, in the order in which they began, with an empty line between them. No line ends in a blank.

    Raises:
        ParseError: if one cannot be read.
    """
    found = ladders_of(as_lines(lines), numbers=numbers)
    return "\n\n".join(ladder_text(one, width) for one in found)


def as_lines(lines: Iterable[bytes | str | Mapping[str, Any]]) -> list[bytes]:
    """Return events as the lines of a log."""
    return [_line(line) for line in lines]


def _line(line: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(line, bytes):
        return line
    return line.encode() if isinstance(line, str) else to_json(line)
