"""By which endpoint a dial-in came: what events say, and what follows from the room."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from telstate import Engine, Session, Settings
from tests.calls import feed, joined, js, webhook
from tests.calls.test_callers import OTHER, URI, at, connected, ready, session, stopped


def endpoints(engine: Engine) -> list[str | None]:
    """Return the endpoints of all sessions, in order of first sight."""
    return [one.sip_endpoint for one in engine.sessions()]


def busy_with(engine: Engine, uri: str = URI) -> str | None:
    """Return the session on an endpoint."""
    endpoint = engine.endpoint(uri)
    return None if endpoint is None else endpoint.session_id


def test_a_dialin_came_by_the_only_endpoint_of_its_room() -> None:
    """Also by one that is busy: the end of the caller before was lost."""
    engine = Engine()
    feed(engine, ready(), connected("a"))
    assert (endpoints(engine), busy_with(engine)) == ([URI], "a")
    feed(engine, connected("b"), connected("elsewhere", room="s"))
    assert (endpoints(engine), busy_with(engine)) == ([URI, URI, None], "b")
    assert all(not one.anomalies for one in engine.sessions())
    feed(engine, stopped("b"), stopped("a"))
    assert busy_with(engine) is None


def test_a_second_endpoint_withdraws_what_was_derived() -> None:
    """Also from a call that has ended, and for good."""
    engine = Engine()
    feed(engine, ready(), connected("ended"), stopped("ended"), connected("a"), ready(OTHER))
    assert (endpoints(engine), busy_with(engine)) == ([None, None], None)
    feed(engine, connected("b"), ready())
    assert endpoints(engine) == [None, None, None]


def test_the_ready_may_come_late() -> None:
    """Nothing promises the order of webhooks."""
    engine = Engine()
    feed(engine, connected("a"), joined("a"), connected("b"), stopped("b"))
    assert endpoints(engine) == [None, None]
    feed(engine, ready())
    assert (endpoints(engine), busy_with(engine)) == ([URI, URI], "a")


def test_an_endpoint_that_is_reported_replaces_a_derived_one() -> None:
    """It is no disagreement; and its endpoint is known of the room from then on."""
    engine = Engine()
    feed(engine, ready(), connected("a"), connected("b"))
    feed(engine, js("dialin-connected", "a", sipEndpoint=OTHER))
    assert endpoints(engine) == [OTHER, None]
    assert (busy_with(engine), busy_with(engine, OTHER)) == (None, "a")
    assert not session(engine).anomalies
    feed(engine, js("dialin-stopped", "a", sipEndpoint=URI))
    assert session(engine).anomalies == (f"sip_endpoint: was {OTHER}, then {URI}",)


@pytest.mark.parametrize("uri", [URI, URI.removeprefix("sip:"), f"{URI}?x-daily_display_name=a"])
def test_another_spelling_of_an_endpoint_is_no_second_one(uri: str) -> None:
    """With or without scheme and query."""
    engine = Engine()
    feed(engine, ready(), connected("a"), ready(uri))
    assert endpoints(engine) == [URI]


def test_rooms_of_two_domains_are_two_rooms() -> None:
    """A dial-in of which the domain is not known may be in either."""
    engine = Engine()
    feed(engine, ready(URI, domain_id="d"), ready(OTHER, domain_id="e"))
    feed(engine, connected("a", domain_id="d"), connected("b", domain_id="e"), connected("c"))
    assert endpoints(engine) == [URI, OTHER, None]
    feed(engine, webhook("dialin.stopped", "c", room="r", domain_id="e"))
    assert endpoints(engine) == [URI, OTHER, OTHER]


def test_an_endpoint_of_an_unknown_domain_counts_in_each() -> None:
    """A daily-python client knows its room, but not the domain."""
    engine = Engine()
    feed(engine, {"handler": "on_dialin_ready", "data": URI, "room": "r"})
    feed(engine, {"handler": "on_dialin_connected", "data": {"sessionId": "a"}, "room": "r"})
    feed(engine, connected("b", domain_id="d"))
    assert endpoints(engine) == [URI, URI]
    feed(engine, ready(URI, domain_id="d"))
    assert endpoints(engine) == [URI, URI]
    feed(engine, ready(OTHER, domain_id="d"))
    assert endpoints(engine) == [None, None]


def test_what_names_the_room_may_come_late() -> None:
    """A client reports the dial-in without room, a webhook reports the room."""
    engine = Engine()
    feed(engine, ready(), {"handler": "on_dialin_connected", "data": {"sessionId": "a"}})
    assert endpoints(engine) == [None]
    feed(engine, webhook("participant.joined", "a", room="r"))
    assert (endpoints(engine), busy_with(engine)) == ([URI], "a")


def test_a_dialout_is_on_no_endpoint() -> None:
    """The room called them."""
    engine = Engine()
    feed(engine, ready(), webhook("dialout.answered", "a", room="r"))
    assert (endpoints(engine), busy_with(engine)) == ([None], None)


def test_every_order_of_reports_after_the_readies_gives_the_same() -> None:
    """Of one endpoint, and of two; each of the room's facts comes from another observer."""
    reports: list[dict[str, Any]] = [
        connected("a"),
        webhook("participant.joined", "a", room="r", joined_at=7),
        js("dialin-warning", "a", errorMsg="x"),
        stopped("a"),
    ]
    for readies, expected in (([ready()], URI), ([ready(), ready(OTHER)], None)):
        for order in permutations(reports):
            engine = Engine()
            feed(engine, *readies, *order)
            assert (endpoints(engine), busy_with(engine)) == ([expected], None)


