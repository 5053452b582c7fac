"""A journal whose files disappear under it: nothing more is acknowledged, and whoever comes next is not harmed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
import structlog

from telstate import Dispatcher, JournalError, Router, Settings
from telstate.journals import SqliteJournal
from telstate.routing import _tender
from telstate.routing._ports import DeadLetter, Entry
from tests.calls import js
from tests.cli.test_serve import event, serving

pytestmark = pytest.mark.anyio

ENTRY = Entry(1_790_000_000.5, "daily-js", b'{"action":"dialin-stopped","sessionId":"s"}')
LETTER = DeadLetter(0, "ParseError", None, "no type", 5.0, "webhook", b"{}")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough here: the files are the same."""
    return "asyncio"


async def made(path: Path, events: int) -> None:
    """Make a journal with events, and close it."""
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    await journal.append([ENTRY] * events)
    await journal.aclose()


def files_of(folder: Path) -> list[Path]:
    """The files in a folder."""
    return list(folder.iterdir())


def remove(path: Path) -> None:
    """`rm calls.db`."""
    path.unlink()


def remove_all(path: Path) -> None:
    """`rm calls.db*`."""
    for name in path.parent.glob("calls.db*"):
        name.unlink()


def remove_wal(path: Path) -> None:
    """`rm calls.db-wal`: it has the last events."""
    path.with_name("calls.db-wal").unlink()


def remove_shm(path: Path) -> None:
    """`rm calls.db-shm`: the next process would make its own, and not know what this one has written."""
    path.with_name("calls.db-shm").unlink()


def remove_but_shm(path: Path) -> None:
    """`rm calls.db calls.db-wal`: the index of the `-wal` stays, and this process has it open."""
    remove(path)
    remove_wal(path)


def move(path: Path) -> None:
    """`mv calls.db other.db`."""
    path.rename(path.with_name("other.db"))


def move_folder(path: Path) -> None:
    """`mv data elsewhere`."""
    path.parent.rename(path.parent.with_name("elsewhere"))


def replace(path: Path) -> None:
    """`mv spare.db calls.db`."""
    path.with_name("spare.db").replace(path)


def overwrite(path: Path) -> None:
    """`cp spare.db calls.db`: the file stays the same, and has other contents."""
    shutil.copyfile(path.with_name("spare.db"), path)


def empty(path: Path) -> None:
    """`truncate -s 0 calls.db`."""
    os.truncate(path, 0)


def halve(path: Path) -> None:
    """Truncate it to a part that still begins as it did."""
    os.truncate(path, path.stat().st_size // 2)


WAYS = [remove, remove_all, remove_wal, remove_shm, move, move_folder, replace, overwrite, empty, halve]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_acknowledged_once_the_file_is_gone(tmp_path: Path, way: Callable[[Path], None]) -> None:
    """Neither an event nor a dead letter; the error says what happened and what to do; and it stays so."""
    path = tmp_path / "data" / "calls.db"
    await made(path.with_name("spare.db"), 300)
    await made(path, 2000)
    journal = SqliteJournal(path)
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal) as calls:
            await calls.receive(js("dialout-connected"))
            way(path)
            for _ in range(2):
                with pytest.raises(
                    JournalError,
                    match=r"while this process had it open, so nothing is kept any more: stop this process",
                ):
                    await calls.receive(js("dialout-answered"))
                with pytest.raises(JournalError, match="nothing is kept"):
                    await journal.add_dead_letters([LETTER])
            assert len(calls.live()) == 1
            assert sum(calls.counts.values()) == 2001


@pytest.mark.parametrize("way", [replace, overwrite])
async def test_another_database_of_its_name_stays_as_it_is(tmp_path: Path, way: Callable[[Path], None]) -> None:
    """The last events of the one before are in a `-wal` of that name: SQLite would write them into the other one."""
    path = tmp_path / "calls.db"
    await made(path.with_name("spare.db"), 7)
    await made(path, 3000)
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    await journal.append([ENTRY] * 3000)
    way(path)
    with structlog.testing.capture_logs() as logs:
        await journal.aclose()
    assert [log["event"] for log in logs] == ["journal.events_left_behind"]
    again = SqliteJournal(path)
    await again.open(Settings().model_dump())
    assert [record.seq async for record in again.read()] == list(range(1, 8))
    assert again._database is not None
    assert again._database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert await again.append([ENTRY]) == [8]
    await again.aclose()


