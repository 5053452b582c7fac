"""The width of texts in columns of a terminal, and texts broken into lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

__all__ = ["cells_of", "wrap_cells"]


def wrap_cells(text: str, width: int, indent: int = 0) -> Iterator[str]:
    """Break a text between words into lines of so many columns; a longer word is cut.

    Args:
        text: of one line; blanks at its beginning stay.
        width: in columns.
        indent: of all lines but the first.
    """
    lead = text[: len(text) - len(text.lstrip(" "))]
    line, used, empty = lead, len(lead), True
    for word in text.split(" "):
        if not word:
            continue
        for piece in _pieces(word, width - indent):
            size = cells_of(piece)
            if not empty and used + 1 + size > width:
                yield line
                line, used, empty = " " * indent, indent, True
            gap = "" if empty else " "
            line, used, empty = f"{line}{gap}{piece}", used + len(gap) + size, False
    yield line


def _pieces(word: str, width: int) -> Iterator[str]:
    piece, used = "", 0
    for c in word:
        size = cells_of(c)
        if used + size > width:
            yield piece
            piece, used = "", 0
        piece, used = piece + c, used + size
    yield piece


def cells_of(text: str) -> int:
    """Return the columns that a text takes: some characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
