"""Splits bytes that come in pieces into the lines that `read_lines` would find in the whole."""

from __future__ import annotations

from telstate.sources._log_lines import MAX_LINE, LogLine

__all__ = ["LineSplitter"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineSplitter:
    """Splits one file into lines. A line is returned once it is complete; of one that is too long only the beginning is kept.

    Args:
        file: the file's name, for the lines.
        inside: the first bytes may be the rest of a line whose beginning was not read; it is dropped.
        limit: how many bytes of a line are kept at most.
    """

    def __init__(self, file: str, *, inside: bool = False, limit: int = MAX_LINE) -> None:
        self._file = file
        self._inside = inside
        self._limit = limit
        self._number = 0
        self._size = 0
        self._line = bytearray()
        self._too_long = False
        self.unfinished = 0
        """How many bytes of the unfinished last line were read."""

    def feed(self, data: bytes) -> list[LogLine]:
        """Add the next bytes; return the lines that end in them."""
        *ended, rest = data.split(b"\n")
        found: list[LogLine] = []
        for piece in ended:
            self._append(piece)
            self._size += 1
            found += self._finish(whole=True)
        self._append(rest)
        return found

    def end(self) -> list[LogLine]:
        """Return the unfinished last line, if there is one."""
        return self._finish(whole=False) if self._line else []

    def take_back(self) -> None:
        """Drop the unfinished last line."""
        self._size -= self.unfinished
        self._line.clear()
        self._too_long = False
        self.unfinished = 0

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        self.unfinished += len(piece)
        if not self._too_long:
            self._line += piece
            if len(self._line) > self._limit:
                self._too_long = True
                del self._line[self._limit + 1 :]

    def _finish(self, *, whole: bool) -> list[LogLine]:
        self._number += 1
        raw = bytes(self._line).rstrip(b"\r\n")
        if self._number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        line = LogLine(self._file, self._number, raw, self._size, self._too_long, whole)
        is_line = not self._inside and bool(raw.strip())
        self._line.clear()
        self._inside = self._too_long = False
        self.unfinished = 0
        if is_line:
            self._size = 0
        return [line] if is_line else []
