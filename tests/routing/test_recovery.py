"""Recovery from a checkpoint and the journal's tail: the same as if nobody had stopped, and nothing undone is forgotten."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
import structlog
from pydantic_core import from_json, to_json

from telstate import (
    Cause,
    DialoutEvent,
    Dispatcher,
    Engine,
    Event,
    Outcome,
    OutcomeKind,
    Router,
    Session,
    Settings,
    State,
)
from telstate.routing import _checkpoints as checkpoints
from telstate.routing._ports import Entry
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from tests.calls import SESSION, js
from tests.routing import until
from tests.routing.kept import KINDS, journal_at, replayed, rest, state_of
from tests.soak.run import copied

pytestmark = pytest.mark.anyio

HOUR = 3600.0
RETENTION = Settings().retention
both = pytest.mark.parametrize("kind", KINDS)


def crash(path: Path, name: str) -> Path:
    """Copy a journal as a crash would leave it, while a dispatcher writes it."""
    return copied(path, path.parent / name)


def checkpoint_of(kind: str, path: Path) -> bytes | None:
    """The checkpoint that a closed journal, or a crash copy, has."""
    if kind == "jsonl":
        file = path.with_name(f"{path.name}.checkpoints") / b"engine".hex()
        return file.read_bytes() if file.exists() else None
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT state FROM pieces ORDER BY revision, place").fetchall()
        return b"".join(row[0] for row in rows) if rows else None


def write_checkpoint(kind: str, path: Path, state: bytes) -> None:
    """Put something else in its place."""
    if kind == "jsonl":
        (path.with_name(f"{path.name}.checkpoints") / b"engine".hex()).write_bytes(state)
        return
    with closing(sqlite3.connect(path)) as database:
        ((key, revision),) = database.execute("SELECT key, revision FROM checkpoints").fetchall()
        database.execute("DELETE FROM pieces")
        database.execute("INSERT INTO pieces VALUES (?, ?, 0, ?)", (key, revision, state))
        database.commit()


def forget_checkpoint(kind: str, path: Path) -> None:
    """Leave the events only."""
    if kind == "jsonl":
        shutil.rmtree(path.with_name(f"{path.name}.checkpoints"), ignore_errors=True)
        return
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM pieces")
        database.execute("DELETE FROM checkpoints")
        database.commit()


def checkpoints_at(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    """Let one be saved after so few events; by default it is also three times what there is to save."""
    monkeypatch.setattr(checkpoints, "_EVERY", events)


def marks(kind: str, path: Path) -> set[int]:
    """The work that is marked as done in a journal that nobody writes."""
    if kind == "jsonl":
        lines = (from_json(line) for line in path.read_bytes().splitlines())
        return {line["done"] for line in lines if "done" in line}
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT number FROM done")}


class Seen:
    """A router whose handlers note what they were called for."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, bool]] = []
        """The name, the event's id, whether it was redelivered."""
        self.ends = Counter[str]()
        self.retired = Counter[str]()
        self.hanging: set[str] = set()
        """Names of events whose handlers never finish."""
        self.router = router = Router()

        @router.on(DialoutEvent)
        async def work(event: Event, outcome: Outcome) -> None:
            self.events.append((event.name, str(outcome.event_id), outcome.redelivered))
            if event.name in self.hanging:
                await anyio.sleep_forever()

        @router.on_end()
        async def end(session: Session) -> None:
            self.ends[session.session_id] += 1

        @router.on_retired()
        async def retired(session: Session) -> None:
            if "retired" in self.hanging:
                await anyio.sleep_forever()
            self.retired[session.session_id] += 1


def everything(engine: Engine) -> dict[str, Any]:
    """All that an engine knows, as it would be written down."""
    told: dict[str, Any] = from_json(to_json(engine.snapshot()))
    return told


