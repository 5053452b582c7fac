"""The replay and the script by hand read the same log, and see the same sessions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import replay_by_hand
from tests.benchmarks.replay import measure, write_log


@pytest.mark.long
def test_both_see_the_same_sessions(tmp_path: Path) -> None:
    """The script is no straw man: on a log without faults it finds the same sessions in the same states, with the same talk time."""
    log = tmp_path / "webhooks.jsonl"
    write_log(log, 2_000)

    def sessions_of(*command: str) -> dict[str, Any]:
        run = subprocess.run([sys.executable, *command, str(log)], capture_output=True, check=True, timeout=60)
        records = [json.loads(line).get("session") for line in run.stdout.splitlines()]
        return {one["session_id"]: (one["state"], one.get("talk_s")) for one in records if one is not None}

    ours = sessions_of("-m", "telstate", "replay", "--json")
    theirs = sessions_of(str(replay_by_hand.__file__))
    assert ours.keys() == theirs.keys()
    assert {key: state for key, (state, _) in ours.items()} == {key: state for key, (state, _) in theirs.items()}
    assert [cost.ratio > 0 for cost in measure(log, 1)] == [True, True, True]
