"""Strangers attack `telstate serve`; whoever has the secret is heard all the same. `python -m tests.attacks` is the long form."""

from __future__ import annotations

import pytest

from tests.attacks.receiver import Report, receive_under_attack
from tests.attacks.strangers import ATTACKS

_LATEST_MS = 10_000.0
"""Most of it is waiting for a processor, which the strangers use as well."""


def expect_heard(report: Report) -> None:
    """Everything was acknowledged, nothing lost, nothing late."""
    assert report.sent == report.acknowledged > 1, report
    assert report.lost == 0, report
    assert max(report.kept_max_ms, report.new_max_ms, report.health_ms) < _LATEST_MS, report
    assert report.log_bytes < 10_000, report


@pytest.mark.long
def test_all_attacks_at_once_on_a_small_service() -> None:
    """It may open 256 files, so it takes 64 connections; the strangers want 300."""
    report = receive_under_attack("all", seconds=2.0, connections=300, files=256)
    expect_heard(report)
    assert report.open_files < 256, report
    assert report.grown_mb < 40, report


@pytest.mark.long
@pytest.mark.parametrize(
    ("attack", "addresses"),
    [*((attack, 1) for attack in ATTACKS), *((attack, 500) for attack in ("slow-body", "not-http", "polite"))],
)
def test_one_attack(attack: str, addresses: int) -> None:
    """1 500 connections, where the service takes 500; they come back after 3 s. `python -m tests.attacks` does it for longer."""
    report = receive_under_attack(attack, seconds=5.0, connections=1_500, addresses=addresses, pause=3.0)
    expect_heard(report)
    assert report.open_files < 800, report
    assert report.grown_mb < 100, report


@pytest.mark.long
def test_more_idle_connections_than_files() -> None:
    """As many as the strangers can open, against the descriptors that systems allow by default."""
    report = receive_under_attack("idle", seconds=15.0, connections=9_000, files=1_024)
    expect_heard(report)
    assert report.open_files < 1_024, report
