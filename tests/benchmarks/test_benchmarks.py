"""The benchmark runs, every peer handles every event, and memory stays small. Speed is checked by test_guard.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.benchmarks.costs import bytes_per_session, latency
from tests.benchmarks.harness import FLOOR, lines_of
from tests.benchmarks.peers import PEERS
from tests.benchmarks.targets import Figure, of_costs
from tests.benchmarks.webhooks import BY_HAND, CONNECTIONS, TELSTATE


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_measures_every_peer() -> None:
    """And says what it ran on."""
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
        "--seconds",
        "0.3",
        "--json",
    ]
    run = subprocess.run(command, capture_output=True, check=True, timeout=240)
    measured = json.loads(run.stdout)
    assert [peer["name"] for peer in measured["peers"]] == list(PEERS)
    assert all(peer["microseconds"] > 0 for peer in measured["peers"])
    assert next(peer["ratio"] for peer in measured["peers"] if peer["name"] == FLOOR) == 1.0
    aimed = [figure["what"] for figure in measured["figures"] if figure["target"] is not None]
    assert sum("uvicorn[standard]" not in what for what in aimed) == 22
    assert {(one["peer"], one["connections"]) for one in measured["services"]} >= {
        (peer.name, level) for peer in (TELSTATE, BY_HAND) for level in CONNECTIONS
    }
    assert all(figure["value"] > 0 for figure in measured["figures"])
    assert {"date", "python", "pydantic", "machine"} <= set(measured)
    assert list(measured["microseconds_at_live_sessions"]) == ["1000", "2000"]


def test_the_log_has_everything_that_happens_to_calls() -> None:
    """In both directions."""
    lines = lines_of(2000)
    assert len(lines) == 2000
    assert {json.loads(line)["action"].split("-")[0] for line in lines} == {"dialin", "dialout", "dtmf", "participant"}


@pytest.mark.long
def test_a_live_session_takes_less_than_1500_bytes() -> None:
    """With its data and index entries. tracemalloc counts bytes, so it is the same on every machine."""
    assert bytes_per_session(5_000) < 1_500


@pytest.mark.long
def test_latency_has_percentiles_and_a_rate() -> None:
    """Its values depend on the machine."""
    waited = latency(2_000)
    assert 0 < waited.p50 <= waited.p99
    assert waited.rate > 100


def test_a_missed_target_is_not_met() -> None:
    """And a figure without a target is neither."""
    assert [figure.met for figure in of_costs(1_501, 19, 1.6)] == [False, True, False]
    assert Figure("a figure without target", 1.0, "x").met is None
