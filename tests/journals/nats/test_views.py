"""What the owners of partitions show: once and for all who follow, bounded, and right after every takeover."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from telstate import Direction, Router, Session, State
from telstate.journals.nats import Names, NatsConnection, _showing, _views
from telstate.journals.nats._connection import Stored
from telstate.journals.nats._view import SESSION, View, facts_of, session_from, show_session, view_of, write_view
from telstate.journals.nats._views import Views
from tests.calls import webhook
from tests.journals.nats.workers import Fleet, fleet, room_in
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.anyio
HERE, THERE = room_in(0), room_in(1)
URI = "sip:there.0@example.sip.daily.co"


def views_of(both: Fleet, partition: int) -> Views:
    """The views of a partition's owner."""
    session = both.owner(partition)._session
    assert session is not None
    return session._views


def shown(both: Fleet, session_id: str, state: State) -> bool:
    """Return whether every worker sees a session in a state."""
    views = [views_of(both, partition).find((SESSION, session_id)) for partition in (0, 1)]
    return all(view is not None and session_from(view.content).state is state for view in views)


async def count(server: NatsServer, names: Names) -> tuple[int, int]:
    """The number of messages in the stream of views, and of the last one."""
    async with NatsConnection(server.url) as connection:
        state = (await connection.ask(f"STREAM.INFO.{names.views}"))["state"]
    return state["messages"], state["last_seq"]


async def test_fast_events_of_one_session_are_shown_together(shared_nats: NatsServer, names: Names) -> None:
    """One message stays for each key, and the last one has everything."""
    async with fleet(shared_nats.url, names, Router(), Router()) as both:
        calls = both.calls(1)
        for number in range(300):
            await calls.receive(webhook("dialout.connected", "s", room=THERE, id=f"c{number}"))
            await calls.annotate("s", number=number) if not number % 30 else None
        for number in range(300):
            await calls.receive(webhook("dialout.dtmf", "s", room=THERE, id=f"d{number}"))
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await until(lambda: shown(both, "s", State.ANSWERED))
        messages, last = await count(shared_nats, names)
        assert messages == 1
        assert last <= 13  # not the 600 that changed nothing of it
        found = both.calls(0).session("s")
        assert found is not None
        assert found.notes == {"number": 270}


async def test_a_new_owner_shows_what_the_one_before_did_not(shared_nats: NatsServer, names: Names) -> None:
    """And takes back what is not there any more; what is shown already is not shown again."""
    async with fleet(shared_nats.url, names, Router()) as one:
        await one.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await one.publish(webhook("dialout.stopped", "ended", room=THERE), THERE)
        await one.publish(webhook("dialin.ready", None, room=THERE, sip_endpoint=URI), THERE)
        await until(lambda: one.calls(0).endpoint(URI) and one.calls(0).session("ended"))
        await until(lambda: shown(one, "s", State.ANSWERED))
    await leave_undone(shared_nats, names)
    before = await count(shared_nats, names)
    async with fleet(shared_nats.url, names, Router(), Router()) as both:
        await until(lambda: shown(both, "s", State.ANSWERED))
        await until(lambda: both.calls(0).endpoint("sip:gone@x") is None)
        await until(lambda: both.calls(0).session("lost") is None)
        assert both.calls(0).session("odd") is None
        assert both.calls(0).endpoint(URI) is not None
        assert both.calls(0).session("ended") is not None
        with anyio.fail_after(20):
            while (await count(shared_nats, names))[1] - before[1] < 4:  # noqa: ASYNC110 - the server tells nobody
                await anyio.sleep(0.02)
        await anyio.sleep(0.2)
        assert (await count(shared_nats, names))[1] - before[1] == 4


async def leave_undone(server: NatsServer, names: Names) -> None:
    """As if an owner had been killed before it showed `s`, and before it took back others; one of them cannot be read here."""
    odd = b'{"session_id":"odd","direction":"dialout","state":"future","transitions":[],"_signs":[]}'
    stale = {
        (SESSION, "lost"): show_session(Session("lost", Direction.DIALOUT), []),
        (SESSION, "odd"): odd,
        ("endpoint", "gone@x"): b'["sip:gone@x",["","",""],true,[]]',
    }
    async with NatsConnection(server.url) as connection:
        await connection.ask(f"STREAM.PURGE.{names.views}", {"filter": names.view(1, SESSION, "s")})
        for (kind, name), content in stale.items():
            subject = names.view(1, kind, name.replace("@", "-"))
            await connection.publish(subject, write_view(name, 1, "dead", content))


