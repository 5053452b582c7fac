"""One poisoned event: its handler ends the process at every start. The service comes up, and only that event is given up."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import DialoutEvent, Dispatcher, Event, Router, Session, Settings, SourceGap
from telstate.journals import SqliteJournal
from tests.calls import js
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.routing import until
from tests.routing.dying import SURVIVED, letters_of, run_until_death

DIED = 9
Body = Callable[[Dispatcher], Awaitable[object]]


class Book:
    """A file to which handlers write what they did; a process that dies takes nothing of it along."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "book"
        self._path.touch()

    def write(self, line: str) -> None:
        """Add a line."""
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    def lines(self) -> list[str]:
        """Return all lines so far."""
        return self._path.read_text().split("\n")[:-1]

    def take(self) -> list[str]:
        """Return the lines, and begin anew."""
        found = self.lines()
        self._path.write_text("")
        return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal."""
    return tmp_path / "calls.db"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """What handlers did."""
    return Book(tmp_path)


def receiving(*session_ids: str, name: str = "dialout-connected") -> Body:
    """A body that receives an event of each session, all in one commit, and waits for the handlers."""

    async def body(calls: Dispatcher) -> None:
        await calls.receive_many([js(name, session_id) for session_id in session_ids])
        await calls.idle()

    return body


async def resting(calls: Dispatcher) -> None:
    """A body that only waits for the handlers."""
    await calls.idle()


def starts(path: Path, router: Router, times: int, body: Body = resting) -> list[int]:
    """Start a program again and again; return the exit codes."""
    return [run_until_death(path, router, body) for _ in range(times)]


def killer(book: Book, *, poison: str = "poison") -> Router:
    """A router whose handler ends the process for one session, and takes its time for those that begin with `slow`."""
    router = Router()

    @router.on(DialoutEvent)
    async def work(session: Session, event: Event) -> None:
        book.write(f"{session.session_id} begins")
        if session.session_id == poison:
            os._exit(DIED)
        if session.session_id.startswith("slow"):
            await anyio.sleep(3600)
        await anyio.sleep(0.001)
        book.write(f"{session.session_id} {event.name.removeprefix('dialout-')}")

    return router


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_after_five_deaths_the_event_is_a_dead_letter_and_the_service_comes_up(
    path: Path, book: Book, backend: str
) -> None:
    """It was begun five times, and its neighbours ran."""
    router = killer(book)
    assert run_until_death(path, router, receiving("a", "poison", "b"), backend=backend) == DIED
    for _ in range(4):
        assert run_until_death(path, router, resting, backend=backend) == DIED
    assert letters_of(path) == []
    assert run_until_death(path, router, receiving("new"), backend=backend) == SURVIVED
    assert book.lines().count("poison begins") == 5
    assert {"a connected", "b connected", "new connected"} < set(book.lines())
    (kept,) = letters_of(path)
    assert (kept.letter.reason, kept.letter.handler, kept.letter.seq) == ("ProcessDied", None, 2)
    assert "the process ended 5 times while its handlers ran" in kept.letter.detail
    book.take()
    assert run_until_death(path, router, resting, backend=backend) == SURVIVED
    assert book.lines() == []


@pytest.mark.long
@pytest.mark.parametrize("order", [("slow 1", "slow 2", "poison"), ("slow 1", "poison", "slow 2")])
def test_those_in_flight_at_each_death_are_not_given_up(
    path: Path, book: Book, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run longer than their turn, so they are unfinished at each of the five deaths, as the poisoned event is."""
    monkeypatch.setattr("telstate.routing._deliveries._TURN", 0.1)
    router = killer(book)

    async def until_all_begin(_: Dispatcher) -> None:
        await until(lambda: sorted(set(book.lines())) == ["slow 1 begins", "slow 2 begins"])

    assert starts(path, router, 1, receiving(*order)) + starts(path, router, 4) == [DIED] * 5
    assert book.take().count("poison begins") == 5
    assert run_until_death(path, router, until_all_begin, drain=0.01) == SURVIVED
    assert book.lines().count("slow 1 begins") == 1
    assert [kept.letter.seq for kept in letters_of(path)] == [order.index("poison") + 1]


