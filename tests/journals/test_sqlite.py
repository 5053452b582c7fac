"""What only a SQLite journal has: full disks, locks, damage, files of other programs, and readers during a write."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
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
    """One event loop is enough here: the contract suite runs on both."""
    return "asyncio"


async def opened(path: Path, *, busy: float = 5.0) -> SqliteJournal:
    """An open journal."""
    journal = SqliteJournal(path, busy=busy)
    await journal.open(Settings().model_dump())
    return journal


async def seqs_of(journal: SqliteJournal) -> list[int]:
    """The numbers of all events in a journal."""
    return [record.seq async for record in journal.read()]


async def filled(path: Path, events: int) -> None:
    """Make a journal with events, and close it."""
    journal = await opened(path)
    await journal.append([ENTRY] * events)
    await journal.aclose()


@contextmanager
def full(journal: SqliteJournal) -> Iterator[None]:
    """Leave the database no room for another page."""
    assert journal._database is not None
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count={pages}")
    yield
    journal._database.execute("PRAGMA max_page_count=1000000")


async def test_missing_folders_are_created(tmp_path: Path) -> None:
    """A service starts on an empty volume."""
    path = tmp_path / "data" / "telstate" / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)):
        pass
    assert path.is_file()


async def test_a_full_disk_refuses_an_append_until_there_is_space(tmp_path: Path) -> None:
    """All of an append is kept, or nothing of it, and the dispatcher says so."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path)
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive(js("dialout-connected"))
        with full(journal):
            with pytest.raises(
                JournalError, match=r"was not taken in: .*calls.db: .*full .*works again as soon as there is space"
            ):
                await calls.receive(js("dialout-answered", text="x" * 100_000))
            with pytest.raises(JournalError, match="nothing was written"):
                await journal.append([ENTRY, LARGE])
            assert sum(calls.counts.values()) == 1
            assert await seqs_of(journal) == [1]
        outcome = await calls.receive(js("dialout-answered", text="x" * 100_000))
        assert outcome.event_id == f"{journal.id}:2"
    assert await seqs_of(SqliteJournal(path)) == [1, 2]


async def test_a_checkpoint_without_space_leaves_the_last_one(tmp_path: Path) -> None:
    """The next save removes the half that was written."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    await journal.save("engine", b"one", None)
    large = os.urandom(3_000_000)
    with full(journal), pytest.raises(JournalError, match="works again as soon as there is space"):
        await journal.save("engine", large, 1)
    assert await journal.load("engine") == (b"one", 1)
    assert await journal.save("engine", large, 1) == 2
    assert await journal.load("engine") == (large, 2)
    await journal.aclose()


async def test_a_half_saved_checkpoint_is_never_loaded(tmp_path: Path) -> None:
    """Pieces of a revision that was never completed, of a first checkpoint and of a later one."""
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
    """Let another process hold a transaction."""
    command = [sys.executable, "-c", _HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.communicate(b"\n", timeout=20)


async def test_a_transaction_of_another_program_is_reported_and_outlived(tmp_path: Path) -> None:
    """An event is refused, marks are written later, and nothing waits forever."""
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
            with pytest.raises(JournalError, match="end that program"):
                await journal.done([1])
            assert await seqs_of(journal) == [1]  # readers are not affected
        assert (await calls.receive(js("dialout-answered"))).event_id == f"{journal.id}:2"
    assert [record.done async for record in SqliteJournal(path).read()] == [True, True]


async def test_a_database_held_by_another_program_cannot_be_opened_until_it_is_released(tmp_path: Path) -> None:
    """The error says why."""
    path = tmp_path / "calls.db"
    await filled(path, 1)
    with held(path), pytest.raises(JournalError, match="another program holds a transaction"):
        await opened(path, busy=0.1)
    journal = await opened(path)
    assert await journal.append([ENTRY]) == [2]
    await journal.aclose()


async def test_other_files_are_refused_and_not_changed(tmp_path: Path) -> None:
    """Garbage, another program's database, another telstate's: the error says what to do, when writing and when reading."""
    path = tmp_path / "calls.db"

    async def is_refused(error: str) -> None:
        before = path.read_bytes()
        with pytest.raises(JournalError, match=error):
            await opened(path)
        with pytest.raises(JournalError, match=error):
            await seqs_of(SqliteJournal(path))
        with pytest.raises(JournalError, match=error):
            list(lines(path))
        with pytest.raises(JournalError, match=error):
            await SqliteJournal(path).drop_dead_letters([1])
        assert path.read_bytes() == before

    path.write_bytes(b"this is no database at all, however long one looks at it" * 100)
    await is_refused("not a SQLite database: use another file")
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE sales (amount REAL)")
        database.execute("PRAGMA application_id=1196444487")
    await is_refused("is a SQLite database, but not a telstate journal: use another file")
    path.unlink()
    await filled(path, 1)
    for version, age in ((4, "a newer"), (1, "an older")):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"PRAGMA user_version={version}")
        await is_refused(rf"written by {age} telstate \(schema {version}, not 3\): use that one")


async def test_another_programs_database_is_not_changed(tmp_path: Path) -> None:
    """Not even its journal mode: that program may not support WAL."""
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE sales (amount REAL)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="not a telstate journal"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    """It may be damage or another file, so nothing is written to it."""
    path = tmp_path / "calls.db"
    await filled(path, 1)
    data = b"\x00garbage\x00" * 11 + path.read_bytes()[99:]
    path.write_bytes(data)
    with pytest.raises(JournalError, match="not a SQLite database: use another file"):
        await opened(path)
    assert path.read_bytes() == data


async def test_damage_in_the_middle_is_reported_with_what_to_do(tmp_path: Path) -> None:
    """When lines are read and when records are read."""
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
    """Each reading is a whole log, longer than the last one, and the writer goes on."""
    path = tmp_path / "calls.db"
    command = [sys.executable, "-c", _WRITES, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: ASYNC220 - it runs during the test, and no other task waits
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        lengths = list[int]()
        give_up = time.monotonic() + 60
        while len(lengths) < 10 or (lengths[0] == lengths[-1] and time.monotonic() < give_up):
            replay, read = Replay(), list(lines(path))
            for line in read:
                replay.feed(line)
            assert [json.loads(line)["seq"] for line in read[1:]] == list(range(1, len(read)))
            lengths.append(replay.engine.received)
            await anyio.sleep(0.02)
        assert writer.poll() is None, writer.stderr and writer.stderr.read()
        writer.kill()
    assert lengths == sorted(lengths)
    assert 20 <= lengths[0] < lengths[-1]


_AS_NOBODY = """
import os, sys, urllib.parse  # nobody cannot read the modules that are imported later
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


