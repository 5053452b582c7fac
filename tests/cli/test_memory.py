"""What a verb needs of memory does not grow with the log: on 200 MB it would stay below 100 MB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import telstate

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

MB = 1_000_000
LONG, MOST = 200 * MB, 100 * MB
FEW, MANY = 7_000, 28_000
"""Calls: some 10 and 40 MB."""
OUT = "OUT"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A log, and one that is four times as long."""
    folder = tmp_path_factory.mktemp("logs")
    made = []
    for calls in (FEW, MANY):
        made.append(folder / f"{calls}.jsonl")
        faults = ("--drop", "0.02", "--dup", "0.01", "--shuffle", "0.02")
        assert telstate("simulate", "--calls", calls, *faults, "--output", made[-1]).returncode == 0
    return made


def peak_of(*arguments: object) -> int:
    """Run a verb and return its peak memory, in bytes. Its `ru_maxrss` would begin with the memory of pytest."""
    code = (
        "import atexit, sys\n"
        "status = open('/proc/self/status')\n"
        "peak = lambda: next(line.split()[1] for line in status if line.startswith('VmHWM'))\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + peak()))\n"
        "from telstate.__main__ import main\n"
        "main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=600,
    )
    assert run.returncode in (0, 1), run.stderr
    return int(run.stderr.split()[-1]) * 1024


@pytest.mark.parametrize(
    "verb",
    [
        ("calls", "LOG", "--csv"),
        ("calls", "LOG", "--html", OUT, "--limit", "1000"),
        ("lint", "LOG"),
        ("redact", "LOG", "--output", OUT, "--force"),
        ("diff", "LOG", "LOG"),
        ("records", "LOG", "--into", f"sqlite:///{OUT}"),
    ],
    ids=lambda verb: " ".join(verb[:1] + verb[2:3]),
)
def test_a_log_of_200_mb_takes_less_than_100_mb(verb: tuple[str, ...], logs: list[Path], tmp_path: Path) -> None:
    """As far as the growth from a log to one four times as long tells: a verb that keeps the calls fails."""
    small, large = (peak_of(*_filled(verb, log, tmp_path / log.stem)) for log in logs)
    sizes = [log.stat().st_size for log in logs]
    growth = (large - small) / (sizes[1] - sizes[0])
    expected = large + growth * (LONG - sizes[1])
    assert expected < MOST, f"{small / MB:.1f} MB for {sizes[0] / MB:.0f} MB, {large / MB:.1f} for {sizes[1] / MB:.0f}"


def _filled(verb: tuple[str, ...], log: Path, out: Path) -> list[str]:
    return [word.replace("LOG", str(log)).replace(OUT, str(out)) for word in verb]
