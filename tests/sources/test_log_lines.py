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


def test_a_gzip_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    """What can be read is read, and the last line has the problem: half a log would mislead."""
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(b"a\n" * 9_000)[:-9])
    *found, last = read_lines([str(path)])
    assert last.problem == "the gzip file is cut short: what follows is missing"
    assert not any(line.problem for line in found)


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


def test_gzip_is_known_by_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file is called, also from standard input, in several members, and in UTF-16."""
    packed = gzip.compress(b"\xef\xbb\xbfa\n\n") + gzip.compress(b"b\nc")
    assert [(line.number, line.raw, line.whole) for line in read(tmp_path, packed)] == [
        (1, b"a", True),
        (3, b"b", True),
        (4, b"c", False),
    ]
    assert [line.raw for line in read(tmp_path, gzip.compress("\ufeffa\nb\n".encode("utf-16-le")))] == [b"a", b"b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert [line.raw for line in read_lines(["-"])] == [b"a", b"b", b"c"]
    assert read(tmp_path, gzip.compress(b"")) == []
    assert [line.raw for line in read(tmp_path, b"\x1f\x8b\n\x1f")] == [b"\x1f\x8b", b"\x1f"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "bits"])
def test_a_damaged_gzip_file_is_read_as_far_as_it_goes(tmp_path: Path, damage: str) -> None:
    """Then it is said, once."""
    packed = gzip.compress(b"".join(b"line %d of many\n" % number for number in range(20_000)))
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "garbage":
        packed += b"garbage"
    else:
        packed = packed[:-8] + b"\x00" * 8
    path = tmp_path / "log"
    path.write_bytes(packed)
    *found, last = read_lines([str(path)])
    assert found[0].raw == b"line 0 of many"
    assert len(found) > 5_000
    assert not any(line.problem for line in found)
    assert ("cut short" if damage == "cut" else "damaged") in last.problem


def test_a_gzip_file_that_unpacks_to_much_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the beginning of its one line is kept."""
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(b"0" * 3_000_000 + b"\nz\n", 1))
    first, second = read_lines([str(path)])
    assert (first.too_long, len(first.raw), second.raw) == (True, 1001, b"z")