def read_as_nobody(folder: Path) -> str:
    """What a user gets who may read the folder, but not write to it."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    top = Path(tempfile.gettempdir())
    for above in takewhile(lambda above: above != top, folder.parents):
        above.chmod(above.stat().st_mode | 0o055)  # pytest's folders are private
    try:
        command = [sys.executable, "-c", _AS_NOBODY, str(folder / "calls.db")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout.decode()
    finally:
        folder.chmod(0o755)


@pytest.mark.long
async def test_it_is_read_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """By a user who may only read."""
    folder = tmp_path / "archive"
    await filled(folder / "calls.db", 3)
    assert read_as_nobody(folder) == "4 lines\n"


async def test_the_events_in_the_wal_are_never_left_out(tmp_path: Path) -> None:
    """After a kill the last events are in the `-wal` only. In a folder that cannot be written the error says what to do."""
    folder, live = tmp_path / "archive", tmp_path / "live" / "calls.db"
    folder.mkdir()
    await filled(live, 3)
    journal = await opened(live)
    await journal.append([ENTRY] * 2)
    for name in ("calls.db", "calls.db-wal"):  # as after a kill, and a copy to another folder
        (folder / name).write_bytes(live.with_name(name).read_bytes())
    await journal.aclose()
    assert read_as_nobody(folder).endswith(
        "calls.db: its last events are in calls.db-wal, which SQLite cannot read in a folder that cannot be written:"
        " copy both into another folder, and read them there\n"
    )
    (folder / "calls.db").chmod(0o644)
    assert len(list(lines(folder / "calls.db"))) == 6  # the header and all five


async def test_dead_letters_are_dropped_and_retried_while_another_process_writes(tmp_path: Path) -> None:
    """A second instance does it. If there is no journal, none is created."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    await journal.append([ENTRY])
    await journal.add_dead_letters([LETTER, LETTER, LETTER])
    second = SqliteJournal(path)
    await second.drop_dead_letters([1])
    await second.request_retry([3])
    assert await journal.append([ENTRY]) == [2]
    assert [kept.number async for kept in journal.dead_letters()] == [2, 3]
    assert [kept.number async for kept in journal.dead_letters(retry_requested=True)] == [3]
    await journal.aclose()
    for change in (second.request_retry, second.drop_dead_letters):
        await change([2, 3])
    assert [kept.number async for kept in second.dead_letters()] == []
    missing = path.with_name("missing.db")
    with pytest.raises(JournalError, match="there is no journal"):
        await SqliteJournal(missing).drop_dead_letters([1])
    assert not missing.exists()


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """This holds for SQLite's other files too, under any umask: all of them have phone numbers."""
    path = tmp_path / "calls.db"
    before = os.umask(0)
    try:
        journal = await opened(path)
        await journal.append([ENTRY])
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        await journal.aclose()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("calls.db", "calls.db-wal", "calls.db-shm"), 0o600)


