"""Dead letters are kept with everything they need, listed, retried and dropped. And handlers that are retried first."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import structlog

from telstate import (
    DefinitionError,
    DialoutAnswered,
    DialoutEvent,
    Dispatcher,
    Outcome,
    ParseError,
    Retry,
    Router,
    Session,
    Settings,
)
from telstate.journals import SqliteJournal
from telstate.routing._ports import DeadLetter, Journal, KeptLetter
from telstate.testing import FakeClock
from tests.calls import SESSION, js
from tests.routing import until

pytestmark = pytest.mark.anyio
FAST = Retry(attempts=4, wait_initial=0.001, wait_max=0.002, wait_jitter=0.0)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], SqliteJournal]:
    """Return a function that makes the same journal again and again."""
    return lambda: SqliteJournal(tmp_path / "calls.db")


async def test_a_handler_that_raised_can_be_retried_and_only_that_one(make: Callable[[], SqliteJournal]) -> None:
    """With the same event id, marked as redelivered; if it fails again, a new letter replaces the old one."""
    router = Router()
    seen: list[tuple[object, ...]] = []
    broken = True

    @router.on(DialoutAnswered)
    async def bill(outcome: Outcome, session: Session, event: DialoutAnswered) -> None:
        seen.append(("bill", outcome.event_id, outcome.redelivered, session.state, event.session_id))
        if broken:
            raise LookupError("no such customer: +12025550101")

    @router.on(DialoutAnswered)
    async def greet() -> None:
        seen.append(("greet",))

    journal = make()
    async with Dispatcher(router, journal=journal) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-answered"))
        await calls.idle()
        (kept,) = await calls.dead_letters.list()
        assert (kept.number, kept.letter.seq, kept.letter.reason, kept.retry_requested) == (1, 2, "LookupError", False)
        assert kept.letter.handler is not None
        assert kept.letter.handler.endswith("bill")
        await calls.dead_letters.retry(1)
        await calls.idle()
        (kept,) = await calls.dead_letters.list()
        assert kept.number == 2
        broken = False
        await calls.dead_letters.retry(2)
        await calls.idle()
        assert await calls.dead_letters.list() == []
    first = ("bill", f"{journal.id}:2", False, "answered", SESSION)
    again = ("bill", f"{journal.id}:2", True, "answered", SESSION)
    assert seen == [first, ("greet",), again, again]


async def test_a_letter_has_its_session_though_that_has_left_memory(make: Callable[[], SqliteJournal]) -> None:
    """As it was then; also for `on_retired`, which has no event; and after a restart."""
    router = Router()
    seen: list[tuple[object, ...]] = []
    broken = True

    @router.on("dialout-stopped")
    async def write_down(session: Session, outcome: Outcome) -> None:
        seen.append(("stopped", session.session_id, session.destination, session.cause, outcome.ended))
        if broken:
            raise OSError("disk")

    @router.on_retired()
    async def final(session: Session) -> None:
        seen.append(("retired", session.session_id, session.destination, session.cause))
        if broken:
            raise OSError("disk")

    clock = FakeClock()
    short = Settings(retention=10, key_ttl=10)
    async with Dispatcher(router, journal=make(), clock=clock, settings=short) as calls:
        await calls.receive(js("dialout-answered", destination="+12025550101"))
        await calls.receive(js("dialout-stopped"))
        await clock.advance(11)
        await calls.idle()
        assert calls.session(SESSION) is None
    broken = False
    seen.clear()
    reader = make()
    numbers = [kept.number async for kept in reader.dead_letters()]
    assert len(numbers) == 2
    journal = make()
    await journal.open({})
    await journal.request_retry(numbers)  # as the command does while no service runs
    await journal.aclose()
    async with Dispatcher(router, journal=make(), clock=clock) as calls:
        await calls.idle()  # requested retries begin at the start
    assert seen == [
        ("stopped", SESSION, "+12025550101", "completed", True),
        ("retired", SESSION, "+12025550101", "completed"),
    ]
    assert [kept async for kept in make().dead_letters()] == []


async def written(journal: Journal) -> None:
    """Wait until there is a letter: they are written a moment later."""
    with anyio.fail_after(5):
        while not [kept async for kept in journal.dead_letters()]:  # noqa: ASYNC110 - another process would look like this too
            await anyio.sleep(0.005)


async def test_a_running_service_retries_what_another_process_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service does not need to stop."""
    monkeypatch.setattr("telstate.routing._dead_letters._LOOK_EVERY", 0.02)
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def fail_once(outcome: Outcome) -> None:
        seen.append(outcome.redelivered)
        if not outcome.redelivered:
            raise ValueError("once")

    async with Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db")) as calls:
        await calls.receive(js("dialout-connected"))
        other = SqliteJournal(tmp_path / "calls.db")
        await written(other)
        await other.request_retry([1])
        await until(lambda: seen == [False, True])
    assert [kept async for kept in other.dead_letters()] == []


