"""The built wheel installs into an empty environment of every Python there is, and does its job."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOG = ROOT / "examples" / "logs" / "busy-day.mixed.jsonl"


def pythons() -> list[str]:
    """Every Python from 3.11 on that is on this machine, one of each minor version."""
    candidates = [path for minor in range(11, 20) if (path := shutil.which(f"python3.{minor}"))]
    candidates += map(str, Path.home().glob(".pyenv/versions/*/bin/python3"))
    code = "import sys, ensurepip; print(sys.version_info[:2] >= (3, 11) and sys.version_info[1])"
    found: dict[int, str] = {}
    for command in candidates:
        run = subprocess.run([command, "-c", code], capture_output=True, check=False)  # a shim may stand for nothing
        if run.returncode == 0 and run.stdout.strip().isdigit():
            found.setdefault(int(run.stdout), command)
    return [found[minor] for minor in sorted(found)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, from the source distribution as `build` does, so that one is whole too."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "-q", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """With its marker for type checkers and its licence."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"telstate", "telstate-0.1.0.dist-info"}
    assert "telstate/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.parametrize("python", pythons())
def test_it_installs_and_runs(python: str, wheel: Path, tmp_path: Path) -> None:
    """The same answer from every version of Python; on the others than this one, the tests of the core pass too."""
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True, timeout=120)
    binary = tmp_path / "venv" / "bin"
    there = str(binary / "python")
    pip = [there, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=240)
    subprocess.run([there, "-W", "error", "-c", "import telstate"], check=True, timeout=60, cwd=tmp_path)
    subprocess.run([*pip, f"{wheel}[cli]"], check=True, capture_output=True, timeout=240)
    replay = ["replay", "--json", str(LOG)]
    run = subprocess.run([str(binary / "telstate"), *replay], capture_output=True, check=True, timeout=60, cwd=tmp_path)
    here = subprocess.run([sys.executable, "-m", "telstate", *replay], capture_output=True, check=True, timeout=60)
    assert run.stdout == here.stdout
    assert run.stdout

    version = subprocess.run([there, "--version"], capture_output=True, check=True, timeout=60).stdout.decode()
    if version.split()[1].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}."):
        return
    subprocess.run([*pip, "-U", "pip"], check=True, capture_output=True, timeout=240)
    subprocess.run([*pip, "--group", "core"], check=True, capture_output=True, timeout=240, cwd=ROOT)
    parts = [
        f"tests/{part}"
        for part in (
            "events",
            "calls",
            "corpus",
            "property",
            "sources",
            "testing",
            "routing",
            "contracts",
            "journals",
            "control",
        )
    ]
    # The long ones, which no version of Python makes a difference to, are left out.
    parts += [f"--ignore=tests/routing/test_{name}.py" for name in ("limits", "reconcile", "recovery")]
    parts += ["--ignore=tests/property/test_dialer.py", "--ignore=tests/testing/test_daily.py"]
    # These need daily-python and pipecat, which the group `core` is without.
    parts += [f"--ignore=tests/sources/test_{name}.py" for name in ("daily", "pipecat")]
    parts += [f"--ignore=tests/control/test_{name}.py" for name in ("client", "in_room", "pipecat")]
    tests = [there, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *parts]
    run = subprocess.run(tests, cwd=ROOT, capture_output=True, check=False, timeout=280)
    assert run.returncode == 0, run.stdout.decode()[-3000:]