# --- the same state -----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("way", ["restart", "crash"])
async def test_recovered_and_uninterrupted_are_the_same(
    kind: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, counts, ids and what is due next, over a bad day with five interruptions; and a full fold agrees."""
    checkpoints_at(monkeypatch, 40)
    settings = Settings(
        retention=60, key_ttl=60, parked_ttl=60, ring_deadline=20
    )  # little to save: checkpoints are many
    noise = Noise(lost=0.05, repeated=0.05, swapped=0.05, delayed=0.02)
    day = list(simulate(3, calls=200, span=3000.0, dialects=["daily-js", "webhook"], twice=0.3, noise=noise))
    path, clock = tmp_path / "calls", FakeClock()
    for part in range(6):
        begin, end = part * len(day) // 6, (part + 1) * len(day) // 6
        async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, settings=settings) as calls:
            for sent in day[begin:end]:
                await clock.advance(max(0.0, sent.at - clock.now()))
                await rest(calls)
                await calls.receive(sent.payload)
            await rest(calls)
            kept = known_by(calls._sequencer.engine, clock)
            counts = calls.counts
            if way == "crash":
                copy = crash(path, f"crash{part}")
        path = copy if way == "crash" else path
        full = crash(path, f"full{part}")
        assert checkpoint_of(kind, full) is not None
        forget_checkpoint(kind, full)
        assert checkpoint_of(kind, full) is None
        for place in (crash(path, f"look{part}"), full):
            async with Dispatcher(Router(), journal=journal_at(kind, place), clock=FakeClock(clock.now())) as again:
                counts[OutcomeKind.NOTED] += len(again.live()) > 0  # the gap
                assert again.counts == counts
                counts[OutcomeKind.NOTED] -= len(again.live()) > 0
                assert known_by(again._engine, clock) == kept
    assert len(kept["registry"]["live"]) + len(kept["registry"]["ended"]) > 0


def known_by(engine: Engine, clock: FakeClock) -> dict[str, Any]:
    """All that an engine knows by now, and what is due next, but for what a start itself changes.

    That is one event more, the gap, and that live sessions are uncertain.
    """
    engine.advance(clock.now())
    told = {**everything(engine), "due": engine.next_deadline()}
    for name in ("counts", "number"):
        del told[name]
    place = told["registry"]["fields"].index("uncertain")
    for session in told["registry"]["live"]:
        session[place] = None
    return told


@both
async def test_ids_go_on(kind: str, tmp_path: Path) -> None:
    """An event's number is never given twice, and the journal keeps its name."""
    path, ids = tmp_path / "calls", list[str]()
    for part in range(4):
        async with Dispatcher(Router(), journal=journal_at(kind, path), clock=FakeClock()) as calls:
            for name in ("connected", "stopped"):
                ids.append(str((await calls.receive(js(f"dialout-{name}", f"s{part}"))).event_id))
    assert len({name.rpartition(":")[0] for name in ids}) == 1
    assert [int(name.rpartition(":")[2]) for name in ids] == list(range(1, 9))


@both
@pytest.mark.parametrize("checkpoint", [True, False])
async def test_time_goes_on_where_it_was(kind: str, checkpoint: bool, tmp_path: Path) -> None:
    """Half of a silence limit before, half of it after the restart; a deadline too, and what passed meanwhile at once."""
    path, clock = tmp_path / "calls", FakeClock()
    settings = Settings(ring_deadline=400)
    begun = clock.now()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock, settings=settings) as calls:
        await calls.receive(js("dialout-connected", "rings"))
        await calls.receive(js("dialin-connected", "talks"))
        await clock.advance(300)
    if not checkpoint:
        forget_checkpoint(kind, path)
    router, told = Router(), list[tuple[str, int]]()

    @router.on("deadline-passed")
    async def deadline(event: Any) -> None:
        told.append((event.deadline, round(event.due_at - begun)))

    async with Dispatcher(router, journal=journal_at(kind, path), clock=clock) as calls:
        await clock.advance(99)
        await rest(calls)
        assert told == []
        await clock.advance(2)
        await rest(calls)
        assert told == [("ring", 400)]
        await clock.advance(198)
        await rest(calls)
        assert len(calls.live()) == 2
        await clock.advance(2)
        await rest(calls)
        (session,) = calls.live()
        assert session.session_id == "talks"
        gone = calls.session("rings")
        assert gone is not None
        assert (gone.cause, gone.ended_at) == (Cause.EXPIRED, begun + 600)
    clock._now = begun + 30 * HOUR
    async with Dispatcher(router, journal=journal_at(kind, path), clock=clock) as calls:
        await rest(calls)
        assert calls.live() == []
        gone = calls.session("talks")
        assert gone is not None
        assert gone.ended_at == begun + 24 * HOUR
        assert state_of(replayed(kind, path)) == state_of(calls._sequencer.engine)


