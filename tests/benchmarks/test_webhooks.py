"""The benchmark of webhooks runs, and what it sends is what Daily sends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from telstate import parse
from telstate.sources import WEBHOOK, Secret, verify
from telstate.sources._plain_requests import plain_request
from tests.benchmarks.webhook_load import SECRET, Load, requests
from tests.benchmarks.webhooks import BY_HAND, TELSTATE, Round, figures


def test_the_sender_sends_signed_webhooks_of_calls() -> None:
    """Each once, and other calls for another seed."""
    found = [plain_request(request) for request in requests(1, 300)]
    for request in found:
        assert request is not None
        verify([Secret(SECRET)], WEBHOOK, request.headers, request.body, time.time())
        parse(request.body, "webhook")
    bodies = {request.body for request in found if request is not None}
    assert len(bodies) == 300
    assert not bodies & {request.partition(b"\r\n\r\n")[2] for request in requests(2, 300)}


def test_a_target_is_a_median_of_ratios_in_one_round() -> None:
    """A round in which the machine was slow does not count as another speed."""

    def rounds(*seconds: float) -> list[Round]:
        return [Round(Load(100, each, each, 10 * each, 0.1, 120), 1e4 * each) for each in seconds]

    seen = {(TELSTATE.name, 256): rounds(1.0, 4.0, 1.0), (BY_HAND.name, 256): rounds(2.0, 8.0, 1.0)}
    assert [(figure.value, figure.met) for figure in figures(seen)] == [(0.5, True), (0.5, None), (0.5, True)]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_measures_both_services(tmp_path: Path) -> None:
    """Speed is checked by nobody here: CI's machines are busy."""
    how = ["--rounds", "1", "--seconds", "0.3", "--connections", "1", "8", "--folder", str(tmp_path), "--json"]
    command = [sys.executable, "-m", "tests.benchmarks.webhooks", *how]
    run = subprocess.run(command, capture_output=True, check=True, timeout=240)
    measured = json.loads(run.stdout)
    assert {(one["peer"], one["connections"]) for one in measured["services"]} >= {
        (peer.name, level) for peer in (TELSTATE, BY_HAND) for level in (1, 8)
    }
    assert all(one["rate"] > 0 and one["cpu_us"] > 0 for one in measured["services"])
    assert {figure["what"] for figure in measured["figures"]} >= {
        "time a webhook at 1, against by hand, uvicorn",
        "p50 at 1 connection",
    }
    assert measured["sync_us"] > 0
    assert not list(tmp_path.iterdir())