async def test_events_beyond_a_lanes_limit_can_be_retried(make: Callable[[], SqliteJournal]) -> None:
    """With all their handlers."""
    router, seen = Router(), []
    gate = anyio.Event()

    @router.on("dialout-warning")
    async def warned(session: Session, outcome: Outcome) -> None:
        await gate.wait()
        seen.append(outcome.redelivered)

    async with Dispatcher(router, journal=make(), lane_limit=2) as calls:
        await calls.receive(js("dialout-connected"))
        for _ in range(5):
            await calls.receive(js("dialout-warning"))
        gate.set()
        await calls.idle()
        letters = await calls.dead_letters.list()
        assert {kept.letter.reason for kept in letters} == {"LaneFull"}
        assert len(letters) == 5 - seen.count(False) > 0
        await calls.dead_letters.retry(*(kept.number for kept in letters))
        await calls.idle()
    assert len(seen) == 5
    assert seen.count(True) == len(letters)


async def test_letters_that_cannot_be_retried_are_logged_and_stay(make: Callable[[], SqliteJournal]) -> None:
    """The handler is gone, the payload still cannot be read, or somebody else wrote it."""
    journal = make()
    await journal.open(Settings().model_dump())
    await journal.add_dead_letters(
        [
            DeadLetter(
                1,
                "ValueError",
                "gone",
                "",
                5.0,
                payload=json.dumps(js("dialout-connected")).encode(),
                facts={
                    "session": None,
                    "outcome": {"kind": "noted", "opened": False, "ended": False, "moves": [], "anomalies": []},
                },
            ),
            DeadLetter(0, "ParseError", None, "", 5.0, "webhook", b"{"),
            DeadLetter(3, "ValueError", "x", "", 5.0, payload=b'{"action":"dialout-connected"}', facts={"session": 5}),
        ]
    )
    await journal.request_retry([1, 2, 3])
    await journal.aclose()
    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(Router(), journal=make()) as calls:
            await until(lambda: len(logs) == 3)
            assert len(await calls.dead_letters.list()) == 3
            await calls.dead_letters.drop(1, 2, 3)
            assert await calls.dead_letters.list() == []
    assert sorted(log["event"] for log in logs) == ["dead_letter.unreadable"] * 2 + ["dead_letter.without_handler"]


async def test_without_a_journal_dead_letters_last_until_the_block_is_left() -> None:
    """They can be listed, retried and dropped as in any journal."""
    router, seen = Router(), list[bool]()

    @router.on(DialoutEvent)
    async def fail_once(outcome: Outcome) -> None:
        seen.append(outcome.redelivered)
        if not outcome.redelivered:
            raise ValueError("once")

    calls = Dispatcher(router)
    async with calls:
        for name in ("connected", "answered"):
            await calls.receive(js(f"dialout-{name}"))
        await calls.idle()
        assert [kept.number for kept in await calls.dead_letters.list()] == [1, 2]
        await calls.dead_letters.retry(1)
        await calls.dead_letters.drop(2)
        await calls.idle()
        assert await calls.dead_letters.list() == []
        await calls.receive(js("dialout-stopped"))
    assert seen == [False, False, True, False]
    async with calls:
        assert await calls.dead_letters.list() == []


