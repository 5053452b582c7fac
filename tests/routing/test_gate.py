"""The gate before handlers: closed, none starts and nothing is lost. And leaving a shared journal, which is never idle."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
import structlog
from pydantic_core import to_json

from telstate import Dispatcher, Event, Outcome, Router, Session, State, parse
from telstate.routing._ports import Entry
from telstate.testing._clock import settle
from tests.calls import js
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


class Lease:
    """What a program would renew."""

    valid = True

    def __call__(self) -> bool:
        """Whether handlers may start."""
        return self.valid


class Book:
    """A router whose handlers write down when they start and end."""

    def __init__(self, **options: Any) -> None:
        self.started: list[str] = []
        self.finished: list[str] = []
        self.again: list[bool] = []
        self.go_on = anyio.Event()
        self.router = Router()

        @self.router.on(Event, **options)
        async def handle(session: Session, outcome: Outcome) -> None:
            self.started.append(session.session_id)
            self.again.append(outcome.redelivered)
            if session.session_id.startswith("slow"):
                await self.go_on.wait()
            self.finished.append(session.session_id)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_closed_gate_starts_no_handler_and_cancels_none(shared: bool) -> None:
    """Events are stepped all the same; when it opens, their handlers run."""
    book, lease = Book(), Lease()
    journal = SharedMemoryJournal(SharedLog()) if shared else None
    async with Dispatcher(book.router, journal=journal, gate=lease) as calls:
        await calls.receive(js("dialout-connected", "slow"))
        await until(lambda: book.started == ["slow"])
        lease.valid = False
        for name in ("slow", "a", "b"):
            await calls.receive(js("dialout-answered", name))
        assert {str(session.state) for session in calls.live()} == {"answered"}
        book.go_on.set()
        await until(lambda: book.finished == ["slow"])
        await anyio.sleep(0.15)
        assert book.started == ["slow"]
        lease.valid = True
        await calls.idle()
    assert sorted(book.finished) == ["a", "b", "slow", "slow"]


async def test_a_gate_that_closes_between_two_handlers_of_one_event_holds_the_second() -> None:
    """Also where the first never waits: it may have blocked the loop for longer than a lease lasts."""
    router, lease, ran = Router(), Lease(), list[str]()

    @router.on_start()
    async def first(session: Session) -> None:
        if session.session_id == "waits":
            await anyio.sleep(0.01)
        ran.append(f"first {session.session_id}")
        lease.valid = False

    @router.on(Event)
    async def second(session: Session) -> None:
        ran.append(f"second {session.session_id}")

    async with Dispatcher(router, journal=SharedMemoryJournal(SharedLog()), gate=lease) as calls:
        for name in ("waits", "blocks"):
            await calls.receive(js("dialout-connected", name))
            await until(lambda name=name: ran and ran[-1] == f"first {name}")  # type: ignore[misc]
            await anyio.sleep(0.1)
            assert ran[-1] == f"first {name}"
            lease.valid = True
            await calls.idle()
            assert ran[-1] == f"second {name}"


async def test_a_handler_for_live_sessions_does_not_start_where_its_session_ended_at_the_gate() -> None:
    """As where it waited in its lane."""
    book, lease = Book(live_only=True), Lease()
    lease.valid = False
    async with Dispatcher(book.router, journal=SharedMemoryJournal(SharedLog()), gate=lease) as calls:
        await calls.receive_many([js("dialout-connected", "a"), js("dialout-connected", "b")])
        await settle()
        await calls.receive(js("dialout-stopped", "a"))
        lease.valid = True
        await calls.idle()
    assert book.started == ["b"]


async def test_what_waits_at_the_gate_costs_no_task_each_and_delays_no_step() -> None:
    """A worker has hundreds of dispatchers, and each may have a backlog when its lease is suspended."""
    book, lease = Book(), Lease()
    lease.valid = False
    log = SharedLog(checkpoint_every=None)
    async with Dispatcher(book.router, journal=SharedMemoryJournal(log), gate=lease) as calls:
        began = time.process_time()
        for number in range(1_500):
            await calls.receive(js("dialout-connected", f"s{number}"))
        assert time.process_time() - began < 5  # 100 turns of the loop for each would be ten times as long
        assert len(calls._run.lanes) == 1_500
        assert sum(lane.task is not None for lane in calls._run.lanes._lanes.values()) <= 1
        lease.valid = True
        await calls.idle()
    assert len(book.finished) == 1_500


# --- leaving a shared journal -------------------------------------------------------------------------------------


def append(log: SharedLog, action: str, session_id: str) -> None:
    """Append as another process does."""
    payload = js(action, session_id)
    log.append([Entry(time.time(), "daily-js", to_json(payload), parse(payload))])


async def go_on_later(book: Book) -> None:
    """Let slow handlers finish in a while."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.1)
        book.go_on.set()


