"""Parts of the soak, in a process of their own. `python -m tests.soak` runs the whole, a million calls."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PER_MILLION = 10.0
"""Seconds that a recovery may take for a million events in the journal."""
_AT_LEAST = 8.0
"""Seconds that it may take in any case: the tail after the last checkpoint is as long in a small journal as in a large one."""


@pytest.mark.parametrize("calls", [1_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
def test_ended_calls_leave_nothing_behind(calls: int) -> None:
    """Each `on_end` and `on_retired` runs once, every outcome is counted, all sizes are zero: the soak itself checks that."""
    command = [sys.executable, "-m", "tests.soak", "--calls", str(calls)]
    run = subprocess.run(command, capture_output=True, check=False, timeout=380)
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
    report = json.loads(run.stdout)
    assert report["events"] == sum(report["outcomes"].values()) == 4 * calls
    assert report["rss_growth_mb"] < 20
    assert report["recovery_s"] < max(_AT_LEAST, _PER_MILLION * report["events"] / 1_000_000), report
    if calls >= 100_000:
        assert report["recovered_without_checkpoint"] < report["events"] / 2  # it did begin at a checkpoint
