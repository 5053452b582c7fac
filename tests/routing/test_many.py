"""`receive_many`: the same outcomes as one by one, with one commit for many, and a bad payload holds up no other."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from telstate import (
    DialoutConnected,
    Dispatcher,
    DtmfReceived,
    Event,
    JournalError,
    LogClock,
    NotRunning,
    Outcome,
    OutcomeKind,
    ParseError,
    Router,
)
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from telstate.testing import FakeClock, Noise, simulate
from tests.calls import SESSION, js
from tests.routing.kept import replayed, state_of

pytestmark = pytest.mark.anyio


class Counting(SqliteJournal):
    """A journal that counts the events of each commit, and can fail from one of them on."""

    commits: list[int]
    fails_at = 1_000_000

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append, or fail."""
        self.commits = [*getattr(self, "commits", []), len(entries)]
        if len(self.commits) >= self.fails_at:
            raise OSError(28, "No space left on device")
        return await super().append(entries)


def day(events: int) -> list[bytes]:
    """Return the lines of a bad day."""
    return [sent.line() for sent in islice(simulate(3, calls=events, noise=Noise.of_a_bad_day()), events)]


def facts_of(outcome: Outcome | ParseError) -> tuple[object, ...]:
    """Return what a handler sees of an outcome."""
    assert isinstance(outcome, Outcome)
    session = outcome.session.session_id if outcome.session is not None else None
    return outcome.kind, session, outcome.moves, outcome.opened, outcome.ended, outcome.seq


@pytest.mark.long
@pytest.mark.parametrize("kind", ["none", "sqlite"])
async def test_the_outcomes_are_the_same_as_one_by_one(kind: str, tmp_path: Path) -> None:
    """Every outcome, every session, and the replay of the journal."""
    lines = day(1_700)
    found = []
    for many in (False, True):
        path = tmp_path / f"{many}"
        journal = None if kind == "none" else SqliteJournal(path)
        async with Dispatcher(Router(), journal=journal, clock=FakeClock()) as calls:
            answers = await calls.receive_many(lines) if many else [await calls.receive(line) for line in lines]
            found.append(([facts_of(answer) for answer in answers], state_of(calls._sequencer.engine)))
        if journal is not None:
            assert state_of(replayed(path)) == found[-1][1]
    assert found[0] == found[1]
    assert len(found[0][0]) == 1_700


@pytest.mark.long
async def test_five_hundred_share_a_commit(tmp_path: Path) -> None:
    """That is what `receive_many` is for."""
    journal = Counting(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=journal) as calls:
        await calls.receive_many(day(1_200))
    assert journal.commits == [500, 500, 200]


@pytest.mark.parametrize("kind", ["none", "sqlite"])
async def test_a_payload_that_is_not_an_event_holds_up_no_other(kind: str, tmp_path: Path) -> None:
    """Its error stands in its place."""
    payloads: list[Any] = [js("dialout-connected"), b"{", b"", {"action": 7}, js("dialout-answered")]
    journal = None if kind == "none" else SqliteJournal(tmp_path / "calls")
    async with Dispatcher(Router(), journal=journal) as calls:
        answers = await calls.receive_many(payloads)
        assert [type(answer) for answer in answers] == [Outcome, ParseError, ParseError, ParseError, Outcome]
        assert calls.counts[OutcomeKind.MOVED] == 2
        assert await calls.receive_many([]) == []
        assert [type(answer) for answer in await calls.receive_many([b"{"])] == [ParseError]


async def test_a_journal_that_fails_in_the_middle_reports_the_answers_so_far(tmp_path: Path) -> None:
    """They cover whole commits; nothing has changed for the rest."""
    journal = Counting(tmp_path / "calls.db")
    journal.fails_at = 2
    async with Dispatcher(Router(), journal=journal) as calls:
        with pytest.raises(JournalError, match="No space left") as caught:
            await calls.receive_many([b"{", *day(1_200)])
        assert len(caught.value.answers) == 500
        assert sum(calls.counts.values()) == 499  # one payload was not an event
        journal.fails_at = 1_000_000


@pytest.mark.parametrize("kind", ["none", "sqlite"])
async def test_no_lane_overflows(kind: str, tmp_path: Path) -> None:
    """However low the limit: handlers get their turn in time."""
    handled: Counter[str] = Counter()
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def handle(event: Event) -> None:
        handled[event.action] += 1

    keys = [{"action": "dtmf-event", "sessionId": SESSION, "tone": "1"}] * 700
    journal = None if kind == "none" else SqliteJournal(tmp_path / "calls")
    async with Dispatcher(router, journal=journal, lane_limit=20) as calls:
        await calls.receive_many([js("dialout-answered"), *keys])
        await calls.idle()
    assert handled == {"dialout-answered": 1, "dtmf-event": 700}


async def test_many_senders_at_once_overflow_no_lane() -> None:
    """They do not wait for handlers to finish, but for a turn of the event loop."""
    handled: Counter[str] = Counter()
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def handle(event: Event) -> None:
        handled[event.action] += 1

    async def send(calls: Dispatcher) -> None:
        for _ in range(40):
            await calls.receive({"action": "dialin-ready", "sipEndpoint": "sip:1@room.example", "callClientId": "c"})

    async with Dispatcher(router) as calls:
        async with anyio.create_task_group() as group:
            for _ in range(256):
                group.start_soon(send, calls)
        await calls.idle()
    assert handled == {"dialin-ready": 256 * 40}