async def keep_appending(log: SharedLog) -> None:
    """Append for a while."""
    with anyio.CancelScope(shield=True):
        for number in range(50):
            append(log, "dialout-connected", f"n{number}")
            await anyio.sleep(0.001)


async def test_leaving_a_shared_journal_waits_only_for_what_runs() -> None:
    """The rest runs where it is opened next: once, and without a word in the log."""
    log, one, other = SharedLog(), Book(), Book()
    with structlog.testing.capture_logs() as logs:
        async with (
            anyio.create_task_group() as group,
            Dispatcher(one.router, journal=SharedMemoryJournal(log)) as calls,
        ):
            await calls.receive(js("dialout-connected", "slow"))
            await until(lambda: one.started == ["slow"])
            await calls.receive_many([js("dialout-answered", "slow"), js("dialout-warning", "slow")])
            group.start_soon(keep_appending, log)  # as a receiver does that knows of no worker
            group.start_soon(go_on_later, one)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 5
        assert one.finished == ["slow"]
        other.go_on.set()
        async with Dispatcher(other.router, journal=SharedMemoryJournal(log)) as calls:
            await calls.idle()
    assert logs == []
    assert other.finished.count("slow") == 2
    assert len(one.finished) + len(other.finished) == len(log.records)


async def test_a_handler_that_finishes_while_a_shared_journal_is_left_may_wait_for_events() -> None:
    """Own ones, and those of others: they are stepped until it has finished, however many events wait for handlers."""
    log, router, seen, lease = SharedLog(), Router(), list[str](), Lease()

    @router.on_start()
    async def start(session: Session, calls: Dispatcher) -> None:
        if session.session_id == "mine":
            seen.append("started")
            await calls.wait_for("theirs", State.ANSWERED)
            await calls.annotate(session, tenant="acme")
            seen.append("finished")

    async with (
        anyio.create_task_group() as group,
        Dispatcher(router, journal=SharedMemoryJournal(log), pending_limit=5, drain=5, gate=lease) as calls,
    ):
        await calls.receive(js("dialout-connected", "mine"))
        await until(lambda: seen == ["started"])
        with calls.as_handler():
            lease.valid = False  # so that none of these runs
            await calls.receive_many([js("dialout-connected", f"s{number}") for number in range(4)])
        await settle()
        group.start_soon(answer_later, log)
    assert seen == ["started", "finished"]
    assert log.done >= {1}


async def answer_later(log: SharedLog) -> None:
    """Let another process append what the handler waits for, behind more than the pending limit."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.05)
        for number in range(10):
            append(log, "dialout-connected", f"later{number}")
        append(log, "dialout-answered", "theirs")


async def test_what_is_cut_off_is_named_and_runs_again() -> None:
    """Only that: what never began is no trouble."""
    log, one, other = SharedLog(), Book(), Book()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(one.router, journal=SharedMemoryJournal(log), drain=0.05) as calls:
            await calls.receive(js("dialout-connected", "slow"))
            await until(lambda: one.started == ["slow"])
            await calls.receive_many([js("dialout-answered", "slow")])
    (left,) = logs
    assert (left["event"], left["events"]) == ("dispatcher.left_unfinished", 1)
    other.go_on.set()
    async with Dispatcher(other.router, journal=SharedMemoryJournal(log)) as calls:
        await calls.idle()
    assert other.finished == ["slow", "slow"]


# --- a backlog ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("appends", [False, True])
async def test_a_backlog_of_others_waits_in_the_journal_above_the_pending_limit(appends: bool) -> None:
    """In memory it would grow without bound. Handlers that append meanwhile need what is behind it, and go on."""
    log, router, most, ran = SharedLog(checkpoint_every=None), Router(), list[int](), list[str]()

    @router.on_start()
    async def note(session: Session, calls: Dispatcher) -> None:
        most.append(calls.sizes()["pending"])
        await (calls.annotate(session, seen=True) if appends else anyio.sleep(0.001))
        ran.append(session.session_id)

    async with Dispatcher(router, journal=SharedMemoryJournal(log), pending_limit=20) as calls:
        for number in range(500):
            append(log, "dialout-connected", f"s{number}")
        await until(lambda: len(ran) == 500, 20)
        await calls.idle()
    assert appends or max(most) <= 20
