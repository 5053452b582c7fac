"""A few kills of a real process at each change; for a night of them there is `python -m tests.crash`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.harness import torment


@pytest.mark.parametrize(("kind", "kills", "seed"), [("jsonl", 12, 11), ("sqlite", 13, 12)])
def test_what_was_promised_before_a_kill_holds_after_it(tmp_path: Path, kind: str, kills: int, seed: int) -> None:
    """Nothing acknowledged is lost, nothing is applied twice, and every handler runs, at least once and with the same id."""
    report = torment(tmp_path, kind, kills, seed)
    assert report.broken == []
    assert report.facts["acknowledged"] > 100
    assert report.facts["run again"] > 0
    assert report.facts["retired"] > 0
    assert report.facts["dead letters"] > 0