async def test_the_pending_limit_holds_for_receive_many() -> None:
    """It waits for handlers, as `receive` does, between two commits."""
    router, may_go = Router(), anyio.Event()

    @router.on(Event, outcomes=OutcomeKind)
    async def handle() -> None:
        await may_go.wait()

    async with Dispatcher(router, pending_limit=600) as calls, anyio.create_task_group() as group:
        group.start_soon(calls.receive_many, day(3_000))
        await anyio.wait_all_tasks_blocked()
        assert 600 <= calls.sizes()["pending"] < 1_100
        may_go.set()
    assert sum(calls.counts.values()) == 3_000


async def test_a_recorded_log_brings_its_own_time(tmp_path: Path) -> None:
    """Each line has its own, though they come together."""
    lines = [
        b'{"type": "dialout.connected", "id": "1", "event_ts": 1730000000, "payload": {"session_id": "s", "timestamp": 1730000000}}',
        b'{"type": "dialout.answered", "id": "2", "event_ts": 1730000010, "payload": {"session_id": "s", "timestamp": 1730000010}}',
    ]
    async with Dispatcher(Router(), clock=LogClock()) as calls:
        await calls.receive_many(lines)
        session = calls.session("s")
        assert session is not None
        assert session.ring_s == 10.0
        assert session.heard_at == 1730000010


@pytest.mark.parametrize("one", [b"{}", "{}", {"action": "dialout-connected"}])
async def test_a_single_payload_is_not_many(one: Any) -> None:
    """It could be iterated by bytes or keys; that is never meant."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(TypeError, match=r"await receive\(payload\)"):
            await calls.receive_many(one)


async def test_outside_the_block_nothing_is_received(tmp_path: Path) -> None:
    """As with `receive`."""
    calls = Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db"))
    with pytest.raises(NotRunning):
        await calls.receive_many([js("dialout-connected")])


def flood() -> Iterator[dict[str, str]]:
    """Yield events of one lane without end."""
    while True:
        yield {"action": "dialin-ready", "sipEndpoint": "sip:1@room.example", "callClientId": "c"}


@pytest.mark.both_loops
@pytest.mark.parametrize("senders", [1, 64])
async def test_a_cancelled_sender_does_not_wait_for_handlers(senders: int) -> None:
    """The workers are cancelled with it, so it would wait forever."""
    router = Router()

    @router.on(Event, outcomes=OutcomeKind)
    async def handle() -> None:
        """Nothing."""

    async def send(calls: Dispatcher) -> None:
        for payload in flood():
            await calls.receive(payload)

    with anyio.fail_after(10), anyio.move_on_after(0.3):
        async with Dispatcher(router, lane_limit=20) as calls, anyio.create_task_group() as group:
            for _ in range(senders):
                group.start_soon(send, calls)


@pytest.mark.both_loops
async def test_a_keyboard_interrupt_of_a_handler_ends_the_sender_too() -> None:
    """It leaves the block; the sender does not spin on."""
    router, count = Router(), 0

    @router.on(Event, outcomes=OutcomeKind)
    async def handle() -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), anyio.fail_after(10):
        async with Dispatcher(router, lane_limit=20) as calls:
            await calls.receive_many(flood())


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["none", "sqlite"])
async def test_receive_many_ends_when_the_block_is_left(kind: str, tmp_path: Path) -> None:
    """The rest is not received, and the error has the answers so far."""
    journal = None if kind == "none" else SqliteJournal(tmp_path / "calls")
    calls, caught = Dispatcher(Router(), journal=journal, drain=5.0), []

    async def bring() -> None:
        try:
            await calls.receive_many(flood())
        except NotRunning as error:
            caught.append(len(error.answers))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, calls:
            group.start_soon(bring)
            await anyio.sleep(0.2)
            before = sum(calls.counts.values())
    assert before <= sum(calls.counts.values()) <= before + 1_000
    assert caught == [sum(calls.counts.values())]


@pytest.mark.long
async def test_no_reference_to_an_event_is_left_after_its_handlers() -> None:
    """Not in an idle worker, and not in an exception's traceback."""
    router = Router()

    @router.on(DialoutConnected)
    async def wait() -> None:
        await (
            anyio.lowlevel.checkpoint()
        )  # no sleep: trio's ends by an exception that keeps all frames until a collection

    @router.on(DtmfReceived)
    async def fail() -> None:
        raise ValueError("of this test")

    gc.collect()
    gc.disable()
    try:
        async with Dispatcher(router) as calls:
            for number in range(30):
                await calls.receive({"action": "dialout-connected", "sessionId": f"kept{number}"})
                await calls.receive({"action": "dtmf-event", "sessionId": f"kept{number}", "tone": "1"})
            await calls.idle()
            await anyio.sleep(0.05)
            things = gc.get_objects()
            events = [thing for thing in things if type(thing) in (DialoutConnected, DtmfReceived)]
            errors = [thing for thing in things if type(thing) is ValueError]
            assert [event for event in events if str(event.session_id).startswith("kept")] == []
            assert [error for error in errors if error.args == ("of this test",)] == []
    finally:
        gc.enable()
