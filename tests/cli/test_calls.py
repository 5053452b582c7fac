"""`telstate calls`: what it prints in each form, what it selects, and what it says when there is nothing to show."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from telstate import Dialect
from tests.cli.running import CALL, LOGS, STOP, command, json_lines, telstate
from tests.terminal import watch
from tests.test_long_logs import write_log

FEW = LOGS / "few-calls.webhook.jsonl"
CORPUS = Path(__file__).parents[1] / "corpus" / "logs"
TRANSFER = CORPUS / "16-transfer-to-another-room.jsonl"
FIRST, SECOND = "a25a25a2-0000-4000-8000-00000000000a", "a25a25a2-0000-4000-8000-00000000000b"


def test_json_has_one_object_per_call_with_the_records_of_its_sessions() -> None:
    """The totals come last."""
    call, totals = json_lines(telstate("calls", "--json", TRANSFER))
    assert [session["session_id"] for session in call["call"]["sessions"]] == [FIRST, SECOND]
    assert call["call"] | {"sessions": []} == {
        "call_id": FIRST,
        "direction": "dialin",
        "answered": True,
        "cause": "transferred",
        "room": "frontdesk",
        "phone_number": "sip:+12•••••••42@carrier.example",
        "started_at": 1790000001.0,
        "ended_at": 1790000200.0,
        "ring_s": None,
        "talk_s": 62.0,
        "sessions": [],
        "caller": None,
    }
    hour = {"calls": 1, "answered": 1, "answer_rate": 1.0, "ring_s": None, "talk_s": 62.0}
    assert totals["totals"] == {
        **hour,
        "sessions": 2,
        "lost_on_hold": 0,
        "with_anomalies": 0,
        "causes": {"transferred": 1},
        "hours": {"2026-09-21T14:00Z": hour},
        "events": 11,
        "invalid": 0,
    }


def test_a_caller_on_hold_is_a_call_without_sessions() -> None:
    """Masked as everything is."""
    call, _ = json_lines(telstate("calls", "--json", CORPUS / "07-caller-gives-up-on-hold.jsonl"))
    assert (call["call"]["sessions"], call["call"]["answered"]) == ([], None)
    assert call["call"]["caller"]["from"] == call["call"]["phone_number"] == "+12•••••••42"


def test_csv_has_a_row_per_session_with_the_id_of_its_call() -> None:
    """And one for a caller on hold."""
    run = telstate("calls", "--csv", TRANSFER)
    rows = list(csv.DictReader(io.StringIO(run.stdout.decode())))
    assert [(row["call"], row["session_id"]) for row in rows] == [(FIRST, FIRST), (FIRST, SECOND)]
    held = telstate("calls", "--csv", CORPUS / "07-caller-gives-up-on-hold.jsonl")
    (row,) = csv.DictReader(io.StringIO(held.stdout.decode()))
    assert (row["call"], row["session_id"], row["pinless_call_id"]) == ("hold-1", "", "hold-1")


def test_csv_moves_no_cursor() -> None:
    """The id of a call and the name of a group are whatever a sender wrote."""
    given = CALL.replace(b'"s"', rb'"s\u001b[2J\u202e"')
    assert given != CALL
    for form in (["--csv"], ["--csv", "--group-by", "number", "--numbers"]):
        shown = telstate("calls", *form, given=given).stdout.decode()
        assert not {"\x1b", "\u202e"} & set(shown)


def test_an_end_without_a_time_is_said_without_one() -> None:
    """A log of callbacks has no times."""
    given = b"".join(
        b'{"action":"%s","participant":{"session_id":"s"},"sessionId":"s"}\n' % action
        for action in (b"dialout-answered", b"participant-left")
    )
    assert "    end inferred: the participant left" in telstate("calls", given=given).stdout.decode()


@pytest.mark.parametrize("option", [["--session", SECOND], ["--room", "experts"], ["--where", "room == 'experts'"]])
def test_a_filter_that_admits_one_leg_shows_the_whole_call(option: list[str]) -> None:
    """The caller's first leg explains the second."""
    call, totals = json_lines(telstate("calls", "--json", *option, TRANSFER))
    assert len(call["call"]["sessions"]) == 2
    assert totals["totals"]["calls"] == 1


def test_groups_are_sorted_and_limited() -> None:
    """In each form."""
    groups = json_lines(telstate("calls", "--json", "--group-by", "cause", "--sort", "cause", "--limit", "2", FEW))
    assert [(one["group"]["cause"], one["group"]["calls"]) for one in groups[:-1]] == [("completed", 4), ("failed", 1)]
    run = telstate("calls", "--csv", "--group-by", "room", "--sort=-talk_s", FEW)
    rows = list(csv.DictReader(io.StringIO(run.stdout.decode())))
    assert [*rows[0]] == ["room", "calls", "answered", "answer_rate", "ring_s", "talk_s"]
    assert (rows[0]["room"], rows[-1]["talk_s"]) == ("room-5", "")
    table = telstate("calls", "--group-by", "hour", FEW).stdout.decode()
    assert table.splitlines()[1].startswith("2026-09-21 15:00      1      100%   19s")


def test_groups_of_numbers_are_masked_unless_asked_for() -> None:
    """In each form: the name of a group is a number."""
    for form in ([], ["--json"], ["--csv"]):
        assert b"+1202555" not in telstate("calls", "--group-by", "number", *form, FEW).stdout
        assert b"+1202555" in telstate("calls", "--group-by", "number", "--numbers", *form, FEW).stdout


def test_sort_and_limit_leave_the_totals_alone() -> None:
    """The longest first; those without a time come last."""
    *calls, totals = json_lines(telstate("calls", "--json", "--sort=-talk_s", "--limit", "2", FEW))
    assert [call["call"]["talk_s"] for call in calls] == [188.887, 66.254]
    assert totals["totals"]["calls"] == 7


