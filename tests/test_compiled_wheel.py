"""The compiled wheel: the same source through mypyc, installed into an empty environment, gives the same answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT

TESTS = ("tests/calls", "tests/corpus")
DIALECTS = ("daily-js", "webhook", "daily-python", "journal")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_compiled_wheel_gives_the_same_answers(tmp_path: Path) -> None:
    """It replays to the same bytes, and passes the tests of the engine. One test, because xdist would build a wheel for each."""
    if shutil.which("gcc") is None:
        if os.environ.get("CI"):
            pytest.fail(
                "gcc is missing: install it (apt-get install gcc), or nothing shows that the compiled wheel works"
            )
        pytest.skip("gcc is not installed here; on CI it is")
    python = installed(built(tmp_path / "dist"), tmp_path / "venv")
    elsewhere = tmp_path / "elsewhere"  # the source is not in this folder, so the installed package is imported
    elsewhere.mkdir()

    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTHONPATH")}
    code = "import telstate.calls._engine as engine; print(engine.__file__)"
    run = subprocess.run(
        [python, "-c", code], cwd=elsewhere, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    assert "site-packages" in run.stdout
    assert run.stdout.strip().endswith(".so")

    log = simulated(tmp_path / "log.jsonl")
    pure = replayed(sys.executable, log, ROOT)
    assert pure.count(b"\n") > 1000
    assert replayed(python, log, elsewhere) == pure

    for name in ("tests", "examples"):
        shutil.copytree(ROOT / name, elsewhere / name)
    shutil.copy(ROOT / "pyproject.toml", elsewhere)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    tests = subprocess.run(command, cwd=elsewhere, env=environment, check=False, capture_output=True, timeout=600)
    assert tests.returncode == 0, tests.stdout.decode()[-3000:]


def built(folder: Path) -> Path:
    """Build the wheel as the README says. Its name says that it is for this Python and this machine."""
    environment = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, "\n".join(line for line in run.stdout.splitlines() if "rror" in line) or run.stderr
    (wheel,) = folder.glob("*.whl")
    assert f"cp3{sys.version_info.minor}" in wheel.name
    return wheel


def installed(wheel: Path, folder: Path) -> str:
    """Install a wheel and what its tests need into a new environment; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
    python = str(folder / "bin" / "python")
    testing = ["hypothesis", "phonenumbers", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "trio"]
    command = [python, "-m", "pip", "install", "-q", f"{wheel}[cli,nats,rest]", *testing]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return python


def simulated(log: Path) -> Path:
    """Simulate calls in all dialects, with events that are lost, late, in the wrong order or there twice."""
    command = [sys.executable, "-m", "telstate", "simulate", "--calls", "2000", "--dup", "0.05", "--shuffle", "0.1"]
    command += ["--drop", "0.05", "--delay", "0.02", *(f"--dialect={dialect}" for dialect in DIALECTS)]
    with log.open("wb") as file:
        subprocess.run(command, cwd=ROOT, check=True, stdout=file, timeout=120)
    return log


def replayed(python: str, log: Path, folder: Path) -> bytes:
    """Return what a replay prints."""
    command = [python, "-m", "telstate", "replay", "--json", str(log)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120).stdout
