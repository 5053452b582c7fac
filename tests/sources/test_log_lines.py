"""Lines of log files, as they are found on disks."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from telstate.sources import _log_lines as lines
from telstate.sources._log_lines import LogLine, read_lines


def read(tmp_path: Path, data: bytes) -> list[LogLine]:
    """Return the lines of a file with these bytes."""
    path = tmp_path / "log"
    path.write_bytes(data)
    found = list(read_lines([str(path)]))
    assert sum(line.size for line in found) <= len(data)
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n  \r\n", []),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"a\r\n\r\nb\r\n", [(1, b"a"), (3, b"b")]),
        (b"\xef\xbb\xbfa\nb", [(1, b"a"), (2, b"b")]),
        (b"\xef\xbb\xbf\na\n", [(2, b"a")]),
        (b"x", [(1, b"x")]),
        (b"a\x00b\n", [(1, b"a\x00b")]),
        ("\ufeffa\nb\u20ac\r\n".encode("utf-16-le"), [(1, b"a"), (2, "b\u20ac".encode())]),
        ("\ufeffa\n".encode("utf-16-be"), [(1, b"a")]),
    ],
)
def test_lines(tmp_path: Path, data: bytes, expected: list[tuple[int, bytes]]) -> None:
    """Blank lines are skipped but counted; marks and line ends are removed; PowerShell's UTF-16 is read."""
    assert [(line.number, line.raw) for line in read(tmp_path, data)] == expected


@pytest.mark.parametrize("text", ["", "a\nb\n", "\ufeffa\n" * 9_000])
def test_gzip(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files and of standard input, in several members, also around UTF-16."""
    for data in (text.encode(), text.encode("utf-16")):
        packed = gzip.compress(data[:3]) + gzip.compress(data[3:])
        (tmp_path / "plain").write_bytes(data)
        (tmp_path / "packed").write_bytes(packed)
        expected = [(line.number, line.raw, line.whole) for line in read_lines([str(tmp_path / "plain")])]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
        for name in (str(tmp_path / "packed"), "-"):
            assert [(line.number, line.raw, line.whole) for line in read_lines([name])] == expected


def test_a_gzip_file_that_is_cut_off_raises(tmp_path: Path) -> None:
    """Half a log would mislead."""
    with pytest.raises(OSError, match="is damaged or cut off"):
        read(tmp_path, gzip.compress(b"a\n" * 9_000)[:-9])


def test_a_last_line_without_end_is_marked(tmp_path: Path) -> None:
    """It may be torn."""
    assert [line.whole for line in read(tmp_path, b"a\nb")] == [True, False]


def test_only_the_beginning_of_a_long_line_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next line is read."""
    monkeypatch.setattr(lines, "MAX_LINE", 10)
    found = read(tmp_path, b"x" * 10 + b"\n" + b"y" * 35 + b"\nz\n" + b"w" * 11)
    assert [(line.number, line.raw[:1], line.too_long, line.whole) for line in found] == [
        (1, b"x", False, True),
        (2, b"y", True, True),
        (3, b"z", False, True),
        (4, b"w", True, False),
    ]
    assert max(len(line.raw) for line in found) <= 11


def test_several_files_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order given."""
    path = tmp_path / "log"
    path.write_bytes(b"a\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfb\n")))
    assert [(line.file, line.raw) for line in read_lines([str(path), "-", str(path)])] == [
        (str(path), b"a"),
        ("-", b"b"),
        (str(path), b"a"),
    ]


def test_a_missing_file_raises(tmp_path: Path) -> None:
    """The caller reports it."""
    with pytest.raises(FileNotFoundError):
        list(read_lines([str(tmp_path / "none")]))
