"""The tables of `telstate calls` for every log of the corpus. `python -m tests.corpus.call_tables` writes them anew."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner

from telstate.cli import app

__all__ = ["LOGS", "WIDTHS", "golden", "table"]

HERE = Path(__file__).parent
LOGS = sorted((HERE / "logs").glob("*.jsonl"))
WIDTHS = (80, 200)


def table(log: Path, width: int) -> str:
    """What the command prints on a terminal of this width."""
    with patch("telstate.cli._calls.width", lambda: width):
        result = CliRunner().invoke(app, ["calls", str(log)])
    assert result.exit_code == 0, result.output
    return result.stdout


def golden(width: int) -> dict[str, str]:
    """The tables as they were reviewed, by the name of the log."""
    text = _file(width).read_text(encoding="utf-8")
    return dict(section.split("\n", 1) for section in text.split("### ")[1:])


def _file(width: int) -> Path:
    return HERE / f"call_tables.{width}.txt"


if __name__ == "__main__":
    for columns in WIDTHS:
        sections = (f"### {log.stem}\n{table(log, columns)}" for log in LOGS)
        _file(columns).write_text("".join(sections), encoding="utf-8", newline="\n")