def test_a_meeting_that_ended_does_not_make_the_room_unknown() -> None:
    """What is late is still matched to the endpoint, which cannot be dialled any more."""
    engine = Engine()
    at(
        engine,
        (1, ready()),
        (20, {"type": "meeting.ended", "payload": {"room": "r", "end_ts": 20}}),
        (21, connected("a", timestamp="5")),
    )
    assert endpoints(engine) == [URI]
    endpoint = engine.endpoint(URI)
    assert endpoint is not None
    assert not endpoint.ready


def test_the_far_leg_of_a_transfer_to_a_room_of_ours_is_linked() -> None:
    """From webhooks alone, in which no connected names an endpoint."""
    engine = Engine()
    feed(engine, ready(), connected("a", room="front"), webhook("calltransfer.triggered", "a", to_endpoint=URI))
    feed(engine, connected("b"))
    assert [one.session_id for one in engine.legs("a")] == ["a", "b"]


def test_a_far_leg_by_room_is_withdrawn_with_its_endpoint() -> None:
    """A second endpoint of the room, or another one that is reported, turns the far leg into a guess; the outcome follows."""
    second = (ready(OTHER), js("dialin-connected", "b", sipEndpoint=OTHER))
    for late in second:
        engine = Engine()
        feed(engine, connected("a", room="front"), webhook("calltransfer.triggered", "a", to_endpoint=URI))
        feed(engine, connected("b"), ready())
        assert session(engine).transfers == ((URI, "reached"),)
        assert [one.session_id for one in engine.legs("a")] == ["a", "b"]
        feed(engine, late)
        assert session(engine).transfers == ((URI, "pending"),)
        assert [one.session_id for one in engine.legs("a")] == ["a"]


def test_a_far_leg_by_room_stays_where_its_endpoint_is_reported() -> None:
    """Nothing about the transfer has changed, so nothing is amended."""
    engine = Engine()
    feed(engine, ready(), connected("a", room="front"), webhook("calltransfer.triggered", "a", to_endpoint=URI))
    feed(engine, connected("b"), stopped("a", room="front"), js("dialin-connected", "b", sipEndpoint=URI))
    assert [one.session_id for one in engine.legs("a")] == ["a", "b"]
    assert (session(engine).transfers, session(engine).amended) == (((URI, "reached"),), False)


def test_the_endpoints_of_a_room_are_forgotten_together() -> None:
    """While a call lasts in it none is: one of two would look like the only one."""
    engine = Engine()
    at(engine, (0, ready()), (0, connected("a")), (10, ready(OTHER)), (10, connected("b")))
    at(engine, (7300, js("dialin-warning", "a")), (7300, ready()))
    at(engine, (7301, connected("c")))
    assert endpoints(engine) == [None, None, None]
    at(engine, *((7400.0, stopped(name)) for name in "abc"))
    assert engine.sizes()["rooms"] == 1
    engine.advance(7400 + 7200)
    assert set(engine.sizes().values()) == {0}


def test_rooms_are_bounded_in_number() -> None:
    """The oldest go first, but for those with live calls."""
    engine = Engine(Settings(max_parked=5))
    at(engine, (0, ready()), (0, connected("a")))
    for n in range(100):
        at(engine, (float(n), ready(f"sip:{n}@x.example", f"room {n}")))
    assert engine.sizes()["rooms"] <= 6
    at(engine, (100, connected("b")))
    assert endpoints(engine) == [URI, URI]


def test_a_snapshot_has_what_was_derived() -> None:
    """An engine that is made from it withdraws it as the other does."""
    engine = Engine()
    feed(engine, ready(), connected("a"))
    copy = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    for one in (engine, copy):
        assert (endpoints(one), busy_with(one)) == ([URI], "a")
        feed(one, ready(OTHER), connected("b"))
        assert (endpoints(one), busy_with(one)) == ([None, None], None)
    assert json.dumps(copy.snapshot()) == json.dumps(engine.snapshot())


def test_a_session_that_left_memory_keeps_its_endpoint() -> None:
    """A second endpoint that becomes known later says nothing about it."""
    engine = Engine()
    at(engine, (0, ready()), (0, connected("a")), (5, stopped("a")), (7000, connected("b")))
    (gone,) = [one for one in engine.advance(7206) if isinstance(one, Session)]
    at(engine, (7207, ready(OTHER)))
    assert (gone.sip_endpoint, session(engine, "b").sip_endpoint) == (URI, None)