_OPENS = """
import sys, anyio
from telstate import JournalError
from telstate.journals import SqliteJournal

async def main():
    try:
        await SqliteJournal(sys.argv[1]).open({})
        print("opened")
    except JournalError as error:
        print(error)

anyio.run(main)
"""


def opened_by_another_process(path: Path) -> str:
    """What another process gets that opens a journal."""
    command = [sys.executable, "-c", _OPENS, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout.decode()


@pytest.mark.long
@pytest.mark.parametrize("name", ["the same", "symbolic link", "hard link", "renamed"])
async def test_one_process_writes_a_file_under_any_name(tmp_path: Path, name: str) -> None:
    """The lock is on the file itself. Readers and `dead` are not in its way, and it survives them."""
    path, other = tmp_path / "calls.db", tmp_path / "other.db"
    journal = await opened(path)
    await journal.append([ENTRY])
    if name == "the same":
        other = path
    elif name == "symbolic link":
        other.symlink_to(path)
    elif name == "hard link":
        other.hardlink_to(path)
    else:
        path.rename(other)
    with pytest.raises(JournalError, match="in use by another process"):
        await SqliteJournal(other).open({})
    if name in ("the same", "symbolic link"):  # SQLite finds its `-wal` by name only
        await SqliteJournal(other).drop_dead_letters([1])
        assert await seqs_of(SqliteJournal(other)) == [1]
        other.read_bytes()  # closing a file drops a process's POSIX locks on it
    assert "in use by another process: stop that one" in opened_by_another_process(other)
    if name == "renamed":
        with pytest.raises(JournalError, match="was removed or moved"):
            await journal.append([ENTRY])
    else:
        await journal.append([ENTRY])
    await journal.aclose()
    if name in ("the same", "symbolic link"):
        assert opened_by_another_process(other) == "opened\n"


async def test_a_file_that_cannot_be_opened_is_a_journal_error(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(JournalError, match=r"cannot be opened for writing: Is a directory\. Let this user write"):
        await SqliteJournal(tmp_path).open({})
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"the folder \S+ cannot be made: (Not a directory|File exists)\. Make it"):
        await SqliteJournal(tmp_path / "file" / "folder" / "calls.db").open({})


_ON_WINDOWS = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
import anyio
from telstate import JournalError
from telstate.cli import app
from telstate.journals import SqliteJournal

for verb in (["replay"], ["tail"], ["export"], ["dead", "list"]):
    print("#", *verb)
    app([*verb, sys.argv[1]], standalone_mode=False)
try:
    anyio.run(SqliteJournal(sys.argv[1]).open, {})
except JournalError as error:
    print("# open", error, sep="\\n")
"""


@pytest.mark.long
async def test_without_fcntl_everything_that_reads_works(tmp_path: Path) -> None:
    """As on Windows. Writing a journal says that it cannot: nothing would keep a second process from writing."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    await journal.append([ENTRY])
    await journal.add_dead_letters([LETTER])
    await journal.aclose()
    command = [sys.executable, "-c", _ON_WINDOWS, str(path)]
    run = await anyio.run_process(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    verbs = {part.split("\n")[0]: part for part in run.stdout.decode().split("# ")[1:]}
    assert "1 session: 1 unanswered" in verbs["replay"]
    assert "idle > stopped" in verbs["tail"]
    assert len(verbs["export"].splitlines()) == 4  # the verb, the header, the event, the dead letter
    assert "1 dead letter\n" in verbs["dead list"]
    assert "a journal can only be written on Linux and macOS" in verbs["open"]


@pytest.mark.parametrize("events", [0, 1])
async def test_it_must_be_open_to_be_appended_to(tmp_path: Path, events: int) -> None:
    """Else the error says so, and nothing is kept."""
    path = tmp_path / "calls.db"
    journal = await opened(path)
    for _ in range(events):
        await journal.append([ENTRY])
    await journal.aclose()
    with pytest.raises(JournalError, match="not open"):
        await SqliteJournal(path).append([ENTRY])
    assert len(await seqs_of(SqliteJournal(path))) == events