# --- handlers that did not finish ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("younger", [False, True], ids=["in the tail", "before the checkpoint"])
@pytest.mark.parametrize("way", ["drain", "crash"])
async def test_what_did_not_finish_runs_again(
    kind: str, younger: bool, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same id, said to be redelivered; also when a checkpoint was made since."""
    checkpoints_at(monkeypatch, 5 if younger else 20_000)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    seen.hanging = {"dialout-answered"}
    settings = Settings(retention=60, key_ttl=60)
    with structlog.testing.capture_logs():
        async with Dispatcher(
            seen.router, journal=journal_at(kind, path), clock=clock, settings=settings, drain=0.05
        ) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            await calls.receive(js("dialout-answered"))
            await calls.receive(js("dialout-stopped"))
            await settle()
            for number in range(30):
                await calls.receive(js("dialin-warning", f"o{number % 2}", errorMsg=str(number)))
            for _ in range(20):
                await settle()
                await anyio.sleep(0.01)  # until the checkpoint is on the disk
            copy = crash(path, "crash")
    place = copy if way == "crash" else path
    assert (checkpoint_of(kind, place) is not None) == (younger or way == "drain")
    assert seen.ends == {}
    first = [told for told in seen.events if told[0] == "dialout-answered"]
    assert len(first) == 1
    again = Seen()
    async with Dispatcher(again.router, journal=journal_at(kind, place), clock=clock, settings=settings) as calls:
        await rest(calls)
    redelivered = [told for told in again.events if told[0] != "dialout-connected"]  # whose mark a crash may lose
    assert [(name, again_) for name, _, again_ in redelivered] == [
        ("dialout-answered", True),
        ("dialout-stopped", True),
    ]
    assert redelivered[0][1] == first[0][1]
    assert again.ends == {SESSION: 1}
    once_more = Seen()
    async with Dispatcher(once_more.router, journal=journal_at(kind, place), clock=clock, settings=settings) as calls:
        await rest(calls)
    assert once_more.events == []


@both
async def test_a_session_that_left_memory_is_still_there_for_its_handlers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of its stopped hung for hours; the checkpoint has the session as it was."""
    checkpoints_at(monkeypatch, 5)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    seen.hanging = {"dialout-stopped"}
    with structlog.testing.capture_logs():
        async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock, drain=0.05) as calls:
            await calls.receive(js("dialout-answered", room="r"))
            await calls.receive(js("dialout-stopped"))
            await clock.advance(RETENTION + 1)
            for number in range(10):
                await calls.receive(js("dialout-connected", f"o{number}"))
            assert calls.session(SESSION) is None
    again = Seen()
    async with Dispatcher(again.router, journal=journal_at(kind, path), clock=clock) as calls:
        await rest(calls)
    assert [name for name, _, _ in again.events] == ["dialout-stopped"]
    assert again.ends == again.retired == {SESSION: 1}


# --- retirements --------------------------------------------------------------------------------------------------


