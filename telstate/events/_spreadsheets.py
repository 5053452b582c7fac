"""Cells of CSV that no spreadsheet calculates: callers choose their names, and what they say of themselves is in every record."""

from __future__ import annotations

import re

__all__ = ["no_formula"]

_BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""As the Open Worldwide Application Security Project lists them (CSV injection); the last four are full-width."""
_NUMBER = re.compile(r"[+-][0-9•.]+(e[+-]?[0-9]+)?")
"""A phone number, masked or not, or any other number: it is not text, and programs read it."""


def no_formula(cell: str) -> str:
    """Return a cell with an apostrophe before it if a spreadsheet would take it for a formula. Numbers stay as they are."""
    return f"'{cell}" if cell.startswith(_BEGIN_FORMULAS) and not _NUMBER.fullmatch(cell) else cell
