"""A journal prunes itself: what goes, what stays, and that a replay of what stays gives the same as before."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from telstate import Dispatcher, Replay, Router, Session, Settings
from telstate.journals import SqliteJournal
from telstate.journals._export import export_lines
from telstate.journals._sqlite import lines
from telstate.routing import _recovery
from telstate.routing._ports import Entry
from telstate.testing import FakeClock, Noise, simulate
from tests.calls import js
from tests.routing.kept import rest

pytestmark = pytest.mark.anyio

SETTINGS = Settings(retention=60, key_ttl=60, parked_ttl=60, ring_deadline=20)
KEEP = timedelta(minutes=10)


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough here: the contract suite runs on both."""
    return "asyncio"


class Eager(SqliteJournal):
    """A journal with frequent checkpoints."""

    checkpoint_every = 40


async def seqs_of(journal: SqliteJournal) -> list[int]:
    """The numbers of all events in a journal."""
    return [record.seq async for record in journal.read()]


def told(log: Iterator[bytes]) -> tuple[dict[str, Any], dict[str, int]]:
    """What a replay says of every session, and its counts."""
    replay, found = Replay(), dict[str, Any]()
    for line in log:
        outcome = replay.feed(line)
        for gone in outcome.departed if outcome is not None else ():
            if isinstance(gone, Session):
                found[gone.session_id] = {**gone.to_dict(), "moves": list(gone.transitions)}
    for session in replay.engine.sessions():
        found[session.session_id] = {**replay.engine.record(session), "moves": list(session.transitions)}
    return found, {str(kind): count for kind, count in replay.engine.counts.items()}


async def busy_hour(journal: SqliteJournal, *, retired: list[int] | None = None) -> tuple[FakeClock, set[str]]:
    """Run a bad hour of calls through a dispatcher that looks after its journal every minute."""
    noise = Noise(lost=0.05, repeated=0.05, swapped=0.05, delayed=0.02)
    hour = list(simulate(5, calls=80, span=2000.0, dialects=["daily-js", "webhook"], twice=0.3, noise=noise))
    clock, router = FakeClock(), Router()

    @router.on_retired()
    async def note(session: Session) -> None:
        if retired is not None:
            retired.append(session.opened)

    tended = clock.now()
    async with Dispatcher(router, journal=journal, clock=clock, settings=SETTINGS) as calls:
        for sent in hour:
            await clock.advance(max(0.0, sent.at - clock.now()))
            await rest(calls)
            await calls.receive(sent.payload)
            if clock.now() > tended + 60:
                await rest(calls)
                await calls._run.checkpoints.save()
                await journal.tend(clock.now())
                tended = clock.now()
        await rest(calls)
        return clock, {session.session_id for session in calls.sessions()}


