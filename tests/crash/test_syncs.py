"""An event is synced to the disk before `append` returns: seen from outside, in the system calls of a real process.

What the disk does with a sync, and so a power failure itself, is not tested.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.harness import ROOT
from tests.crash.syncer import EVENTS

_WRITES = ("write", "pwrite64", "writev", "pwritev")
_SYNCS = ("fdatasync", "fsync")
_CALL = re.compile(r"(?:\[pid +)?(\d+)\]? +(\w+)\((\d+)<([^>]*)>(.*)")
_RESUMED = re.compile(r"(?:\[pid +)?(\d+)\]? +<\.\.\. (\w+) resumed>")


class Call(NamedTuple):
    """A finished system call."""

    name: str
    file: str
    """Its file's name, without the folder."""
    rest: str
    """Its other arguments."""


@pytest.fixture(scope="module")
def strace() -> str:
    """The path of strace. On CI it must be installed: a test that is always skipped shows nothing."""
    found = shutil.which("strace")
    if found is None and os.environ.get("CI"):
        pytest.fail("strace is missing: install it (apt-get install strace), or nothing shows that events are synced")
    if found is None:
        pytest.skip("strace is not installed here; on CI it is")
    return found


def calls_of(trace: str) -> list[Call]:
    """The calls in the order in which they ended. A call that another thread overtakes is split into two lines."""
    calls: list[Call] = []
    begun: dict[tuple[str, str], Call] = {}
    for line in trace.splitlines():
        if (found := _CALL.match(line)) is not None:
            thread, name, _, path, rest = found.groups()
            call = Call(name, path.rpartition("/")[2], rest)
            if rest.endswith("<unfinished ...>"):
                begun[thread, name] = call
            else:
                calls.append(call)
        elif (found := _RESUMED.match(line)) is not None and (found[1], found[2]) in begun:
            calls.append(begun.pop((found[1], found[2])))
    return calls


def traced(strace: str, folder: Path) -> list[Call]:
    """The writes and syncs of a process that appends and marks."""
    out = folder / "trace"
    command = [strace, "-f", "-y", "-s", "8192", "-o", str(out), "-e", f"trace={','.join((*_WRITES, *_SYNCS))}"]
    subprocess.run(
        [*command, sys.executable, "-m", "tests.crash.syncer", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return calls_of(out.read_text(errors="replace"))


def place_of(calls: list[Call], message: str) -> int:
    """Where the process wrote a message."""
    (place,) = [n for n, call in enumerate(calls) if call.name == "write" and f'"{message}\\n"' in call.rest]
    return place


@pytest.mark.long
def test_an_event_is_synced_before_append_returns_and_a_mark_never(strace: str, tmp_path: Path) -> None:
    """The event is written, then its file is synced, then `append` returns. Between two appends nothing is synced."""
    file = "calls.db-wal"
    calls = traced(strace, tmp_path)
    for number in range(1, EVENTS + 1):
        before = place_of(calls, "opened" if number == 1 else f"marked {number - 1}")
        appended, marked = place_of(calls, f"appended {number}"), place_of(calls, f"marked {number}")
        during = calls[before:appended]
        writes = [n for n, call in enumerate(during) if call.name in _WRITES and f"event-number-{number}" in call.rest]
        syncs = [n for n, call in enumerate(during) if call.name in _SYNCS and call.file == file]
        assert {during[n].file for n in writes} == {file}
        assert syncs, f"append {number} returned without a sync of {file}"
        last_write = max(n for n, call in enumerate(during) if call.name in _WRITES and call.file == file)
        assert max(writes) <= last_write < max(syncs)
        marking = calls[appended:marked]
        assert any(call.name in _WRITES and call.file == file for call in marking), "the marks were not even written"
        assert not [call for call in marking if call.name in _SYNCS]


@pytest.mark.long
def test_the_folder_of_a_new_journal_is_synced(strace: str, tmp_path: Path) -> None:
    """Before the first append returns: else the data could be safe in a file without a name."""
    calls = traced(strace, tmp_path)
    before = calls[: place_of(calls, "appended 1")]
    assert [call for call in before if call.name in _SYNCS and call.file == tmp_path.name]
