"""A tenth of the soak, in a process of its own: `python -m tests.soak` runs the whole."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CALLS = 100_000
"""Half a minute on two cores; the whole has ten times as many."""
_PER_MILLION = 10.0
"""Seconds that a recovery may take for a million events in the journal."""
_AT_LEAST = 3.0
"""What it may take in any case: the tail behind the last checkpoint is as long in a small journal as in a large one."""


@pytest.mark.timeout(400)
def test_a_hundred_thousand_calls_leave_nothing_behind() -> None:
    """Each `on_end` and `on_retired` once, every outcome counted, all sizes zero, no growth: the soak itself holds that."""
    command = [sys.executable, "-m", "tests.soak", "--calls", str(CALLS)]
    run = subprocess.run(command, capture_output=True, check=False, timeout=380)
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
    told = json.loads(run.stdout)
    assert told["events"] == sum(told["outcomes"].values()) == 4 * CALLS
    assert told["rss_growth_mb"] < 20
    assert told["recovered_without_checkpoint"] < told["events"] / 2  # it did begin at a checkpoint
    assert told["recovery_s"] < max(_AT_LEAST, _PER_MILLION * told["events"] / 1_000_000), told