async def test_a_retry_that_takes_long_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The letter stays until its handler has finished. Meanwhile the dispatcher looks for letters, also while it begins."""
    monkeypatch.setattr("telstate.routing._dead_letters._LOOK_EVERY", 0.001)

    class Slow(SqliteJournal):
        async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
            found = [kept async for kept in super().dead_letters(retry_requested=retry_requested)]
            await anyio.sleep(0 if found else 0.02)
            for kept in found:
                yield kept

    router, retries, may_go = Router(), list[str](), anyio.Event()

    @router.on(DialoutEvent)
    async def fail_once(session: Session, outcome: Outcome) -> None:
        if not outcome.redelivered:
            raise ValueError("once")
        retries.append(session.session_id)
        await may_go.wait()

    async with Dispatcher(router, journal=Slow(tmp_path / "calls.db")) as calls:
        for number in range(10):
            await calls.receive(js("dialout-connected", f"s{number}"))
        await until(lambda: calls.sizes()["pending"] == 0)
        for kept in await calls.dead_letters.list():
            await calls.dead_letters.retry(kept.number)
        await anyio.sleep(0.1)
        may_go.set()
        await calls.idle()
    assert sorted(retries) == [f"s{number}" for number in range(10)]


# --- retries before giving up --------------------------------------------------------------------------------------


async def test_a_handler_is_retried_before_it_is_given_up(make: Callable[[], SqliteJournal]) -> None:
    """With its middlewares around each attempt; the session's next handlers wait."""
    router, seen = Router(), []

    @router.middleware
    async def around(call_next: Callable[[], Any], handler: str) -> None:
        seen.append("around")
        await call_next()

    @router.on("dialout-connected", retry=FAST)
    async def third_time_lucky() -> None:
        seen.append("attempt")
        if seen.count("attempt") < 3:
            raise OSError("not yet")

    @router.on("dialout-answered")
    async def after() -> None:
        seen.append("after")

    async with Dispatcher(router, journal=make()) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-answered"))
        await calls.idle()
    assert seen == ["around", "attempt"] * 3 + ["around", "after"]
    assert [kept async for kept in make().dead_letters()] == []


async def test_a_handler_that_fails_for_good_becomes_a_letter_and_no_log_shows_a_number(
    make: Callable[[], SqliteJournal],
) -> None:
    """After the given number of attempts, or at once for an exception that is not to be retried."""
    router = Router()
    attempts = {"always": 0, "other": 0}

    @router.on("dialout-connected", retry=FAST)
    async def always(event: DialoutEvent) -> None:
        attempts["always"] += 1
        raise OSError("down")

    @router.on("dialout-connected", retry=FAST._replace(on=OSError))
    async def other() -> None:
        attempts["other"] += 1
        raise KeyError("bug")

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=make()) as calls:
            await calls.receive(js("dialout-connected", destination="+12025550101"))
            await calls.idle()
    assert attempts == {"always": 4, "other": 1}
    assert [kept.letter.reason async for kept in make().dead_letters()] == ["OSError", "KeyError"]
    assert "12025550101" not in repr(logs)


