"""A campaign is killed for real, in the long part. `python -m tests.crash.campaigns` does it with 200 numbers and twenty seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaigns import torment


@pytest.mark.long
@pytest.mark.parametrize("seed", [0])
def test_a_killed_campaign_goes_on(tmp_path: Path, seed: int) -> None:
    """Nobody is reached twice, and each number has one result, the same in every run."""
    found = torment(tmp_path, seed, numbers=24, kills=2)
    assert found.broken == []
    assert found.outcomes["answered"] > 5
    assert found.facts["starts"] > 24