@both
async def test_retired_exactly_once_over_clean_restarts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the restarts fall: before, while and after retention passes, with calls going on."""
    checkpoints_at(monkeypatch, 10)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    settings = Settings(retention=100, key_ttl=100)
    rng = Random(8)
    ended = 0
    for part in range(12):
        async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock, settings=settings) as calls:
            for number in range(12):
                await calls.receive(js("dialout-connected", f"{part}-{number}"))
                await calls.receive(js("dialout-stopped", f"{part}-{number}"))
                ended += 1
                await clock.advance(rng.uniform(0, 20))
            await rest(calls)
        clock._now += rng.uniform(0, 90)
    async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock, settings=settings) as calls:
        await clock.advance(200)
        await rest(calls)
        assert set(calls.sizes().values()) == {0}
    assert len(seen.retired) == len(seen.ends) == ended
    assert set(seen.retired.values()) == set(seen.ends.values()) == {1}


@both
async def test_retired_exactly_once_though_nothing_else_happens(kind: str, tmp_path: Path) -> None:
    """Retention passes in a run that has no event at all; the next runs must not tell it again."""
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
        await calls.receive(js("dialout-stopped"))
    clock._now += RETENTION - 10
    for _ in range(3):
        async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
            await rest(calls)
            await clock.advance(20)
            await rest(calls)
        clock._now += 10
    assert seen.retired == {SESSION: 1}


@both
async def test_retired_at_least_once_over_a_crash_and_marked_then(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose handler hung, and those that leave while the journal is read."""
    checkpoints_at(monkeypatch, 6)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    settings = Settings(retention=100, key_ttl=100)
    seen.hanging = {"retired"}
    ids = {f"s{number}" for number in range(20)}
    with structlog.testing.capture_logs():
        async with Dispatcher(
            seen.router, journal=journal_at(kind, path), clock=clock, settings=settings, drain=0.05
        ) as calls:
            for number in range(20):
                await calls.receive(js("dialout-stopped", f"s{number}"))
                await clock.advance(20)
                await rest_but_lanes(calls)
            copy = crash(path, "crash")
    assert seen.retired == {}
    again = Seen()
    clock._now += 1000
    async with Dispatcher(again.router, journal=journal_at(kind, copy), clock=clock, settings=settings) as calls:
        await rest(calls)
        await clock.advance(1)
        await rest(calls)
        assert calls.sizes()["ended"] == 0
    assert again.retired == dict.fromkeys(ids, 1)
    assert {-number for number in range(1, 21)} <= marks(kind, copy)
    last = Seen()
    async with Dispatcher(last.router, journal=journal_at(kind, copy), clock=clock, settings=settings) as calls:
        await rest(calls)
    assert last.retired == {}


async def rest_but_lanes(calls: Dispatcher) -> None:
    """Wait for the journal only: handlers hang."""
    await settle()
    await until(lambda: not calls._is_keeping(), 10.0)
    await settle()


@both
async def test_sessions_past_their_retention_leave_at_the_start(kind: str, tmp_path: Path) -> None:
    """The program was down for a week."""
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
        for number in range(50):
            await calls.receive(js("dialout-stopped", f"s{number}"))
    assert seen.retired == {}
    clock._now += 7 * 24 * HOUR
    async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
        await rest(calls)
        assert set(calls.sizes().values()) == {0}
    assert seen.retired == dict.fromkeys((f"s{number}" for number in range(50)), 1)


# --- checkpoints that cannot be used ------------------------------------------------------------------------------


async def busy_journal(kind: str, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal with a checkpoint, closed; some calls live."""
    checkpoints_at(monkeypatch, 10)
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
            await calls.receive(js("dialout-answered", f"s{number}"))
            if number % 2:
                await calls.receive(js("dialout-stopped", f"s{number}"))
    assert checkpoint_of(kind, path) is not None


def _head_cut(state: bytes) -> bytes:
    return state[: len(state) // 3]


def _inside(state: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change what is compressed; a file has its revision in a line before."""
    head = state[: state.index(b"\n") + 1] if state[:1].isdigit() else b""
    return head + zlib.compress(change(zlib.decompress(state[len(head) :])))


def _newer(state: bytes) -> bytes:
    return _inside(state, lambda told: told.replace(b'[["version"],1]', b'[["version"],2]'))


def _newer_engine(state: bytes) -> bytes:
    return _inside(state, lambda told: told.replace(b'[["engine","version"],2]', b'[["engine","version"],3]'))


def _no_number(state: bytes) -> bytes:
    return _inside(state, lambda told: told.replace(b'[["seq"],', b'[["seq"],"?"]\n[["x"],'))


def _no_path(state: bytes) -> bytes:
    return _inside(state, lambda told: told + b"[[],1]\n")


def _foreign(state: bytes) -> bytes:
    def change(told: bytes) -> bytes:
        begin = told.index(b'[["journal"],"') + len(b'[["journal"],"')
        return told[:begin] + b"00000000" + told[begin + 8 :]

    return _inside(state, change)


_BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": _head_cut,
    "newer": _newer,
    "newer engine": _newer_engine,
    "foreign": _foreign,
    "no number": _no_number,
    "no path": _no_path,
    "no JSON": lambda _: b"1\n\x00\xff{",
    "other JSON": lambda _: b'1\n{"a": 1}',
    "nothing": lambda _: b"1\n",
}


