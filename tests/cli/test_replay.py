"""`telstate replay`: what it prints, with which exit code, and what it does with odd logs."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telstate import __version__ as telstate_version
from tests.cli.running import CALL, LOGS, STOP, command, environment, json_lines, run_process, telstate
from tests.terminal import watch

KEYS = (
    "session_id direction state cause ended_by end_source end_sign sip_call_id room domain_id provider destination "
    "origin caller_id sip_from sip_endpoint sip_headers caller called pinless_call_id held_s display_name user_id "
    "error warnings transferred_to transfers notes legs dtmf events duplicates late unexpected anomalies amended "
    "uncertain started_at requested_at connected_at answered_at ended_at setup_s ring_s talk_s transitions"
)
"""Those of `session.to_dict()`, in their order: programs read them, so they change with the contract only."""
TOTALS = ["received", "moved", "noted", "duplicate", "late", "unexpected", "unmatched", "invalid"]


def test_json_has_the_promised_keys() -> None:
    """One object a line, whose only key is its kind; the summary comes last."""
    lines = json_lines(telstate("replay", "--json", given=CALL + STOP))
    assert [list(line) for line in lines] == [["session"], ["summary"]]
    assert " ".join(lines[0]["session"]) == KEYS
    assert lines[0]["session"] == dict.fromkeys(KEYS.split()) | {
        "session_id": "s",
        "direction": "dialout",
        "state": "stopped",
        "cause": "unanswered",
        "ended_by": "unknown",
        "end_source": "told",
        "destination": "+12•••••••00",
        "warnings": [],
        "transfers": [],
        "notes": {},
        "legs": [],
        "dtmf": 0,
        "events": 2,
        "duplicates": 0,
        "late": 0,
        "unexpected": 0,
        "anomalies": [],
        "amended": False,
        "uncertain": False,
        "transitions": [["idle", "connected", "dialout-connected"], ["connected", "stopped", "dialout-stopped"]],
    }
    assert list(lines[1]["summary"]) == TOTALS
    assert lines[1]["summary"] == dict.fromkeys(TOTALS, 0) | {"received": 2, "moved": 2}


def test_a_line_from_the_future_is_noted() -> None:
    """It makes a session leave memory in the middle of its call, so the call has two. Both orders of days are legal, and odd."""
    lines = [
        {
            "v": 1,
            "seq": 1,
            "at": at,
            "dialect": "daily-js",
            "event": None,
            "payload": {"action": action, "sessionId": session},
        }
        for at, action, session in (
            (1.79e9, "dialin-connected", "s"),
            (3.99e9, "dialin-connected", "of 2096"),
            (1.79e9 + 5, "dialin-warning", "s"),
            (1.79e9 + 9, "dialin-stopped", "s"),
        )
    ]
    given = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sessions = [line["session"] for line in json_lines(telstate("replay", "--json", given=given)) if "session" in line]
    odd = {session["session_id"]: session["anomalies"] for session in sessions}
    assert odd["of 2096"] == []
    assert [text.split(":")[0] for text in odd["s"]] == ["a line is more than a day older than one before it"]


def test_parked_moves_unmatched_events_and_bad_lines() -> None:
    """Each has its own kind of line."""
    given = (
        b'{"action":"participant-joined","participant":{"session_id":"s"}}\n{"action":"dialin-connected","sessionId":"s"}\n'
        b'{"action":"dialout-error","errorMsg":"boom"}\nnope\n'
    )
    lines = json_lines(telstate("replay", "--json", "-", given=given))
    assert [next(iter(line)) for line in lines] == ["invalid", "session", "unmatched", "summary"]
    assert lines[0]["invalid"] == {
        "file": "-",
        "line": 4,
        "error": "expected JSON (expected ident at line 1 column 2), got b'nope'",
    }
    assert lines[1]["session"]["transitions"] == [
        ["idle", "connected", "dialin-connected"],
        ["connected", "answered", "parked"],
    ]
    assert lines[2]["unmatched"] == {
        "event": "dialout-error",
        "received_at": None,
        "fields": {"action": "dialout-error", "errorMsg": "boom"},
    }
    assert lines[3]["summary"] == dict.fromkeys(TOTALS, 0) | {
        "received": 3,
        "moved": 1,
        "noted": 1,
        "unmatched": 1,
        "invalid": 1,
    }


def test_strict_fails_on_a_bad_line_after_reading_all() -> None:
    """0 without it, 1 with it; everything is printed either way."""
    given = CALL + b"nope\n" + STOP
    assert telstate("replay", given=given).returncode == 0
    strict = telstate("replay", "--strict", "--json", given=given)
    assert strict.returncode == 1
    assert b'"state": "stopped"' in strict.stdout
    assert telstate("replay", "--strict", given=CALL + STOP).returncode == 0


@pytest.mark.parametrize("test", [b'{"test":"test"}', b'{"Test": "test"}', b'{"To":"+12025550100"}'])
def test_requests_that_test_an_address_are_no_bad_lines(test: bytes) -> None:
    """A receiver that logs every body has them beside the events, and nothing is wrong with that. What has more in it is a bad line."""
    run = telstate("replay", "--json", "--strict", given=test + b"\n" + CALL)
    assert run.returncode == 0
    assert [next(iter(json.loads(line))) for line in run.stdout.splitlines()] == ["session", "summary"]
    assert telstate("lint", "--fail-on", "warning", given=test + b"\n" + CALL + STOP).returncode == 0
    bad = telstate("replay", "--json", "--strict", given=test[:-1] + b',"more":1}\n' + CALL)
    assert (bad.returncode, b'{"invalid"' in bad.stdout) == (1, True)


def test_a_log_without_a_readable_line_fails() -> None:
    """It is probably not a log. The summary is printed all the same."""
    run = telstate("replay", "--json", given=b"nope\n{}\n")
    assert run.returncode == 1
    assert json.loads(run.stdout.splitlines()[-1])["summary"]["invalid"] == 2


@pytest.mark.long
def test_replay_at_a_terminal_says_that_it_waits_for_input() -> None:
    """On standard error, for `tail` too; nothing is printed for a pipe."""
    leader, follower = pty.openpty()
    try:
        for verb in ("replay", "tail"):
            process = subprocess.Popen(
                command(verb), stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
            )
            os.write(leader, CALL + b"\x04")  # Ctrl-D
            _, error = process.communicate(timeout=60)
            assert (process.returncode, error.decode()) == (
                0,
                "telstate: reading from the terminal; end the input with Ctrl-D, or give a FILE\n",
            )
    finally:
        os.close(leader)
        os.close(follower)


def test_a_torn_last_line_is_reported_unless_it_is_a_journals() -> None:
    """A journal's torn record was never acknowledged, so nobody misses it."""
    bare = telstate("replay", "--json", "--strict", given=CALL + STOP[:20])
    assert bare.returncode == 1
    assert b"may be torn" in bare.stdout
    whole_without_end = telstate("replay", "--json", "--strict", given=CALL + STOP.rstrip())
    assert whole_without_end.returncode == 0
    journal = b'{"v":1,"seq":1,"at":5,"dialect":"daily-js","payload":' + CALL.rstrip() + b"}\n"
    torn = telstate("replay", "--json", "--strict", given=journal + journal[:60])
    assert torn.returncode == 0
    assert json.loads(torn.stdout.splitlines()[-1])["summary"]["invalid"] == 0


