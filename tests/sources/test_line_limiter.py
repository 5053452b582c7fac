"""Log lines that strangers can cause are bounded."""

from __future__ import annotations

import logging

import pytest

from telstate.sources._line_limiter import LimitedLines, LineLimiter


def test_the_first_is_written_and_then_one_an_interval() -> None:
    """With the number of those between; each kind for itself."""
    now = 100.0
    limiter = LineLimiter(60, lambda: now)
    assert [limiter.admit("a") for _ in range(1000)] == [0] + [None] * 999
    assert limiter.admit("b") == 0
    now = 160.0
    assert [limiter.admit("a"), limiter.admit("a"), limiter.admit("b")] == [999, None, 0]


def test_kinds_without_end_do_not_grow() -> None:
    """The oldest is forgotten."""
    limiter = LineLimiter(60, lambda: 1.0)
    for number in range(10_000):
        limiter.admit(str(number))
    assert len(limiter._kinds) < 1_000


def test_a_logger_is_limited(caplog: pytest.LogCaptureFixture) -> None:
    """By the text of its lines before their arguments."""
    now = 0.0
    logger = logging.Logger("limited", logging.INFO)  # noqa: LOG001 - for this test alone
    logger.parent = logging.getLogger("limited")
    logger.addFilter(LimitedLines(LineLimiter(60, lambda: now)))
    for number in range(5):
        logger.warning("number %d", number)
    now = 61.0
    logger.warning("number %d", 5)
    assert caplog.messages == ["number 0", "number 5 (4 more such lines were left out before)"]
