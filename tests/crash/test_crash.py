"""A real process is killed again and again, in the long part. `python -m tests.crash` goes on all night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.harness import torment
from tests.crash.receiver import Receiver


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


@pytest.mark.long
def test_a_kill_of_either_side_loses_no_notification(tmp_path: Path) -> None:
    """A receiver that verifies everything is told of all there is, in order for each call, and repetitions keep their ids."""
    with Receiver(tmp_path) as receiver:
        receiver.wait_ready()
        report = torment(tmp_path, 8, 14, receiver=receiver)
        assert receiver.kills > 1
    assert report.broken == []
    assert report.facts["told"] > 100
    assert report.facts["told again"] > 0
