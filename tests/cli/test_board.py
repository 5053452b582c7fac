"""`telstate board`: a log on the live board, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.running import LOGS, command, environment, telstate

LOG = LOGS / "few-calls.webhook.jsonl"


@contextmanager
def playing(*arguments: object) -> Iterator[str]:
    """Play a log; give the address of the page. The process ends in order at SIGTERM."""
    with played(*arguments) as (_, page):
        yield page


@contextmanager
def played(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same, with the process."""
    process = subprocess.Popen(
        command("board", "--port", "0", *arguments), env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "is played on http://127.0.0.1:" in line, line
        yield process, line.split(" on ")[1].split(",")[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def messages(page: str, until: str, *, play: bool = False) -> list[tuple[str, dict[str, object]]]:
    """What the page gets, up to a message of a kind with this in it. A paused log may go on once the page is there: it sees all of it."""
    found: list[tuple[str, dict[str, object]]] = []
    with httpx.stream("GET", f"{page}/live", timeout=30, trust_env=False) as answer:
        kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                found.append((kind, json.loads(value)))
                if play and len(found) == 1:
                    httpx.post(f"{page}/playback", json={"paused": False}, trust_env=False)
                if until in f"{kind} {value}":
                    break
    return found


def test_a_log_is_played_at_a_speed_until_its_end() -> None:
    """With the log's clock, masked numbers, and the ladder of a call; it can be paused and played faster. Then the page stays."""
    with playing(LOG, "--speed", 1_800, "--paused") as page:
        assert "<title>Live calls</title>" in httpx.get(page, trust_env=False).text
        replay = dict(messages(page, "service"))["service"]["replay"]
        assert replay == {
            "name": LOG.name,
            "speed": 1_800.0,
            "speeds": [1.0, 10.0, 60.0, 300.0, 1_800.0],
            "paused": True,
            "ended": False,
        }
        assert httpx.post(f"{page}/playback", json={"speed": -1}, trust_env=False).status_code == 400
        httpx.post(f"{page}/playback", json={"paused": False, "speed": 100_000}, trust_env=False)
        found = messages(page, '"ended": true')
        now = found[-1][1]["now"]
        assert isinstance(now, float)
        assert time.strftime("%Y-%m-%d", time.gmtime(now)) == "2026-09-21"
        assert "+1202555" not in json.dumps(found)
        call = {"id": "94599ec0-d5bb-485a-928e-eb4f50fa0f4a"}
        ladder = httpx.post(f"{page}/ladder", json=call, trust_env=False).json()
        assert ("dialout-stopped" in ladder["html"], ladder["lacks"]) == (True, None)


@pytest.mark.long
def test_any_log_can_be_played(tmp_path: Path) -> None:
    """A journal with its header, a compressed one, one without times, and what cannot be read is said at the end."""
    untimed = tmp_path / "untimed.jsonl"
    untimed.write_text('{"action": "dialout-connected", "sessionId": "a"}\nnot an event\n')
    for arguments in ([untimed], [LOGS / "busy-day.mixed.jsonl", "--numbers"]):
        with playing(*arguments, "--speed", 100_000, "--paused") as page:
            kinds = [kind for kind, _ in messages(page, "outcome", play=True)]
            assert "hello" in kinds


@pytest.mark.long
def test_a_log_without_events_says_so(tmp_path: Path) -> None:
    """An empty file, and one with other lines."""
    for text in ("", "2026-11-30 10:00:00 INFO started\n"):
        (tmp_path / "log").write_text(text)
        with played(tmp_path / "log") as (process, _):
            assert process.stderr is not None
            assert process.stderr.readline() == "telstate: there are no events in it, so nothing is shown\n"


def test_misuse_is_one_line(tmp_path: Path) -> None:
    """A file that is not there, and a speed that is none."""
    run = telstate("board", tmp_path / "none.jsonl", "--port", 0)
    assert (run.returncode, b"none.jsonl" in run.stderr) == (2, True)
    assert telstate("board", LOG, "--speed", 0).returncode == 2