@pytest.fixture(
    params=[
        "deleted",
        pytest.param("archived", marks=pytest.mark.long),
        pytest.param("archived and compressed", marks=pytest.mark.long),
    ]
)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where pruned events go."""
    names = {"deleted": None, "archived": "old.jsonl", "archived and compressed": "old.jsonl.gz"}
    name = names[request.param]
    return None if name is None else tmp_path / "archive" / name


@pytest.mark.long
async def test_a_replay_of_what_is_kept_says_the_same(tmp_path: Path, archive: Path | None) -> None:
    """Of each session that was known at the base or came later, in every field; and the counts are those of all events."""
    whole, path = tmp_path / "whole.db", tmp_path / "calls.db"
    await busy_hour(Eager(whole, None))
    retired: list[int] = []
    await busy_hour(Eager(path, KEEP, archive=archive), retired=retired)
    everything, counts = told(lines(whole))
    left, counts_left = told(lines(path))
    assert counts_left == counts
    assert 5 < len(left) < len(everything) - 15
    assert left == {name: everything[name] for name in left}
    assert told(export_lines(path)) == (left, counts)
    numbers = await seqs_of(SqliteJournal(path))
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] > 100
    if archive is not None:
        data = archive.read_bytes()  # noqa: ASYNC240
        moved = (gzip.decompress(data) if archive.suffix == ".gz" else data).splitlines()
        assert [json.loads(line)["seq"] for line in moved[1:]] == list(range(1, numbers[0]))
        assert archive.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240


def without_checkpoint(path: Path, *, base_too: bool = False) -> None:
    """Damage what a start begins with."""
    with closing(sqlite3.connect(path)) as database:
        keys = ("engine", "base") if base_too else ("engine", "engine")
        database.execute("UPDATE pieces SET state = x'00' WHERE key IN (?, ?)", keys)
        database.commit()


@pytest.mark.parametrize(
    "lost",
    [
        *(pytest.param(one, marks=pytest.mark.long) for one in ("nothing", "the checkpoint")),
        "the checkpoint and the base",
    ],
)
async def test_a_start_after_pruning_knows_the_same_and_retires_nobody_twice(tmp_path: Path, lost: str) -> None:
    """From the checkpoint, from the base, and from what is left of the events: sessions that were retired stay so."""
    path, retired = tmp_path / "calls.db", list[int]()
    clock, known = await busy_hour(Eager(path, KEEP), retired=retired)
    if lost != "nothing":
        without_checkpoint(path, base_too=lost.endswith("base"))
    again, started = list[int](), list[str]()
    router = Router()

    @router.on_retired()
    async def note(session: Session) -> None:
        again.append(session.opened)

    @router.on_start()
    async def start(session: Session) -> None:
        started.append(session.session_id)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=Eager(path, KEEP), clock=clock, settings=SETTINGS) as calls:
            await calls.idle()
            found = {session.session_id for session in calls.sessions()}
            assert (await calls.receive(js("dialout-connected", "new"))).seq > 100
            await calls.idle()
    assert [log["event"] for log in logs if log["log_level"] != "info"] == ["checkpoint.unreadable"] * (
        lost.count("the ")
    )
    assert not set(again) & set(retired)
    assert found >= known if lost.endswith("base") else found == known
    assert set(started) <= {"new"}


async def test_what_is_not_over_stays(tmp_path: Path) -> None:
    """A live session, unfinished work, a dead letter: their events are there however old they are."""
    path, clock, router = tmp_path / "calls.db", FakeClock(), Router()

    @router.on("dialout-answered")
    async def fail(session: Session) -> None:
        raise ValueError(session.session_id)

    journal = Eager(path, timedelta(0))
    with structlog.testing.capture_logs():
        async with Dispatcher(router, journal=journal, clock=clock, settings=SETTINGS) as calls:

            async def tend() -> list[int]:
                await rest(calls)
                calls._run.checkpoints.request()
                await calls._run.checkpoints.save()
                await clock.advance(15)
                await rest(calls)
                await journal.tend(clock.now())
                return await seqs_of(journal)

            for name in ("gone", "talks"):
                await calls.receive(js("dialout-connected", name))
                await calls.receive(js("dialout-answered", name))
            await calls.receive(js("dialout-stopped", "gone"))
            assert await tend() == [1, 2, 3, 4, 5]  # it may still get late events
            await clock.advance(100)
            assert (await tend())[0] == 3
            await clock.advance(300)
            assert (await tend())[:2] == [3, 4]
            assert [kept.letter.seq async for kept in journal.dead_letters()] == [2, 4]
            await calls.receive(js("dialout-stopped", "talks"))
            await clock.advance(100)
            await rest(calls)
            left = await tend()
            assert left
            assert left[0] > 5
    assert [kept.letter.seq async for kept in SqliteJournal(path).dead_letters()] == [2, 4]


async def test_none_keeps_everything(tmp_path: Path) -> None:
    """However old."""
    path, clock = tmp_path / "calls.db", FakeClock()
    journal = SqliteJournal(path, None)
    async with Dispatcher(Router(), journal=journal, clock=clock, settings=SETTINGS) as calls:
        await calls.receive(js("dialout-stopped", "s"))
        await clock.advance(1e5)
        await rest(calls)
        assert await journal.tend(clock.now()) is False
    assert (await seqs_of(journal))[0] == 1
    with pytest.raises(ValueError, match="keep= takes a timedelta from 0 on"):
        SqliteJournal(path, timedelta(seconds=-1))
    days: Any = 7
    with pytest.raises(TypeError, match=r"keep= takes a timedelta, such as timedelta\(days=7\), or None, not 7"):
        SqliteJournal(path, days)


@pytest.mark.long
async def test_the_file_becomes_smaller(tmp_path: Path) -> None:
    """Free pages are given back, and the journal does not take that for a truncation."""
    path, clock = tmp_path / "calls.db", FakeClock()
    journal = SqliteJournal(path, timedelta(0))
    settings = Settings(retention=60, key_ttl=60)
    async with Dispatcher(Router(), journal=journal, clock=clock, settings=settings) as calls:
        for start in range(0, 3000, 500):
            batch = [js("dialout-stopped", f"s{n}", text="x" * 3000) for n in range(start, start + 500)]
            await calls.receive_many(batch)
        await clock.advance(100)
        await rest(calls)
        await calls.receive(js("dialout-connected", "last"))
        await rest(calls)
        before = path.stat().st_size
        await calls._run.checkpoints.save()
        await clock.advance(15)
        for _ in range(8):
            await journal.tend(clock.now())
            await calls.receive(js("dialout-answered", "last"))
    assert path.stat().st_size < before / 2


@pytest.mark.long
async def test_a_file_that_becomes_shorter_at_any_moment_was_not_truncated(tmp_path: Path) -> None:
    """SQLite may shorten it in the transaction that gives pages back, or in a later one."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path, None)
    await journal.open(SETTINGS.model_dump())
    for appends in (0, 1, 7):
        long = await journal.append([Entry(1.0, "daily-js", b"%4000d" % n) for n in range(10_000)])
        await journal._disk.run(partial(journal._remove, long[-1], None))
        while await journal._disk.run(journal._give_back):
            for _ in range(appends):
                await journal.append([Entry(1.0, "daily-js", b"{}")])
    await journal.aclose()
    assert path.stat().st_size < 10_000_000


