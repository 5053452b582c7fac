"""The benchmark runs, and every peer handles every event. How fast is not asked here: CI's machines are noisy."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.harness import FLOOR, lines_of
from tests.benchmarks.peers import PEERS


def test_it_runs_and_tells_a_ratio_of_every_peer() -> None:
    """As a record, with the machine it ran on."""
    command = [sys.executable, "-m", "tests.benchmarks", "--events", "600", "--rounds", "2", "--json"]
    run = subprocess.run(command, capture_output=True, check=True, timeout=120)
    told = json.loads(run.stdout)
    assert [result["name"] for result in told["results"]] == list(PEERS)
    assert all(result["microseconds"] > 0 for result in told["results"])
    assert next(result["ratio"] for result in told["results"] if result["name"] == FLOOR) == 1.0


def test_the_log_is_interleaved_and_of_both_directions() -> None:
    """As the real ones are."""
    lines = lines_of(2000)
    assert len(lines) == 2000
    assert {json.loads(line)["action"].split("-")[0] for line in lines} == {"dialin", "dialout"}
