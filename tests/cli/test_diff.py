"""`telstate diff`: the first difference of each call, whatever the wall clock says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telstate.testing import Noise, simulate
from tests.cli.running import LOGS, json_lines, telstate
from tests.corpus import HERE

START = 1_790_000_000.0
Line = dict[str, Any]


def record(at: float, action: str, session: str = "s", **fields: Any) -> Line:
    """A line of a journal."""
    payload = {"action": action, "sessionId": session, **fields}
    return {"v": 1, "seq": 1, "at": START + at, "dialect": "daily-js", "event": None, "payload": payload}


CALL = [record(0, "dialout-connected"), record(5, "dialout-answered"), record(65, "dialout-stopped")]


@pytest.fixture
def diff(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Compare two logs; return the exit code and the lines."""

    def run(a: list[Line], b: list[Line], *options: str) -> tuple[int, list[str]]:
        for name, lines in (("a", a), ("b", b)):
            (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        result = telstate("diff", tmp_path / "a", tmp_path / "b", *options)
        assert result.stderr == b""
        return result.returncode, result.stdout.decode().splitlines()

    return run


Diff = Callable[..., tuple[int, list[str]]]


def test_the_same_calls_on_another_day_are_identical(diff: Diff) -> None:
    """In another order of the calls, told twice, and with other numbers."""
    other = [record(at, one["payload"]["action"], "t") for at, one in zip((50, 60, 70), CALL, strict=True)]
    later = [{**one, "at": one["at"] + 86_400} for one in [*CALL[:1], *CALL, *other]]
    assert diff([*other, *CALL], later) == (0, ["Identical: 2 calls."])
    assert diff(CALL, CALL) == (0, ["Identical: 1 call."])


def test_the_first_difference_is_told(diff: Diff) -> None:
    """Of steps the first that differs, then how it ended, then durations."""
    unanswered = [CALL[0], CALL[2]]
    assert diff(CALL, unanswered) == (
        1,
        [
            "s: step 2: connected > answered by dialout-answered in A, connected > stopped by dialout-stopped in B",
            "1 of 1 calls differ, 0 are only in A, 0 only in B.",
        ],
    )
    live = diff(CALL, CALL[:2])
    assert live[1][0] == "s: step 3: answered > stopped by dialout-stopped in A, nothing in B"
    stopped = [*CALL[:2], record(64, "stop-requested"), CALL[2]]
    assert diff(CALL, stopped)[1][0] == "s: ended_by: unknown in A, local in B"


def test_durations_have_a_tolerance(diff: Diff) -> None:
    """A second by default. What a log without times does not know is not compared."""
    longer = [*CALL[:2], record(67, "dialout-stopped")]
    assert diff(CALL, longer) == (
        1,
        ["s: talk_s: 60 s in A, 62 s in B", "1 of 1 calls differ, 0 are only in A, 0 only in B."],
    )
    assert diff(CALL, longer, "--tolerance", "2")[0] == 0
    assert diff(CALL, [*CALL[:2], record(65.9, "dialout-stopped")])[0] == 0
    assert diff(CALL, [one["payload"] for one in CALL])[0] == 0


def test_calls_that_only_one_has(diff: Diff) -> None:
    """Callers on hold too; and the second call of an id that is used again."""
    other = [record(100, "dialout-connected", "t")]
    assert diff(CALL, [*CALL, *other])[1] == [
        "t: only in B (connected)",
        "0 of 2 calls differ, 0 are only in A, 1 only in B.",
    ]
    assert diff([*CALL, *other], CALL)[1] == [
        "t: only in A (connected)",
        "0 of 2 calls differ, 1 are only in A, 0 only in B.",
    ]
    held = {
        **other[0],
        "dialect": "webhook",
        "payload": {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"},
    }
    assert diff([held, *CALL], CALL)[1][0] == "caller on hold c: only in A (waiting)"
    again = [{**one, "at": one["at"] + 20_000} for one in CALL]
    assert diff([*CALL, *again], CALL)[1][0] == "s (call 2 with this id): only in A (completed)"


def test_two_days_have_no_call_in_common(diff: Diff) -> None:
    """What to do instead."""
    _, lines = diff(CALL, [record(0, "dialout-connected", "t")])
    assert lines[-1].startswith("No call is in both logs: 1 are only in A, 1 only in B. To compare two days, ")


def test_json(diff: Diff) -> None:
    """One difference a line, then the totals."""
    status, lines = diff([*CALL, record(100, "dialout-connected", "t")], [CALL[0], CALL[2]], "--json")
    assert status == 1
    assert [json.loads(line) for line in lines] == [
        {"difference": {"session_id": "s", "what": "step 2", "a": ["connected", "answered", "dialout-answered"], "b": ["connected", "stopped", "dialout-stopped"]}},
        {"only": {"in": "a", "session_id": "t", "direction": "dialout", "state": "connected", "cause": None}},
        {"summary": {"same": 0, "different": 1, "only_a": 1, "only_b": 0}},
    ]  # fmt: skip


def test_filters(diff: Diff) -> None:
    """Select in both."""
    status, lines = diff([*CALL, record(100, "dialout-connected", "t")], CALL, "--session", "s")
    assert (status, lines) == (0, ["Identical: 1 call."])


def test_a_log_and_its_redacted_copy_are_identical(tmp_path: Path) -> None:
    """Numbers are not compared."""
    for log in (LOGS / "few-calls.webhook.jsonl", HERE / "logs" / "16-transfer-to-another-room.jsonl"):
        telstate("redact", log, "-o", tmp_path / "copy", "--force")
        assert telstate("diff", log, tmp_path / "copy").returncode == 0
        assert telstate("diff", log, "-", given=(tmp_path / "copy").read_bytes()).returncode == 0


def test_two_dialects_of_one_day_are_nearly_identical(tmp_path: Path) -> None:
    """A bot's log and the webhooks: what only webhooks tell (transfers) is all that differs."""
    for dialect in ("journal", "webhook"):
        sent = simulate(3, calls=50, dialects=[dialect], noise=Noise())
        (tmp_path / dialect).write_bytes(b"".join(one.line() for one in sent))
    run = telstate(
        "diff", tmp_path / "journal", tmp_path / "webhook", "--json", "--direction", "dialout", "--tolerance", "2"
    )
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert found[-1]["summary"]["different"] == 0
    assert found[-1]["summary"]["same"] > 10


def test_misuse(tmp_path: Path) -> None:
    """Files that are none, and standard input twice."""
    assert telstate("diff", "-", "-").returncode == 2
    assert telstate("diff", tmp_path / "a", LOGS / "few-calls.webhook.jsonl").returncode == 2
    (tmp_path / "a").write_text("nope\n")
    run = telstate("diff", tmp_path / "a", LOGS / "few-calls.webhook.jsonl")
    assert run.returncode == 2
    assert b"no line of" in run.stderr
    (tmp_path / "a").write_text("")
    assert (
        telstate("diff", tmp_path / "a", tmp_path / "a").stdout == b"No calls in either log that could be compared.\n"
    )
    assert json_lines(telstate("diff", tmp_path / "a", tmp_path / "a", "--json"))[0]["summary"]["same"] == 0
