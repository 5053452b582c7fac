"""A real process is killed again and again, in the long part. `python -m tests.crash` goes on all night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.harness import torment


@pytest.mark.long
def test_a_kill_while_it_prunes_breaks_no_promise(tmp_path: Path) -> None:
    """Each event is in the journal or, once, in the archive, and the state is that of all events."""
    report = torment(tmp_path, 25, 13, prunes=True)
    assert report.broken == []
    assert report.facts["archived"] > 100


@pytest.mark.long
@pytest.mark.parametrize(("kills", "seed"), [(3, 11), (25, 12)])
def test_a_kill_breaks_no_promise(tmp_path: Path, kills: int, seed: int) -> None:
    """Nothing acknowledged is lost, nothing is applied twice, and every handler runs, at least once and with the same id."""
    report = torment(tmp_path, kills, seed)
    assert report.broken == []
    assert report.facts["acknowledged"] > 100
    assert report.facts["run again"] > 0
    assert report.facts["retired"] > 0
    assert report.facts["dead letters"] > 0
