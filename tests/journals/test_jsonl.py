"""What is special to a file of JSON lines: torn ends, full disks, other writers, and that it is a log like any other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import JournalError, Settings
from telstate.journals import JsonlJournal
from telstate.routing.ports import Entry

pytestmark = pytest.mark.anyio
ENTRY = Entry(1_790_000_000.5, "daily-js", b'{"action":"dialin-stopped","sessionId":"s"}')


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough here: the contract runs on both."""
    return "asyncio"


async def opened(path: Path) -> JsonlJournal:
    """A journal ready to write."""
    journal = JsonlJournal(path)
    await journal.open(Settings().model_dump())
    return journal


@pytest.mark.parametrize("cut", [1, 5, 40, 120])
async def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """It was never acknowledged; what was stays."""
    path = tmp_path / "calls.jsonl"
    journal = await opened(path)
    await journal.append([ENTRY, ENTRY])
    await journal.aclose()
    path.write_bytes(path.read_bytes()[:-cut])
    again = await opened(path)
    assert await again.append([ENTRY]) == [2]
    assert [record.seq async for record in again.read()] == [1, 2]
    await again.aclose()
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


async def test_the_disk_has_it_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One write and one fdatasync for all that come together."""
    journal = await opened(tmp_path / "calls.jsonl")
    done: list[str] = []
    write, sync = os.write, os.fdatasync

    def noting(name: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            done.append(name)
            return real(*given)

        return call

    monkeypatch.setattr(os, "write", noting("write", write))
    monkeypatch.setattr(os, "fdatasync", noting("sync", sync))
    await journal.append([ENTRY] * 50)
    assert done == ["write", "sync"]
    await journal.aclose()


@pytest.mark.parametrize("fails", ["write", "fdatasync"])
async def test_a_full_disk_takes_nothing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """What was half written is taken back, and when there is room it goes on."""
    path = tmp_path / "calls.jsonl"
    journal = await opened(path)
    await journal.append([ENTRY])
    before = path.read_bytes()
    real: Any = getattr(os, fails)

    def full(*given: Any) -> Any:
        if fails == "write":
            real(given[0], given[1][:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(OSError, match="No space left"):
            await journal.append([ENTRY, ENTRY])
    assert path.read_bytes() == before
    assert await journal.append([ENTRY]) == [2]
    await journal.aclose()


async def test_what_it_cannot_go_on_with_is_refused(tmp_path: Path) -> None:
    """Another writer, a log without a head, a newer telstate, a file that is something else."""
    path = tmp_path / "calls.jsonl"
    journal = await opened(path)
    with pytest.raises(JournalError, match="written by another process"):
        await opened(path)
    await journal.aclose()
    for content, complaint in (
        (b'{"action":"dialin-stopped"}\n', "no telstate journal"),
        (b'{"v":1,"seq":1,"at":1.0,"dialect":"daily-js","event":null,"payload":{}}\n', "has no head"),
        (b'{"v":2,"journal":"x"}\n', "newer telstate"),
        (b"\x00\x01\n", "no telstate journal"),
    ):
        path.write_bytes(content)
        with pytest.raises(JournalError, match=complaint):
            await opened(path)
        assert path.read_bytes() == content
    with pytest.raises(JournalError, match="not open"):
        await JsonlJournal(path).append([ENTRY])


async def test_it_is_a_log_that_replay_reads(tmp_path: Path) -> None:
    """Marks, dead letters and head included."""
    path = tmp_path / "calls.jsonl"
    journal = await opened(path)
    await journal.append([ENTRY])
    await journal.done([1])
    await journal.aclose()
    command = [sys.executable, "-m", "telstate", "replay", "--json", "--strict", str(path)]
    run = await anyio.run_process(command)
    session = json.loads(run.stdout.splitlines()[0])["session"]
    assert (session["state"], session["ended_at"]) == ("stopped", ENTRY.at)
    assert path.stat().st_mode & 0o077 == 0  # phone numbers are nobody else's business
