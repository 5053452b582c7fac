"""Observers see the outcome of every event, as it was; events go on whatever an observer does."""

from __future__ import annotations

import pytest

from telstate import Dispatcher, NotRunning, Outcome, Router
from tests.calls import SESSION, js

pytestmark = pytest.mark.anyio


class Seen:
    """What an observer saw."""

    def __init__(self, *, fails: bool = False) -> None:
        self.states: list[tuple[str, str | None]] = []
        self.is_closed = False
        self._fails = fails

    def stepped(self, outcome: Outcome) -> None:
        self.states.append((str(outcome.kind), None if outcome.session is None else str(outcome.session.state)))
        if self._fails:
            raise ValueError("a bug")

    def closed(self) -> None:
        self.is_closed = True


async def test_it_sees_what_changes_nothing_too_and_the_state_as_it_was() -> None:
    """Also of events that are stepped together; and until it is ended, or the dispatcher is left."""
    seen, other = Seen(), Seen()
    events = [js("dialout-connected"), js("dialout-connected"), {"action": "new"}, js("dialout-stopped")]
    async with Dispatcher(Router()) as calls:
        stop = calls.observe(seen)
        calls.observe(other)
        await calls.receive_many(events)
        expected = [("moved", "connected"), ("duplicate", "connected"), ("noted", None), ("moved", "stopped")]
        assert seen.states == other.states == expected
        stop()
        outcome = await calls.receive(js("dialout-answered"))
        assert (len(seen.states), len(other.states)) == (4, 5)
        assert calls.last_event_id == outcome.event_id
        assert not other.is_closed
    assert (seen.is_closed, other.is_closed) == (False, True)
    with pytest.raises(NotRunning):
        calls.observe(seen)


async def test_one_that_raises_is_closed_and_stops_nothing() -> None:
    """Neither the events nor other observers."""
    bad, good = Seen(fails=True), Seen()
    async with Dispatcher(Router()) as calls:
        calls.observe(bad)
        calls.observe(good)
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-stopped"))
        assert (len(bad.states), bad.is_closed) == (1, True)
        assert len(good.states) == 2


async def test_without_an_observer_a_step_is_what_it_was() -> None:
    """Also after there was one."""
    async with Dispatcher(Router()) as calls:
        before = calls._sequencer._listener
        calls.observe(Seen())()
        assert calls._sequencer._listener is before
        await calls.receive(js("dialout-connected"))


async def test_a_caller_is_found_by_id_and_by_event() -> None:
    """Also once they are not on hold any more."""
    async with Dispatcher(Router()) as calls:
        event = {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"}
        outcome = await calls.receive(event)
        caller = calls.caller("c")
        assert caller is not None
        assert calls.caller(outcome.event) is caller
        other = await calls.receive(js("dialout-connected"))
        assert calls.caller(other.event) is calls.caller("x") is calls.caller(SESSION) is None
