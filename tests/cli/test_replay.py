"""The command line, as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from telstate import __version__ as telstate_version
from tests.terminal import watch

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "examples" / "logs"
CALL = b'{"action":"dialout-connected","sessionId":"s","destination":"+12025550100"}\n'
STOP = b'{"action":"dialout-stopped","sessionId":"s"}\n'


def telstate(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the installed command."""
    command = [sys.executable, "-m", "telstate", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=120)


def told(run: subprocess.CompletedProcess[bytes]) -> list[dict[str, object]]:
    """The JSON lines of a run that went well."""
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


KEYS = [
    "session_id",
    "direction",
    "state",
    "cause",
    "ended_by",
    "end_source",
    "end_sign",
    "sip_call_id",
    "room",
    "domain_id",
    "provider",
    "destination",
    "origin",
    "caller_id",
    "sip_from",
    "sip_endpoint",
    "sip_headers",
    "caller",
    "called",
    "pinless_call_id",
    "held_s",
    "display_name",
    "user_id",
    "error",
    "warnings",
    "transferred_to",
    "transfers",
    "notes",
    "legs",
    "dtmf",
    "events",
    "duplicates",
    "late",
    "unexpected",
    "anomalies",
    "amended",
    "uncertain",
    "started_at",
    "requested_at",
    "connected_at",
    "answered_at",
    "ended_at",
    "setup_s",
    "ring_s",
    "talk_s",
    "transitions",
]
TOTALS = ["received", "moved", "noted", "duplicate", "late", "unexpected", "unmatched", "invalid"]


