"""One poisoned event: its handler ends the process at every start. The service comes up, and only that event is given up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from telstate import DialoutEvent, Dispatcher, Event, Router, Session, Settings, SourceGap
from tests.calls import js
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


def starts(path: Path, router: Router, times: int, body: Body = resting, **options: int) -> list[int]:
    """Start a program again and again; return the exit codes."""
    return [run_until_death(path, router, body, **options) for _ in range(times)]


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


@pytest.mark.parametrize("order", [("slow 1", "slow 2", "poison"), ("slow 1", "poison", "slow 2")])
def test_those_in_flight_at_each_death_are_not_given_up(path: Path, book: Book, order: tuple[str, ...]) -> None:
    """They run longer than their turn, so they are unfinished at each of the five deaths, as the poisoned event is."""
    router = killer(book)

    async def until_all_begin(calls: Dispatcher) -> None:
        while len({line for line in book.lines() if line.endswith("begins")} - {"poison begins"}) < 2:
            await anyio.sleep(0.01)

    deaths = starts(path, router, 1, receiving(*order)) + starts(path, router, 4)
    assert deaths == [DIED] * 5
    assert book.take().count("poison begins") == 5
    assert run_until_death(path, router, until_all_begin, drain=0.01) == SURVIVED
    assert sorted(book.lines()) == ["slow 1 begins", "slow 2 begins"]
    assert [kept.letter.seq for kept in letters_of(path)] == [order.index("poison") + 1]