async def test_it_is_noticed_without_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher looks by itself, and logs an error, once in a while."""
    monkeypatch.setattr(_tender, "_EVERY", 0.01)
    path = tmp_path / "calls.db"
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
            await calls.receive(js("dialout-connected"))
            await anyio.sleep(0.1)
            assert not [log for log in logs if log["event"] == "journal.failed"]
            path.unlink()
            with anyio.fail_after(10):
                while not [log for log in logs if log["event"] == "journal.failed"]:  # noqa: ASYNC110 - a log has no event
                    await anyio.sleep(0.01)
            await anyio.sleep(0.1)
    failed = [log for log in logs if log["event"] == "journal.failed"]
    assert len(failed) == 1
    assert "calls.db was removed or moved" in failed[0]["error"]


@pytest.mark.long
async def test_webhooks_get_503_with_the_reason(tmp_path: Path) -> None:
    """From a real service: Daily tries them again, which is what saves them."""
    with serving(tmp_path, "--journal", "calls.db") as (_, url):
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/webhooks", json=event(1))
            assert answer.status_code == 200
            (tmp_path / "calls.db").unlink()
            for _ in range(3):
                answer = await client.post("/webhooks", json=event(2))
                assert answer.status_code == 503
                assert "calls.db was removed or moved while this process had it open" in answer.json()["error"]
            answer = await client.post("/webhooks", content=b'{"type": 5}')
            assert answer.status_code == 503


_SECOND = """
import sys, anyio
from telstate import JournalError, Settings
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry

async def main():
    journal = SqliteJournal(sys.argv[1])
    try:
        await journal.open(Settings().model_dump())
    except JournalError as error:
        print("refused", error, flush=True)
        return
    print("opened", flush=True)
    for number in range(50):
        await journal.append([Entry(1.79e9 + number, "daily-js", b'{"action":"dialin-stopped","sessionId":"%d"}' % number)])
    print("kept", flush=True)
    sys.stdin.readline()
    await journal.append([Entry(1.8e9, "daily-js", b'{"action":"dialin-stopped","sessionId":"last"}')])
    print("kept the last", flush=True)
    sys.stdin.readline()  # it is killed here

anyio.run(main)
"""


def second(path: Path) -> subprocess.Popen[bytes]:
    """Another process that opens the path and appends."""
    return subprocess.Popen(
        [sys.executable, "-c", _SECOND, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.long
@pytest.mark.parametrize("way", [remove, remove_all, remove_but_shm, move, replace, remove_wal])
async def test_two_services_never_share_the_files_of_one(tmp_path: Path, way: Callable[[Path], None]) -> None:
    """The second one on the same path is refused, or keeps everything: also when the first one ends, which removes by name."""
    path = tmp_path / "calls.db"
    await made(path.with_name("spare.db"), 7)
    first = SqliteJournal(path)
    await first.open(Settings().model_dump())
    await first.append([ENTRY] * 3)
    way(path)
    with second(path) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        answer = await anyio.to_thread.run_sync(other.stdout.readline)
        if answer.startswith(b"refused"):
            assert b"in use by another process" in answer
            await first.aclose()
            return
        assert other.stdout.readline() == b"kept\n"
        with pytest.raises(JournalError):
            await first.append([ENTRY])
        await first.aclose()
        other.stdin.write(b"\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"kept the last\n"
        other.send_signal(signal.SIGKILL)
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    assert [record.seq async for record in journal.read()] == list(range(1, 52))
    await journal.aclose()


@pytest.mark.long
async def test_a_wal_without_its_journal_is_put_aside(tmp_path: Path) -> None:
    """SQLite would delete it, and the last events before a kill with it. Put beside its journal again, it has them."""
    path, kept = tmp_path / "calls.db", tmp_path / "kept.db"
    await made(path, 3)
    with second(path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"opened\n"
        assert other.stdout.readline() == b"kept\n"
        other.send_signal(signal.SIGKILL)
    path.rename(kept)
    with structlog.testing.capture_logs() as logs:
        await made(path, 1)
    (aside,) = [file for file in files_of(tmp_path) if ".db-wal." in file.name]
    assert [(log["event"], log["file"]) for log in logs] == [("journal.events_left_behind", str(aside))]
    aside.rename(tmp_path / "kept.db-wal")
    assert [record.seq async for record in SqliteJournal(kept).read()] == list(range(1, 54))
    with suppress(FileNotFoundError):
        (tmp_path / "kept.db-shm").unlink()


async def test_the_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means what it meant when the journal was opened."""
    monkeypatch.chdir(tmp_path)
    journal = SqliteJournal("calls.db")
    await journal.open(Settings().model_dump())
    await journal.append([ENTRY])
    monkeypatch.chdir("/")
    await journal.append([ENTRY])
    monkeypatch.chdir(tmp_path)
    await journal.aclose()


async def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """The name is what the next start opens."""
    path, link = tmp_path / "calls.db", tmp_path / "current.db"
    await made(path, 1)
    link.symlink_to(path)
    journal = SqliteJournal(link)
    await journal.open(Settings().model_dump())
    await journal.append([ENTRY])
    await made(tmp_path / "spare.db", 1)
    link.unlink()
    link.symlink_to(tmp_path / "spare.db")
    with pytest.raises(JournalError, match=r"current\.db was replaced by another file"):
        await journal.append([ENTRY])
    await journal.aclose()