def test_a_journal_may_be_torn_anywhere_in_its_last_line() -> None:
    """But a whole record that cannot be read is reported."""
    record = b'{"v":1,"seq":1,"at":5,"dialect":"daily-js","payload":' + CALL.rstrip() + b"}"
    for cut in (1, 2, 3, 4, 5, 20, len(record) - 1):
        assert telstate("replay", "--strict", given=record + b"\n" + record[:cut]).returncode == 0, cut
    newer = record.replace(b'"v":1', b'"v":2')
    assert telstate("replay", "--strict", given=record + b"\n" + newer).returncode == 1


@pytest.mark.long
@pytest.mark.parametrize("redirect", ["<&-", f"{LOGS / 'busy-day.webhook.jsonl'} >&-"])
def test_closed_streams_are_misuse(redirect: str) -> None:
    """One line, no traceback."""
    run = shell(f"{sys.executable} -m telstate replay {redirect}")
    assert run.returncode == 2
    assert run.stderr.count(b"\n") == 1


def test_a_hostile_line_does_not_hang_the_table() -> None:
    """Its keys are cut, and masking takes no quadratic time."""
    line = json.dumps({"action": "dialout-error", "sip:" * 40_000: 1, "x": "sip:" * 40_000}).encode()
    text = telstate("replay", given=line).stdout
    assert len(text) < 2000


