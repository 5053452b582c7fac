"""What is special to a file of JSON lines: torn ends, full disks, other writers, and that it is a log like any other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import Dispatcher, JournalError, Router, Settings
from telstate.journals import JsonlJournal
from telstate.routing._ports import DeadLetter, Entry
from tests.calls import js

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


async def test_a_full_disk_is_told_through_the_dispatcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was taken in; why is said; it goes on when there is room."""
    journal = JsonlJournal(tmp_path / "calls.jsonl")

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive(js("dialout-connected"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", full)
            with pytest.raises(JournalError, match=r"was not taken in: .*No space left"):
                await calls.receive(js("dialout-answered"))
        assert sum(calls.counts.values()) == 1
        assert (await calls.receive(js("dialout-answered"))).event_id == f"{journal.id}:2"
    assert [record.seq async for record in JsonlJournal(journal.path).read()] == [1, 2]


@pytest.mark.parametrize("garbage", [b"\x00" * 40, b'{"v":1,"seq":2,"at"' + b"\xa5" * 30])
async def test_damage_in_the_middle_is_told_with_its_place(tmp_path: Path, garbage: bytes) -> None:
    """Whoever comes upon it, when it is opened or read; nothing is cut off because of it."""
    path = tmp_path / "calls.jsonl"
    journal = await opened(path)
    await journal.append([ENTRY] * 3)
    await journal.aclose()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], garbage + b"\n", *lines[3:]]))
    before = path.read_bytes()

    async def read() -> None:
        again = await opened(path)
        try:
            _ = [record async for record in again.read()]
        finally:
            await again.aclose()

    with pytest.raises(JournalError, match=r"damaged,? at b'"):
        await read()
    assert path.read_bytes() == before


async def test_it_is_read_from_a_folder_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Reading makes no file and takes no lock."""
    path = tmp_path / "archive" / "calls.jsonl"
    journal = await opened(path)
    await journal.append([ENTRY] * 3)
    await journal.aclose()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert [record.seq async for record in JsonlJournal(path).read()] == [1, 2, 3]
        assert [file.name for file in path.parent.iterdir()] == ["calls.jsonl"]
    finally:
        path.parent.chmod(0o700)


async def test_a_half_saved_checkpoint_is_never_loaded(tmp_path: Path) -> None:
    """A draft that was left by a crash is written over by the next."""
    journal = await opened(tmp_path / "calls.jsonl")
    await journal.save("engine", b"one", None)
    (kept,) = (tmp_path / "calls.jsonl.checkpoints").iterdir()
    kept.with_name(f"{kept.name}.new").write_bytes(b"2\nhal")
    assert await journal.load("engine") == (b"one", 1)
    assert await journal.save("engine", b"two", 1) == 2
    assert await journal.load("engine") == (b"two", 2)
    assert [file.name for file in (tmp_path / "calls.jsonl.checkpoints").iterdir()] == [kept.name]
    await journal.aclose()


async def test_checkpoints_are_nobody_elses_to_read(tmp_path: Path) -> None:
    """They have the same phone numbers as the journal."""
    journal = await opened(tmp_path / "calls.jsonl")
    await journal.save("engine", b"one", None)
    await journal.aclose()
    (kept,) = (tmp_path / "calls.jsonl.checkpoints").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


async def test_letters_cannot_be_dropped_unheard(tmp_path: Path) -> None:
    """A second instance drops them, or says that it cannot."""
    journal = await opened(tmp_path / "calls.jsonl")
    await journal.append([ENTRY])
    await journal.add_dead_letters([DeadLetter(1, "ValueError", "greet", "no such number", 5.0)])
    await journal.aclose()
    beside = JsonlJournal(journal.path)
    try:
        await beside.drop_dead_letters([1])
    except JournalError:
        return
    assert [kept.number async for kept in JsonlJournal(journal.path).dead_letters()] == []


@pytest.mark.parametrize("found", [b'{"important": "all my data"}', b"\x00\x01binary", b'{"v":1,"seq":1', b"{"])
async def test_a_file_that_is_somebody_elses_is_left_alone(tmp_path: Path, found: bytes) -> None:
    """Also one without any line end; only a head of ours that was torn may be begun anew."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(found)
    journal = JsonlJournal(path)
    if b'{"v":1,"journal":'.startswith(found):
        await journal.open({})
        await journal.aclose()
        return
    with pytest.raises(JournalError, match="no telstate journal"):
        await journal.open({})
    assert path.read_bytes() == found


async def test_marks_of_events_that_there_are_none_of_are_damage(tmp_path: Path) -> None:
    """And no reason to ask for so much memory."""
    path = tmp_path / "calls.jsonl"
    journal = JsonlJournal(path)
    await journal.open({})
    await journal.aclose()
    with path.open("ab") as file:
        file.write(b'{"v":1,"done":99999999999999999}\n')
    with pytest.raises(JournalError, match="is damaged"):
        await JsonlJournal(path).open({})
