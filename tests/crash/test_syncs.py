"""That the disk was told to keep an event before `append` returned, seen from outside: by the system calls of a real process.

What the disk does when it is told so, and with it a loss of power itself, is untested.
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
    """A system call that has ended."""

    name: str
    file: str
    """Its file's name, without the folder."""
    rest: str
    """What it was given."""


@pytest.fixture(scope="module")
def strace() -> str:
    """The tracer. On CI it must be there: a test that is always skipped shows nothing."""
    found = shutil.which("strace")
    if found is None and os.environ.get("CI"):
        pytest.fail("strace is missing: install it (apt-get install strace), or nothing shows that events are synced")
    if found is None:
        pytest.skip("strace is not installed here; on CI it is")
    return found


def calls_of(trace: str) -> list[Call]:
    """The calls in the order in which they ended. One that another thread overtakes is in two lines."""
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


def traced(strace: str, folder: Path, kind: str) -> list[Call]:
    """The writes and syncs of a process that appends and marks."""
    out = folder / "trace"
    command = [strace, "-f", "-y", "-s", "8192", "-o", str(out), "-e", f"trace={','.join((*_WRITES, *_SYNCS))}"]
    subprocess.run(
        [*command, sys.executable, "-m", "tests.crash.syncer", str(folder), kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return calls_of(out.read_text(errors="replace"))


def place_of(calls: list[Call], word: str) -> int:
    """Where the process said a word."""
    (place,) = [n for n, call in enumerate(calls) if call.name == "write" and f'"{word}\\n"' in call.rest]
    return place


@pytest.mark.parametrize(("kind", "file"), [("jsonl", "calls.jsonl"), ("sqlite", "calls.db-wal")])
def test_an_event_is_synced_before_append_returns_and_a_mark_never(
    strace: str, tmp_path: Path, kind: str, file: str
) -> None:
    """The write of the event, a sync of that very file, and only then the return; between an append and the next, no sync."""
    calls = traced(strace, tmp_path, kind)
    for number in range(1, EVENTS + 1):
        before = place_of(calls, "opened" if number == 1 else f"marked {number - 1}")
        appended, marked = place_of(calls, f"appended {number}"), place_of(calls, f"marked {number}")
        during = calls[before:appended]
        writes = [n for n, call in enumerate(during) if call.name in _WRITES and f"event-number-{number}" in call.rest]
        syncs = [n for n, call in enumerate(during) if call.name in _SYNCS and call.file == file]
        assert {during[n].file for n in writes} == {file}
        assert syncs, f"append {number} came back without a sync of {file}"
        last_write = max(n for n, call in enumerate(during) if call.name in _WRITES and call.file == file)
        assert max(writes) <= last_write < max(syncs)
        marking = calls[appended:marked]
        assert any(call.name in _WRITES and call.file == file for call in marking), "the marks were not even written"
        assert not [call for call in marking if call.name in _SYNCS]


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_a_new_journal_is_there_for_good(strace: str, tmp_path: Path, kind: str) -> None:
    """The folder is synced too before anything counts as kept, or a file of which the data is safe might have no name."""
    calls = traced(strace, tmp_path, kind)
    before = calls[: place_of(calls, "appended 1")]
    assert [call for call in before if call.name in _SYNCS and call.file == tmp_path.name]
