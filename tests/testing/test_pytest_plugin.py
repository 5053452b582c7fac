"""The fixtures that come with telstate, in a test run of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TESTS = """
from pathlib import Path

from telstate import Dispatcher, Router, State

CALL = [
    {"action": "dialout-connected", "sessionId": "s", "destination": "+12025550100"},
    {"action": "dialout-stopped", "sessionId": "s"},
]
DAY = [
    {"v": 1, "seq": 1 + place, "dialect": "daily-js", "event": None, "payload": {"action": "dialout-stopped", "sessionId": one}}
    for place, one in enumerate("ab")
]


def test_replay(telstate_replay, tmp_path):
    (session,) = telstate_replay(CALL).sessions()
    assert session.state is State.STOPPED
    log = tmp_path / "call.jsonl"
    log.write_text('{"action": "dialout-answered", "sessionId": "t"}\\n\\n')
    assert telstate_replay(log).session("t") is not None


def test_replay_of_a_day(telstate_replay):
    hours = [{**event, "at": 1_790_000_000 + 3 * 3600 * place} for place, event in enumerate(DAY)]
    assert len(list(telstate_replay(hours).sessions())) == 1
    assert len(list(telstate_replay(hours, retention=86_400).sessions())) == 2


def test_ladder(assert_ladder):
    assert_ladder(CALL)
    assert_ladder(CALL[:1], "only: the start")


def test_clock_and_control(telstate_clock, telstate_control):
    Dispatcher(Router(), clock=telstate_clock, control=telstate_control)
    assert telstate_control.requests == []
"""


@pytest.mark.long
def test_they_are_there_without_registration(pytester: pytest.Pytester) -> None:
    """A ladder is written when asked for, compared from then on, and its difference is shown."""
    pytester.makepyfile(TESTS)
    options = ("-p", "no:cacheprovider")
    missing = pytester.runpytest_subprocess(*options)
    missing.assert_outcomes(passed=3, failed=1)
    missing.stdout.fnmatch_lines(["*write it with pytest --update-ladders*"])
    pytester.runpytest_subprocess(*options, "--update-ladders").assert_outcomes(passed=4)
    kept = sorted(path.name for path in (pytester.path / "ladders").iterdir())
    assert kept == ["test_ladder only_ the start.txt", "test_ladder.txt"]
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=4)
    path = pytester.path / "ladders" / "test_ladder.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("stopped", "ended"), encoding="utf-8")
    changed = pytester.runpytest_subprocess(*options)
    changed.assert_outcomes(passed=3, failed=1)
    changed.stdout.fnmatch_lines(["*if it is right now: pytest --update-ladders*"])
