"""Following a journal while it is written."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest

from telstate import Replay, Settings
from telstate.errors import JournalError
from telstate.events import SourceGap
from telstate.journals import SqliteJournal
from telstate.journals._database import JournalNotMade, connect, create_or_check, is_sqlite
from telstate.journals._file_lock import FileLock
from telstate.journals._inspection import inspect
from telstate.journals._journal_follower import JournalFollower
from telstate.journals._sqlite import lines
from telstate.routing._ports import Entry

pytestmark = pytest.mark.anyio


async def journal_with(path: Path, *names: str) -> SqliteJournal:
    """Open a journal, and append events."""
    journal = SqliteJournal(path, None)
    await journal.open(Settings().model_dump())
    await append(journal, *names)
    return journal


async def append(journal: SqliteJournal, *names: str) -> None:
    """Append events of one session."""
    await journal.append(
        [Entry(1.0, "daily-js", b'{"action":"dialout-%s","sessionId":"s"}' % name.encode()) for name in names]
    )


def catch_up(follower: JournalFollower) -> list[bytes | SourceGap]:
    """Look until nothing is new."""
    found = follower.look()
    while not follower.at_end:
        found += follower.look()
    return found


async def test_it_gives_what_is_there_and_then_what_comes(tmp_path: Path) -> None:
    """The lines of an export, each once, while the service has the journal open."""
    path = tmp_path / "calls.db"
    journal = await journal_with(path, "connected")
    follower = JournalFollower(path)
    found = catch_up(follower)
    assert catch_up(follower) == []
    await append(journal, "answered", "stopped")
    found += catch_up(follower)
    assert found == list(lines(path))
    replay = Replay()
    for line in found:
        assert isinstance(line, bytes)
        replay.feed(line)
    session = replay.engine.session("s")
    assert session is not None
    assert session.ended
    await journal.aclose()


async def test_a_journal_that_was_replaced_is_an_error(tmp_path: Path) -> None:
    """It would look as if nothing happened any more."""
    path = tmp_path / "calls.db"
    await (await journal_with(path, "connected")).aclose()
    follower = JournalFollower(path)
    catch_up(follower)
    path.unlink()
    await (await journal_with(path, "answered", "stopped")).aclose()
    with pytest.raises(JournalError, match="is another journal than before"):
        follower.look()


async def test_what_was_pruned_unread_is_a_gap(tmp_path: Path) -> None:
    """Nobody knows what it was."""
    path = tmp_path / "calls.db"
    journal = await journal_with(path, "connected", "answered", "stopped")
    follower = JournalFollower(path)
    catch_up(follower)
    await append(journal, *["warning"] * 5)
    await journal._disk.run(lambda: journal._remove(6, None))
    journal._execute("INSERT INTO bases VALUES (7, 1.0, 7, '[]', 1)", [()])
    gap, *rest = catch_up(follower)
    assert gap == SourceGap(reason="the journal was pruned beyond what was read")
    assert len(rest) == 2
    await journal.aclose()


@pytest.mark.parametrize("is_database", [False, True], ids=["an empty file", "an empty database"])
async def test_a_journal_that_is_being_made_is_waited_for(is_database: bool, tmp_path: Path) -> None:
    """A reader that starts with the service may come between its first two steps."""
    path = tmp_path / "calls.db"
    lock = FileLock(path)
    if is_database:
        connect(path, busy=1.0).close()
    assert path.stat().st_size > 0 or not is_database
    assert is_sqlite(path)
    began = threading.Event()

    def make() -> None:
        began.wait()
        time.sleep(0.1)
        with closing(connect(path, busy=1.0)) as database:
            create_or_check(database, Settings().model_dump())

    thread = threading.Thread(target=make)
    thread.start()
    began.set()
    found = await anyio.to_thread.run_sync(JournalFollower(path).look)
    thread.join()
    lock.release()
    assert found == list(lines(path))


async def test_a_journal_whose_making_was_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody makes it any more, so nobody waits for it. A service takes it."""
    monkeypatch.setattr("telstate.journals._database._MADE_WITHIN", 60.0)
    path = tmp_path / "calls.db"
    connect(path, busy=1.0).close()
    began = time.monotonic()
    with pytest.raises(JournalNotMade, match="is empty: a service makes a journal of it when it starts"):
        list(lines(path))
    assert time.monotonic() - began < 30
    facts = inspect(path)
    assert (facts.events, facts.is_written) == (0, False)
    journal = await journal_with(path, "connected")
    assert len(catch_up(JournalFollower(path))) == 2
    await journal.aclose()