async def test_what_an_owner_before_had_on_its_way_replaces_nothing(shared_nats: NatsServer, names: Names) -> None:
    """Readers know by its number that it is older, and the owner shows its own again for those who come later."""
    async with fleet(shared_nats.url, names, Router(), Router()) as both, NatsConnection(shared_nats.url) as connection:
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await until(lambda: shown(both, "s", State.ANSWERED))
        old = show_session(Session("s", Direction.DIALOUT), [])
        subject = names.view(1, SESSION, "s")
        late = await connection.publish(subject, write_view("s", 0, "frozen", old))
        stored = None
        with anyio.fail_after(10):
            while stored is None or stored.seq <= late:
                assert shown(both, "s", State.ANSWERED)
                stored = await connection.last(names.views, subject)
        assert session_from(view_of(stored).content).state is State.ANSWERED


@pytest.mark.long
async def test_what_lives_is_shown_again_before_it_is_forgotten(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call may last longer than the stream keeps its view."""
    monkeypatch.setattr(_showing, "_LOOK_EVERY", 0.1)
    monkeypatch.setattr(_showing, "_AGAIN_AFTER", 0.3)
    async with fleet(shared_nats.url, names, Router(), Router()) as both:
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await both.publish(webhook("dialout.stopped", "t", room=THERE), THERE)
        await until(lambda: shown(both, "s", State.ANSWERED) and shown(both, "t", State.STOPPED))
        live, ended = (views_of(both, 0).find((SESSION, name)) for name in ("s", "t"))
        assert live is not None
        await until(lambda: (again := views_of(both, 0).find((SESSION, "s"))) is not None and again.at > live.at)
        assert views_of(both, 0).find((SESSION, "t")) == ended


def _take(views: Views, view: View) -> None:
    views._take(view, facts_of(view))


async def test_what_is_lost_on_its_way_is_shown_again(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for an answer, but what does not come back is published once more, as it is then."""
    monkeypatch.setattr(_showing, "_BACK_WITHIN", 0.5)
    lost = 0

    async def lose(self: NatsConnection, subject: str, data: bytes) -> None:
        nonlocal lost
        lost += 1

    async with fleet(shared_nats.url, names, Router(), Router()) as both:
        monkeypatch.setattr(NatsConnection, "post", lose)
        await both.publish(webhook("dialout.connected", "s", room=THERE), THERE)
        await until(lambda: lost > 0)
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await until(lambda: shown(both, "s", State.ANSWERED))


async def test_no_more_is_on_its_way_than_fits(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest waits until some have come back, and everything is shown in the end."""
    monkeypatch.setattr(_showing, "_AT_ONCE", 3)
    most = 0
    send_some = _showing.Showing._send_some

    async def watched(self: _showing.Showing) -> None:
        nonlocal most
        await send_some(self)
        most = max(most, len(self._sent))

    monkeypatch.setattr(_showing.Showing, "_send_some", watched)
    async with fleet(shared_nats.url, names, Router(), Router()) as both:
        for number in range(30):
            await both.publish(webhook("dialout.answered", f"s{number}", room=THERE), THERE)
        await until(lambda: all(shown(both, f"s{number}", State.ANSWERED) for number in range(30)))
    assert most == 3


def test_views_are_bounded_in_time_and_number(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that finds them."""
    monkeypatch.setattr(_views, "VIEWS_FOR", timedelta(seconds=50))
    monkeypatch.setattr(_views, "_MOST", 20)
    views = Views(NatsConnection("nats://localhost"), names)
    for number in range(100):
        state = (b"idle", b"stopped")[number % 2]
        facts = (number, state, number % 2, number % 3, number, number % 2)
        content = (
            b'{"session_id":"%d","direction":"dialin","state":"%b","room":"r%d","sip_call_id":"x%d","legs":["y%d"],"sip_endpoint":"sip:e%d"}'
            % facts
        )
        _take(views, View((SESSION, str(number)), 0, number, "w", float(number), content))
        _take(views, View(("caller", str(number)), 0, number, "w", float(number), b"[]"))
    views._forget_old()
    assert len(views) == 20
    assert len(list(views.callers())) == 10
    assert {view.key[1] for view in views.legs({"x0"})} == {"90", "93", "96", "99"}
    assert {view.key[1] for view in views.legs({"y95"})} == {"92", "95", "98"}
    assert views.ties.arrived("e1") == ["91", "93", "95", "97", "99"]
    assert views.rooms.sessions("r0") == ["90", "92", "94", "96", "98"]
    _take(views, View(("answer", "a"), 0, 1, "w", 200.0, b"null"))
    views._forget_old()
    assert len(views) == 1
    assert (len(views.ties), len(views._callers)) == (0, 0)
    assert views.rooms.sessions("r0") == []
    assert not views.rooms._room_of


def test_what_cannot_be_read_is_left_out(names: Names) -> None:
    """It is somebody else's, or a newer telstate's."""
    views = Views(NatsConnection("nats://localhost"), names)

    for data in (b"", b"{}", b'{"key":"s","seq":1,"by":"w"}\n[]', b'{"key":"s","seq":1,"by":"w"}\n{', b"\xff\n{}"):
        views._read(Stored(1, 1.0, names.view(0, SESSION, "s"), {}, data))
    assert len(views) == 0
