"""The benchmark runs, every peer handles every event, and what needs no clock holds. How fast is the guard's to ask."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.benchmarks.costs import bytes_per_session, latency
from tests.benchmarks.harness import FLOOR, lines_of
from tests.benchmarks.peers import PEERS
from tests.benchmarks.targets import Figure, of_costs


@pytest.mark.timeout(300)
def test_it_runs_and_tells_a_ratio_of_every_peer() -> None:
    """As a record, with the machine it ran on."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks",
        "--events",
        "600",
        "--rounds",
        "1",
        "--sessions",
        "2000",
        "--json",
    ]
    run = subprocess.run(command, capture_output=True, check=True, timeout=240)
    told = json.loads(run.stdout)
    assert [peer["name"] for peer in told["peers"]] == list(PEERS)
    assert all(peer["microseconds"] > 0 for peer in told["peers"])
    assert next(peer["ratio"] for peer in told["peers"] if peer["name"] == FLOOR) == 1.0
    assert sum(figure["target"] is not None for figure in told["figures"]) == 10
    assert {"date", "python", "pydantic", "machine"} <= set(told)
    assert list(told["microseconds_at_live_sessions"]) == ["1000", "2000"]


def test_the_log_is_interleaved_and_of_both_directions() -> None:
    """As the real ones are, and with all that befalls a call."""
    lines = lines_of(2000)
    assert len(lines) == 2000
    assert {json.loads(line)["action"].split("-")[0] for line in lines} == {"dialin", "dialout", "dtmf", "participant"}


def test_a_live_session_weighs_no_more_than_it_may() -> None:
    """With its data and all that leads to it; tracemalloc counts bytes, so no machine changes that."""
    assert bytes_per_session(5_000) < 1_500


def test_latency_is_told_of_every_event() -> None:
    """At half of the most that it can do, hence in less than that takes."""
    waited = latency(2_000)
    assert 0 < waited.p50 <= waited.p99
    assert waited.rate > 100


def test_what_is_missed_is_called_missed() -> None:
    """A target that no figure could miss would be none."""
    assert [figure.met for figure in of_costs(1_501, 19, 1.6, 1.4)] == [False, True, False, True]
    assert Figure("a figure without target", 1.0, "x").met is None
