"""Callers on a SIP trunk in a dispatcher: what handlers get, what is refused, and what a restart makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import (
    Caller,
    Dispatcher,
    NoSuchSession,
    NotSupported,
    Router,
    Session,
    Settings,
    SipTrunkIncoming,
)
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from tests.calls.test_callers import FROM, TO, URI, connected
from tests.calls.test_trunk_callers import OTHER, incoming
from tests.routing import until
from tests.routing.kept import replayed
from tests.routing.test_acting import GatedControl
from tests.routing.test_callers import router_with

pytestmark = pytest.mark.anyio


async def test_a_handler_gets_the_caller_by_their_event() -> None:
    """Once, by the type or by Daily's name of it; and the session has what is known of them when it starts."""
    router, seen = Router(), list[Any]()

    @router.on(SipTrunkIncoming)
    async def join(event: SipTrunkIncoming, calls: Dispatcher) -> None:
        seen.append((event.from_, event.room, event.room_url, [caller.state for caller in calls.waiting()]))

    @router.on("sip_trunk.incoming")
    async def named(event: SipTrunkIncoming) -> None:
        seen.append(event.name)

    @router.on_start()
    async def started(session: Session) -> None:
        seen.append((session.caller, session.called, session.held_s))

    async with Dispatcher(router) as calls:
        for _ in range(3):
            await calls.receive(incoming(timestamp="1790000000"))
        await calls.idle()
        await calls.receive(connected(timestamp="1790000002"))
        await calls.idle()
    assert seen == [
        (FROM, "r", "https://x.daily.co/r", ["waiting"]),
        "sip-trunk-incoming",
        (FROM, TO, 2.0),
    ]


@pytest.mark.parametrize("control", [None, GatedControl()])
async def test_a_forward_is_refused(control: Any) -> None:
    """With or without a way to Daily, by the event or the caller. The error says what to do, and nothing was sent."""
    async with Dispatcher(Router(), control=control) as calls:
        event: Any = (await calls.receive(incoming())).event
        no_room: Any = (await calls.receive(incoming("q", room=None))).event
        caller: Any = calls.waiting()[0]
        for waiting in (event, caller):
            with pytest.raises(NotSupported, match="is not forwarded: join the room 'r', and Daily connects them"):
                await calls.forward(waiting, URI)
        with pytest.raises(NotSupported, match="join the room that Daily made for them"):
            await calls.forward(no_room, URI)
        assert caller.state == "waiting"
    assert control is None or control.requests == []


@pytest.mark.parametrize("call_id", ["p", None])
async def test_notes_about_a_caller_are_on_their_session(call_id: str | None, tmp_path: Path) -> None:
    """Whether the call has an id or not, by the event or the caller, and after a restart."""
    path = tmp_path / "calls"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        event = (await calls.receive(incoming(call_id))).event
        assert isinstance(event, SipTrunkIncoming)
        await calls.annotate(event, tenant="acme")
        await calls.annotate(calls.waiting()[0], bot=7)
        with pytest.raises(NoSuchSession):
            await calls.annotate(SipTrunkIncoming(room="elsewhere"), tenant="acme")
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(connected())
        (session,) = calls.sessions()
        assert session.notes == {"tenant": "acme", "bot": 7}


async def test_one_who_hangs_up_in_ringback_is_lost_once() -> None:
    """A connected one is not."""
    lost: list[Caller] = []
    clock = FakeClock()
    async with Dispatcher(router_with(lost), settings=Settings(hold_limit=60), clock=clock) as calls:
        await calls.receive(incoming("p"))
        await calls.receive(incoming("q", OTHER, "s"))
        await clock.advance(2)
        await calls.receive(connected("a"))
        await clock.advance(5000)
        await calls.idle()
    assert [(caller.call_id, caller.room, caller.state) for caller in lost] == [("q", "s", "gave-up")]


async def test_trunk_callers_have_a_lane_each() -> None:
    """Also without call ids: one does not wait until another's handler has ended, and their own handlers keep their order."""
    router, order, gate = Router(), list[str](), anyio.Event()

    @router.on(SipTrunkIncoming)
    async def slow(event: SipTrunkIncoming) -> None:
        if event.room == "r":
            await gate.wait()
        order.append(f"{event.room} rings")

    @router.on_caller_lost()
    async def gone(caller: Caller) -> None:
        order.append(f"{caller.room} lost")

    clock = FakeClock()
    async with Dispatcher(router, settings=Settings(hold_limit=60), clock=clock) as calls:
        for room in "rs":
            await calls.receive(incoming(None, room=room))
        await clock.advance(100)
        await until(lambda: len(order) == 2)
        assert order == ["s rings", "s lost"]
        gate.set()
    assert order == ["s rings", "s lost", "r rings", "r lost"]


async def test_a_killed_handler_runs_again_and_the_journal_replays_to_the_same(tmp_path: Path) -> None:
    """With a checkpoint or without."""
    path, handled = tmp_path / "calls", list[tuple[str | None, bool]]()
    router, stuck = Router(), True

    @router.on(SipTrunkIncoming)
    async def join(event: SipTrunkIncoming, outcome: Any) -> None:
        handled.append((event.room_url, outcome.redelivered))
        if stuck:
            await anyio.sleep_forever()

    async with Dispatcher(router, journal=SqliteJournal(path), drain=0.01) as calls:
        await calls.receive(incoming(None))
        await calls.receive(incoming("q", OTHER, "s"))
        await until(lambda: len(handled) == 2)
    stuck = False
    async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
        await calls.idle()
        assert [(caller.call_id, caller.room) for caller in calls.waiting()] == [("r", "r"), ("q", "s")]
        assert (await calls.receive(incoming("q", OTHER, "s"))).kind == "duplicate"
        await calls.receive(connected("a", None))
        live = [caller.to_dict() for caller in calls._sequencer.engine.unconnected()]
        session = calls.session("a")
        assert session is not None
        record = session.to_dict()
    assert sorted(handled, key=str) == sorted(
        [(f"https://x.daily.co/{r}", again) for r in "rs" for again in (False, True)], key=str
    )
    engine = replayed(path)
    assert [caller.to_dict() for caller in engine.unconnected()] == live
    replayed_session = engine.session("a")
    assert replayed_session is not None
    assert replayed_session.to_dict() == record
    assert (record["caller"], record["called"]) == (FROM, TO)
