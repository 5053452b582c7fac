"""The README says what is so: every block of it is run, and its table is the table."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from telstate import parse
from telstate.calls._table import ROWS
from telstate.control import DialOutcome

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The code blocks in a language."""
    return [text for name, text in BLOCKS if name == language]


def copy_of_the_project(folder: Path) -> Path:
    """What git has, and nothing that lies about."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_the_lines_of_the_dialects_are_lines() -> None:
    """The forms in the table, with their dots filled in, are what telstate reads."""
    forms = re.findall(r"^\| [^|]+ \| `(\{.*?\})`(?:,|:| \|)", README, re.MULTILINE)
    filled = [
        form.replace("{…}", '{"session_id": "s", "action": "dialout-answered"}').replace("…", '"1"') for form in forms
    ]
    assert [parse(line).name for line in filled] == ["dialout-answered"] * 4


def test_there_is_no_block_that_nothing_runs() -> None:
    """Two commands, one look, nine programs."""
    assert [name for name, _ in BLOCKS] == ["bash", "bash", "console", *["python"] * 9]


@pytest.mark.parametrize("program", blocks("python"))
def test_the_program_runs(program: str, tmp_path: Path) -> None:
    """As it stands."""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60, cwd=tmp_path)


@pytest.mark.parametrize("block", blocks("console"))
def test_the_output_is_what_comes_out(block: str) -> None:
    """To the letter."""
    command, _, expected = block.partition("\n")
    arguments = command.removeprefix("$ telstate ").split()
    run = subprocess.run(
        [sys.executable, "-m", "telstate", *arguments], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert run.stdout.decode() == expected


def test_the_first_command_on_a_fresh_checkout(tmp_path: Path) -> None:
    """One line to paste: it sets everything up and does the main job. (The second is how these tests are run.)"""
    command = blocks("bash")[0]
    run = subprocess.run(
        ["bash", "-c", command], cwd=copy_of_the_project(tmp_path), capture_output=True, check=False, timeout=280
    )
    assert run.returncode == 0, run.stderr.decode()
    assert re.search(r"^2\d\d sessions: .* completed", run.stdout.decode(), re.MULTILINE)


def test_ci_runs_the_second_command() -> None:
    """The script takes it from here."""
    assert blocks("bash")[1].count("-m pytest") == 1
    assert README.count("-m pytest") == 1
    assert "-m pytest" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_table_is_the_table() -> None:
    """Row for row."""
    ways = {("dialin",): "dial-in", ("dialout",): "dial-out", ("dialin", "dialout"): "both"}
    rows = [
        f"| `{row.event}` | {ways[typing.cast('tuple[str, str]', tuple(map(str, row.directions)))]} | {', '.join(row.sources)} | {row.target} | {row.reason} |"
        for row in ROWS
        if row.target is not None
    ]
    assert re.findall(r"^\| `\w+-.*$", README, re.MULTILINE) == rows


def test_the_outcomes_of_dialling_are_these() -> None:
    """All of them, in their order."""
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \| (?:yes|no)[^|]* \|$", README, re.MULTILINE) == [*DialOutcome]


def test_the_lines_are_counted_as_the_example_says() -> None:
    """Whose docstring is checked where the examples are."""
    [(theirs, ours)] = re.findall(r"that is (\d+) lines there, and (\d+) in \[examples/dialout_bot.py\]", README)
    example = (ROOT / "examples" / "dialout_bot.py").read_text(encoding="utf-8")
    assert re.findall(r"theirs (\d+) .*\bours (\d+) ", example.split('"""')[1]) == [(theirs, ours)]


def test_its_links_lead_somewhere() -> None:
    """To files, or to headings of its own."""
    headings = {
        re.sub(r"[^a-z -]", "", one.lower()).replace(" ", "-") for one in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", README):
        if link.startswith("#"):
            assert link[1:] in headings
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link
