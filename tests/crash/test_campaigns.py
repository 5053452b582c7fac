"""A campaign is killed for real, in the long part. `python -m tests.crash.campaigns` does it with 200 numbers and twenty seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaigns import torment


@pytest.mark.long
@pytest.mark.parametrize(("seed", "once", "freezes"), [(0, False, False), (9, True, True)])
def test_a_killed_campaign_goes_on(tmp_path: Path, seed: int, once: bool, freezes: bool) -> None:
    """Nobody is reached twice, also if the answer is lost for good; and each number has one result, the same in every run."""
    found = torment(tmp_path, seed, numbers=24, kills=2, once=once, freezes=freezes)
    assert found.broken == []
    assert found.outcomes["answered"] > 0  # how many are not in doubt is up to the kills
    assert found.facts["starts"] > 24
