"""Bytes in whatever pieces they come, cut into the lines that `read_lines` would find in the whole."""

from __future__ import annotations

from telstate.sources._log_lines import MAX_LINE, LogLine

__all__ = ["Splitter"]

_MARK = b"\xef\xbb\xbf"


class Splitter:
    """Cuts one file into lines. A line is given when its end has come; of one that is too long only the beginning is held.

    Args:
        file: the file's name, for the lines.
        inside: the first bytes may be the rest of a line whose beginning nobody read; it is dropped.
        limit: bytes of a line that are held at most.
    """

    def __init__(self, file: str, *, inside: bool = False, limit: int = MAX_LINE) -> None:
        self._file = file
        self._inside = inside
        self._limit = limit
        self._number = 0
        self._size = 0
        self._held = bytearray()
        self._too_long = False
        self.unfinished = 0
        """Bytes of the line that has no end yet."""

    def feed(self, data: bytes) -> list[LogLine]:
        """Take in the next bytes; return the lines that end in them."""
        *ended, rest = data.split(b"\n")
        found: list[LogLine] = []
        for piece in ended:
            self._hold(piece)
            self._size += 1
            found += self._finish(whole=True)
        self._hold(rest)
        return found

    def end(self) -> list[LogLine]:
        """Nothing more will come: return the last line, if it has no end."""
        return self._finish(whole=False) if self._held else []

    def forget(self) -> None:
        """The line that has no end yet was taken back."""
        self._size -= self.unfinished
        self._held.clear()
        self._too_long = False
        self.unfinished = 0

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        self.unfinished += len(piece)
        if not self._too_long:
            self._held += piece
            if len(self._held) > self._limit:
                self._too_long = True
                del self._held[self._limit + 1 :]

    def _finish(self, *, whole: bool) -> list[LogLine]:
        self._number += 1
        raw = bytes(self._held).rstrip(b"\r\n")
        if self._number == 1:
            raw = raw.removeprefix(_MARK)
        line = LogLine(self._file, self._number, raw, self._size, self._too_long, whole)
        is_one = not self._inside and bool(raw.strip())
        self._held.clear()
        self._inside = self._too_long = False
        self.unfinished = 0
        if is_one:
            self._size = 0
        return [line] if is_one else []
