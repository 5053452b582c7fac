"""Ports of tests: nobody else gets one that is chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.ports import free_ports

ROOT = Path(__file__).parents[1]
CHOOSES = "import json; from tests.ports import free_ports; print(json.dumps(free_ports(300)))"


def test_a_port_that_is_chosen_is_given_to_no_other_process() -> None:
    """Though nobody listens there yet, and the other one is a worker of the same name."""
    ports = free_ports(20)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", CHOOSES], cwd=ROOT, env=environment, capture_output=True, check=True, timeout=60
    )
    assert set(ports).isdisjoint(json.loads(run.stdout))
