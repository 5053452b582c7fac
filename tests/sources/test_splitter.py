"""Bytes in any pieces, split into lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate.sources import _log_lines as lines
from telstate.sources._log_lines import LogLine, read_lines
from telstate.sources._splitter import LineSplitter

LIMIT = 12
DATA = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf", b" ", b"a", b"{}", b"\xe2\x82\xac", b"x" * 5, b"y" * 13]),
    max_size=30,
).map(b"".join)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file for `read_lines`, whose limit is short here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MAX_LINE", LIMIT)
        yield tmp_path_factory.mktemp("splitting") / "log"


def split(pieces: list[bytes]) -> list[LogLine]:
    """Return the lines of some pieces."""
    splitter = LineSplitter("log", limit=LIMIT)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + splitter.end()


@given(data=DATA, cuts=st.lists(st.integers(0, 100), max_size=8))
def test_any_pieces_give_the_lines_of_the_whole(log: Path, data: bytes, cuts: list[int]) -> None:
    """With numbers and sizes, also of lines that are too long and of an unfinished last line."""
    log.write_bytes(data)
    whole = [line._replace(file="log") for line in read_lines([str(log)])]
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert split([data[start:end] for start, end in pairwise(places)]) == whole
    assert split([data]) == whole
    assert split([data[place : place + 1] for place in range(len(data))]) == whole


def test_a_line_is_returned_once_it_is_complete() -> None:
    """Not before."""
    splitter = LineSplitter("log")
    assert splitter.feed(b"a") == []
    assert splitter.feed(b"b\r") == []
    assert [line.raw for line in splitter.feed(b"\nc\nd")] == [b"ab", b"c"]
    assert [(line.raw, line.whole) for line in splitter.end()] == [(b"d", False)]
    assert splitter.end() == []


def test_only_the_beginning_of_a_long_line_is_kept() -> None:
    """However long it grows."""
    splitter = LineSplitter("log", limit=LIMIT)
    for _ in range(100):
        assert splitter.feed(b"x" * 1000) == []
    assert len(splitter._line) == LIMIT + 1
    (line, after) = splitter.feed(b"\na\n")
    assert (line.too_long, len(line.raw), line.size) == (True, LIMIT + 1, 100_001)
    assert (after.raw, after.too_long, after.number) == (b"a", False, 2)


def test_the_rest_of_a_line_that_had_begun_is_dropped() -> None:
    """Only later lines are returned."""
    splitter = LineSplitter("log", inside=True)
    assert [line.raw for line in splitter.feed(b'wn"}\na\n')] == [b"a"]
    splitter = LineSplitter("log", inside=True)
    assert splitter.feed(b"wn") == splitter.end() == []


def test_a_line_that_is_taken_back_leaves_nothing() -> None:
    """Nor its size, even if it was too long."""
    splitter = LineSplitter("log", limit=LIMIT)
    splitter.feed(b"a\n" + b"x" * 20)
    assert splitter.unfinished == 20
    splitter.take_back()
    assert splitter.feed(b"b\n") == [LogLine("log", 2, b"b", 2)]


def test_lines_of_a_pipe_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line from standard input is returned when it comes, not when a buffer is full."""

    class Pipe(io.RawIOBase):
        """Returns a line at each read; fails if the next is read before the last was returned."""

        returned = asked = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            assert self.returned == self.asked
            self.asked += 1
            line = b"%d\n" % self.asked if self.asked < 4 else b""
            buffer[: len(line)] = line
            return len(line)

    pipe = Pipe()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(pipe)))  # type: ignore[type-var]
    for line in read_lines(["-"]):
        pipe.returned += 1
        assert line.raw == b"%d" % pipe.returned
    assert pipe.returned == 3
