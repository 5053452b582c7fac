"""What is special to a SQLite database: full disks, locks, damage, files of others, and readers beside the writer."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog

from telstate import Dispatcher, JournalError, Replay, Router, Settings
from telstate.journals import SqliteJournal
from telstate.journals._sqlite import lines
from telstate.routing._ports import DeadLetter, Entry
from tests.calls import js

pytestmark = pytest.mark.anyio

ENTRY = Entry(1_790_000_000.5, "daily-js", b'{"action":"dialin-stopped","sessionId":"s"}')
LARGE = Entry(1_790_000_000.5, "daily-js", b'{"action":"x","big":"' + b"x" * 100_000 + b'"}')
LETTER = DeadLetter(1, "ValueError", "greet", "no such number", 5.0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough here: the contract runs on both."""
    return "asyncio"


async def opened(path: Path, *, busy: float = 5.0) -> SqliteJournal:
    """A journal ready to write."""
    journal = SqliteJournal(path, busy=busy)
    await journal.open(Settings().model_dump())
    return journal


async def seqs_of(journal: SqliteJournal) -> list[int]:
    """The numbers of all events in it."""
    return [record.seq async for record in journal.read()]


async def filled(path: Path, events: int) -> None:
    """A journal that was closed."""
    journal = await opened(path)
    await journal.append([ENTRY] * events)
    await journal.aclose()


@contextmanager
def full(journal: SqliteJournal) -> Iterator[None]:
    """Let there be no room for one page more."""
    assert journal._database is not None
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count={pages}")
    yield
    journal._database.execute("PRAGMA max_page_count=1000000")


async def test_a_full_disk_takes_nothing_in_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """All of an append is kept, or nothing of it; the dispatcher says that it was not taken in."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive(js("dialout-connected"))
        with full(journal):
            with pytest.raises(
                JournalError, match=r"was not taken in: .*calls.db: .*full .*goes on as soon as there is"
            ):
                await calls.receive(js("dialout-answered", text="x" * 100_000))
            with pytest.raises(JournalError, match="nothing of it was kept"):
                await journal.append([ENTRY, LARGE])
            assert sum(calls.counts.values()) == 1
            assert await seqs_of(journal) == [1]
        outcome = await calls.receive(js("dialout-answered", text="x" * 100_000))
        assert outcome.event_id == f"{journal.id}:2"
    assert await seqs_of(SqliteJournal(path)) == [1, 2]


async def test_a_checkpoint_for_which_there_is_no_room_leaves_the_last_one(tmp_path: Path) -> None:
    """And the half of it that was written is gone with the next."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    await journal.save("engine", b"one", None)
    large = os.urandom(3_000_000)
    with full(journal), pytest.raises(JournalError, match="goes on as soon as there is room"):
        await journal.save("engine", large, 1)
    assert await journal.load("engine") == (b"one", 1)
    assert await journal.save("engine", large, 1) == 2
    assert await journal.load("engine") == (large, 2)
    await journal.aclose()


async def test_what_is_half_saved_is_never_loaded(tmp_path: Path) -> None:
    """Pieces of a revision that nothing points to, of a first checkpoint and of a later one, whatever they say."""
    path = tmp_path / "calls.db"
    journal = await opened(path)

    def leave(revision: int, place: int) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("INSERT INTO pieces VALUES ('engine', ?, ?, ?)", (revision, place, b"half"))

    leave(1, 0)
    leave(1, 1)
    assert await journal.load("engine") is None
    assert await journal.save("engine", b"one", None) == 1
    assert await journal.load("engine") == (b"one", 1)
    leave(2, 0)
    leave(2, 7)
    assert await journal.load("engine") == (b"one", 1)
    await journal.aclose()
    again = await opened(path)
    assert await again.load("engine") == (b"one", 1)
    assert await again.save("engine", b"two", 1) == 2
    assert await again.load("engine") == (b"two", 2)
    await again.aclose()


