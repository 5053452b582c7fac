"""Links between sessions of several partitions: as in one process, in any order, and over a takeover. With a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from telstate import Engine, Router, SessionsLinked
from telstate.journals.nats import Names, NatsConnection, NatsJournal, find
from telstate.journals.nats._linking import Linking
from telstate.routing._payload import read_record
from tests.calls import js, webhook
from tests.journals.nats.workers import Fleet, fleet, room_in
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.anyio
HERE, THERE = room_in(0), room_in(1)
ENDPOINT = "sip:there.0@example.sip.daily.co"
BEGIN = 1_790_000_000


def hook(name: str, session_id: str | None, second: int, room: str, **fields: Any) -> tuple[dict[str, Any], str]:
    """A webhook of a second, and the room to which it is published."""
    stamp = str(BEGIN + second)
    payload = webhook(name, session_id, id=f"{name}{session_id}{second}", timestamp=stamp, room=room, **fields)
    return payload, room


READY = hook("dialin.ready", None, 0, THERE, sip_endpoint=ENDPOINT)
CALLER = hook("dialin.connected", "near", 1, HERE)
TRANSFER = hook("calltransfer.initiated", "near", 10, HERE, to_endpoint=ENDPOINT)
FAR = hook("dialin.connected", "far", 12, THERE)
LEFT = hook("dialin.stopped", "near", 15, HERE)


@asynccontextmanager
async def pair(server: NatsServer, names: Names) -> AsyncIterator[Fleet]:
    """Two workers, each with one of two partitions."""
    async with fleet(server.url, names, Router(), Router()) as both:
        yield both


def record(both: Fleet, partition: int, session_id: str) -> dict[str, Any]:
    """What the owner of a partition knows of one of its sessions; empty if it does not know it."""
    engine = both.calls(partition)._sequencer.engine
    session = engine.session(session_id)
    return {} if session is None else engine.record(session)


def legs(both: Fleet) -> tuple[Any, Any]:
    """The legs in the records of both ends of the transfer."""
    return record(both, 0, "near").get("legs"), record(both, 1, "far").get("legs")


def outcome(both: Fleet) -> str | None:
    """What became of the transfer."""
    transfers = record(both, 0, "near").get("transfers") or [[None, None]]
    found: str | None = transfers[0][1]
    return found


async def journal_of(server: NatsServer, names: Names, partition: int) -> tuple[Engine, list[SessionsLinked], int]:
    """A replay of one partition alone, the links in its journal, and the number of its last event."""
    engine, links, last = Engine(), [], 0
    async with NatsConnection(server.url) as connection:
        async for stored in NatsJournal(connection, await find(connection, names), partition).read():
            event, last = read_record(stored), stored.seq
            engine.receive(event, stored.at, last, stored.dialect)
            if isinstance(event, SessionsLinked):
                links.append(event)
    return engine, links, last


async def settled(
    server: NatsServer, names: Names, both: Fleet, partition: int
) -> tuple[Engine, Engine, list[SessionsLinked]]:
    """A replay of one partition and what its owner knows, once it has stepped everything; and the links in its journal."""
    owner = both.calls(partition)._sequencer
    while True:
        engine, links, last = await journal_of(server, names, partition)
        if owner.seq == last:
            return engine, owner.engine, links
        await anyio.sleep(0.02)  # it is behind, or has appended more meanwhile


async def check_replay(server: NatsServer, names: Names, both: Fleet) -> list[list[SessionsLinked]]:
    """A replay of each partition alone knows what its owner knows. Returns the links of each."""
    found = []
    for partition in (0, 1):
        engine, live, links = await settled(server, names, both, partition)
        assert [engine.record(one) for one in engine.sessions()] == [live.record(one) for one in live.sessions()]
        found.append(links)
    return found


async def test_the_far_leg_of_a_transfer_is_linked(shared_nats: NatsServer, names: Names) -> None:
    """It picks up, so the transfer has reached it; each leg names the other. One event for each fact, and none for what is known."""
    async with pair(shared_nats, names) as both:
        for payload, room in (READY, CALLER, TRANSFER):
            await both.publish(payload, room)
        await until(lambda: outcome(both) == "pending")
        await both.publish(*FAR)
        await until(lambda: outcome(both) == "reached" and legs(both) == (["far"], ["near"]))
        await both.publish(*LEFT)
        await both.publish(*hook("dialin.stopped", "far", 90, THERE))
        await until(lambda: record(both, 0, "near")["cause"] == "transferred")
        await until(lambda: record(both, 1, "far")["state"] == "stopped")
        await until(lambda: record(both, 0, "near")["events"] == 5)
        near, far = await check_replay(shared_nats, names, both)
        assert [(one.other_picked_up, one.other_ended) for one in near] == [(True, None), (True, True)]
        assert [(one.session_id, one.other_session_id) for one in far] == [("far", "near")]


@pytest.mark.parametrize("order", [(2, 3, 0, 1, 4), (4, 3, 2, 1, 0), (3, 1, 2, 4, 0)])
async def test_in_any_order(shared_nats: NatsServer, names: Names, order: tuple[int, ...]) -> None:
    """The far leg may come first, the transfer after the end, and the endpoint last. Everything may come twice."""
    told = (READY, CALLER, TRANSFER, FAR, LEFT)
    async with pair(shared_nats, names) as both:
        for place in order:
            await both.publish(*told[place])
            await both.publish(*told[place])
        await until(lambda: outcome(both) == "reached" and legs(both) == (["far"], ["near"]))
        await until(lambda: record(both, 0, "near")["cause"] == "transferred")  # the end may be stepped after the link
        near, far = await check_replay(shared_nats, names, both)
        assert [one.other_session_id for one in near] == ["far"]
        assert [one.other_session_id for one in far] == ["near"]


async def test_a_far_leg_that_ends_unanswered_is_not_reached(shared_nats: NatsServer, names: Names) -> None:
    """And it is no dial-in before the transfer, nor one that comes later than another."""
    async with pair(shared_nats, names) as both:
        before, later = (hook("dialin.connected", name, at, THERE) for name, at in (("before", 5), ("later", 14)))
        warned = hook("dialin.warning", "far", 12, THERE, error_msg="no media")
        for payload, room in (READY, CALLER, before, later, TRANSFER):
            await both.publish(payload, room)
        await until(lambda: record(both, 0, "near").get("legs") == ["later"])
        await both.publish(*warned)
        await both.publish(*hook("dialin.stopped", "far", 13, THERE))
        await until(lambda: outcome(both) == "not-reached" and legs(both) == (["far"], ["near"]))
        await until(lambda: record(both, 1, "later")["legs"] == [])
        await check_replay(shared_nats, names, both)


async def test_an_endpoint_that_was_a_guess_is_withdrawn(shared_nats: NatsServer, names: Names) -> None:
    """A second one of the room becomes known: nobody knows any more by which of them they came."""
    async with pair(shared_nats, names) as both:
        for payload, room in (READY, CALLER, TRANSFER, FAR):
            await both.publish(payload, room)
        await until(lambda: outcome(both) == "reached" and legs(both) == (["far"], ["near"]))
        await both.publish(*hook("dialin.ready", None, 20, THERE, sip_endpoint="sip:there.1@example.sip.daily.co"))
        await until(lambda: outcome(both) == "pending" and legs(both) == ([], []))
        await check_replay(shared_nats, names, both)


async def replaced(both: Fleet) -> None:
    """End all workers, and start one that takes both partitions over."""
    for worker in both.workers:
        worker.shut_down()
    await both.join()
    await both.shared()


async def test_the_next_owner_links_what_was_not_linked(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what is shown and what its engine knows; and the one after that finds nothing to do."""
    async with pair(shared_nats, names) as both:
        with monkeypatch.context() as patch:
            patch.setattr(Linking, "_link_some", lambda _: anyio.sleep(3600))  # as if each were killed before it could
            for payload, room in (READY, CALLER, TRANSFER, FAR):
                await both.publish(payload, room)
            await until(lambda: outcome(both) is not None and record(both, 1, "far"))
            assert legs(both) == ([], [])
        await replaced(both)
        await until(lambda: outcome(both) == "reached" and legs(both) == (["far"], ["near"]))
        await replaced(both)
        await anyio.sleep(0.5)
        assert [len(links) for links in await check_replay(shared_nats, names, both)] == [1, 1]