_PRUNES = """
import sys, anyio
from telstate.journals import SqliteJournal
from telstate.journals._offline import prune_before

prune, left = SqliteJournal._prune, int(sys.argv[3])

async def some(journal):
    global left
    if left <= 0:
        await anyio.sleep_forever()  # it is killed by then, or soon
    events = await prune(journal)
    left -= events
    return events

SqliteJournal._prune = some
print("ready", flush=True)
anyio.run(prune_before, sys.argv[1], 2e9, sys.argv[2])
print("done", flush=True)
"""


async def many(path: Path, events: int) -> None:
    """Make a journal with short finished calls, and one that lives."""
    journal = SqliteJournal(path, None)
    await journal.open(SETTINGS.model_dump())
    entries = [
        Entry(1.79e9 + n, "daily-js", b'{"action":"dialout-stopped","sessionId":"s%d"}' % n) for n in range(events)
    ]
    live = Entry(1.79e9 + events, "daily-js", b'{"action":"dialout-answered","sessionId":"live"}')
    await journal.append([*entries, live])
    await journal.done([*range(1, events + 2), *range(-events, 0)])
    await journal.aclose()


@pytest.mark.long
async def test_a_kill_while_it_prunes_loses_nothing(tmp_path: Path) -> None:
    """Each event is in the journal or, once, in the archive; and the next run finishes."""
    path, archive = tmp_path / "calls.db", tmp_path / "old.jsonl.gz"
    events = 12_000
    await many(path, events)
    command = [sys.executable, "-c", _PRUNES, str(path), str(archive)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    left = [1]
    for wait in (2_000, 5_000, 8_000, 0):
        most = str(wait + 2_000 - left[0] if wait else events)  # it does not finish before the kill
        with subprocess.Popen([*command, most], env=environment, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if wait:
                while (await seqs_of(SqliteJournal(path)))[0] <= wait:
                    pass
                process.send_signal(signal.SIGKILL)
            assert process.wait(60) == (-signal.SIGKILL if wait else 0)
        left = await seqs_of(SqliteJournal(path))
        moved = gzip.decompress(archive_of(archive, path)).splitlines()
        assert [json.loads(line)["seq"] for line in moved[1:]] == list(range(1, left[0]))
        assert left == list(range(left[0], events + 2))
    assert left[0] > events - 100
    assert list(told(lines(path))[0])[-1] == "live"


def archive_of(archive: Path, path: Path) -> bytes:
    """The part of an archive that counts: the journal knows how long it is, and the next run cuts off the rest."""
    with closing(sqlite3.connect(path)) as database:
        (length,) = database.execute("SELECT length FROM archive").fetchone()
    return archive.read_bytes()[:length]


async def test_a_long_start_says_where_it_is_and_saves_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a start that is stopped again and again comes further each time."""
    monkeypatch.setattr(_recovery, "_REPORT_EVERY", 0.0)
    path = tmp_path / "calls.db"
    await many(path, 1600)
    saved: list[int] = []

    class Killed(SqliteJournal):
        async def save(self, key: str, state: bytes, revision: int | None) -> int:
            saved.append(len(saved))
            if len(saved) == 3:
                raise KeyboardInterrupt
            return await super().save(key, state, revision)

    with structlog.testing.capture_logs() as logs:
        with pytest.raises(KeyboardInterrupt):
            async with Dispatcher(Router(), journal=Killed(path)):
                pass
        async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
            assert len(calls.live()) == 1
    assert [log["seq"] for log in logs if log["event"] == "journal.reading"] == [500, 1000, 1500]
