"""The ladders of all logs of the corpus, as `telstate ladder` writes them to a pipe.

They were read by a person, step by step, beside their logs. `python -m tests.corpus.ladders` writes them again: read what has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from telstate.cli import app
from tests.corpus import HERE

__all__ = ["FOLDER", "LOGS", "ladder_of", "write_ladders"]

FOLDER = HERE / "ladders"
LOGS = sorted((HERE / "logs").glob("*.jsonl"))


def ladder_of(log: Path) -> str:
    """Return what the command prints for a log."""
    result = CliRunner().invoke(app, ["ladder", "--limit", "100", str(log)])
    assert result.exit_code == 0, result.output
    return result.stdout


def write_ladders() -> Iterator[Path]:
    """Write the ladder of each log; yield the files."""
    FOLDER.mkdir(exist_ok=True)
    for log in LOGS:
        path = FOLDER / f"{log.stem}.txt"
        path.write_text(ladder_of(log), encoding="utf-8", newline="\n")
        yield path


if __name__ == "__main__":
    print(len(list(write_ladders())))  # noqa: T201