@pytest.mark.parametrize(
    ("given", "options", "said", "code"),
    [
        (b"", [], "The log is empty. Is it the right file? `telstate tail -f FILE` waits", 0),
        (b"nope\n{}\n", [], "No line could be read as an event", 1),
        (b'{"action":"left-meeting"}\n', [], "No event is about a call that Daily gave an id to", 0),
        (CALL + STOP, ["--room", "r"], "None of 1 call has all of what you asked for: give fewer filters", 0),
    ],
)
def test_it_says_what_to_do_where_there_is_no_call(given: bytes, options: list[str], said: str, code: int) -> None:
    """A log that is empty, is none, has no calls, or none that is asked for."""
    run = telstate("calls", *options, given=given)
    assert (run.returncode, run.stderr) == (code, b"")
    assert said in run.stdout.decode().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "--csv"], "are three forms"),
        (["--html", "x.html", "--group-by", "room"], "has no groups"),
        (["--sort", "nonsense"], "there is no field 'nonsense'"),
        (["--group-by", "room", "--sort", "room_id"], "there are room, name, calls"),
        (["no-such-file"], "cannot read no-such-file"),
    ],
)
def test_misuse(options: list[str], said: str) -> None:
    """Exit code 2, and a line that says what there is."""
    run = telstate("calls", *options, given=CALL)
    assert run.returncode == 2
    assert said in run.stderr.decode()


def test_strict_fails_on_a_bad_line() -> None:
    """As `telstate replay` does."""
    assert telstate("calls", given=CALL + b"nope\n" + STOP).returncode == 0
    assert telstate("calls", "--strict", given=CALL + b"nope\n" + STOP).returncode == 1


def test_html_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """It replaces a report, but no other file: `--html calls.jsonl` is a slip of the hand. Nothing else is left."""
    report = tmp_path / "report.html"
    for _ in range(2):
        run = telstate("calls", FEW, "--html", report)
        assert (run.returncode, run.stdout.decode()) == (0, f"{report}: 7 calls\n")
    assert len(unpacked(report, "calls")) == len(unpacked(report, "ladders")) == 7
    log = tmp_path / "log.jsonl"
    log.write_bytes(CALL)
    run = telstate("calls", "--html", log, given=CALL)
    assert run.returncode == 2
    assert b"exists and is no report" in run.stderr
    assert log.read_bytes() == CALL
    assert telstate("calls", FEW, "--html", tmp_path / "none" / "x.html").returncode == 2
    run = telstate("calls", FEW, "--html", tmp_path)
    assert (run.returncode, run.stderr) == (
        2,
        f"telstate: {tmp_path} is a folder: give --html a FILE, such as {tmp_path}/report.html\n".encode(),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "report.html"]


def test_the_list_of_the_html_has_what_was_asked_for_and_says_so(tmp_path: Path) -> None:
    """In that order, each call with its ladder; the totals have all calls that were selected."""
    report = tmp_path / "report.html"
    run = telstate("calls", FEW, "--html", report, "--sort=-started_at", "--limit", "3")
    assert run.stdout.decode() == f"{report}: 7 calls, the first 3 of them in the list\n"
    assert "The list has 3 of 7 calls" in report.read_text(encoding="utf-8")
    asked = [json.loads(line) for line in telstate("calls", FEW, "--json", "--sort=-started_at").stdout.splitlines()]
    shown = dict(unpacked(report, "calls"))
    assert [shown[place]["call_id"] for place in range(3)] == [one["call"]["call_id"] for one in asked[:3]]
    for (_, call), ladder in zip(unpacked(report, "calls"), unpacked(report, "ladders"), strict=True):
        assert f"<title>The call {call['call_id']}</title>" in ladder


def unpacked(report: Path, name: str) -> list[Any]:
    """What the script of a report unpacks."""
    packed = re.findall(rf'gzip" class="{name}">([^<]*)<', report.read_text(encoding="utf-8"))
    return [value for text in packed for value in json.loads(gzip.decompress(b64decode(text)))]


def test_rows_are_printed_as_calls_leave_memory() -> None:
    """Not at the end: a log may be long. The totals follow."""
    run = telstate("calls", "--json", given=CALL + STOP + b'{"action":"dialout-connected","sessionId":"later"}\n')
    assert [next(iter(json.loads(line))) for line in run.stdout.splitlines()] == ["call", "call", "totals"]


@pytest.mark.long
@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_on_a_terminal_every_row_fits_and_what_was_asked_for_is_whole(columns: int) -> None:
    """On a real terminal of this width, in color."""
    session = "3c4b90d4-4bd2-4337-a6ea-81947b5d87f8"
    seen = watch(command("calls", FEW, "--session", session[:6], "--room", "room-5"), columns=columns)
    assert seen.returncode == 0
    assert b"\x1b[32mtransferred" in seen.shown
    lines = seen.lines()
    assert any(session in line for line in lines)
    assert any("room-5" in line for line in lines)
    assert [line for line in lines if len(line) > columns and not line.startswith("    ")] == []


@pytest.mark.long
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """It peaks below 1.3 times that of a quarter of it, and far below the size of either."""
    peaks = []
    for size in (15_000, 60_000):
        log = tmp_path / "log"
        write_log(log, size, Dialect.WEBHOOK)
        seen = watch([sys.executable, "-m", "telstate", "calls", str(log)], tmp_path / "out")
        assert seen.returncode == 0
        peaks.append(seen.peak)
    assert 0 < peaks[1] < min(1.3 * peaks[0], 100_000), peaks