def test_misuse_exits_with_2_and_says_what_is_wrong(tmp_path: Path) -> None:
    """Without a traceback."""
    missing = telstate("replay", tmp_path / "none.jsonl")
    assert missing.returncode == 2
    assert missing.stderr.decode() == f"telstate: cannot read {tmp_path / 'none.jsonl'}: No such file or directory\n"
    assert telstate("replay", tmp_path).returncode == 2
    assert telstate("replay", "--retain", "0").returncode == 2
    assert telstate("replay", "--no-such-option").returncode == 2
    assert telstate("diagram").returncode == 2
    nothing = telstate("diagram", "nothing")
    assert nothing.returncode == 2
    assert b"Invalid value for 'KIND': 'nothing' is not one of" in nothing.stderr
    unwritable = telstate("diagram", "--write", "/dev/null/folder")
    assert (unwritable.returncode, unwritable.stderr[:40]) == (2, b"telstate: cannot write /dev/null/folder:")


def test_empty_input_is_not_an_error() -> None:
    """There are no events in it."""
    lines = json_lines(telstate("replay", "--json"))
    assert lines == [{"summary": dict.fromkeys(TOTALS, 0)}]


def test_files_are_read_as_one_log_in_any_encoding(tmp_path: Path) -> None:
    """A call may begin in one file and end in the next. Byte order marks, CRLF and PowerShell's UTF-16 are read."""
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + CALL.replace(b"\n", b"\r\n"))
    (tmp_path / "b").write_bytes(("\ufeff" + STOP.decode()).encode("utf-16-le"))
    lines = json_lines(telstate("replay", "--json", "--strict", tmp_path / "a", tmp_path / "b"))
    assert b'"stopped"' in json.dumps(lines[0]).encode()
    assert lines[1]["summary"] == dict.fromkeys(TOTALS, 0) | {"received": 2, "moved": 2}


def test_retain_prints_sessions_as_they_leave() -> None:
    """In a log without times, once that many later ones have ended."""
    given = b"".join(STOP.replace(b'"s"', b'"s%d"' % n) for n in range(5)) + b"nope\n"
    run = telstate("replay", "--json", "--retain", "2", given=given)
    order = [value.get("session_id", kind) for line in json_lines(run) for kind, value in line.items()]
    assert order == ["s0", "s1", "s2", "invalid", "s3", "s4", "summary"]


def test_retention_is_in_the_logs_own_time() -> None:
    """Two hours of it."""
    first, second, third = (
        json.dumps(
            {"type": "dialin.stopped", "id": f"w{n}", "payload": {"session_id": f"s{n}"}, "event_ts": at}
        ).encode()
        + b"\n"
        for n, at in enumerate((1000, 8199, 8200))
    )
    run = telstate("replay", "--json", given=first + second + b"nope\n" + third + b"nope\n")
    assert [next(iter(line)) for line in json_lines(run)] == [
        "invalid",
        "session",
        "invalid",
        "session",
        "session",
        "summary",
    ]


def test_a_journals_settings_are_used_unless_overridden() -> None:
    """Its header has them; --retain overrides one."""
    header = b'{"v":1,"journal":"j","settings":{"retain_untimed":1}}\n'
    given = header + b"".join(STOP.replace(b'"s"', b'"s%d"' % n) for n in range(3)) + b"nope\n"
    kinds = [next(iter(line)) for line in json_lines(telstate("replay", "--json", given=given))]
    assert kinds == ["session", "session", "invalid", "session", "summary"]
    kinds = [next(iter(line)) for line in json_lines(telstate("replay", "--json", "--retain", "9", given=given))]
    assert kinds == ["invalid", "session", "session", "session", "summary"]


