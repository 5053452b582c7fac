"""How the command line starts: people wait for it at every command, so each imports only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from telstate.cli._commands import _COMMANDS, _make
from tests.cli.running import CALL, STOP, environment, run_process, telstate

SLOW = {"rich", "structlog", "anyio", "asyncio", "httpx", "starlette"}


def imported_by(*arguments: object) -> set[str]:
    """The packages that a command imports."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps([*{name.split('.')[0] for name in sys.modules}])))\n"
        "from telstate.__main__ import main\n"
        "main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True, timeout=60
    )
    return set(json.loads(run.stderr))


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments", [["replay"], ["replay", "--json"], ["calls", "--json"], ["calls", "--csv"]], ids=" ".join
)
def test_reading_a_log_imports_nothing_slow(arguments: list[str], tmp_path: Path) -> None:
    """Handlers, journals and what draws tables stay out."""
    log = tmp_path / "log.jsonl"
    log.write_bytes(CALL + STOP)
    assert imported_by(*arguments, log) & SLOW == set()


def test_help_and_version_import_no_command() -> None:
    """Not even the events: `telstate --help` is what people type first."""
    for option in ("--help", "--version"):
        assert imported_by(option) & {*SLOW, "pydantic", "transitions", "sqlite3"} == set()


def test_what_help_says_of_a_command_is_what_its_own_help_begins_with() -> None:
    """`telstate --help` has it from a table."""
    for name, (place, about) in _COMMANDS.items():
        first, *_ = (_make(name, place).help or "").strip().split("\n\n")
        assert about == " ".join(first.split())


def test_help_lists_every_command_in_its_order() -> None:
    """With all that is said of each, as in what is written in full: a cut would take the warning."""
    commands = telstate("--help").stdout.decode().partition("Commands:\n")[2]
    assert [line.split()[0] for line in commands.splitlines() if line[2] != " "] == list(_COMMANDS)
    words = commands.split()
    assert words == [word for name, (_, about) in _COMMANDS.items() for word in (name, *about.split())]


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant() -> None:
    """Also within a group."""
    assert b"No such command 'replya'. Did you mean 'replay'?" in telstate("replya").stderr
    assert b"Did you mean 'list'?" in telstate("dead", "lst").stderr


@pytest.mark.long
def test_a_word_that_is_no_command_ends_with_2() -> None:
    """As every misuse does."""
    assert run_process("nonsense").returncode == 2


@pytest.mark.long
def test_the_shell_completes_commands() -> None:
    """`telstate --install-completion` sets that up."""
    asked = {"_TELSTATE_COMPLETE": "complete_bash", "COMP_WORDS": "telstate re", "COMP_CWORD": "1"}
    run = subprocess.run(
        [Path(sys.executable).parent / "telstate"], env=environment(asked), capture_output=True, check=True, timeout=60
    )
    assert run.stdout.decode().split() == ["replay", "redact", "records"]