async def test_pauses_between_attempts_end_with_the_drain_and_with_the_session() -> None:
    """Neither waits for a schedule that is of no use any more."""
    router, seen = Router(), []
    slow = Retry(attempts=None, timeout=600, wait_initial=60, wait_max=60)

    @router.on("dialout-connected", retry=slow, live_only=True)
    async def while_it_lives(session: Session) -> None:
        seen.append(session.session_id)
        raise OSError("down")

    with anyio.fail_after(5):
        async with Dispatcher(router, drain=0.05) as calls:
            await calls.receive(js("dialout-connected", "ends"))
            await calls.receive(js("dialout-connected", "stays"))
            await until(lambda: len(seen) == 2)
            await calls.receive(js("dialout-stopped", "ends"))
            await until(lambda: calls.sizes()["pending"] == 1)
    assert sorted(seen) == ["ends", "stays"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (0, "attempts= is at least 1"),
        (True, "takes a Retry, or a number of attempts"),
        ("3", "takes a Retry, or a number of attempts"),
        (Retry(attempts=None, timeout=None), "would never end"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong: object, complaint: str) -> None:
    """At registration."""

    async def handler() -> None:
        """Never called."""

    with pytest.raises(DefinitionError, match=complaint):
        Router().on_end(retry=cast("Any", wrong))(handler)


def test_without_tenacity_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At registration, not at the first failure."""

    async def handler() -> None:
        """Never called."""

    find = importlib.util.find_spec
    monkeypatch.setattr("telstate.routing._retry.find_spec", lambda name: None if name == "tenacity" else find(name))
    with pytest.raises(DefinitionError, match=r"pip install 'telstate\[retry\]'"):
        Router().on_end(retry=3)(handler)


async def test_a_letter_is_retried_once_for_each_request(make: Callable[[], SqliteJournal]) -> None:
    """Its number stays in the journal for a moment after it was retried."""
    router, seen = Router(), []

    @router.on(DialoutEvent)
    async def fail_once(session: Session, outcome: Outcome) -> None:
        if not outcome.redelivered:
            raise ValueError("once")
        seen.append(session.session_id)

    async with Dispatcher(router, journal=make()) as calls:
        for number in range(5):
            await calls.receive(js("dialout-connected", f"s{number}"))
        await calls.idle()
        for kept in await calls.dead_letters.list():
            await calls.dead_letters.retry(kept.number)
            await calls.idle()
    assert seen == [f"s{number}" for number in range(5)]
    assert [kept async for kept in make().dead_letters()] == []


async def test_an_exception_whose_text_cannot_be_encoded_costs_no_letter(make: Callable[[], SqliteJournal]) -> None:
    """Half an emoji in the text: neither its own letter nor those after it are lost."""
    router = Router()

    @router.on("dialout-connected")
    async def bad(session: Session) -> None:
        raise ValueError(f"half an emoji: \ud83d {session.session_id}")

    async with Dispatcher(router, journal=make()) as calls:
        for number in range(3):
            await calls.receive(js("dialout-connected", f"s{number}"))
    assert [kept.letter.detail async for kept in make().dead_letters()] == [f"half an emoji: ? s{n}" for n in range(3)]


async def test_a_retry_runs_one_of_several_handlers_that_share_a_name() -> None:
    """As functions that a factory made do."""
    router, ran = Router(), []

    def make(name: str, **filters: Any) -> None:
        @router.on("dialout-connected", **filters)
        async def handler() -> None:
            ran.append(name)
            if ran.count("bad") == 1 and name == "bad":
                raise ValueError

    make("good")
    make("bad")
    make("filtered out", where=lambda session: False)  # noqa: ARG005
    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await calls.idle()
        (kept,) = await calls.dead_letters.list()
        await calls.dead_letters.retry(kept.number)
        await calls.idle()
    assert ran == ["good", "bad", "bad"]


async def test_an_event_that_is_not_json_is_refused_by_every_journal() -> None:
    """One in memory would not notice before the event becomes a dead letter."""
    wrong: dict[str, Any] = {"mine": object()}
    async with Dispatcher(Router()) as calls:
        with pytest.raises(ParseError, match="can be written as JSON"):
            await calls.receive(DialoutAnswered(session_id="a", **wrong))
        assert calls.sessions() == []


async def test_a_handler_that_fails_on_an_event_made_without_validation_ends_nothing() -> None:
    """The dead letter has no event then."""
    router = Router()

    @router.on(DialoutAnswered)
    async def fail() -> None:
        raise ValueError("no such number")

    async with Dispatcher(router) as calls:
        event = DialoutAnswered(session_id="a").model_copy(update={"room": object()})
        for received in (event, js("dialout-answered", "b")):
            await calls.receive(received)
            await calls.idle()
        letters = await calls.dead_letters.list()
    assert [bool(kept.letter.payload) for kept in letters] == [False, True]


async def test_the_log_names_the_command_that_shows_a_dead_letter(tmp_path: Path) -> None:
    """With the path, so that it can be pasted into a shell; not where nothing is in a file."""
    router = Router()

    @router.on(DialoutAnswered)
    async def bill() -> None:
        raise LookupError("no such customer")

    async def logged(journal: Journal | None) -> list[Any]:
        with structlog.testing.capture_logs() as logs:
            async with Dispatcher(router, journal=journal) as calls:
                await calls.receive(js("dialout-answered"))
                await calls.add_dead_letter(b"{", ParseError("", "JSON", "{"), "webhook")
        return [(log["event"], log.get("see")) for log in logs]

    path = tmp_path / "calls of 20261130.db"
    see = f"telstate dead list '{path}'"
    assert sorted(await logged(SqliteJournal(path))) == [("handler.failed", see), ("payload.dead_letter", see)]
    assert sorted(await logged(None)) == [("handler.failed", None), ("payload.dead_letter", None)]
