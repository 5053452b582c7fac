"""The built wheel installs into an empty environment of every Python on this machine, and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT

pytestmark = pytest.mark.long
ON_THE_NEWEST = [
    f"tests/{part}" for part in ("calls", "events", "options", "routing", "journals", "sources", "control")
]
"""What a new Python breaks shows here; all of it would take three minutes."""
LOG = ROOT / "examples" / "logs" / "busy-day.mixed.jsonl"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Look for Pythons only where these tests run: asking each for its version takes a second, in every worker."""
    if "python" in metafunc.fixturenames:
        quick = metafunc.config.option.markexpr == "not long"
        metafunc.parametrize("python", [sys.executable] if quick else pythons())


def pythons() -> list[str]:
    """One Python of each minor version from 3.11 on."""
    candidates = [path for minor in range(11, 20) if (path := shutil.which(f"python3.{minor}"))]
    candidates += map(str, Path.home().glob(".pyenv/versions/*/bin/python3"))
    code = "import sys, ensurepip; print(sys.version_info[:2] >= (3, 11) and sys.version_info[1])"
    found: dict[int, str] = {}
    for command in candidates:
        run = subprocess.run([command, "-c", code], capture_output=True, check=False)  # a shim of pyenv may fail
        if run.returncode == 0 and run.stdout.strip().isdigit():
            found.setdefault(int(run.stdout), command)
    return [found[minor] for minor in sorted(found)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel. `build` makes it from the source distribution, so that is complete, too."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "-q", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_only_the_package(wheel: Path) -> None:
    """With py.typed and the licence."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"telstate", "telstate-0.1.0.dist-info"}
    assert "telstate/py.typed" in names
    assert {"telstate/views/_board_page/index.html", "telstate/views/_board_page/app.js"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.timeout(900)
def test_it_installs_and_runs(python: str, wheel: Path, tmp_path: Path) -> None:
    """Every Python gives the same answer, and the newest one runs the quick tests of all but the commands."""
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True, timeout=120)
    binary = tmp_path / "venv" / "bin"
    installed = str(binary / "python")
    pip = [installed, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=240)
    subprocess.run([installed, "-W", "error", "-c", "import telstate"], check=True, timeout=60, cwd=tmp_path)
    subprocess.run([*pip, f"{wheel}[cli]"], check=True, capture_output=True, timeout=240)
    replay = ["replay", "--json", str(LOG)]
    run = subprocess.run([str(binary / "telstate"), *replay], capture_output=True, check=True, timeout=60, cwd=tmp_path)
    expected = subprocess.run([sys.executable, "-m", "telstate", *replay], capture_output=True, check=True, timeout=60)
    assert run.stdout == expected.stdout
    assert run.stdout

    if python != pythons()[-1] or len(pythons()) == 1:
        return  # the only one runs these tests
    subprocess.run([*pip, "-U", "pip"], check=True, capture_output=True, timeout=240)
    subprocess.run([*pip, "--group", "core"], check=True, capture_output=True, timeout=240, cwd=ROOT)
    # `core` is without daily-python and pipecat. Outside CI, the tests that need them are skipped.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    tests = [installed, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *ON_THE_NEWEST]
    run = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout.decode()[-3000:]


@pytest.mark.timeout(600)
def test_the_lowest_versions_work(wheel: Path, tmp_path: Path) -> None:
    """The oldest releases that the package allows: the pure core's tests pass with them, and the commands and the server start."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True, timeout=120)
    installed = str(tmp_path / "venv" / "bin" / "python")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = wanted["optional-dependencies"]
    needed = [
        *wanted["dependencies"],
        *(one for name in ("cli", "serve", "rest", "retry", "nats") for one in extras[name]),
    ]
    lowest = [one.split(",")[0].replace(">=", "==") for one in needed]
    assert all("==" in one for one in lowest)
    pip = [installed, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *lowest, str(wheel)], check=True, capture_output=True, timeout=300)
    testing = ["hypothesis", "phonenumbers", "pytest", "pytest-timeout", "pytest-xdist", "pytest-asyncio", "trio"]
    subprocess.run([*pip, *testing, *lowest], check=True, capture_output=True, timeout=300)
    nested = {**os.environ, "TELSTATE_SETTINGS_HOLD_LIMIT": "60"}  # older releases of pydantic-settings split this name
    for command in (["replay", "--json", str(LOG)], ["serve", "--help"], ["config", "show"]):
        subprocess.run(
            [installed, "-m", "telstate", *command],
            check=True,
            capture_output=True,
            timeout=60,
            cwd=tmp_path,
            env=nested,
        )
    tests = [installed, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "tests/calls", "tests/events"]
    run = subprocess.run(tests, cwd=ROOT, capture_output=True, check=False, timeout=400)
    assert run.returncode == 0, run.stdout.decode()[-3000:]
