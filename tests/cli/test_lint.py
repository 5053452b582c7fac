"""`telstate lint`: exit codes, codes explained, selection, forms of output, and odd input."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from telstate.views._lint import RULES
from tests.cli.running import CALL, LOGS, STOP, command, environment, json_lines, telstate
from tests.corpus import HERE

TRANSFER = HERE / "logs" / "01-transfer-not-answered.jsonl"
FAILED = b'{"action":"dialout-error","sessionId":"f","errorMsg":"no route to +12025550142","details":{"destination":"+12025550142"}}\n'
TALK = CALL + b'{"action":"dialout-answered","sessionId":"s"}\n' + STOP


def test_a_healthy_log_has_one_line() -> None:
    """And exit code 0, whatever it fails on."""
    for options in ((), ("--fail-on", "info"), ("--fail-on", "never")):
        run = telstate("lint", *options, given=TALK)
        assert (run.returncode, run.stdout) == (
            0,
            b"Nothing is wrong: 1 call, 3 events (without times, so neither gaps nor delays can be seen).\n",
        )


@pytest.mark.parametrize(
    ("fail_on", "codes"),
    [("error", [1, 0, 0]), ("warning", [1, 1, 0]), ("info", [1, 1, 1]), ("never", [0, 0, 0])],
)
def test_the_exit_code_is_for_ci(fail_on: str, codes: list[int]) -> None:
    """1 from the given severity on, by default from errors on; what is not shown counts too."""
    logs = (TRANSFER.read_bytes(), FAILED, CALL + STOP)
    assert [telstate("lint", "--fail-on", fail_on, given=log).returncode for log in logs] == codes
    if fail_on == "error":
        assert [telstate("lint", given=log).returncode for log in logs] == codes
    if fail_on == "info":
        assert telstate("lint", "--fail-on", "info", "--severity", "error", given=CALL + STOP).returncode == 1


def test_a_severity_hides_what_is_less_bad() -> None:
    """The last line counts all."""
    run = telstate("lint", "--severity", "warning", given=FAILED + CALL + STOP)
    assert b"T203" in run.stdout
    assert b"T201" not in run.stdout
    assert b"1 warning, 1 info in 2 calls" in run.stdout


def test_every_code_is_explained() -> None:
    """Meaning, likely causes, what to do; in any case of letters."""
    for code in RULES:
        run = telstate("lint", "--explain", code.lower())
        assert run.returncode == 0
        text = run.stdout.decode()
        assert text.startswith(f"{code}: ")
        assert "Likely causes:\n- " in text
        assert "What to do:\n- " in text


@pytest.mark.parametrize(("code", "status"), [("all", 0), ("T999", 2), ("", 2)])
def test_an_unknown_code_lists_all(code: str, status: int) -> None:
    """With exit code 2, unless all were asked for."""
    run = telstate("lint", "--explain", code)
    assert run.returncode == status
    assert [line.split()[0] for line in run.stdout.decode().splitlines()] == list(RULES)
    assert bool(run.stderr) is (status == 2)


def test_json_has_the_promised_keys() -> None:
    """One finding a line, the summary last."""
    finding, summary = json_lines(telstate("lint", "--json", given=FAILED))
    assert finding == {
        "finding": {
            "code": "T203",
            "severity": "warning",
            "title": "a call failed",
            "found": "The dial-out failed: no route to +12•••••••42.",
            "do": RULES["T203"].fix,
            "session_id": "f",
            "call_id": None,
            "room": None,
            "started_at": None,
        }
    }
    assert summary == {
        "summary": {"calls": 1, "callers": 0, "events": 1, "invalid": 0, "errors": 0, "warnings": 1, "infos": 0}
    }
    shown = json_lines(telstate("lint", "--json", "--numbers", given=FAILED))[0]["finding"]
    assert shown["found"] == "The dial-out failed: no route to +12025550142."


def test_filters_select_calls_and_say_nothing_of_the_log() -> None:
    """The findings of others are not shown, and do not fail."""
    log = FAILED + CALL + STOP + b"nope\n"
    everything = telstate("lint", "--fail-on", "warning", given=log)
    assert everything.returncode == 1
    assert b"T509" in everything.stdout
    one = telstate("lint", "--fail-on", "warning", "--number", "202 555 0100", given=log)
    assert one.returncode == 0
    assert b"T201" in one.stdout
    assert b"T203" not in one.stdout
    assert b"T509" not in one.stdout
    assert b"1 info in 1 call" in one.stdout


@pytest.mark.parametrize("width", [40, 80, 200])
def test_text_is_wrapped_for_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below its first line, with nothing cut."""
    monkeypatch.setattr("telstate.cli._lint.width", lambda: width)
    run = telstate("lint", TRANSFER)
    lines = run.stdout.decode().splitlines()
    finding = lines[1:-2]
    assert max(map(len, finding)) <= width
    wide = telstate("lint", "--json", TRANSFER)
    found = json.loads(wide.stdout.splitlines()[0])["finding"]
    text = " ".join(" ".join(finding).split())
    assert found["found"] in text
    assert found["do"] in text


def test_a_log_that_is_none(tmp_path: Path) -> None:
    """Says what came and what to do, and fails."""
    missing = telstate("lint", tmp_path / "nothing.jsonl")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert b"No such file" in missing.stderr
    (tmp_path / "empty.jsonl").touch()
    empty = telstate("lint", tmp_path / "empty.jsonl")
    assert empty.returncode == 1
    assert b"T501  The log is empty." in empty.stdout
    (tmp_path / "notes.txt").write_text("Dear diary\n")
    other = telstate("lint", tmp_path / "notes.txt")
    assert other.returncode == 1
    assert b"None of 1 line could be read as an event." in other.stdout
    assert b"telstate export" in other.stdout


@pytest.mark.long
def test_a_broken_pipe_and_ctrl_c_are_silent() -> None:
    """As of every command."""
    reader = subprocess.Popen(
        command("lint", LOGS / "busy-day.webhook.jsonl"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.readline()
    reader.stdout.close()
    assert reader.wait(60) == 0
    assert reader.stderr.read() == b""
    reader.stderr.close()
    waiting = subprocess.Popen(
        command("lint"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert waiting.stdin is not None
    waiting.stdin.write(CALL * 10_000)  # more than a pipe holds: once it is written, the command reads
    waiting.stdin.flush()
    waiting.send_signal(signal.SIGINT)
    _, error = waiting.communicate(timeout=60)
    assert (waiting.returncode, error) == (130, b"")
