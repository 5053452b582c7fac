"""Every log under `logs/` has the result that the file beside it says. To add a case, add two files.

The expectations were written by hand, from the documentation and from reports of users (`why` names the thread).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from telstate.cli import app
from tests.corpus import HERE

LOGS = sorted(path for path in (HERE / "logs").iterdir() if path.suffix in (".jsonl", ".log"))


def replay(path: Path) -> dict[str, list[Any]]:
    """Return the output of `telstate replay --json`, by kind of line."""
    result = CliRunner().invoke(app, ["replay", "--json", str(path)])
    assert result.exit_code == 0, result.output
    output: dict[str, list[Any]] = {"session": [], "caller": [], "unmatched": [], "invalid": [], "summary": []}
    for line in result.stdout.splitlines():
        ((kind, value),) = json.loads(line).items()
        output[kind].append(value)
    return output


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_log_has_the_expected_result(log: Path) -> None:
    """Sessions by id (or in their order), callers on hold, unmatched events, invalid lines and totals are as expected."""
    expected = json.loads(log.with_suffix(".expected.json").read_text(encoding="utf-8"))
    output = replay(log)
    sessions = expected["sessions"]
    wanted = (
        sessions if isinstance(sessions, list) else [{"session_id": key, **value} for key, value in sessions.items()]
    )
    assert [session["session_id"] for session in output["session"]] == [session["session_id"] for session in wanted]
    for session, facts in zip(output["session"], wanted, strict=True):
        assert {key: session[key] for key in facts} == facts
    assert output["caller"] == expected.get("callers", [])
    assert output["summary"] == [expected["summary"]]
    assert len(output["unmatched"]) == expected.get("unmatched", 0)
    assert [line["line"] for line in output["invalid"]] == expected.get("invalid", [])


def test_every_log_has_its_expectation_and_a_reason() -> None:
    """No file is left out by mistake."""
    assert len(LOGS) >= 30
    assert {path.with_suffix("").stem for path in (HERE / "logs").glob("*.expected.json")} == {
        path.stem for path in LOGS
    }
    assert all(json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))["why"] for path in LOGS)
