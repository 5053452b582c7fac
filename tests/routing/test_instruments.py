"""Instruments see every event and are around every handler; whatever they do, events go on. Without any, nothing costs more."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from telstate import DefinitionError, Dispatcher, Event, Outcome, Router, Session
from telstate.routing import _log_context
from telstate.routing._instruments import Instruments
from telstate.routing._ports import HandlerRun
from telstate.testing import FakeClock
from tests.calls import js, webhook

pytestmark = pytest.mark.anyio


class Seen:
    """An instrument that notes what it sees."""

    def __init__(self, *, fails: bool = False) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self._fails = fails

    def _note(self, *what: Any) -> None:
        self.notes.append(what)
        if self._fails:
            raise ValueError("a bug")

    def opened(self, calls: Dispatcher) -> None:
        self._note("opened", len(calls.live()))

    def closed(self, calls: Dispatcher) -> None:
        self._note("closed", len(calls.live()))

    def published(self, event: Event, dialect: str) -> None:
        self._note("published", event.name, dialect)

    def stepped(self, calls: Dispatcher, outcome: Outcome, received_at: float | None, dialect: str) -> None:
        assert calls.session("s") is outcome.session
        self._note(outcome.event.name, str(outcome.kind), received_at, dialect)

    def around(self, handler: str, run: HandlerRun) -> HandlerRun:
        async def noted(job: Any) -> object:
            self.notes.append(("begin", handler.rpartition(".")[2], job.session.session_id))
            try:
                return await run(job)
            except ValueError as error:
                self.notes.append(("raised", str(error)))
                raise

        return noted


def failing_at_the_end() -> Router:
    """Two handlers, one of which raises."""
    router = Router()

    @router.on("dialout-answered")
    async def greet(session: Session) -> None:
        await anyio.lowlevel.checkpoint()

    @router.on_end()
    async def ended(session: Session) -> None:
        raise ValueError("no")

    return router


async def test_it_sees_events_and_handlers_from_the_beginning_to_the_end_of_each_run() -> None:
    """Also when the dispatcher is entered again."""
    seen, clock = Seen(), FakeClock(start=1000.0)
    calls = Dispatcher(failing_at_the_end(), clock=clock)
    calls.instrument(seen)
    for _ in range(2):
        async with calls:
            await calls.receive(webhook("dialout.answered", "s"))
            await calls.receive_many([js("dialout-answered", "s"), js("dialout-stopped", "s")])
            await calls.idle()
        assert seen.notes[:1] == [("opened", 0)]
        steps = [note for note in seen.notes if len(note) == 4]
        assert steps == [
            ("dialout-answered", "moved", 1000.0, "webhook"),
            ("dialout-answered", "duplicate", 1000.0, "daily-js"),
            ("dialout-stopped", "moved", 1000.0, "daily-js"),
        ]
        handlers = [note for note in seen.notes if note[0] in ("begin", "raised")]
        assert handlers == [("begin", "greet", "s"), ("begin", "ended", "s"), ("raised", "no")]
        assert seen.notes[-1] == ("closed", 0)
        seen.notes.clear()


async def test_one_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Neither events nor handlers nor other instruments; the log says so."""
    bad, good = Seen(fails=True), Seen()
    calls = Dispatcher(failing_at_the_end())
    for one in (bad, good):
        calls.instrument(one)
    async with calls:
        outcome = await calls.receive(js("dialout-answered", "s"))
        assert str(outcome.kind) == "moved"
        await calls.idle()
    expected = ["opened", "dialout-answered", "begin", "closed"]
    assert [note[0] for note in good.notes] == [note[0] for note in bad.notes] == expected
    assert sum("instrument.failed" in message for message in caplog.messages) == 3


async def test_it_cannot_be_switched_on_in_the_middle() -> None:
    """What ran so far would be missing."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(DefinitionError, match="before `async with`"):
            calls.instrument(Seen())


async def test_without_one_a_step_and_a_handler_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put around either."""
    monkeypatch.setattr(_log_context, "_filters_made", False)
    router = failing_at_the_end()
    async with Dispatcher(router) as calls:
        assert calls._sequencer._receive == calls._sequencer.engine.receive
        assert not any("bound" in one.run.__qualname__ for one in calls._run._handlers._all)
    assert list(Instruments((), None)) == []


async def test_the_vitals_say_what_waits() -> None:
    """Handlers that run, the fullest lane, what was given up."""
    router, release = Router(), anyio.Event()

    @router.on(Event)
    async def wait() -> None:
        await release.wait()

    async with Dispatcher(router, pending_limit=3) as calls, anyio.create_task_group() as group:
        for name in ("dialout-connected", "dialout-answered"):
            await calls.receive(js(name, "one"))
        await calls.receive(js("dialin-connected", "two"))
        group.start_soon(calls.receive, js("dialin-connected", "three"))
        await anyio.wait_all_tasks_blocked()
        vitals = calls.vitals()
        assert (vitals.pending, vitals.pending_limit, vitals.receiving, vitals.waits) == (3, 3, 1, 1)
        assert (vitals.lanes, vitals.deepest_lane, vitals.handlers_running) == (2, 2, 2)
        assert vitals.live == {("dialout", "answered"): 1, ("dialin", "connected"): 1}
        assert vitals.waited_s == 0
        release.set()
    vitals = calls.vitals()
    assert (vitals.pending, vitals.receiving, vitals.waits, vitals.last_record) == (0, 0, 1, 4)
    assert vitals.waited_s > 0
