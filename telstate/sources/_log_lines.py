"""The lines of recorded logs, as bytes.

Real logs have byte order marks, CRLF, blank lines, very long lines and a torn last line, and are compressed once they were rotated. None
of them stops the reading, and no more than `MAX_LINE` bytes of a line are held in memory.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

__all__ = ["GZIP", "MAX_LINE", "STDIN", "LogLine", "read_lines"]

STDIN = "-"
"""The name that means standard input."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes. A longer line is not read: Daily's webhooks are a few kilobytes."""

GZIP = b"\x1f\x8b\x08"
"""How a file begins that is compressed with gzip. Source: RFC 1952, 2.3."""


class LogLine(NamedTuple):
    """One line that is not blank."""

    file: str
    number: int
    """Counted from 1, blank lines included, as editors do."""
    raw: bytes
    """Without line end and byte order mark. Only the beginning of a line above MAX_LINE."""
    size: int
    """Bytes read for it, with its line end and the blank lines before it."""
    too_long: bool = False
    whole: bool = True
    """False for a last line without a line end: it may be torn."""
    problem: str = ""
    """Why the file could not be read beyond this point; then this is no line of it."""


def read_lines(files: Iterable[str]) -> Iterator[LogLine]:
    """Read files one after another; `-` is standard input. What is compressed with gzip, by its first bytes, is decompressed.

    Raises:
        OSError: if a file cannot be opened or read.
    """
    for name in files:
        if name == STDIN:
            if sys.stdin is None:
                raise OSError("standard input is closed")
            yield from _lines(STDIN, cast("io.BufferedReader", sys.stdin.buffer))
            continue
        with open(name, "rb") as file:
            yield from _lines(name, file)


def _lines(name: str, file: io.BufferedReader) -> Iterator[LogLine]:
    size = 0
    number = 0
    source, gunzip = _decoded(file)
    while chunk := source.readline(MAX_LINE + 1):
        number += 1
        size += len(chunk)
        whole = chunk.endswith(b"\n")
        too_long = not whole and len(chunk) > MAX_LINE
        while too_long and not whole and (rest := source.readline(MAX_LINE)):
            size += len(rest)
            whole = rest.endswith(b"\n")
        raw = chunk.rstrip(b"\r\n")
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield LogLine(name, number, raw, size, too_long, whole)
            size = 0
    if gunzip is not None and gunzip.problem:
        yield LogLine(name, number + 1, b"", size, problem=gunzip.problem)


class _Utf16(io.RawIOBase):
    """A UTF-16 file, as PowerShell's `>` writes it, read as UTF-8."""

    def __init__(self, file: io.BufferedReader, head: bytes) -> None:
        raw: io.RawIOBase = _Headed(file, head)
        self._text = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-16", errors="replace", newline="")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._text.read(len(buffer) // 4).encode("utf-8", "replace")
        buffer[: len(data)] = data
        return len(data)


class _Headed(io.RawIOBase):
    """A stream whose first bytes were read already, because standard input cannot be rewound."""

    def __init__(self, file: io.BufferedReader, head: bytes) -> None:
        self._file = file
        self._head = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        data = data or self._file.read1(len(buffer))  # what a pipe has now: `read` would wait for a full buffer
        buffer[: len(data)] = data
        return len(data)


class _Gunzip(io.RawIOBase):
    """A file that is compressed with gzip, decompressed. One that is cut short or damaged ends there."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = gzip.GzipFile(fileobj=io.BufferedReader(file, 1 << 18), mode="rb")
        self.problem = ""
        """Why it ended early."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if self.problem:
            return 0
        try:
            data = self._file.read1(len(buffer))
        except EOFError:
            self.problem = "the gzip file is cut short: what follows is missing"
        except (gzip.BadGzipFile, zlib.error) as error:
            self.problem = f"the gzip file is damaged from here on ({error})"
        else:
            buffer[: len(data)] = data
            return len(data)
        return 0


def _decoded(file: io.BufferedReader) -> tuple[io.BufferedReader[io.RawIOBase], _Gunzip | None]:
    """Check the first bytes for gzip, and for a UTF-16 byte order mark."""
    head = file.read(2)  # not more: a pipe may have only that now
    gunzip = None
    if head == GZIP[:2]:
        head += file.read(1)
    if head == GZIP:
        gunzip = _Gunzip(_Headed(file, head))
        plain: io.RawIOBase = gunzip
        file = io.BufferedReader(plain, 1 << 18)
        head = file.read(2)
    raw: io.RawIOBase = _Utf16(file, head) if head in (b"\xff\xfe", b"\xfe\xff") else _Headed(file, head)
    return io.BufferedReader(raw, 1 << 18), gunzip
