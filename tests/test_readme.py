"""What the READMEs say is true: their programs run, their output is what comes out, their tables are the tables."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telstate import parse
from telstate.calls._table import ROWS
from telstate.control import DialOutcome
from tests.documents import READMES, ROOT, Block, blocks, prose

MAIN = ROOT / "README.md"
NOT_PROGRAMS = {"text", "json", "jsonl", "toml", "html", "conf"}
RUN_ELSEWHERE = {
    "python -m pytest -q -n 4": ".ci/run",
    "python -m pytest -q -n 3 -m long": ".ci/run",
    "python examples/campaign.py": "tests/test_examples.py",
    "python examples/cluster/run.py": "tests/test_examples.py",
    "telstate fake-daily --room garage --line '+12025550101 busy' --line '+12025550101 answers=4,talks=60'": "tests/cli/test_fake_daily.py",
    "python -m tests.crash": "tests/crash/test_crash.py",
    "python -m tests.crash.campaigns": "tests/crash/test_campaigns.py",
    "python -m tests.cluster": "tests/cluster/test_cluster.py",
    "python -m tests.cluster handover": "tests/cluster/test_cluster.py",
    "python -m tests.cluster hour": "tests/cluster/test_cluster.py",
    "python -m tests.soak": "tests/soak/test_soak.py",
    "python -m tests.attacks": "tests/attacks/test_receiver.py",
    "python -m tests.benchmarks": "tests/benchmarks/test_benchmarks.py",
    "python -m tests.benchmarks.guard": "tests/benchmarks/test_guard.py",
    "python -m tests.benchmarks.pruning": "tests/benchmarks/test_pruning.py",
    "python -m tests.benchmarks.replay": "tests/benchmarks/test_replay.py",
    "python -m tests.benchmarks.webhooks": "tests/benchmarks/test_webhooks.py",
}
"""Commands of bash blocks that take long, and where they are run, perhaps in a shorter form."""


def copy_of_the_project(folder: Path) -> Path:
    """Copy what git tracks, so that nothing else in the working tree can help."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_no_code_block_escapes_the_tests() -> None:
    """Every block is tagged; it is run, or it is of a kind that cannot be. Indented blocks have no tag, so there are none."""
    for block in blocks():
        assert block.language in {"python", "bash", "console", *NOT_PROGRAMS}, f"{block}: tag {block.language!r}"
    for readme in READMES:
        indented = re.findall(r"(?<=\n\n)(?:    .*\n)+(?=\n)", prose(readme))
        assert indented == [], f"{readme.relative_to(ROOT)}: use fenced blocks"


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_the_program_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, complete in itself. A block with tests that it does not run itself is run by pytest."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "test_program.py"
    program.write_text(block.text, encoding="utf-8")
    if re.search(r"^(async )?def test_", block.text, re.MULTILINE) and "io.run(" not in block.text:
        options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
        command = [sys.executable, "-m", "pytest", *options, str(program)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr
    else:
        runpy.run_path(str(program), run_name="__main__")


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_the_output_is_what_comes_out(block: Block) -> None:
    """To the letter, for every command (`$ …`) of the block."""
    for match in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
        command = shlex.split(match[1])
        command[:1] = {"telstate": [sys.executable, "-m", "telstate"], "python": [sys.executable]}[command[0]]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert run.stdout.rstrip() == match[2].rstrip(), run.stderr


def commands(text: str) -> list[str]:
    """The commands of a bash block, without comments."""
    return [command for line in text.splitlines() if (command := re.sub(r"(^|\s+)#.*", "", line))]


def bash_blocks() -> Iterator[Any]:
    """The main README's commands are those that run the tests; the examples take seconds each."""
    for block in blocks("bash"):
        if block.readme != MAIN:
            slow = block.readme.parent.name == "examples"
            yield pytest.param(block, marks=pytest.mark.long if slow else (), id=str(block))


@pytest.mark.parametrize("block", list(bash_blocks()))
def test_the_commands_run(block: Block, tmp_path: Path) -> None:
    """In a copy of the project, with this Python. Of `pip install` only the extras are checked, as it would change this Python."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": search, "PYTHONPATH": str(ROOT)}
    for command in commands(block.text):
        if command in RUN_ELSEWHERE:
            continue
        if installed := re.fullmatch(r"pip install '?telstate(?:\[([\w,]+)\])?'?", command):
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set((installed[1] or "cli").split(",")) <= set(extras), command
            continue
        assert command.startswith(("telstate ", "python ")), (
            f"{block}: run {command!r} in a test, or tag the block as text"
        )
        if not (tmp_path / "tests").exists():
            copy_of_the_project(tmp_path)
        telstate = 'telstate() { python -m telstate "$@"; }\n'
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", telstate + command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr.decode()


def test_what_is_run_elsewhere_stands_in_a_readme() -> None:
    """And the file that runs it exists."""
    shown = {command for block in blocks("bash") for command in commands(block.text)}
    assert set(RUN_ELSEWHERE) <= shown
    assert all((ROOT / place).exists() for place in RUN_ELSEWHERE.values())


@pytest.mark.long
def test_the_first_command_on_a_fresh_checkout(tmp_path: Path) -> None:
    """One line to paste sets everything up and replays a log. (The second is how these tests are run.)"""
    command = next(block.text for block in blocks("bash") if block.readme == MAIN)
    run = subprocess.run(
        ["bash", "-c", command], cwd=copy_of_the_project(tmp_path), capture_output=True, check=False, timeout=280
    )
    assert run.returncode == 0, run.stderr.decode()
    assert re.search(r"^2\d\d sessions: .* completed", run.stdout.decode(), re.MULTILINE)


def test_ci_runs_the_second_command() -> None:
    """The main README has two commands; `.ci/run` takes the second from there."""
    first, second = (block.text for block in blocks("bash") if block.readme == MAIN)
    assert "-m pytest" not in first
    assert second.count("-m pytest") == MAIN.read_text(encoding="utf-8").count("-m pytest") == 1
    assert "-m pytest' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def tables_like(pattern: str) -> list[list[str]]:
    """The rows that match, of each README that has some; at least one has."""
    found = [rows for readme in READMES if (rows := re.findall(pattern, prose(readme), re.MULTILINE))]
    assert found, f"no README has a row like {pattern}"
    return found


def test_the_dialects_are_read_as_shown() -> None:
    """The forms in the table, with their dots filled in, are what telstate reads."""
    for forms in tables_like(r"^\| [^|]+ \| `(\{.*?\})`(?:,|:| \|)"):
        filled = [
            form.replace("{…}", '{"session_id": "s", "action": "dialout-answered"}').replace("…", '"1"')
            for form in forms
        ]
        assert [parse(line).name for line in filled] == ["dialout-answered"] * 4


def test_the_table_of_transitions_is_the_table() -> None:
    """Row for row."""
    rows = []
    for row in ROWS:
        directions = [str(direction) for direction in row.directions]
        which = "both" if len(directions) > 1 else directions[0].replace("dial", "dial-")
        if row.target is not None:
            rows.append(f"| `{row.event}` | {which} | {', '.join(row.sources)} | {row.target} | {row.reason} |")
    assert all(table == rows for table in tables_like(r"^\| `[\w-]+` \| (?:dial-in|dial-out|both) \|.*$"))


def test_the_outcomes_of_dialling_are_complete() -> None:
    """All of them, in their order."""
    assert all(table == [*DialOutcome] for table in tables_like(r"^\| `(\w+)` \| [^|]+ \| (?:yes|no)[^|]* \|$"))


def test_line_counts_are_those_of_the_example() -> None:
    """The example's docstring has them too, and is checked in test_examples.py."""
    for readme in READMES:
        for theirs, ours in re.findall(r"(\d+) lines there, and (\d+) in \[examples/dialout_bot.py\]", prose(readme)):
            example = (ROOT / "examples" / "dialout_bot.py").read_text(encoding="utf-8")
            assert re.findall(r"theirs (\d+) .*\bours (\d+) ", example.split('"""')[1]) == [(theirs, ours)]


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_links_lead_somewhere(readme: Path) -> None:
    """To files, or to headings."""
    for link in re.findall(r"\]\(([^)]+)\)", prose(readme)):
        if link.startswith("https://"):
            continue
        file, _, heading = link.partition("#")
        target = (readme.parent / file).resolve() if file else readme
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link