def test_json_has_the_promised_keys() -> None:
    """One object a line, its only key says what it is; the summary is last."""
    lines = told(telstate("replay", "--json", given=CALL + STOP))
    assert [list(line) for line in lines] == [["session"], ["summary"]]
    assert list(lines[0]["session"]) == KEYS  # type: ignore[call-overload]
    assert lines[0]["session"] == dict.fromkeys(KEYS) | {
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
    assert list(lines[1]["summary"]) == TOTALS  # type: ignore[call-overload]
    assert lines[1]["summary"] == dict.fromkeys(TOTALS, 0) | {"received": 2, "moved": 2}


def test_parked_moves_unmatched_events_and_bad_lines() -> None:
    """Each told in its own kind of line."""
    given = (
        b'{"action":"participant-joined","participant":{"session_id":"s"}}\n{"action":"dialin-connected","sessionId":"s"}\n'
        b'{"action":"dialout-error","errorMsg":"boom"}\nnope\n'
    )
    lines = told(telstate("replay", "--json", "-", given=given))
    assert [next(iter(line)) for line in lines] == ["invalid", "session", "unmatched", "summary"]
    assert lines[0]["invalid"] == {
        "file": "-",
        "line": 4,
        "error": "expected JSON (expected ident at line 1 column 2), got b'nope'",
    }
    session = lines[1]["session"]
    assert isinstance(session, dict)
    assert session["transitions"] == [["idle", "connected", "dialin-connected"], ["connected", "answered", "parked"]]
    assert lines[2]["unmatched"] == {
        "event": "dialout-error",
        "received_at": None,
        "said": {"action": "dialout-error", "errorMsg": "boom"},
    }
    assert lines[3]["summary"] == dict.fromkeys(TOTALS, 0) | {
        "received": 3,
        "moved": 1,
        "noted": 1,
        "unmatched": 1,
        "invalid": 1,
    }


def test_strict_fails_on_a_bad_line_after_reading_all() -> None:
    """0 without it, 1 with it, and everything is told either way."""
    given = CALL + b"nope\n" + STOP
    assert telstate("replay", given=given).returncode == 0
    strict = telstate("replay", "--strict", "--json", given=given)
    assert strict.returncode == 1
    assert b'"state": "stopped"' in strict.stdout
    assert telstate("replay", "--strict", given=CALL + STOP).returncode == 0


def test_a_torn_last_line() -> None:
    """Of a bare log it is told; of a journal nobody was promised it."""
    bare = telstate("replay", "--json", "--strict", given=CALL + STOP[:20])
    assert bare.returncode == 1
    assert b"may be torn" in bare.stdout
    whole_without_end = telstate("replay", "--json", "--strict", given=CALL + STOP.rstrip())
    assert whole_without_end.returncode == 0
    journal = b'{"v":1,"seq":1,"at":5,"dialect":"daily-js","payload":' + CALL.rstrip() + b"}\n"
    torn = telstate("replay", "--json", "--strict", given=journal + journal[:60])
    assert torn.returncode == 0
    assert json.loads(torn.stdout.splitlines()[-1])["summary"]["invalid"] == 0


def test_how_a_journal_may_be_torn_and_how_not() -> None:
    """Anywhere in its last line; but a whole record that cannot be read is told."""
    record = b'{"v":1,"seq":1,"at":5,"dialect":"daily-js","payload":' + CALL.rstrip() + b"}"
    for cut in (1, 2, 3, 4, 5, 20, len(record) - 1):
        assert telstate("replay", "--strict", given=record + b"\n" + record[:cut]).returncode == 0, cut
    newer = record.replace(b'"v":1', b'"v":2')
    assert telstate("replay", "--strict", given=record + b"\n" + newer).returncode == 1


def test_closed_streams_are_misuse() -> None:
    """One line, no traceback."""
    for redirect in ("<&-", f"{LOGS / 'busy-day.webhook.jsonl'} >&-"):
        command = f"{sys.executable} -m telstate replay {redirect}"
        run = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
        assert run.returncode == 2
        assert run.stderr.count(b"\n") == 1


def test_a_hostile_line_does_not_hang_the_table() -> None:
    """Its keys are cut, and masking is no quadratic work."""
    line = json.dumps({"action": "dialout-error", "sip:" * 40_000: 1, "x": "sip:" * 40_000}).encode()
    text = telstate("replay", given=line).stdout
    assert len(text) < 2000


def test_misuse_is_2_and_one_line(tmp_path: Path) -> None:
    """It says what is wrong."""
    missing = telstate("replay", tmp_path / "none.jsonl")
    assert missing.returncode == 2
    assert missing.stderr.decode() == f"telstate: cannot read {tmp_path / 'none.jsonl'}: No such file or directory\n"
    assert telstate("replay", tmp_path).returncode == 2
    assert telstate("replay", "--retain", "0").returncode == 2
    assert telstate("replay", "--no-such-option").returncode == 2
    assert telstate("diagram").returncode == 2
    assert telstate("diagram", "nothing").returncode == 2


def test_empty_input_is_no_error() -> None:
    """Nothing happened."""
    lines = told(telstate("replay", "--json"))
    assert lines == [{"summary": dict.fromkeys(TOTALS, 0)}]


def test_files_are_one_log_and_encodings_are_met(tmp_path: Path) -> None:
    """A call may begin in one file and end in the next; marks, CRLF and PowerShell's encoding do not matter."""
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + CALL.replace(b"\n", b"\r\n"))
    (tmp_path / "b").write_bytes(("\ufeff" + STOP.decode()).encode("utf-16-le"))
    lines = told(telstate("replay", "--json", "--strict", tmp_path / "a", tmp_path / "b"))
    assert b'"stopped"' in json.dumps(lines[0]).encode()
    assert lines[1]["summary"] == dict.fromkeys(TOTALS, 0) | {"received": 2, "moved": 2}


def test_retain_tells_sessions_as_they_leave() -> None:
    """Where no line carries a time, when that many later ones have ended."""
    given = b"".join(STOP.replace(b'"s"', b'"s%d"' % n) for n in range(5)) + b"nope\n"
    run = telstate("replay", "--json", "--retain", "2", given=given)
    order = [value.get("session_id", kind) for line in told(run) for kind, value in line.items()]  # type: ignore[attr-defined]
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
    assert [next(iter(line)) for line in told(run)] == [
        "invalid",
        "session",
        "invalid",
        "session",
        "session",
        "summary",
    ]


def test_a_journals_settings_are_used_unless_told_otherwise() -> None:
    """Its header has them."""
    header = b'{"v":1,"journal":"j","settings":{"retain_untimed":1}}\n'
    given = header + b"".join(STOP.replace(b'"s"', b'"s%d"' % n) for n in range(3)) + b"nope\n"
    kinds = [next(iter(line)) for line in told(telstate("replay", "--json", given=given))]
    assert kinds == ["session", "session", "invalid", "session", "summary"]
    kinds = [next(iter(line)) for line in told(telstate("replay", "--json", "--retain", "9", given=given))]
    assert kinds == ["invalid", "session", "session", "session", "summary"]