_HOLDS = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process is in the midst of a transaction."""
    command = [sys.executable, "-c", _HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.communicate(b"\n", timeout=20)


async def test_a_database_that_another_program_holds_is_told_and_it_goes_on_after(tmp_path: Path) -> None:
    """An event is not taken in; marks are written later; nothing waits for ever."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path, busy=0.1)
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.idle()
        with held(path), structlog.testing.capture_logs(), anyio.fail_after(10):
            with pytest.raises(
                JournalError, match=r"was not taken in: .*another program holds a transaction on it: end"
            ):
                await calls.receive(js("dialout-answered"))
            with pytest.raises(JournalError, match="end that one"):
                await journal.done([1])
            assert await seqs_of(journal) == [1]  # readers do not care
        assert (await calls.receive(js("dialout-answered"))).event_id == f"{journal.id}:2"
    assert [record.done async for record in SqliteJournal(path).read()] == [True, True]


async def test_a_held_database_cannot_be_opened_and_can_after(tmp_path: Path) -> None:
    """It says why."""
    path = tmp_path / "calls.db"
    await filled(path, 1)
    with held(path), pytest.raises(JournalError, match="another program holds a transaction"):
        await opened(path, busy=0.1)
    journal = await opened(path)
    assert await journal.append([ENTRY]) == [2]
    await journal.aclose()


async def test_files_that_are_no_journal_are_refused_and_left_alone(tmp_path: Path) -> None:
    """Garbage, another program's database, a newer telstate's: what to do is said, by the writer and by the readers."""
    path = tmp_path / "calls.db"

    async def is_refused(complaint: str) -> None:
        before = path.read_bytes()
        with pytest.raises(JournalError, match=complaint):
            await opened(path)
        with pytest.raises(JournalError, match=complaint):
            await seqs_of(SqliteJournal(path))
        with pytest.raises(JournalError, match=complaint):
            list(lines(path))
        with pytest.raises(JournalError, match=complaint):
            await SqliteJournal(path).drop_dead_letters([1])
        assert path.read_bytes() == before

    path.write_bytes(b"this is no database at all, however long one looks at it" * 100)
    await is_refused("no SQLite database: use another file")
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE sales (amount REAL)")
        database.execute("PRAGMA application_id=1196444487")
    await is_refused("is a SQLite database, but no telstate journal: use another file")
    path.unlink()
    await filled(path, 1)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version=2")
    await is_refused(r"newer telstate \(schema 2\): use that one")


async def test_another_programs_database_is_not_changed(tmp_path: Path) -> None:
    """Not even its journal mode, which other programs may not know."""
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE sales (amount REAL)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="no telstate journal"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    """It may be damage or another file; nothing is written over it."""
    path = tmp_path / "calls.db"
    await filled(path, 1)
    data = b"\x00garbage\x00" * 11 + path.read_bytes()[99:]
    path.write_bytes(data)
    with pytest.raises(JournalError, match="no SQLite database: use another file"):
        await opened(path)
    assert path.read_bytes() == data


async def test_damage_in_the_middle_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Whoever comes upon it."""
    path = tmp_path / "calls.db"
    await filled(path, 3000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = b"\xa5garbage" * 1024
    path.write_bytes(data)
    for read in (lambda: list(lines(path)), lambda: anyio.run(seqs_of, SqliteJournal(path))):
        with pytest.raises(JournalError, match="it is damaged: move it away, and save what can be read"):
            await anyio.to_thread.run_sync(read)


_WRITES = """
import sys, anyio
from telstate import Settings
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry

async def main():
    journal = SqliteJournal(sys.argv[1])
    await journal.open(Settings().model_dump())
    number = 0
    while True:
        number += 1
        await journal.append([Entry(1.79e9 + number, "daily-js", b'{"action":"dialin-stopped","sessionId":"%d"}' % number)])
        if number == 20:
            print("ready", flush=True)

