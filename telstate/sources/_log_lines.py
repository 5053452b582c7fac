"""The lines of recorded logs, as bytes.

Real logs have byte order marks, CRLF, blank lines, very long lines and a torn last line, and many are compressed with gzip. None of them
stops the reading, and no more than `MAX_LINE` bytes of a line are held in memory.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

__all__ = ["MAX_LINE", "STDIN", "LogLine", "read_lines"]

STDIN = "-"
"""The name that means standard input."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes. A longer line is not read: Daily's webhooks are a few kilobytes."""


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


def read_lines(files: Iterable[str]) -> Iterator[LogLine]:
    """Read files one after another; `-` is standard input.

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
    source = _as_text(name, file)
    while chunk := source.readline(MAX_LINE + 1):
        number += 1
        size += len(chunk)
        too_long = len(chunk) > MAX_LINE and not chunk.endswith(b"\n")
        whole = chunk.endswith(b"\n")
        while too_long and not whole and (rest := source.readline(MAX_LINE)):
            size += len(rest)
            whole = rest.endswith(b"\n")
        raw = chunk.rstrip(b"\r\n")
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield LogLine(name, number, raw, size, too_long, whole)
            size = 0


class _Gzip(io.RawIOBase):
    """A gzip file, read as what it contains. One that is damaged or cut off is an OSError that says so.

    Args:
        name: of the file.
        file: the file, from its beginning.
    """

    def __init__(self, name: str, file: io.BufferedReader[Any]) -> None:
        from gzip import GzipFile  # noqa: PLC0415 - few logs are compressed, and a command starts sooner without it

        self._name = name
        self._file = GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self._file.read1(len(buffer))
        except (EOFError, OSError, zlib.error) as error:
            name = "standard input" if self._name == STDIN else self._name
            raise OSError(f"{name} is damaged or cut off: gunzip what is left of it first ({error})") from None
        buffer[: len(data)] = data
        return len(data)


class _Utf16(io.RawIOBase):
    """A UTF-16 file, as PowerShell's `>` writes it, read as UTF-8."""

    def __init__(self, file: io.BufferedReader[Any], head: bytes) -> None:
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

    def __init__(self, file: io.BufferedReader[Any], head: bytes) -> None:
        self._file = file
        self._head = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        data = data or self._file.read1(len(buffer))  # what a pipe has now: `read` would wait for a full buffer
        buffer[: len(data)] = data
        return len(data)


def _as_text(name: str, file: io.BufferedReader[Any]) -> io.BufferedReader[io.RawIOBase]:
    """Check the first two bytes for gzip, then for a UTF-16 byte order mark."""
    head = file.read(2)
    if head == b"\x1f\x8b":
        packed: io.RawIOBase = _Headed(file, head)
        unpacked: io.RawIOBase = _Gzip(name, io.BufferedReader(packed, 1 << 18))
        file = io.BufferedReader(unpacked, 1 << 18)
        head = file.read(2)
    raw: io.RawIOBase = _Utf16(file, head) if head in (b"\xff\xfe", b"\xfe\xff") else _Headed(file, head)
    return io.BufferedReader(raw, 1 << 18)
