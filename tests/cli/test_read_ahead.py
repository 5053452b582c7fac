"""Lines are read and parsed ahead in groups; nothing but the time it takes may show it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from telstate.cli._read_ahead import parse_ahead, read_ahead
from telstate.events import DialoutAnswered
from telstate.sources._log_lines import LogLine

ANSWERED = b'{"action":"dialout-answered","sessionId":"s1"}'


def line(raw: bytes = ANSWERED, size: int | None = None, *, too_long: bool = False) -> LogLine:
    return LogLine("calls.jsonl", 1, raw, len(raw) if size is None else size, too_long)


def test_all_lines_come_in_their_order() -> None:
    lines = [line(b"%d" % number) for number in range(1000)]
    groups = list(read_ahead(lines))
    assert [one for group in groups for one in group] == lines
    assert len(groups) < 10


def test_a_group_of_long_lines_is_small() -> None:
    groups = list(read_ahead([line(size=100_000)] * 100))
    assert max(map(len, groups)) == 3


def test_one_line_does_not_wait_for_the_next() -> None:
    lines = iter([line(b"1"), line(b"2")])
    groups = read_ahead(lines, one_by_one=True)
    assert next(groups) == [line(b"1")]
    assert next(lines) == line(b"2")


def test_what_was_read_before_an_error_comes_before_it() -> None:
    def failing() -> Iterator[LogLine]:
        yield line(b"1")
        raise OSError("the disk is gone")

    groups = read_ahead(failing())
    assert next(groups) == [line(b"1")]
    with pytest.raises(OSError, match="the disk is gone"):
        next(groups)


def test_only_what_looks_like_an_event_is_parsed_ahead() -> None:
    usual, *others = parse_ahead(
        [
            line(),
            line(b"12:00 INFO Dial-out answered: {'sessionId': 's1'}"),
            line(b'{"action":"dialout-answered"'),
            line(too_long=True),
        ]
    )
    assert usual is not None
    assert isinstance(usual[0], DialoutAnswered)
    assert others == [None, None, None]