anyio.run(main)
"""


async def test_it_is_read_while_another_process_writes(tmp_path: Path) -> None:
    """Each reading is a whole log, longer than the last one, and disturbs nobody."""
    path = tmp_path / "calls.db"
    command = [sys.executable, "-c", _WRITES, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: ASYNC220 - it is to run beside the test, and nothing else waits here
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        lengths = []
        for _ in range(10):
            replay, told = Replay(), list(lines(path))
            for line in told:
                replay.feed(line)
            assert [json.loads(line)["seq"] for line in told[1:]] == list(range(1, len(told)))
            lengths.append(replay.engine.received)
            await anyio.sleep(0.02)
        assert writer.poll() is None, writer.stderr and writer.stderr.read()
        writer.kill()
    assert lengths == sorted(lengths)
    assert 20 <= lengths[0] < lengths[-1]


_AS_NOBODY = """
import os, sys, urllib.parse  # what is imported as nobody may not be found
from telstate import JournalError
from telstate.journals._sqlite import lines
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    print(len(list(lines(sys.argv[1]))), "lines")
except JournalError as error:
    print(error)
"""


def told_to_nobody(folder: Path) -> str:
    """What a user sees who may read the folder, and not write there."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    top = Path(tempfile.gettempdir())
    for above in takewhile(lambda above: above != top, folder.parents):
        above.chmod(above.stat().st_mode | 0o055)  # pytest's folders are nobody else's to enter
    try:
        command = [sys.executable, "-c", _AS_NOBODY, str(folder / "calls.db")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout.decode()
    finally:
        folder.chmod(0o755)


async def test_it_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """By a user who may only read."""
    folder = tmp_path / "archive"
    await filled(folder / "calls.db", 3)
    assert told_to_nobody(folder) == "4 lines\n"


async def test_what_is_not_yet_in_the_database_itself_is_not_left_out_where_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    """After a kill, the last events are in the `-wal` only: they are read, or it is said that they cannot be."""
    folder, live = tmp_path / "archive", tmp_path / "live" / "calls.db"
    folder.mkdir()
    await filled(live, 3)
    journal = await opened(live)
    await journal.append([ENTRY] * 2)
    for name in ("calls.db", "calls.db-wal"):  # as after a kill, and a copy to somewhere else
        (folder / name).write_bytes(live.with_name(name).read_bytes())
    await journal.aclose()
    assert told_to_nobody(folder) != "4 lines\n"


async def test_letters_are_dropped_and_tried_again_beside_the_service(tmp_path: Path) -> None:
    """Another instance does it while the first one writes; a journal that is not there is not made by that."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    await journal.append([ENTRY])
    await journal.add_dead_letters([LETTER, LETTER, LETTER])
    beside = SqliteJournal(path)
    await beside.drop_dead_letters([1])
    await beside.request_retry([3])
    assert await journal.append([ENTRY]) == [2]
    assert [kept.number async for kept in journal.dead_letters()] == [2, 3]
    assert [kept.number async for kept in journal.dead_letters(retry_requested=True)] == [3]
    await journal.aclose()
    for change in (beside.drop, beside.retry):
        await change([2, 3])
    assert [kept.number async for kept in beside.dead_letters()] == []
    nowhere = path.with_name("nowhere.db")
    with pytest.raises(JournalError, match="there is no journal"):
        await SqliteJournal(nowhere).drop_dead_letters([1])
    assert not nowhere.exists()


async def test_it_is_nobody_elses_to_read(tmp_path: Path) -> None:
    """Nor what lies beside it while it is open, whatever the umask; phone numbers are in all of them."""
    path = tmp_path / "calls.db"
    before = os.umask(0)
    try:
        journal = await opened(path)
        await journal.append([ENTRY])
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        await journal.aclose()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("calls.db", "calls.db-wal", "calls.db-shm", "calls.db.lock"), 0o600)


@pytest.mark.parametrize("events", [0, 1])
async def test_it_must_be_open_to_be_appended_to(tmp_path: Path, events: int) -> None:
    """An append to a journal that was not opened says so, and nothing is kept."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    for _ in range(events):
        await journal.append([ENTRY])
    await journal.aclose()
    with pytest.raises(JournalError, match="not open"):
        await SqliteJournal(path).append([ENTRY])
    assert len(await seqs_of(SqliteJournal(path))) == events