async def test_a_link_waits_for_a_session_that_nobody_knows_yet(shared_nats: NatsServer, names: Names) -> None:
    """Wherever it becomes known, and wherever the link was declared; also if neither is known, and if the owner changes meanwhile."""
    one, other, third = (
        hook("dialout.answered", name, 1, room) for name, room in zip("abc", (HERE, THERE, THERE), strict=True)
    )
    async with pair(shared_nats, names) as both:
        await both.calls(0).link("a", "b")  # neither is known
        await both.calls(1).link("c", "a")
        await both.publish(*one)
        await until(lambda: record(both, 0, "a"))
        assert record(both, 0, "a")["legs"] == []
        await replaced(both)
        for payload, room in (other, third):
            await both.publish(payload, room)
        expected = {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"]}

        def found() -> dict[str, list[str]]:
            places = {"a": 0, "b": 1, "c": 1}
            return {name: sorted(record(both, place, name).get("legs") or ()) for name, place in places.items()}

        await until(lambda: found() == expected)
        await check_replay(shared_nats, names, both)


async def test_too_many_legs_are_no_call(shared_nats: NatsServer, names: Names) -> None:
    """A SIP Call-ID that all have says nothing: no partition gets an event for each pair of them."""
    async with pair(shared_nats, names) as both:
        for number in range(40):
            room = (HERE, THERE)[number % 2]
            payload = js("dialout-answered", f"s{number}", room=room, sipCallId="unknown")
            await both.publish(payload, room, "daily-js")
        await until(lambda: len(both.calls(0).legs("unknown")) == 40)
        links = await check_replay(shared_nats, names, both)
        assert len(links[0] + links[1]) < 300
        for number in range(40, 60):
            room = (HERE, THERE)[number % 2]
            await both.publish(js("dialout-answered", f"s{number}", room=room, sipCallId="unknown"), room, "daily-js")
        await until(lambda: len(both.calls(0).legs("unknown")) == 60)
        links = await check_replay(shared_nats, names, both)
        late = {f"s{number}" for number in range(40, 60)}
        assert late.isdisjoint(name for one in links[0] + links[1] for name in (one.session_id, one.other_session_id))