@pytest.mark.long
def test_one_that_kills_after_its_turn_is_found_too(path: Path, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns become longer until it dies in its own; those beside it are acquitted in theirs."""
    monkeypatch.setattr("telstate.routing._deliveries._TURN", 0.05)
    router = Router()

    @router.on(DialoutEvent)
    async def work(session: Session) -> None:
        await anyio.sleep(0.12 if session.session_id == "poison" else 3600)
        os._exit(DIED)

    async def until_it_is_given_up(calls: Dispatcher) -> None:
        with anyio.fail_after(20):
            while not await calls.dead_letters.list():  # noqa: ASYNC110 - a journal tells nobody
                await anyio.sleep(0.01)

    code = run_until_death(path, router, receiving("slow 1", "poison", "slow 2", "slow 3"))
    died = 0
    while code == DIED:
        died += 1
        assert died < 12
        code = run_until_death(path, router, until_it_is_given_up, drain=0.01)
    assert code == SURVIVED
    assert [kept.letter.seq for kept in letters_of(path)] == [2]


def test_the_order_within_a_session_holds_and_new_events_wait(path: Path, book: Book) -> None:
    """Two suspects of one session, one that was received after them, and one that comes while they run."""
    router, deaths = Router(), 3

    @router.on(DialoutEvent)
    async def work(session: Session, event: Event) -> None:
        await anyio.sleep(0.02)
        book.write(f"{session.session_id} {event.name}")
        if event.name == "dialout-answered" and book.lines().count("s dialout-answered") <= deaths:
            os._exit(DIED)

    async def call(calls: Dispatcher) -> None:
        await calls.receive_many([js(f"dialout-{name}", "s") for name in ("connected", "answered", "warning")])
        await calls.idle()

    async def hang_up(calls: Dispatcher) -> None:
        await calls.receive(js("dialout-stopped", "s"))
        await calls.idle()

    assert run_until_death(path, router, call) == DIED
    assert starts(path, router, 2) == [DIED] * 2
    assert run_until_death(path, router, hang_up) == SURVIVED
    assert book.lines()[-3:] == ["s dialout-answered", "s dialout-warning", "s dialout-stopped"]
    assert letters_of(path) == []


def test_a_program_that_is_left_in_order_counts_nothing(path: Path, book: Book) -> None:
    """However often it is deployed while a handler takes long."""
    router = killer(book)

    async def until_it_begins(calls: Dispatcher) -> None:
        if not calls.sessions():
            await calls.receive(js("dialout-connected", "slow"))
        await until(book.lines)

    for _ in range(8):
        assert run_until_death(path, router, until_it_begins, drain=0.01) == SURVIVED
        assert book.take() == ["slow begins"]
    assert letters_of(path) == []


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_the_limit_can_be_chosen(path: Path, book: Book, limit: int) -> None:
    """It is the number of times that the handler is begun."""
    router = killer(book)
    code = run_until_death(path, router, receiving("a", "poison", "b"), max_deliveries=limit)
    while code == DIED:
        code = run_until_death(path, router, resting, max_deliveries=limit)
    assert code == SURVIVED
    assert book.lines().count("poison begins") == limit
    assert [kept.letter.seq for kept in letters_of(path)] == [2]
    with pytest.raises(ValueError, match="max_deliveries= takes a number from 2 on"):
        Dispatcher(router, max_deliveries=1)


@pytest.mark.long
def test_a_killed_retry_is_withdrawn(path: Path, book: Book) -> None:
    """Somebody who retries the dead letter of a poisoned event does not keep the service down either."""
    router = killer(book)
    starts(path, router, 1, receiving("poison"))
    starts(path, router, 4)

    async def retry(calls: Dispatcher) -> None:
        (kept,) = await calls.dead_letters.list()
        await calls.dead_letters.retry(kept.number)
        await calls.idle()

    assert run_until_death(path, router, retry) == DIED
    assert starts(path, router, 4) == [DIED] * 4
    assert run_until_death(path, router, resting) == SURVIVED
    (kept,) = letters_of(path)
    assert (kept.number, kept.letter.reason, kept.retry_requested) == (2, "ProcessDied", False)
    assert "while it was tried again" in kept.letter.detail
    assert book.lines().count("poison begins") == 10
    assert run_until_death(path, router, resting) == SURVIVED


def test_the_handlers_of_a_retirement_are_given_up_too(path: Path, book: Book) -> None:
    """They are no event's: their number is below zero."""
    router = Router()

    @router.on_retired()
    async def record(session: Session) -> None:
        book.write(session.session_id)
        if session.session_id == "poison":
            os._exit(DIED)

    async def end(calls: Dispatcher) -> None:
        await calls.receive_many(
            [js("dialout-stopped", name) for name in ("a", "poison", "b")]
        )  # all before one retires
        await until(lambda: not calls.sessions())
        await calls.idle()

    short = Settings(retention=0.1, key_ttl=0.1, parked_ttl=0.1)
    code, died = run_until_death(path, router, end, settings=short), 1
    while code == DIED and died < 9:
        code, died = run_until_death(path, router, resting, settings=short), died + 1
    assert code == SURVIVED
    assert [kept.letter.seq for kept in letters_of(path)] == [-2]
    assert set(book.lines()) == {"a", "poison", "b"}


@pytest.mark.parametrize("how", ["exit", "raise", "interrupt"])
def test_a_filter_that_ends_the_process_does_not_do_so_at_every_start(path: Path, book: Book, how: str) -> None:
    """It is asked when the event is stepped, and again by a start, before any handler runs. The other handlers run."""
    router = Router()

    def deadly(session: Session) -> bool:
        if session.session_id != "poison":
            return True
        if how == "exit":
            os._exit(DIED)
        raise SystemExit(DIED) if how == "raise" else KeyboardInterrupt

    @router.on(DialoutEvent, where=deadly)
    async def filtered(session: Session) -> None:
        book.write(f"filtered {session.session_id}")

    @router.on(DialoutEvent)
    async def unfiltered(session: Session) -> None:
        book.write(f"unfiltered {session.session_id}")

    codes = [run_until_death(path, router, receiving("a", "poison", "b"))]
    while codes[-1] == DIED and len(codes) < 9:
        codes.append(run_until_death(path, router, resting))
    assert codes == {"exit": [DIED] * 5 + [SURVIVED], "raise": [SURVIVED], "interrupt": [130]}[how]
    expected = {"filtered a", "filtered b", "unfiltered a", "unfiltered poison", "unfiltered b"}
    if how == "exit":  # the process ended before the events behind it were stepped
        (kept,) = letters_of(path)
        assert "the filters (where=)" in kept.letter.detail
        assert kept.letter.facts is not None
        assert [name.rsplit(".", 1)[1] for name in kept.letter.facts["handlers"]] == ["filtered"]
    assert set(book.lines()) == expected
    assert run_until_death(path, router, resting) == SURVIVED


def test_a_handler_of_the_starts_own_event_does_not_keep_it_down(path: Path, book: Book) -> None:
    """A start says that events may have been missed; it does not say so again while that is not handled."""
    router = Router()

    @router.on(SourceGap)
    async def poisoned() -> None:
        book.write("gap")
        os._exit(DIED)

    assert run_until_death(path, router, receiving("a")) == SURVIVED
    assert starts(path, router, 6) == [DIED] * 5 + [SURVIVED]
    assert book.lines() == ["gap"] * 5
    assert [kept.letter.reason for kept in letters_of(path)] == ["ProcessDied"]


@pytest.mark.long
def test_a_handler_that_hangs_until_it_is_killed(path: Path, book: Book) -> None:
    """As a supervisor does with a service whose event loop does not answer."""
    router = Router()

    @router.on(DialoutEvent)
    async def hang() -> None:
        book.write("begins")
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # the supervisor
        time.sleep(3600)  # noqa: ASYNC251 - this is what is wrong with it

    assert starts(path, router, 1, receiving("a")) + starts(path, router, 4) == [-signal.SIGALRM] * 5
    assert run_until_death(path, router, resting) == SURVIVED
    assert [kept.letter.reason for kept in letters_of(path)] == ["ProcessDied"]


def test_a_handler_that_was_removed_is_no_dead_letter(path: Path, book: Book) -> None:
    """A deployment without it ends the trouble as well."""
    starts(path, killer(book), 1, receiving("poison"))
    starts(path, killer(book), 4)
    assert run_until_death(path, Router(), resting) == SURVIVED
    assert letters_of(path) == []
    assert run_until_death(path, killer(book), resting) == SURVIVED


def test_a_normal_run_writes_no_record(path: Path, book: Book) -> None:
    """Neither for events that finish, nor at a start that finds nothing unfinished."""
    for _ in range(2):
        assert run_until_death(path, killer(book), receiving("a", "b")) == SURVIVED
    assert anyio.run(SqliteJournal(path).load, "deliveries") is None


@pytest.mark.anyio
async def test_on_a_shared_journal_too() -> None:
    """Its owner dies again and again: the next one has the journal as it was then, and the events of others are in it."""
    router, began, log = Router(), list[str](), SharedLog()
    left = list[SharedLog]()

    @router.on(DialoutEvent)
    async def work(session: Session) -> None:
        began.append(session.session_id)
        if session.session_id == "poison":
            left.append(copy_of(log))
            await anyio.sleep(3600)

    for start in range(5):
        async with Dispatcher(router, journal=SharedMemoryJournal(log), drain=0.01) as calls:
            if not start:
                await calls.receive_many([js("dialout-connected", name) for name in ("a", "poison", "b")])
            await until(lambda start=start: len(left) > start)  # type: ignore[misc]
        log = left[start]
    async with Dispatcher(router, journal=SharedMemoryJournal(log)) as calls:
        await calls.idle()
        (kept,) = await calls.dead_letters.list()
    assert (kept.letter.seq, kept.letter.reason) == (2, "ProcessDied")
    assert began.count("poison") == 5
    assert {"a", "b"} < set(began)


def copy_of(log: SharedLog) -> SharedLog:
    """Return what a shared log has now, as its owner's death leaves it."""
    copied = SharedLog(checkpoint_every=log.checkpoint_every)
    copied.id, copied.settings, copied.last_letter = log.id, log.settings, log.last_letter
    copied.records, copied.done = list(log.records), set(log.done)
    copied.checkpoints, copied.letters = dict(log.checkpoints), dict(log.letters)
    return copied


@pytest.mark.parametrize("broken", ["load", "save", "damaged"])
def test_a_record_that_cannot_be_kept_does_not_keep_it_from_starting(broken: str, path: Path, book: Book) -> None:
    """It is logged; handlers run as after a first crash."""

    class Broken(SqliteJournal):
        async def load(self, key: str) -> tuple[bytes, int] | None:
            if key == "deliveries" and broken == "load":
                raise OSError("no such disk")
            return await super().load(key)

        async def save(self, key: str, state: bytes, revision: int | None) -> int:
            if key == "deliveries" and broken == "save":
                raise OSError("no such disk")
            return await super().save(key, state, revision)

    router = killer(book)
    assert starts(path, router, 1, receiving("poison", "b")) + starts(path, router, 1) == [DIED] * 2
    if broken == "damaged":
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE pieces SET state = ? WHERE key = 'deliveries'", (b"{",))
            database.commit()

    async def start() -> None:
        async with Dispatcher(killer(book, poison="none"), journal=Broken(path)) as calls:
            await calls.idle()

    with structlog.testing.capture_logs() as logs:
        anyio.run(start)
    assert letters_of(path) == []
    assert ("deliveries.not_written" if broken == "save" else "deliveries.unreadable") in {log["event"] for log in logs}
    assert "b connected" in book.lines()