def test_retain_leaves_a_journals_other_settings_alone() -> None:
    """It overrides one setting only."""
    given = b"".join(
        json.dumps(line).encode() + b"\n"
        for line in (
            {"v": 1, "journal": "j", "settings": {"silence_before_answer": 30}},
            {"v": 1, "seq": 1, "at": 100.0, "dialect": "daily-js", "event": None, "payload": json.loads(CALL)},
            {
                "v": 1,
                "seq": 2,
                "at": 130.0,
                "dialect": "daily-js",
                "payload": {"action": "deadline-passed", "sessionId": "s", "deadline": "silence", "dueAt": 130.0},
            },
        )
    )
    for arguments in ([], ["--retain", "5"]):
        assert json_lines(telstate("replay", "--json", *arguments, given=given))[0]["session"]["cause"] == "expired"


def test_a_second_journal_with_other_settings_is_refused() -> None:
    """Settings cannot change in the middle of a replay."""
    header = b'{"v":1,"journal":"j","settings":{"retain_untimed":1}}\n'
    run = telstate("replay", "--json", given=CALL + header + STOP)
    assert [next(iter(line)) for line in json_lines(run)] == ["invalid", "session", "summary"]
    assert b"replay this journal alone" in run.stdout


@pytest.mark.parametrize("name", ["busy-day.mixed", pytest.param("busy-day.webhook", marks=pytest.mark.long)])
def test_the_same_log_gives_the_same_answer(name: str) -> None:
    """Byte for byte, also in another process, where hashes differ."""
    arguments = ("replay", "--json", "--strict", LOGS / f"{name}.jsonl")
    run = telstate(*arguments)
    assert run.stdout
    assert run == run_process(*arguments, env={"PYTHONHASHSEED": "1"})


def test_the_table_has_a_head_sessions_notes_and_totals() -> None:
    """Below a session stands what deserves attention; numbers are masked."""
    error = b'{"action":"dialout-error","sessionId":"t","errorMsg":"boom \\u001b[31m","destination":5}\n'
    run = telstate("replay", given=CALL + STOP + STOP + error + b'{"action":"dialin-stopped"}\nnope\n')
    assert run.returncode == 0
    text = run.stdout.decode()
    assert text.splitlines()[0].startswith("START UTC")
    assert "connected > stopped" in text
    assert "3 events, of which 1 repeated" in text
    assert "error: boom \ufffd[31m" in text
    assert "! dialout-error: destination came as 5" in text
    assert "? dialin-stopped: matches no session (it has no details)" in text
    assert "-:6: not read" in text
    assert "2 sessions: 1 unanswered, 1 failed; 1 with anomalies (!)" in text
    assert "5 events: 3 moved, 1 duplicate, 1 unmatched\n1 line could not be read" in text
    assert "+12025550100" not in text
    assert "+12•••••••00" in text


def test_each_target_of_a_transfer_has_a_line() -> None:
    """With what became of it."""
    log = Path(__file__).parents[1] / "corpus/logs/02-transfer-second-target.jsonl"
    table = telstate("replay", log).stdout.decode()
    assert "transfer to +12•••••••90: not reached\n" in table
    assert "transfer to +12•••••••91: reached\n" in table


def test_numbers_and_names_are_masked_unless_asked_for() -> None:
    """In the table and in JSON, in sessions and in events that match none."""
    number, name = "+12025550100", "Ada Lovelace"
    private = {"destination": number, "displayName": name}
    given = b"".join(
        json.dumps(event).encode() + b"\n"
        for event in (
            {"action": "dialout-connected", "sessionId": "12345678", **private},
            {"action": "dialout-answered", "sessionId": "12345678", "destination": "+12025550199"},
            {"action": "dialin-connected", "sessionId": "s", "displayName": name},
            {"action": "dialout-error", "errorMsg": f"no route to {number}", **private},
            {"action": f"to {number}", "sessionId": 5},
        )
    )
    for options in ([], ["--json"]):
        hidden = telstate("replay", *options, given=given).stdout.decode()
        assert "12025550" not in hidden
        assert "Ada" not in hidden
        assert "12345678" in hidden
        shown = telstate("replay", *options, "--numbers", given=given).stdout.decode()
        assert number in shown
        assert name in shown


