"""The type checkers find nothing: neither with our settings in this project, nor with a user's settings in a user's program.

A user has no pydantic plugin for mypy, and may have pyright. So every program in a README and every example is checked by both,
with none of our configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT, write_programs

pytestmark = pytest.mark.long


def check(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a checker; it finds the telstate of this checkout where an installed package would be.

    `pyright --verifytypes` looks for other packages only on this path, too.
    """
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with every program of a README and every example, and no configuration."""
    write_programs(tmp_path)
    return tmp_path


def test_mypy_passes_on_this_project() -> None:
    """The package, the tests and the examples, with the settings in pyproject.toml."""
    run = check("mypy")
    assert run.returncode == 0, run.stdout + run.stderr


def test_users_programs_pass_mypy_without_the_pydantic_plugin(programs: Path) -> None:
    """`mypy --strict` with an empty configuration."""
    cache = ROOT / ".mypy_cache" / "programs"
    run = check("mypy", "--strict", "--config-file=", f"--cache-dir={cache}", ".", folder=programs)
    assert run.returncode == 0, run.stdout + run.stderr


def test_users_programs_pass_pyright(programs: Path) -> None:
    """With its default settings."""
    run = check("pyright", "--pythonpath", sys.executable, folder=programs)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_public_surface_is_completely_typed() -> None:
    """No public name has an inferred or partly unknown type, so every type checker sees the same types."""
    run = check(
        "pyright", "--pythonpath", sys.executable, "--verifytypes", "telstate", "--ignoreexternal", "--outputjson"
    )
    report: dict[str, Any] = json.loads(run.stdout)["typeCompleteness"]
    problems = {
        f"{symbol['name']}: {diagnostic['message'].splitlines()[0]}"
        for symbol in report["symbols"]
        for diagnostic in symbol["diagnostics"]
    }
    causes = {problem for problem in problems if "partially unknown" not in problem} or problems
    assert report["pyTypedPath"] == str(ROOT / "telstate" / "py.typed")
    assert report["completenessScore"] == 1.0, "\n".join(sorted(causes))
