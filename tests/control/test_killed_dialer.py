"""Processes that dial for intents are killed at any time, on a SQLite journal, with a Daily over real HTTP.

One number or three at once, with a `confirm` or without: see dial_plans.py. More seeds: `python -m tests.control.test_killed_dialer 0 20`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from telstate.testing import FakeDaily, PhoneLine, faults
from tests.control.dial_plans import broken_promises, plan_of
from tests.control.dialing_child import ROOMS, SECRET
from tests.control.hanging_up_child import NUMBER
from tests.control.noting_child import NOTES
from tests.ports import free_port

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
PAUSES = [0.1, 0.3, 1.0, *[2.0] * 30]
"""Seconds before each retry of a webhook: the next process may take long to start."""


def child(module: str, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a process of these tests."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", f"tests.control.{module}", *map(str, arguments)]
    return command, {**os.environ, "PYTHONPATH": path}


def started(*arguments: object) -> subprocess.Popen[bytes]:
    """Start the process that dials for many intents."""
    command, env = child("dialing_child", *arguments)
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def results(said: bytes) -> list[dict[str, Any]]:
    """What a process said."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    return [line for line in lines if line]


def run(
    folder: Path, seed: int, intents: int, kills: int = 4, later: int = 0
) -> tuple[dict[str, list[object]], Counter[str]]:
    """Kill, and start again; return which promises did not hold, and how the intents ended. With an odd seed presence tells nothing.

    Args:
        folder: for the journal.
        seed: of all that is drawn.
        intents: how many are dialled by the processes that are killed.
        kills: how many processes are killed.
        later: how many intents are dialled by the others only.
    """
    random = Random(seed)
    port = free_port()
    plans = [plan_of(seed, number, ROOMS) for number in range(intents + later)]
    said: list[dict[str, Any]] = []
    with FakeDaily(f"http://127.0.0.1:{port}/webhooks", SECRET, pauses=PAUSES) as daily:
        for room in ROOMS:
            daily.host(room, max_sip_pstn_sessions_per_room=1000)
        if seed % 2:
            daily.rules["/rooms/*/presence"] = faults.instead(500)
        for plan in plans:
            daily.lines.update(plan.lines)
        for _ in range(kills):
            with started(folder / "calls.db", port, daily.url, seed, intents) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"{}\n"
                time.sleep(random.uniform(0.3, 3.0))
                process.kill()
                said += results(process.stdout.read())
        for _ in range(2):
            calm = time.monotonic()
            with started(folder / "calls.db", port, daily.url, seed, intents + later) as process:
                last = results(process.communicate(timeout=90)[0])
                said += last
        broken = broken_promises(daily, plans, said, calm)
        for promise, found_ in broken.items():
            broken[promise] = found_[:3]
    return broken, Counter(one["outcome"] for one in last)


def test_no_intent_is_dialled_twice_by_processes_that_are_killed(tmp_path: Path) -> None:
    """Never two live calls, never more starts than the budget; each has one result, which every later process repeats."""
    broken, outcomes = run(tmp_path, 1, 8, kills=2, later=7)
    assert broken == {}
    assert outcomes["answered"] >= 1  # two of the later ones are certain; how many of the others are is up to the kills


def said_by(module: str, *arguments: object) -> Any:
    """What a process of these tests says as JSON before it ends."""
    command, env = child(module, *arguments)
    run = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True, timeout=60)
    return json.loads(run.stdout)


def killed_by(daily: FakeDaily, path: str, module: str, *arguments: object) -> None:
    """Run a process until it sends a request to this path: it is dead before Daily carries that out, so it hears of none of its effects."""
    command, env = child(module, *arguments)
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as process:

        async def kill_first(app: faults.App, scope: Any, receive: Any, send: Any) -> None:
            process.kill()
            process.wait()
            await app(scope, receive, send)

        daily.rules[path] = kill_first
        assert process.wait(60) == -signal.SIGKILL
    del daily.rules[path]


def test_a_process_that_is_killed_while_it_ends_a_call_at_the_ring_timeout(tmp_path: Path) -> None:
    """It did not hear the end, so they may have answered at the last moment. That it stopped the call decides nothing."""
    port = free_port()
    with FakeDaily(f"http://127.0.0.1:{port}/webhooks", SECRET, pauses=PAUSES) as daily:
        daily.host(ROOMS[0])
        daily.lines[NUMBER] = PhoneLine(answers=None)
        arguments = ("hanging_up_child", tmp_path / "calls.db", port, daily.url, "never")
        killed_by(daily, "/rooms/*/dialOut/stop", *arguments)
        for _ in range(2):
            assert said_by(*arguments) == {"outcome": "unknown", "starts": 1}
        assert daily.starts(NUMBER) == 1


def test_a_process_that_is_killed_once_it_heard_the_end_of_a_call(tmp_path: Path) -> None:
    """Nobody answered: its journal says it."""
    port = free_port()
    with FakeDaily(f"http://127.0.0.1:{port}/webhooks", SECRET, pauses=PAUSES) as daily:
        daily.host(ROOMS[0])
        daily.lines[NUMBER] = PhoneLine(answers=None)
        arguments = ("hanging_up_child", tmp_path / "calls.db", port, daily.url)
        command, env = child(*arguments, "heard")
        assert subprocess.run(command, cwd=ROOT, env=env, check=False, timeout=60).returncode == -signal.SIGKILL
        for _ in range(2):
            assert said_by(*arguments, "never") == {"outcome": "unanswered", "starts": 1}
        assert daily.starts(NUMBER) == 1


def test_the_end_of_a_call_has_its_notes_though_its_campaign_was_killed(tmp_path: Path) -> None:
    """Whoever hears of it next knows them, also who runs no campaign: they were kept before the start was sent."""
    port = free_port()
    with FakeDaily(f"http://127.0.0.1:{port}/webhooks", SECRET, pauses=PAUSES) as daily:
        daily.host(ROOMS[0])
        daily.lines[NUMBER] = PhoneLine(answers=0.1, talks=0.2)
        arguments = ("noting_child", tmp_path / "calls.db", port, daily.url)
        killed_by(daily, "/rooms/*/dialOut/start", *arguments, "caller")
        assert said_by(*arguments, "heir") == {**NOTES, "campaign": "spring"}
        assert daily.starts(NUMBER) == 1


if __name__ == "__main__":
    for number in range(*map(int, sys.argv[1:])):
        with tempfile.TemporaryDirectory() as scratch:
            sys.stdout.write(f"seed {number}: {run(Path(scratch), number, 40)}\n")
            sys.stdout.flush()
