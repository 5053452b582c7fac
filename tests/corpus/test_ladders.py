"""The ladder of every log of the corpus is the one in `ladders/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.ladders import FOLDER, LOGS, ladder_of


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_log_has_the_expected_ladder(log: Path) -> None:
    """To the character, at the 100 columns of a pipe."""
    text = ladder_of(log)
    assert text == (FOLDER / f"{log.stem}.txt").read_text(encoding="utf-8"), (
        "if it is right: python -m tests.corpus.ladders"
    )
    assert max(map(len, text.splitlines())) <= 100


def test_no_ladder_is_left_over() -> None:
    """Each is of a log."""
    assert {path.stem for path in FOLDER.iterdir()} == {log.stem for log in LOGS}
