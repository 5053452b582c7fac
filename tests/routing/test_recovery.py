"""Recovery from a checkpoint and the events after it: the state is as without the interruption, and unfinished work runs."""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
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
from telstate.calls._evidence import Evidence
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from telstate.testing import FakeClock, Noise, simulate
from telstate.testing._clock import settle
from tests.calls import SESSION, joined, js
from tests.routing import until
from tests.routing.kept import marks, replayed, rest, state_of
from tests.soak.run import copied

pytestmark = pytest.mark.anyio

HOUR = 3600.0
RETENTION = Settings().retention


def crash(path: Path, name: str) -> Path:
    """Copy a journal as a crash would leave it, while a dispatcher writes it."""
    return copied(path, path.parent / name)


def checkpoint_of(path: Path) -> bytes | None:
    """Return the checkpoint of a closed journal, or of a copy."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT state FROM pieces WHERE key = 'engine' ORDER BY revision, place").fetchall()
        return b"".join(row[0] for row in rows) if rows else None


def write_checkpoint(path: Path, state: bytes) -> None:
    """Replace the checkpoint."""
    with closing(sqlite3.connect(path)) as database:
        ((key, revision),) = database.execute("SELECT key, revision FROM checkpoints").fetchall()
        database.execute("DELETE FROM pieces")
        database.execute("INSERT INTO pieces VALUES (?, ?, 0, ?)", (key, revision, state))
        database.commit()


def forget_checkpoint(path: Path) -> None:
    """Leave the events only."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM pieces")
        database.execute("DELETE FROM checkpoints")
        database.commit()