def replayed(*options: str) -> list[dict[str, Any]]:
    """Replay a day of calls; return the records of its sessions."""
    run = telstate("replay", "--json", *options, LOGS / "busy-day.mixed.jsonl")
    assert run.returncode == 0, run.stderr
    return [line["session"] for line in json_lines(run) if "session" in line]


def test_calls_are_selected() -> None:
    """By what their records say; all that is asked must hold."""
    everything = replayed("--numbers")
    number = next(one["destination"] for one in everything if one["destination"])
    found = replayed("--numbers", "--number", f"00{number[1:3]} {number[3:]}")
    assert found == [one for one in everything if number in str(one)]
    assert 0 < len(found) < len(everything)
    long = replayed("--where", "talk_s > 100", "--direction", "dialin", "--sort=-talk_s", "--limit", "3")
    times = [one["talk_s"] for one in long]
    assert len(times) == 3
    assert times == sorted(times, reverse=True)
    assert {one["direction"] for one in long} == {"dialin"}
    assert len(replayed("--session", everything[0]["session_id"][:13])) == 1
    assert replayed("--until", "2020-01-01") == []
    assert {one["ended_at"] for one in replayed("--since", "1d")} == {
        None
    }  # it does not know that nothing more will come
    assert replayed("--until", "9999-12-31") == replayed("--since", "2020-01-01")
    assert len(replayed("--since", "2020-01-01", "--until", "2030-01-01")) < len(everything)  # some have no times


def test_a_call_has_all_its_legs(tmp_path: Path) -> None:
    """By any of its ids."""
    log = tmp_path / "calls.jsonl"
    events = [("dialin-connected", "a"), ("dialin-connected", "b"), ("dialin-stopped", "a")]
    log.write_text(
        "".join(json.dumps({"action": name, "sessionId": one, "sipCallId": "c"}) + "\n" for name, one in events)
    )
    for call in ("a", "b", "c"):
        lines = json_lines(telstate("replay", "--json", "--call", call, log))
        assert sorted(line["session"]["session_id"] for line in lines if "session" in line) == ["a", "b"]


def test_csv_has_a_row_for_each_call() -> None:
    """With the fields of the record, masked; lists are JSON."""
    log = LOGS / "busy-day.mixed.jsonl"
    rows = list(csv.DictReader(io.StringIO(telstate("replay", "--csv", log).stdout.decode())))
    rows = [row for row in rows if row["session_id"]]  # the others are callers on hold
    records = replayed()
    assert [row["session_id"] for row in rows] == [one["session_id"] for one in records]
    for row, record in zip(rows, records, strict=True):
        assert row["destination"] == (record["destination"] or "")
        assert json.loads(row["transitions"]) == record["transitions"]
        assert row["talk_s"] == ("" if record["talk_s"] is None else str(record["talk_s"]))
    assert "+12025550" not in str(rows)
    assert "+12025550" in telstate("replay", "--csv", "--numbers", log).stdout.decode()


def test_csv_has_no_formulas() -> None:
    """A caller chooses their name, and a spreadsheet would calculate it. Numbers stay as they are."""
    names = ("=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\uff1d1", "Ann", "+12025550142", "-5")
    given = "".join(
        json.dumps({"action": "dialout-connected", "sessionId": f"s{place}", "errorMsg": "", "destination": name})
        + "\n"
        for place, name in enumerate(names)
    )
    said = telstate("replay", "--csv", "--numbers", given=given.encode()).stdout.decode()
    cells = [row["destination"] for row in csv.DictReader(io.StringIO(said))]
    assert cells == ["'=1+1", "'+cmd|x", "'-2+3", "'@SUM(A1)", "'\uff1d1", "Ann", "+12025550142", "-5"]
    tailed = telstate(
        "tail", "--csv", "--numbers", given=b'{"action": "dialout-error", "sessionId": "=1", "errorMsg": "@x"}\n'
    )
    assert ",'=1," in tailed.stdout.decode()
    assert ",'@x" in tailed.stdout.decode() or ",@x" not in tailed.stdout.decode()