@both
@pytest.mark.parametrize("damage", list(_BROKEN))
async def test_a_checkpoint_that_cannot_be_used_is_passed_over(
    kind: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning; the whole journal gives the same, and the next checkpoint is good again."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal(kind, path, clock, monkeypatch)
    state = checkpoint_of(kind, path)
    assert state is not None
    broken = _BROKEN[damage](state)
    assert broken != state
    if kind == "sqlite":
        broken = broken.removeprefix(b"1\n")
    write_checkpoint(kind, path, broken)
    before = state_of(replayed(kind, path))
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
            for told in before:
                told["uncertain"] = told["state"] not in ("stopped", "error")
            assert state_of(calls._sequencer.engine) == before
            for number in range(20):
                await calls.receive(js("dialout-connected", f"more{number}"))
            after = known_by(calls._sequencer.engine, clock)
    assert "checkpoint.failed" not in {log["event"] for log in logs}
    good = checkpoint_of(kind, path)
    assert good is not None
    assert good != broken
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        again = known_by(calls._sequencer.engine, clock)
    assert again == after
    warned = [log for log in logs if log["log_level"] == "warning" and log["event"].startswith("checkpoint.")]
    assert len(warned) == 1


async def test_an_empty_checkpoint_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk or a careless hand leaves: no revision either."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal("jsonl", path, clock, monkeypatch)
    write_checkpoint("jsonl", path, b"")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal_at("jsonl", path), clock=clock) as calls:
            await calls.receive(js("dialout-connected", "more"))
    assert [log["event"] for log in logs] == ["checkpoint.unreadable"]
    assert checkpoint_of("jsonl", path)


@both
async def test_the_checkpoint_of_a_journal_that_was_cut_is_passed_over(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put back an older copy of the events and left the checkpoint where it was."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal(kind, path, clock, monkeypatch)
    if kind == "jsonl":
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if b'"seq":' not in line or from_json(line)["seq"] <= 30]
        path.write_bytes(b"".join(line for line in kept if b'"done"' not in line))
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("DELETE FROM events WHERE seq > 30")
            database.commit()
    before = state_of(replayed(kind, path))
    for told in before:
        told["uncertain"] = told["state"] not in ("stopped", "error")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
            assert state_of(calls._sequencer.engine) == before
            assert (await calls.receive(js("dialout-connected", "more"))).event_id == f"{calls._id}:32"  # 31: the gap
    assert [log["event"] for log in logs] == ["checkpoint.of_another_journal"]


