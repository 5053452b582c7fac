"""A short storm, and what single faults cost. `python -m tests.cluster` goes on for as long as one likes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import handover, hour
from tests.cluster.check import Run, _extra
from tests.cluster.dials import storm_of_dials
from tests.cluster.fleet import Fault
from tests.cluster.links import storm_of_links
from tests.cluster.storm import Storm
from tests.nats_server import NatsCluster, NatsServer

pytestmark = pytest.mark.long
TTL = 2.0
LONG = 5.0


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
        tmp_path, 8, nats_server, ttl=LONG, sessions=300, partitions=12, script=script, workers=2, retires=False
    ).run()
    assert report.broken == []
    gaps = dict(report.facts["gaps"])
    busy = max(4.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # a new process alone takes a core for a second
    assert gaps["kill"] < LONG + busy
    assert gaps["freeze"] < LONG + busy
    assert gaps["term"] < busy
    assert gaps["join"] < busy


def test_a_storm_links_what_one_process_links(nats_server: NatsServer, tmp_path: Path) -> None:
    """Transfers, callers on hold and links from room to room, while either owner is killed, frozen or replaced."""
    report = storm_of_links(tmp_path, 11, nats_server, ttl=TTL, calls=30, seconds=12)
    assert report.broken == []
    assert report.facts["links"] > 20


def test_a_storm_dials_nobody_twice(nats_server: NatsServer, tmp_path: Path) -> None:
    """Workers that dial for intents are killed, frozen and replaced. Every call that was started is known to the fake Daily."""
    report = storm_of_dials(tmp_path, 12, nats_server, ttl=TTL, intents=12, seconds=5)
    assert report.broken == []
    assert report.facts["outcomes"]["answered"] > 3


def test_a_cluster_that_loses_its_nodes_loses_nothing(tmp_path: Path) -> None:
    """Each stream has three copies, and one of its nodes after another dies and comes back."""
    with NatsCluster(tmp_path / "cluster") as cluster:
        few: dict[str, Any] = {"seconds": 10, "sessions": 100, "partitions": 6, "workers": 2}
        report = Storm(tmp_path, 9, cluster, ttl=3.0, faults=("outage", "kill"), retires=False, **few).run()
    assert report.broken == []


def test_a_few_seconds_of_the_hour(tmp_path: Path) -> None:
    """Every table is sampled, and no webhook is refused. Whether something grows takes an hour to see."""
    samples, facts = asyncio.run(hour.run(tmp_path, 0.3, 20.0))
    assert facts["events"] > 100
    assert any(sample.values.get("remembered: live", 0) > 0 for sample in samples)
    assert hour.grown([hour.Sampled(at, {"a": 100.0, "b MB": 10.0 + at}) for at in range(9)])[0].startswith("b MB")


def test_what_a_hand_over_costs_is_measured(tmp_path: Path) -> None:
    """A worker ends in order, and another one joins: every event that was published meanwhile has started."""
    waits = handover.measure(tmp_path, 8, 50.0, 1)
    assert all(len(waits[kind][0]) > 10 for kind in ("quiet", "term", "join"))
    assert "term: p50" in handover.summary(waits)


def test_a_storm_notices_what_runs_again_though_it_is_marked() -> None:
    """Not by the time that has passed since: by the server's answer that it is marked."""
    first, again = Run(1, (5, "work"), "s", 1.0, 1.1, False), Run(2, (5, "work"), "s", 2.0, 2.1, True)
    frozen = [Fault("freeze", 1, 1.05, 1.5)]
    assert [reason for _, reason in _extra([first, again], {5: 1.9}, [])] == [""]
    assert [reason for _, reason in _extra([first, again], {5: 1.9}, frozen)] == ["it was marked after a freeze"]
    assert [reason for _, reason in _extra([first, again], {5: 2.2}, [])] == ["it was not marked yet"]
    assert [reason for _, reason in _extra([first, again], {}, [])] == ["it was not marked yet"]
