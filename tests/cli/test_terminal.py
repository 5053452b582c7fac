"""What all verbs share: the log on standard error, and what a system without Unix's modules can do."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import Dispatcher, Router
from telstate.cli._terminal import log_to_stderr
from telstate.journals import SqliteJournal
from tests.calls import js
from tests.cli.running import LOGS, environment

LOGGING = """
import logging, sys
from telstate.cli._terminal import log_to_stderr
from telstate.routing._log import Log

log_to_stderr()
Log().info("session.moved", session_id="s")
logging.getLogger("httpx").info("a request")
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program as a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, check=True, timeout=60, text=True)


def test_the_log_of_a_command_goes_to_standard_error() -> None:
    """telstate's own from INFO on; that of others from WARNING on."""
    run = python(LOGGING)
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.endswith(" INFO    session.moved session_id=s")


def test_a_programs_own_logging_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the standard library, and structlog's."""
    root, ours = logging.getLogger(), logging.getLogger("telstate")
    before = [*root.handlers], ours.level
    monkeypatch.setattr(root, "handlers", [logging.NullHandler()])
    log_to_stderr()
    assert ours.level == before[1]
    monkeypatch.setattr(root, "handlers", [])
    structlog.configure()
    log_to_stderr()
    assert (root.handlers, ours.level) == ([], before[1])


WITHOUT_UNIX = """
import asyncio, json, signal, subprocess, sys
from typer.testing import CliRunner

for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)

from telstate.cli import app

journal, log = sys.argv[1:]
runs = [["replay", log, journal], ["tail", log], ["diagram", "dialin"], ["dead", "list", journal], ["export", journal]]
for arguments in [*runs, ["webhook", "--help"], ["serve"]]:
    run = CliRunner().invoke(app, arguments)
    print(json.dumps([arguments[0], run.exit_code, len(run.stdout), run.stderr]))
"""


@pytest.mark.long
def test_without_unix_modules_everything_that_reads_works(tmp_path: Path) -> None:
    """As on Windows; `serve` says that it needs them."""

    async def write() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
            await calls.receive(js("dialout-connected"))

    anyio.run(write)
    lines = python(WITHOUT_UNIX, tmp_path / "calls.db", LOGS / "busy-day.mixed.jsonl").stdout.splitlines()
    *reading, serve = [json.loads(line) for line in lines]
    assert [(verb, code, error) for verb, code, _, error in reading] == [
        (verb, 0, "") for verb in ("replay", "tail", "diagram", "dead", "export", "webhook")
    ]
    assert all(size for _, _, size, _ in reading)
    assert serve[:2] == ["serve", 2]
    assert "serve needs Unix file locks and signals" in serve[3]
