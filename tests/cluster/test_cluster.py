"""A short storm, and what single faults cost. `python -m tests.cluster` goes on for as long as one likes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.storm import Storm
from tests.nats_server import NatsCluster, NatsServer

pytestmark = pytest.mark.long
TTL = 2.0


def test_a_storm_breaks_no_promise(nats_server: NatsServer, tmp_path: Path) -> None:
    """Workers are killed, frozen, stopped and started, and the server too; one event in ten is published twice."""
    storm = Storm(tmp_path, 7, nats_server, ttl=TTL, seconds=12, sessions=200, partitions=12)
    report = storm.run()
    assert report.broken == []
    assert report.facts["sessions"] == 200
    assert report.facts["retired"] == 200
    assert report.facts["deadlines"] > 10


def test_others_take_over_within_the_time_to_live(nats_server: NatsServer, tmp_path: Path) -> None:
    """And at once where a worker ends in order, or another one joins."""
    script = ("kill", "join", "freeze", "term")
    report = Storm(
        tmp_path, 8, nats_server, ttl=TTL, sessions=300, partitions=12, script=script, workers=2, retires=False
    ).run()
    assert report.broken == []
    gaps = dict(report.facts["gaps"])
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # a new process alone takes a core for a second
    assert gaps["kill"] < TTL + busy
    assert gaps["freeze"] < TTL + busy
    assert gaps["term"] < busy
    assert gaps["join"] < busy


def test_a_cluster_that_loses_its_nodes_loses_nothing(tmp_path: Path) -> None:
    """Each stream has three copies, and one of its nodes after another dies and comes back."""
    with NatsCluster(tmp_path / "cluster") as cluster:
        few: dict[str, Any] = {"seconds": 10, "sessions": 100, "partitions": 6, "workers": 2}
        report = Storm(tmp_path, 9, cluster, ttl=3.0, faults=("outage", "kill"), retires=False, **few).run()
    assert report.broken == []