@both
async def test_a_damaged_byte_never_keeps_the_program_from_starting(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is: either the checkpoint is passed over, or it is still one."""
    path, clock, rng = tmp_path / "calls", FakeClock(), Random(4)
    await busy_journal(kind, path, clock, monkeypatch)
    state = checkpoint_of(kind, path)
    assert state is not None
    begin = state.index(b"\n") + 1 if kind == "jsonl" else 0
    for _ in range(60):
        damaged = bytearray(state)
        damaged[rng.randrange(begin, len(state))] = rng.choice(b'[]{}",:0\n x\xff')
        write_checkpoint(kind, path, bytes(damaged))
        with structlog.testing.capture_logs():
            async with Dispatcher(Router(), journal=journal_at(kind, path), clock=FakeClock()) as calls:
                assert sum(calls.counts.values()) > 0


# --- checkpoints while it runs ------------------------------------------------------------------------------------


@both
async def test_checkpoints_are_saved_while_it_runs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash finds one that is not old."""
    checkpoints_at(monkeypatch, 20)
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        for number in range(60):
            await calls.receive(js("dialin-warning", "s", errorMsg=str(number)))
            await settle()
        await anyio.sleep(0.05)
        copy = crash(path, "crash")
    async with Dispatcher(Router(), journal=journal_at(kind, copy), clock=clock) as calls:
        assert calls._run.checkpoints._since <= 42


@both
async def test_after_a_recovery_without_one_a_checkpoint_is_saved_soon(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long journal was read from its beginning; whoever crashes next should not have to do so again."""
    path, clock = tmp_path / "calls", FakeClock()
    journal = journal_at(kind, path)
    await journal.open(Settings().model_dump())
    payload = to_json(js("dialin-warning", "s"))
    await journal.append([Entry(clock.now(), "daily-js", payload)] * 100)
    await journal.aclose()
    checkpoints_at(monkeypatch, 20)
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        for number in range(100):
            await calls.receive(js("dialin-warning", "s", errorMsg=str(number)))
            await settle()
        await anyio.sleep(0.1)
        copy = crash(path, "crash")
    assert checkpoint_of(kind, copy) is not None


# --- events that can no longer be read ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("payload", [b'{"no": "event"}', b'{"action": "dialout-connected", "sessionId": 5}', b"[1]"])
async def test_an_event_that_cannot_be_read_any_more_is_a_dead_letter(
    kind: str, payload: bytes, tmp_path: Path
) -> None:
    """The rest is recovered, its number is passed over, and it is a letter once only."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=journal_at(kind, path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
    forget_checkpoint(kind, path)
    journal = journal_at(kind, path)
    await journal.open({})
    good = to_json(js("dialout-answered", "b"))
    entries = [Entry(clock.now(), "daily-js", payload), Entry(clock.now(), "daily-js", good)]
    seqs = await journal.append(entries)
    await journal.aclose()
    seen = Seen()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
            await rest(calls)
            assert {session.session_id: session.state for session in calls.live()} == {
                "a": State.CONNECTED,
                "b": State.ANSWERED,
            }
            session = calls.session("b")
            assert session is not None
            assert session.opened == seqs[1]
            (letter,) = await calls.dead_letters.list()
            assert (letter.letter.seq, letter.letter.reason) == (seqs[0], "ParseError")
            assert from_json(letter.letter.payload) == from_json(payload)
    assert [log["event"] for log in logs] == ["journal.unreadable_event"]
    assert [name for name, _, _ in seen.events] == ["dialout-answered"]
    forget_checkpoint(kind, path)
    with structlog.testing.capture_logs():
        async with Dispatcher(seen.router, journal=journal_at(kind, path), clock=clock) as calls:
            assert len(await calls.dead_letters.list()) == 1
            assert len(calls.live()) == 2


@pytest.mark.parametrize("payload", [b"\xff\xfe garbage", b"", b"{"])
async def test_bytes_that_are_no_json_are_a_dead_letter_too(payload: bytes, tmp_path: Path) -> None:
    """SQLite keeps whatever it is given; a line would be no line any more."""
    path, clock = tmp_path / "calls", FakeClock()
    journal = journal_at("sqlite", path)
    await journal.open(Settings().model_dump())
    good = to_json(js("dialout-answered", "b"))
    await journal.append([Entry(clock.now(), "daily-js", payload), Entry(clock.now(), "daily-js", good)])
    await journal.aclose()
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=journal_at("sqlite", path), clock=clock) as calls:
            assert len(calls.live()) == 1
            (letter,) = await calls.dead_letters.list()
            assert letter.letter.payload == payload