def test_retain_leaves_a_journals_other_settings_alone() -> None:
    """Only what is told is told otherwise."""
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
        session = told(telstate("replay", "--json", *arguments, given=given))[0]["session"]
        assert isinstance(session, dict)
        assert session["cause"] == "expired"


def test_a_second_journal_with_other_settings_is_told() -> None:
    """They cannot change under way."""
    header = b'{"v":1,"journal":"j","settings":{"retain_untimed":1}}\n'
    run = telstate("replay", "--json", given=CALL + header + STOP)
    assert [next(iter(line)) for line in told(run)] == ["invalid", "session", "summary"]
    assert b"replay this journal alone" in run.stdout


def test_the_same_log_gives_the_same_answer() -> None:
    """Byte for byte."""
    for name in ("busy-day.mixed", "busy-day.webhook"):
        one, other = (telstate("replay", "--json", LOGS / f"{name}.jsonl").stdout for _ in range(2))
        assert one == other
        assert one


def test_the_table_for_people() -> None:
    """A head, a line for each session, what deserves attention below it, the totals; numbers are masked unless asked."""
    error = b'{"action":"dialout-error","sessionId":"t","errorMsg":"boom \\u001b[31m","destination":5}\n'
    run = telstate("replay", given=CALL + STOP + STOP + error + b'{"action":"dialin-stopped"}\nnope\n')
    assert run.returncode == 0
    text = run.stdout.decode()
    assert text.splitlines()[0].startswith("START UTC")
    assert "connected > stopped" in text
    assert "of 3 events 1 repeated" in text
    assert "error: boom \ufffd[31m" in text
    assert "! dialout-error: destination came as 5" in text
    assert "? dialin-stopped: no telling whose it is" in text
    assert "-:6: not read" in text
    assert "2 sessions: 1 unanswered, 1 failed; 1 with anomalies (!)" in text
    assert "5 events: 3 moved, 1 duplicate, 1 unmatched\n1 line could not be read" in text
    assert "+12025550100" not in text
    assert "+12•••••••00" in text
    assert "+12025550100" in telstate("replay", "--numbers", given=CALL).stdout.decode()


def test_a_narrow_terminal_keeps_the_whole_id() -> None:
    """In two lines a session, as the id is what one copies."""
    seen = watch([sys.executable, "-m", "telstate", "replay", str(LOGS / "busy-day.webhook.jsonl")], columns=110)
    lines = seen.shown.decode().splitlines()
    assert any(re.search(r"[0-9a-f-]{36}  out completed", line) for line in lines)
    assert max(map(len, lines)) <= 110
    wide = watch([sys.executable, "-m", "telstate", "replay", str(LOGS / "busy-day.webhook.jsonl")], columns=200)
    assert len(wide.shown.splitlines()) < len(lines)


def test_all_files_are_looked_for_before_anything_is_told() -> None:
    """Half a report is worse than none."""
    run = telstate("replay", LOGS / "busy-day.webhook.jsonl", "/no/such/file")
    assert (run.returncode, run.stdout) == (2, b"")


def test_version_and_a_log_that_is_none() -> None:
    """What runs, and what to do about a compressed log."""
    assert telstate("--version").stdout.decode() == f"telstate {telstate_version}\n"
    assert "not compressed?" in telstate("replay", given=b"\x1f\x8b\n\n").stdout.decode()


def test_head_of_a_pipe_is_no_error() -> None:
    """`| head` closes the pipe early."""
    command = f"{sys.executable} -m telstate replay --json {LOGS / 'busy-day.webhook.jsonl'} | head -1"
    run = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False, timeout=60)
    assert run.stderr == b""
    assert run.stdout.count(b"\n") == 1


def test_without_its_packages_the_command_says_what_to_install() -> None:
    """The core does not need them."""
    code = "import sys; sys.modules['typer'] = None; from telstate.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert run.returncode == 1
    assert b"pip install 'telstate[cli]'" in run.stderr


def test_help_tells_of_every_verb() -> None:
    """And no verb is without a word."""
    for arguments in (["--help"], ["replay", "--help"], ["tail", "--help"], ["diagram", "--help"]):
        run = telstate(*arguments)
        assert run.returncode == 0
    assert b"replay" in telstate("--help").stdout
