"""`telstate lint` says of every log under `logs/` what the file in `lint/` has: each was read beside its log, and is true.

`python -m tests.corpus.test_lint` writes them anew: read the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from telstate.cli import app
from tests.corpus import HERE

LOGS = sorted((HERE / "logs").glob("*.jsonl"))


def lint(log: Path) -> str:
    """What it prints of a log, without the folder."""
    result = CliRunner().invoke(app, ["lint", log.name])
    return f"{result.stdout}\nexit code {result.exit_code}\n"


def golden(log: Path) -> Path:
    """The file with what it should print."""
    return HERE / "lint" / f"{log.stem}.txt"


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_lint_says_what_is_true(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word: people read it."""
    monkeypatch.chdir(log.parent)
    assert lint(log) == golden(log).read_text(encoding="utf-8")


def test_every_golden_file_has_a_log() -> None:
    """None is left over."""
    assert {path.stem for path in (HERE / "lint").glob("*.txt")} == {path.stem for path in LOGS}


if __name__ == "__main__":
    os.chdir(HERE / "logs")
    for one in LOGS:
        golden(one).write_text(lint(one), encoding="utf-8")