def test_csv_has_callers_on_hold() -> None:
    """Those that got to no session have rows too."""
    given = b'{"To":"+12025550100","From":"+12025550101","callId":"hold","callDomain":"d"}\n{"x":1}\nnoise\n'
    (row,) = csv.DictReader(io.StringIO(telstate("replay", "--csv", "--numbers", given=given).stdout.decode()))
    assert (row["session_id"], row["pinless_call_id"], row["direction"], row["state"]) == (
        "",
        "hold",
        "dialin",
        "waiting",
    )
    assert (row["caller"], row["called"]) == ("+12025550101", "+12025550100")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "--csv"], "give one of them"),
        (["--sort", "talk"], "there is no field 'talk'"),
        (["--where", "talk_s = 3"], "compare with =="),
        (["--since", "yesterday"], "'yesterday' is no time: give 2026-10-01"),
        (["--session", ""], "--session: it is empty"),
        (["--number", " "], "--number: it is empty"),
        (["--state", "ringing"], "'ringing' is none of idle, connected"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(options: list[str], message: str) -> None:
    """Before anything is read."""
    run = telstate("replay", *options, "/no/such/file")
    assert run.returncode == 2
    assert message in " ".join(run.stderr.decode().split())


@pytest.mark.long
def test_a_narrow_terminal_keeps_the_whole_id() -> None:
    """A session takes two lines there, as people copy its id."""
    log = LOGS / "busy-day.webhook.jsonl"
    lines = watch(command("replay", log), columns=110).lines()
    assert any(re.search(r"[0-9a-f-]{36}  out completed", line) for line in lines)
    assert max(map(len, lines)) <= 110
    wide = telstate("replay", log).stdout.decode().splitlines()
    assert len(wide) < len(lines)


@pytest.mark.long
def test_a_wide_terminal_shows_what_a_pipe_gets() -> None:
    """One line a session."""
    log = LOGS / "busy-day.webhook.jsonl"
    shown = watch(command("replay", log), columns=200).lines()
    assert shown == telstate("replay", log).stdout.decode().splitlines()


def test_all_files_are_found_before_anything_is_printed() -> None:
    """Half a report is worse than none."""
    run = telstate("replay", LOGS / "busy-day.webhook.jsonl", "/no/such/file")
    assert (run.returncode, run.stdout) == (2, b"")


def test_version() -> None:
    """It prints which telstate runs."""
    assert telstate("--version").stdout.decode() == f"telstate {telstate_version}\n"


@pytest.mark.long
def test_head_of_a_pipe_is_not_an_error() -> None:
    """`| head` closes the pipe early."""
    run = shell(f"{sys.executable} -m telstate replay --json {LOGS / 'busy-day.webhook.jsonl'} | head -1")
    assert run.stderr == b""
    assert run.stdout.count(b"\n") == 1


@pytest.mark.long
def test_without_its_packages_the_command_says_what_to_install() -> None:
    """The core does not need them."""
    code = "import sys; sys.modules['typer'] = None; from telstate.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False, timeout=60)
    assert run.returncode == 1
    assert b"pip install 'telstate[cli]'" in run.stderr


VERBS = ["replay", "ladder", "tail", "diagram", "serve", "dead", "webhook"]


def test_the_help_lists_every_verb() -> None:
    """With what it does."""
    text = telstate("--help").stdout.decode()
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z]", text, re.MULTILINE), verb


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_fits_80_columns(verb: str) -> None:
    """And exits with 0."""
    run = telstate(verb, "--help")
    assert run.returncode == 0
    assert max(map(len, run.stdout.decode().splitlines())) <= 80


def test_the_help_shows_arguments_without_python_types() -> None:
    """As manual pages do: required ones bare, optional ones in brackets."""
    text = telstate("dead", "retry", "--help").stdout.decode()
    assert "retry [OPTIONS] JOURNAL [NUMBER]...\n" in text
    assert re.search(r"<|\{", text) is None


def shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line in bash; a command of a pipe that fails makes it fail."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], env=environment(), capture_output=True, check=False, timeout=60
    )
