"""`telstate calls` prints for every log of the corpus what was reviewed, on a narrow and on a wide terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.call_tables import LOGS, WIDTHS, golden, table

GOLDEN = {width: golden(width) for width in WIDTHS}


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_table(log: Path) -> None:
    """It is as reviewed, and no line is wider than the terminal, but for the notes, which the terminal breaks."""
    for width in WIDTHS:
        text = table(log, width)
        assert text == GOLDEN[width][log.stem], "reviewed the change? python -m tests.corpus.call_tables"
        assert [line for line in text.splitlines() if len(line) >= width and not line.startswith("    ")] == []


def test_no_golden_table_is_left_over() -> None:
    """Each belongs to a log."""
    assert all(set(tables) == {log.stem for log in LOGS} for tables in GOLDEN.values())