def checkpoint_every(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    """Let a checkpoint be due after so few events."""
    monkeypatch.setattr(SqliteJournal, "checkpoint_every", events)


class Seen:
    """A router whose handlers record their calls."""

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
    """Return all that an engine knows, as JSON values."""
    known: dict[str, Any] = from_json(to_json(engine.snapshot()))
    return known


# --- the same state -----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("way", ["restart", "crash"])
async def test_recovered_and_uninterrupted_are_the_same(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, counts, ids and what is due next, over a bad day with five interruptions; and a full fold agrees."""
    checkpoint_every(monkeypatch, 40)
    settings = Settings(
        retention=60, key_ttl=60, parked_ttl=60, ring_deadline=20
    )  # little to save: checkpoints are many
    noise = Noise(lost=0.05, repeated=0.05, swapped=0.05, delayed=0.02)
    day = list(simulate(3, calls=200, span=3000.0, dialects=["daily-js", "webhook"], twice=0.3, noise=noise))
    path, clock = tmp_path / "calls", FakeClock()
    for part in range(6):
        begin, end = part * len(day) // 6, (part + 1) * len(day) // 6
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
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
        assert checkpoint_of(full) is not None
        forget_checkpoint(full)
        assert checkpoint_of(full) is None
        for place in (crash(path, f"look{part}"), full):
            async with Dispatcher(Router(), journal=SqliteJournal(place), clock=FakeClock(clock.now())) as again:
                counts[OutcomeKind.NOTED] += len(again.live()) > 0  # the gap
                assert again.counts == counts
                counts[OutcomeKind.NOTED] -= len(again.live()) > 0
                assert known_by(again._sequencer.engine, clock) == kept
    assert kept["registry"]["live"]["columns"] or kept["registry"]["ended"]["columns"]


def known_by(engine: Engine, clock: FakeClock) -> dict[str, Any]:
    """Return all that an engine knows by now, and what is due next, without what a start itself changes.

    A start appends one event, the gap, which makes live sessions uncertain, and stays on them as evidence.
    """
    engine.advance(clock.now())
    known = {**everything(engine), "due": engine.next_deadline()}
    for name in ("counts", "number"):
        del known[name]
    live = known["registry"]["live"]["columns"]
    if live:
        live["uncertain"] = None
        live["_evidence"] = [evidence | Evidence.GAP for evidence in live["_evidence"]]
    return known


async def test_event_ids_continue_after_a_restart(tmp_path: Path) -> None:
    """No number is used twice, and the journal keeps its name."""
    path, ids = tmp_path / "calls", list[str]()
    for part in range(4):
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=FakeClock()) as calls:
            for name in ("connected", "stopped"):
                ids.append(str((await calls.receive(js(f"dialout-{name}", f"s{part}"))).event_id))
    assert len({name.rpartition(":")[0] for name in ids}) == 1
    assert [int(name.rpartition(":")[2]) for name in ids] == list(range(1, 9))


@pytest.mark.parametrize("checkpoint", [True, False])
async def test_limits_continue_after_a_restart(checkpoint: bool, tmp_path: Path) -> None:
    """Half of a silence limit passes before the restart, half after it; limits that passed meanwhile are due at once."""
    path, clock = tmp_path / "calls", FakeClock()
    settings = Settings(ring_deadline=400)
    begun = clock.now()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
        await calls.receive(js("dialout-connected", "rings"))
        await calls.receive(js("dialin-connected", "talks"))
        await calls.receive(joined("talks"))
        await clock.advance(300)
    if not checkpoint:
        forget_checkpoint(path)
    router, seen = Router(), list[tuple[str, int]]()

    @router.on("deadline-passed")
    async def deadline(event: Any) -> None:
        seen.append((event.deadline, round(event.due_at - begun)))

    async with Dispatcher(router, journal=SqliteJournal(path), clock=clock) as calls:
        await clock.advance(99)
        await rest(calls)
        assert seen == []
        await clock.advance(2)
        await rest(calls)
        assert seen == [("ring", 400)]
        await clock.advance(198)
        await rest(calls)
        assert len(calls.live()) == 2
        await clock.advance(2)
        await rest(calls)
        (session,) = calls.live()
        assert session.session_id == "talks"
        gone = calls.session("rings")
        assert gone is not None
        assert (gone.cause, gone.ended_at) == (Cause.EXPIRED, begun)
    clock._now = begun + 30 * HOUR
    async with Dispatcher(router, journal=SqliteJournal(path), clock=clock) as calls:
        await rest(calls)
        assert calls.live() == []
        gone = calls.session("talks")
        assert gone is not None
        assert (gone.cause, gone.ended_at) == (Cause.EXPIRED, begun)
        assert state_of(replayed(path)) == state_of(calls._sequencer.engine)


# --- handlers that did not finish ---------------------------------------------------------------------------------


@pytest.mark.parametrize("younger", [False, True], ids=["in the tail", "before the checkpoint"])
@pytest.mark.parametrize("way", ["drain", "crash"])
async def test_handlers_that_did_not_finish_run_again(
    younger: bool, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same id, marked as redelivered; also if a checkpoint was saved since."""
    checkpoint_every(monkeypatch, 5 if younger else 20_000)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    seen.hanging = {"dialout-answered"}
    settings = Settings(retention=60, key_ttl=60)
    with structlog.testing.capture_logs():
        async with Dispatcher(
            seen.router, journal=SqliteJournal(path), clock=clock, settings=settings, drain=0.05
        ) as calls:
            await calls.receive(js("dialout-connected"))
            await settle()
            await calls.receive(js("dialout-answered"))
            await calls.receive(js("dialout-stopped"))
            await settle()
            for number in range(30):
                await calls.receive(js("dialin-warning", f"o{number % 2}", errorMsg=str(number)))
            await until(lambda: not younger or checkpoint_of(path) is not None)
            copy = crash(path, "crash")
    place = copy if way == "crash" else path
    assert (checkpoint_of(place) is not None) == (younger or way == "drain")
    assert seen.ends == {}
    first = [one for one in seen.events if one[0] == "dialout-answered"]
    assert len(first) == 1
    again = Seen()
    async with Dispatcher(again.router, journal=SqliteJournal(place), clock=clock, settings=settings) as calls:
        await rest(calls)
    redelivered = [one for one in again.events if one[0] != "dialout-connected"]  # a crash may lose its mark
    assert [(name, again_) for name, _, again_ in redelivered] == [
        ("dialout-answered", True),
        ("dialout-stopped", True),
    ]
    assert redelivered[0][1] == first[0][1]
    assert again.ends == {SESSION: 1}
    once_more = Seen()
    async with Dispatcher(once_more.router, journal=SqliteJournal(place), clock=clock, settings=settings) as calls:
        await rest(calls)
    assert once_more.events == []


async def test_handlers_get_a_session_that_has_left_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler of `stopped` hung for hours; the checkpoint has the session as it was."""
    checkpoint_every(monkeypatch, 5)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    seen.hanging = {"dialout-stopped"}
    with structlog.testing.capture_logs():
        async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock, drain=0.05) as calls:
            await calls.receive(js("dialout-answered", room="r"))
            await calls.receive(js("dialout-stopped"))
            await clock.advance(RETENTION + 1)
            for number in range(10):
                await calls.receive(js("dialout-connected", f"o{number}"))
            assert calls.session(SESSION) is None
    again = Seen()
    async with Dispatcher(again.router, journal=SqliteJournal(path), clock=clock) as calls:
        await rest(calls)
    assert [name for name, _, _ in again.events] == ["dialout-stopped"]
    assert again.ends == again.retired == {SESSION: 1}


# --- retirements --------------------------------------------------------------------------------------------------


async def test_sessions_retire_exactly_once_over_clean_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts before, while and after retention passes, with calls going on."""
    checkpoint_every(monkeypatch, 10)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    settings = Settings(retention=100, key_ttl=100)
    rng = Random(8)
    ended = 0
    for part in range(12):
        async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
            for number in range(12):
                await calls.receive(js("dialout-connected", f"{part}-{number}"))
                await calls.receive(js("dialout-stopped", f"{part}-{number}"))
                ended += 1
                await clock.advance(rng.uniform(0, 20))
            await rest(calls)
        clock._now += rng.uniform(0, 90)
    async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock, settings=settings) as calls:
        await clock.advance(200)
        await rest(calls)
        assert set(calls.sizes().values()) == {0}
    assert len(seen.retired) == len(seen.ends) == ended
    assert set(seen.retired.values()) == set(seen.ends.values()) == {1}


async def test_a_session_retires_exactly_once_in_runs_without_events(tmp_path: Path) -> None:
    """Retention passes in a run that has no event at all; the next runs must not repeat it."""
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-stopped"))
    clock._now += RETENTION - 10
    for _ in range(3):
        async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
            await rest(calls)
            await clock.advance(20)
            await rest(calls)
        clock._now += 10
    assert seen.retired == {SESSION: 1}


async def test_sessions_retire_at_least_once_over_a_crash_and_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose handler hung, and those that leave while the journal is read."""
    checkpoint_every(monkeypatch, 6)
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    settings = Settings(retention=100, key_ttl=100)
    seen.hanging = {"retired"}
    ids = {f"s{number}" for number in range(20)}
    with structlog.testing.capture_logs():
        async with Dispatcher(
            seen.router, journal=SqliteJournal(path), clock=clock, settings=settings, drain=0.05
        ) as calls:
            for number in range(20):
                await calls.receive(js("dialout-stopped", f"s{number}"))
                await clock.advance(20)
                await rest_but_lanes(calls)
            copy = crash(path, "crash")
    assert seen.retired == {}
    again = Seen()
    clock._now += 1000
    async with Dispatcher(again.router, journal=SqliteJournal(copy), clock=clock, settings=settings) as calls:
        await rest(calls)
        await clock.advance(1)
        await rest(calls)
        assert calls.sizes()["ended"] == 0
    assert again.retired == dict.fromkeys(ids, 1)
    assert {-number for number in range(1, 21)} <= marks(copy)
    last = Seen()
    async with Dispatcher(last.router, journal=SqliteJournal(copy), clock=clock, settings=settings) as calls:
        await rest(calls)
    assert last.retired == {}


async def rest_but_lanes(calls: Dispatcher) -> None:
    """Wait for the journal only: handlers hang."""
    await settle()
    await until(lambda: not calls._sequencer.busy, 10.0)
    await settle()


async def test_sessions_past_their_retention_retire_at_the_start(tmp_path: Path) -> None:
    """The program was down for a week."""
    path, clock, seen = tmp_path / "calls", FakeClock(), Seen()
    async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
        for number in range(50):
            await calls.receive(js("dialout-stopped", f"s{number}"))
    assert seen.retired == {}
    clock._now += 7 * 24 * HOUR
    async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
        await rest(calls)
        assert set(calls.sizes().values()) == {0}
    assert seen.retired == dict.fromkeys((f"s{number}" for number in range(50)), 1)


# --- checkpoints that cannot be used ------------------------------------------------------------------------------


async def busy_journal(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal with a checkpoint, closed; some calls live."""
    checkpoint_every(monkeypatch, 10)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        for number in range(20):
            await calls.receive(js("dialout-connected", f"s{number}"))
            await calls.receive(js("dialout-answered", f"s{number}"))
            if number % 2:
                await calls.receive(js("dialout-stopped", f"s{number}"))
    assert checkpoint_of(path) is not None


def _head_cut(state: bytes) -> bytes:
    return state[: len(state) // 3]


def _inside(state: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return zlib.compress(change(zlib.decompress(state)))


def _newer(state: bytes) -> bytes:
    return _inside(state, lambda text: text.replace(b'[["version"],1]', b'[["version"],2]'))


def _newer_engine(state: bytes) -> bytes:
    return _inside(state, lambda text: text.replace(b'[["engine","version"],5]', b'[["engine","version"],6]'))


def _no_number(state: bytes) -> bytes:
    return _inside(state, lambda text: text.replace(b'[["seq"],', b'[["seq"],"?"]\n[["x"],'))


def _no_path(state: bytes) -> bytes:
    return _inside(state, lambda text: text + b"[[],1]\n")


def _foreign(state: bytes) -> bytes:
    def change(text: bytes) -> bytes:
        begin = text.index(b'[["journal"],"') + len(b'[["journal"],"')
        return text[:begin] + b"00000000" + text[begin + 8 :]

    return _inside(state, change)


_BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": _head_cut,
    "newer": _newer,
    "newer engine": _newer_engine,
    "foreign": _foreign,
    "no number": _no_number,
    "no path": _no_path,
    "not compressed": lambda _: b"\x00\xff{",
    "no JSON": lambda _: zlib.compress(b"{"),
    "other JSON": lambda _: zlib.compress(b'{"a": 1}'),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("damage", list(_BROKEN))
async def test_a_checkpoint_that_cannot_be_used_is_passed_over(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning; the whole journal gives the same, and the next checkpoint is good again."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal(path, clock, monkeypatch)
    state = checkpoint_of(path)
    assert state is not None
    broken = _BROKEN[damage](state)
    assert broken != state
    write_checkpoint(path, broken)
    before = state_of(replayed(path))
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            for facts in before:
                facts["uncertain"] = facts["state"] not in ("stopped", "error")
            assert state_of(calls._sequencer.engine) == before
            for number in range(20):
                await calls.receive(js("dialout-connected", f"more{number}"))
            after = known_by(calls._sequencer.engine, clock)
    assert "checkpoint.failed" not in {log["event"] for log in logs}
    good = checkpoint_of(path)
    assert good is not None
    assert good != broken
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        again = known_by(calls._sequencer.engine, clock)
    assert again == after
    warned = [log for log in logs if log["log_level"] == "warning" and log["event"].startswith("checkpoint.")]
    assert len(warned) == 1


async def test_pieces_of_a_save_that_was_cut_short_are_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no revision; the next save replaces them."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal(path, clock, monkeypatch)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM checkpoints")
        database.commit()
    before = checkpoint_of(path)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            await calls.receive(js("dialout-connected", "more"))
    assert logs == []
    assert checkpoint_of(path) not in (None, before)


async def test_the_checkpoint_of_a_journal_that_was_cut_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody restored an older copy of the events and kept the checkpoint."""
    path, clock = tmp_path / "calls", FakeClock()
    await busy_journal(path, clock, monkeypatch)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM events WHERE seq > 30")
        database.commit()
    before = state_of(replayed(path))
    for facts in before:
        facts["uncertain"] = facts["state"] not in ("stopped", "error")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            assert state_of(calls._sequencer.engine) == before
            assert (await calls.receive(js("dialout-connected", "more"))).seq == 32  # 31: the gap
    assert [log["event"] for log in logs] == ["checkpoint.of_another_journal"]


@pytest.mark.parametrize(("times", "seed"), [(20, 4), pytest.param(100, 5, marks=pytest.mark.long)])
async def test_a_damaged_byte_never_keeps_the_program_from_starting(
    times: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either the checkpoint is passed over, or it can still be read."""
    path, clock, rng = tmp_path / "calls", FakeClock(), Random(seed)
    await busy_journal(path, clock, monkeypatch)
    state = checkpoint_of(path)
    assert state is not None
    for _ in range(times):
        damaged = bytearray(state)
        damaged[rng.randrange(len(state))] = rng.choice(b'[]{}",:0\n x\xff')
        write_checkpoint(path, bytes(damaged))
        with structlog.testing.capture_logs():
            async with Dispatcher(Router(), journal=SqliteJournal(path), clock=FakeClock()) as calls:
                assert sum(calls.counts.values()) > 0


# --- checkpoints while it runs ------------------------------------------------------------------------------------


class Saving(SqliteJournal):
    """A journal that counts its checkpoints, and can fail to save, hang, or save without an answer."""

    checkpoint_every = 20
    saved = 0
    before: Callable[[], Awaitable[None]] | None = None
    after: Callable[[], Awaitable[None]] | None = None

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Save."""
        if self.before is not None:
            await self.before()
        new = await super().save(key, state, revision)
        self.saved += 1
        if self.after is not None:
            await self.after()
        return new


@pytest.fixture
def small_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no checkpoint count as large, and none be due because a second of real time has passed."""
    monkeypatch.setattr("telstate.routing._checkpoints._BYTES_PER_EVENT", 1_000_000)
    monkeypatch.setattr("telstate.routing._tender._EVERY", 3600)


async def fail() -> None:
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


async def warn(calls: Dispatcher, events: int, patience: float = 5) -> None:
    """Receive so many events, and let a checkpoint that is due be saved: a busy disk may take its time."""
    for number in range(events):
        await calls.receive(js("dialin-warning", "s", errorMsg=str(number)))
    with anyio.move_on_after(patience):
        for _ in range(5):
            await settle()
            await anyio.sleep(0.005)
        await until(lambda: calls._sequencer.seq < calls._run.checkpoints.due_at, patience + 1)


@pytest.mark.usefixtures("small_states")
async def test_a_checkpoint_is_due_after_so_many_events_and_not_before(tmp_path: Path) -> None:
    """Each counts from the last one. Leaving saves one only if something came since."""
    journal = Saving(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        await warn(calls, 19)
        assert journal.saved == 0
        await warn(calls, 1)
        assert journal.saved == 1
        await warn(calls, 19)
        assert journal.saved == 1
        await warn(calls, 1)
        assert journal.saved == 2
    assert journal.saved == 2
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        await warn(calls, 18)  # the source gap is the first
        assert journal.saved == 2
        await warn(calls, 1)
        assert journal.saved == 3
        await warn(calls, 1)
    assert journal.saved == 4


@pytest.mark.usefixtures("small_states")
async def test_an_event_during_a_save_makes_no_second_checkpoint_due(tmp_path: Path) -> None:
    """The next is due as many events after the one that was saved."""
    journal, gate = Saving(tmp_path / "calls"), anyio.Event()
    journal.before = gate.wait
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        await warn(calls, 20, patience=0.1)
        await warn(calls, 1, patience=0.1)
        gate.set()
        await warn(calls, 18)
        assert journal.saved == 1
        await warn(calls, 1)
        assert journal.saved == 2


async def test_a_start_at_which_nothing_happens_saves_no_checkpoint(tmp_path: Path) -> None:
    """It has come from one that has everything."""
    journal = Saving(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        await calls.receive(js("dialin-stopped", "s"))
    assert journal.saved == 1
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()):
        pass
    assert journal.saved == 1


@pytest.mark.usefixtures("small_states")
async def test_the_events_after_a_checkpoint_count_in_the_next_run(tmp_path: Path) -> None:
    """A program that crashes every few minutes would otherwise read more and more of them at each start."""
    path = tmp_path / "calls"
    async with Dispatcher(Router(), journal=Saving(path), clock=FakeClock()) as calls:
        await warn(calls, 20)
        await warn(calls, 15)
        copy = crash(path, "crash")
    journal = Saving(copy)
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        assert calls._sequencer.seq == 36
        await warn(calls, 3)
        assert journal.saved == 0
        await warn(calls, 1)
        assert journal.saved == 1


async def test_a_large_checkpoint_is_saved_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing it costs as much as stepping some events, but a start must not take long: at most eight times as many."""
    monkeypatch.setattr("telstate.routing._checkpoints._BYTES_PER_EVENT", 1)
    journal = Saving(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
        await warn(calls, 20)
        assert journal.saved == 1
        await warn(calls, 8 * 20 - 1)
        assert journal.saved == 1
        await warn(calls, 1)
        assert journal.saved == 2


@pytest.mark.both_loops
async def test_a_save_that_was_cut_off_but_stored_is_replaced_at_the_end(tmp_path: Path) -> None:
    """The dispatcher recognizes its own checkpoint, and the last one has everything."""
    path = tmp_path / "calls"
    journal = Saving(path)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            journal.after = anyio.sleep_forever
            await warn(calls, 20, patience=0.1)
            await until(lambda: journal.saved == 1)
            await warn(calls, 5, patience=0.1)
            journal.after = None
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=FakeClock()) as calls:
            assert calls._run.checkpoints._saved == 25
    assert journal.saved == 2
    assert logs == []


@pytest.mark.usefixtures("small_states")
async def test_a_save_that_failed_but_was_stored_is_replaced_by_the_next(tmp_path: Path) -> None:
    """Its answer was lost. The failure is logged, and the next save is tried after as many events again."""
    journal = Saving(tmp_path / "calls")
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            journal.after = fail
            await warn(calls, 20)
            journal.after = None
            await warn(calls, 19)
            assert (journal.saved, [log["event"] for log in logs]) == (1, ["checkpoint.failed"])
            await warn(calls, 1)
            assert journal.saved == 2
            await warn(calls, 20)
            assert journal.saved == 3
    assert [log["event"] for log in logs] == ["checkpoint.failed"]


@pytest.mark.usefixtures("small_states")
async def test_a_save_that_failed_is_tried_again_after_as_many_events(tmp_path: Path) -> None:
    """Not at each event: the disk may be full for hours. And leaving saves all that came since the last good one."""
    path = tmp_path / "calls"
    journal = Saving(path)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            journal.before = fail
            await warn(calls, 20)
            await warn(calls, 19)
            assert len(logs) == 1
            await warn(calls, 1)
            assert len(logs) == 2
            journal.before = None
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=FakeClock()) as calls:
            assert calls._run.checkpoints._saved == 40
    assert {log["event"] for log in logs} == {"checkpoint.failed"}


@pytest.mark.usefixtures("small_states")
@pytest.mark.parametrize("first", ["saved", "failed", "none"])
async def test_a_checkpoint_that_somebody_else_saved_is_never_overwritten(first: str, tmp_path: Path) -> None:
    """Whatever became of the own save before: it is logged as an error, once for as many events as lie between two."""
    path = tmp_path / "calls"
    journal = Saving(path)
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            if first != "none":
                journal.after = fail if first == "failed" else None
                await warn(calls, 20)
                journal.after = None
            logs.clear()
            kept = await journal.load("engine")
            await SqliteJournal.save(journal, "engine", b"somebody else's", None if kept is None else kept[1])
            await warn(calls, 20)
            await warn(calls, 19)
            assert [log["event"] for log in logs] == ["checkpoint.conflict"]
            await warn(calls, 1)
        assert [log["event"] for log in logs] == ["checkpoint.conflict"] * 3  # and when it was left
    assert {log["log_level"] for log in logs} == {"error"}
    assert checkpoint_of(path) == b"somebody else's"


async def test_checkpoints_are_saved_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash finds one that is not old."""
    checkpoint_every(monkeypatch, 20)
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        for number in range(60):
            await calls.receive(js("dialin-warning", "s", errorMsg=str(number)))
            await settle()
        await until(lambda: (calls._run.checkpoints.behind or 0) <= 42)
        copy = crash(path, "crash")
    async with Dispatcher(Router(), journal=SqliteJournal(copy), clock=clock) as calls:
        assert calls._sequencer.seq - calls._run.checkpoints._saved <= 42


async def test_after_a_recovery_without_one_a_checkpoint_is_saved_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long journal was read from its beginning; the next crash should not cost that again."""
    path, clock = tmp_path / "calls", FakeClock()
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    payload = to_json(js("dialin-warning", "s"))
    await journal.append([Entry(clock.now(), "daily-js", payload)] * 100)
    await journal.aclose()
    checkpoint_every(monkeypatch, 20)
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        for number in range(100):
            await calls.receive(js("dialin-warning", "s", errorMsg=str(number)))
            await settle()
        await until(lambda: checkpoint_of(path) is not None)
        copy = crash(path, "crash")
    assert checkpoint_of(copy) is not None


# --- events that can no longer be read ----------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b'{"no": "event"}', b'{"action": "dialout-connected", "sessionId": 5}', b"[1]"])
async def test_an_event_that_cannot_be_read_any_more_becomes_a_dead_letter(payload: bytes, tmp_path: Path) -> None:
    """The rest is recovered, its number is passed over, and there is only one letter."""
    path, clock = tmp_path / "calls", FakeClock()
    async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
    forget_checkpoint(path)
    journal = SqliteJournal(path)
    await journal.open({})
    good = to_json(js("dialout-answered", "b"))
    entries = [Entry(clock.now(), "daily-js", payload), Entry(clock.now(), "daily-js", good)]
    seqs = await journal.append(entries)
    await journal.aclose()
    seen = Seen()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
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
    forget_checkpoint(path)
    with structlog.testing.capture_logs():
        async with Dispatcher(seen.router, journal=SqliteJournal(path), clock=clock) as calls:
            assert len(await calls.dead_letters.list()) == 1
            assert len(calls.live()) == 2


@pytest.mark.parametrize("payload", [b"\xff\xfe garbage", b"", b"{"])
async def test_bytes_that_are_not_json_become_a_dead_letter_too(payload: bytes, tmp_path: Path) -> None:
    """SQLite keeps any bytes."""
    path, clock = tmp_path / "calls", FakeClock()
    journal = SqliteJournal(path)
    await journal.open(Settings().model_dump())
    good = to_json(js("dialout-answered", "b"))
    await journal.append([Entry(clock.now(), "daily-js", payload), Entry(clock.now(), "daily-js", good)])
    await journal.aclose()
    with structlog.testing.capture_logs():
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            assert len(calls.live()) == 1
            (letter,) = await calls.dead_letters.list()
            assert letter.letter.payload == payload
