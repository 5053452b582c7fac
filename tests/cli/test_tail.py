"""`telstate tail`: what it prints of a log, and what it prints while somebody writes the log."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telstate.sources._follow import POLL
from tests.cli.running import CALL, LOGS, STOP, command, environment, telstate

MOVED = "moved       s                                     out  idle > connected"
STOPPED = "moved       s                                     out  connected > stopped (unanswered)"


class Running:
    """A running `telstate tail`; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: dict[str, queue.Queue[str]] = {}
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None
            self._lines[name] = queue.Queue()
            threading.Thread(target=self._read, args=(stream, self._lines[name]), daemon=True).start()

    @staticmethod
    def _read(stream: Iterator[bytes], lines: queue.Queue[str]) -> None:
        for line in stream:
            lines.put(line.decode().rstrip("\n"))

    def line(self) -> str:
        """The next line of standard output, without its time."""
        return self.whole_line()[21:]

    def whole_line(self) -> str:
        """The next line of standard output."""
        return self._lines["out"].get(timeout=30)

    def error(self) -> str:
        """The next line of standard error."""
        return self._lines["err"].get(timeout=30)

    def end(self, number: int) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def rest(self) -> list[str]:
        """The lines that were not read."""
        return [line for lines in self._lines.values() for line in lines.queue]


@contextmanager
def tail(*arguments: object) -> Iterator[Running]:
    """Run it, and end it in any case."""
    with subprocess.Popen(
        command("tail", *arguments),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def write(path: Path, data: bytes) -> None:
    """Append."""
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_follow_prints_what_is_there_then_what_is_added(tmp_path: Path, how: signal.Signals) -> None:
    """Each line once it is whole; Ctrl-C and SIGTERM are not a failure."""
    log = tmp_path / "log"
    write(log, CALL)
    with tail("-f", log) as running:
        assert running.line() == MOVED
        write(log, STOP[:20])
        write(log, STOP[20:])
        assert running.line() == STOPPED
        assert running.end(how) == 0
        assert running.rest() == []


@pytest.mark.long
def test_follow_survives_rotation(tmp_path: Path) -> None:
    """A call may begin in one file and end in the next; a truncation that may have lost lines is reported."""
    log = tmp_path / "log"
    with tail("--follow", log) as running:
        assert "waiting for a file that exists" in running.error()
        write(log, CALL)
        assert running.line() == MOVED
        log.rename(tmp_path / "log.1")
        write(log, STOP)
        assert running.line() == STOPPED
        os.truncate(log, 0)
        assert running.line().split() == ["noted", "source-gap"]
        write(log, STOP)
        assert running.line().split()[0] == "duplicate"
        assert running.end(signal.SIGINT) == 0
        assert [line for line in running.rest() if "waiting" not in line] == []


@pytest.mark.long
def test_a_bad_line_is_reported_on_standard_error_and_stops_nothing(tmp_path: Path) -> None:
    """With its file and line, and with its numbers masked."""
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, CALL)
    write(other, b"\n")
    with tail("-f", "--json", one, other) as running:
        assert "idle" in running.line()
        write(other, b'"+12025550100"\n')
        assert running.error() == f"{other}:2: not read: expected a JSON object, got '+12•••••••00'"
        write(other, STOP)
        assert '"cause": "unanswered"' in running.line()
        assert running.end(signal.SIGTERM) == 0


@pytest.mark.long
def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    """Quietly, at the next line."""
    log = tmp_path / "log"
    write(log, CALL)
    script = f"set -o pipefail; {sys.executable} -m telstate tail -f {log} | head -1"
    with subprocess.Popen(
        ["bash", "-c", script], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        assert shell.stderr is not None
        assert MOVED in shell.stdout.readline().decode()
        write(log, STOP * 3)
        while shell.poll() is None:  # head takes a moment to exit
            time.sleep(POLL)
            write(log, STOP)
        assert (shell.returncode, shell.stderr.read()) == (0, b"")


@pytest.mark.long
def test_standard_input_is_printed_as_it_comes() -> None:
    """Line by line, not when a buffer is full."""
    with tail() as running:
        stdin = running.process.stdin
        assert stdin is not None
        stdin.write(CALL)
        stdin.flush()
        assert running.line() == MOVED
        stdin.write(STOP)
        stdin.flush()
        assert running.line() == STOPPED
        stdin.close()
        assert running.process.wait(30) == 0


def test_without_following_it_ends_at_the_end() -> None:
    """One line for each event, in text and in JSON."""
    log = LOGS / "busy-day.mixed.jsonl"
    run = telstate("tail", log)
    assert (run.returncode, run.stderr) == (0, b"")
    summary = json.loads(telstate("replay", "--json", log).stdout.splitlines()[-1])["summary"]
    kinds = [line[21:].split()[0] for line in run.stdout.decode().splitlines()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        kind: count for kind, count in summary.items() if count and kind not in ("received", "invalid")
    }
    again = [json.loads(line)["outcome"] for line in telstate("tail", "--json", log, "-").stdout.splitlines()]
    assert [outcome["outcome"] for outcome in again] == kinds


def test_a_journals_lines_have_its_times() -> None:
    """Those of receipt, if the event has none; its bookkeeping and a torn end are not events."""
    record = b'{"v":1,"seq":1,"at":1730000000.5,"dialect":"daily-js","event":null,"payload":' + CALL.rstrip() + b"}\n"
    header = b'{"v":1,"journal":"j","settings":{}}\n'
    run = telstate("tail", given=header + record + b'{"v":1,"done":1}\n' + record[:30])
    assert (run.stdout.decode(), run.stderr) == (f"2024-10-27 03:33:20  {MOVED}\n", b"")
    torn = telstate("tail", given=CALL + STOP[:20])
    assert torn.returncode == 0
    assert b"may be torn" in torn.stderr


def test_numbers_are_masked_unless_asked_for() -> None:
    """In text and in JSON."""
    given = CALL + CALL.replace(b"connected", b"answered").replace(b"0100", b"0199")
    for options in ([], ["--json"]):
        assert b"+12025550" not in telstate("tail", *options, given=given).stdout
        assert b"+12025550199" in telstate("tail", *options, "--numbers", given=given).stdout


def test_misuse_exits_with_2_and_one_line(tmp_path: Path) -> None:
    """Which says what to do instead."""
    database = tmp_path / "calls.db"
    database.write_bytes(b"SQLite format 3\0")
    for arguments in (["-f"], ["-f", "-"], ["-f", database], ["-f", tmp_path], [tmp_path / "none"]):
        run = telstate("tail", *arguments)
        assert run.returncode == 2, arguments
        assert run.stderr.count(b"\n") == 1, run.stderr
        assert run.stdout == b""
    assert b"leave out --follow" in telstate("tail", "-f").stderr


def test_all_files_are_found_before_anything_is_printed() -> None:
    """As in a replay."""
    assert telstate("tail", LOGS / "busy-day.webhook.jsonl", "/no/such/file").stdout == b""
