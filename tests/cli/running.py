"""Run `telstate`: in this process, which is quick, or as a process of its own, where signals, pipes and kills matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from typer.main import get_command
from typer.testing import CliRunner

from telstate.cli import app

__all__ = ["CALL", "LOGS", "ROOT", "STOP", "Run", "command", "environment", "json_lines", "run_process", "telstate"]

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "examples" / "logs"
CALL = b'{"action":"dialout-connected","sessionId":"s","destination":"+12025550100"}\n'
STOP = b'{"action":"dialout-stopped","sessionId":"s"}\n'

# A process makes its commands once. The runner would make them for each run, which takes longer than many a command.
mock.patch("typer.testing._get_command", cache(get_command)).start()


class Run(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: bytes
    stderr: bytes


def telstate(*arguments: object, given: bytes = b"", env: Mapping[str, str | None] | None = None) -> Run:
    """Run a command in this process.

    Args:
        arguments: of the command line.
        given: its standard input.
        env: variables to set, or to remove (None).

    Raises:
        Exception: what the command itself does not catch; a process would print its traceback.
    """
    result = CliRunner().invoke(app, [*map(str, arguments)], input=given, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Run(result.exit_code, result.stdout_bytes, result.stderr_bytes)


def command(*arguments: object) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "telstate", *map(str, arguments)]


def environment(env: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a process of its own, which finds the package from any folder."""
    wanted = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return {name: value for name, value in wanted.items() if value is not None}


def run_process(
    *arguments: object, given: bytes = b"", env: Mapping[str, str | None] | None = None, cwd: Path | None = None
) -> Run:
    """Run a command as a process of its own; arguments as for `telstate`."""
    run = subprocess.run(
        command(*arguments),
        input=given,
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return Run(run.returncode, run.stdout, run.stderr)


def json_lines(run: Run) -> list[dict[str, Any]]:
    """The JSON lines of a run that succeeded without a word on standard error."""
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]
