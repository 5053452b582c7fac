"""What happens in other partitions reaches the engine as events: requests, links, and callers who are handed over."""

from __future__ import annotations

import json

from telstate import Caller, Engine, Event, OutcomeKind, PinlessDialin
from telstate.events import (
    ActionAnswered,
    ActionBegun,
    ActionRequested,
    ActionWithdrawn,
    DeadlinePassed,
    DialinConnected,
    DialinReady,
    PinlessForwarded,
    SessionsLinked,
    TransferInitiated,
    parse,
)
from telstate.journals.nats._view import answer_from, show_answer

NOTED, DUPLICATE, LATE = OutcomeKind.NOTED, OutcomeKind.DUPLICATE, OutcomeKind.LATE
ASKED = ActionRequested(request_id="r", verb="stop", target_id="s", expires_at=50.0)
BEGUN = ActionBegun(request_id="r")
DONE = ActionAnswered(request_id="r")
WITHDRAWN = ActionWithdrawn(request_id="r")
FAILED = ActionAnswered(request_id="r", failure={"type": "NotAllowed", "text": "no"})
URI, OTHER = "sip:room.0@x", "sip:other.0@x"
HELD = PinlessDialin(call_id="c", call_domain="d", from_="+12025550142", to="+12025550100")


def fed(*events: Event, at: float = 10.0) -> Engine:
    """An engine that took in events, one second after another."""
    engine = Engine()
    for number, event in enumerate(events):
        engine.receive(parse(event.to_json()), at + number)
    return engine


def kinds(*events: Event) -> list[OutcomeKind]:
    """The outcomes of events."""
    engine = Engine()
    return [engine.receive(event, 10.0).kind for event in events]


def caller(engine: Engine) -> Caller:
    """The caller on hold."""
    found = engine.caller("c")
    assert found is not None
    return found


def forwarded(uri: str = URI, *, handed_over: bool | None = None, engine: Engine | None = None) -> PinlessForwarded:
    """A forward, with what an engine knows of the caller."""
    held = None if engine is None else caller(engine).held()
    return PinlessForwarded(call_id="c", sip_endpoint=uri, handed_over=handed_over, held=held)


def connected(session_id: str = "d", uri: str = URI) -> DialinConnected:
    """Their dial-in."""
    return DialinConnected(session_id=session_id, sip_endpoint=uri)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_begun_once_and_answered_once() -> None:
    """The stream decides who was first."""
    assert kinds(ASKED, BEGUN, BEGUN, DONE, FAILED, BEGUN, ASKED) == [
        *(NOTED, NOTED, DUPLICATE, NOTED),
        *(DUPLICATE, DUPLICATE, DUPLICATE),
    ]
    assert kinds(BEGUN, DONE) == [LATE, LATE]
    assert kinds(ASKED, FAILED, BEGUN) == [NOTED, NOTED, DUPLICATE]


def test_a_request_that_was_withdrawn_is_never_begun() -> None:
    """Unless it was begun before. It may also be stored after it was withdrawn: its answer was lost."""
    assert kinds(ASKED, WITHDRAWN, BEGUN, DONE, ASKED) == [NOTED, NOTED, DUPLICATE, DUPLICATE, DUPLICATE]
    assert kinds(ASKED, BEGUN, WITHDRAWN, DONE) == [NOTED, NOTED, LATE, NOTED]
    assert kinds(ASKED, BEGUN, DONE, WITHDRAWN) == [NOTED, NOTED, NOTED, LATE]
    assert kinds(WITHDRAWN, ASKED, BEGUN) == [NOTED, DUPLICATE, DUPLICATE]
    engine = fed(ASKED, WITHDRAWN)
    assert engine.answered_requests() == []
    assert Engine.restore(json.loads(json.dumps(engine.snapshot()))).request("r") == engine.request("r")


def test_the_answer_to_a_start_names_the_session() -> None:
    """Also in what other processes are shown."""
    request = fed(ASKED, BEGUN, ActionAnswered(request_id="r", started_id="s")).request("r")
    assert request is not None
    assert request.started_id == "s"
    assert answer_from(show_answer(request), "r") == ActionAnswered(request_id="r", started_id="s")
    refused = fed(ASKED, BEGUN, FAILED).request("r")
    assert refused is not None
    assert answer_from(show_answer(refused), "r") == FAILED


def test_a_request_survives_a_restart_and_leaves_nothing_behind() -> None:
    """Its first answer counts."""
    for events, begun, failure in (((ASKED, BEGUN), True, None), ((ASKED, BEGUN, FAILED, DONE), True, FAILED.failure)):
        engine = fed(*events)
        again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        found = again.request("r")
        assert found is not None
        assert found == engine.request("r")
        assert (found.is_begun, found.failure) == (begun, failure)
        assert again.answered_requests() == (["r"] if FAILED in events else [])
        again.advance(10.0 + 3 * 7200)
        assert again.request("r") is None
        assert not any(again.sizes().values())


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_to_another_partition_stands_in_the_record() -> None:
    """Where the other session never comes; and where it does, as in a log of all partitions."""
    link = SessionsLinked(session_id="a", other_session_id="b", elsewhere=True)
    engine = fed(connected("a"), link, link)
    session = engine.session("a")
    assert session is not None
    assert engine.record(session)["legs"] == ["b"]
    assert [leg.session_id for leg in engine.legs("a")] == ["a"]
    both = fed(connected("a"), link, connected("b", OTHER))
    assert [leg.session_id for leg in both.legs("b")] == ["a", "b"]
    session = both.session("a")
    assert session is not None
    assert both.record(session)["legs"] == ["b"]


TRANSFER = TransferInitiated(session_id="a", to_endpoint=OTHER, occurred_at=11.0)


def shown(session_id: str = "far", *, at: float = 12.0, withdrawn: bool | None = None, **more: bool) -> SessionsLinked:
    """What another partition shows of a dial-in that came by the other endpoint."""
    return SessionsLinked(
        session_id="a",
        other_session_id=session_id,
        elsewhere=True,
        derived=True,
        withdrawn=withdrawn,
        other_endpoint=OTHER,
        other_started_at=at,
    ).model_copy(update={f"other_{name}": value for name, value in more.items()})


def transfer(*events: Event) -> tuple[str, list[str]]:
    """What became of a transfer to another partition, and the legs; also after a restart."""
    engine = fed(connected("a"), TRANSFER, *events)
    found = [
        (one.transfers[0].outcome.value, of.record(one)["legs"])
        for of in (engine, Engine.restore(json.loads(json.dumps(engine.snapshot()))))
        if (one := of.session("a")) is not None
    ]
    assert found[0] == found[1]
    return found[0]


def test_a_far_leg_of_another_partition_decides_on_the_outcome() -> None:
    """By the rules of one that is here: the earliest in time, answered or ended. What is older than known changes nothing back."""
    assert transfer() == ("pending", [])
    assert transfer(shown()) == ("pending", ["far"])
    assert transfer(shown(picked_up=True)) == transfer(shown(picked_up=True, ended=True)) == ("reached", ["far"])
    assert transfer(shown(ended=True)) == ("not-reached", ["far"])
    assert transfer(shown(picked_up=True), shown()) == ("reached", ["far"])
    assert transfer(shown(ended=True), shown("early", at=11.5)) == ("pending", ["early"])
    assert transfer(shown("early", at=11.5), shown(ended=True)) == ("pending", ["early"])
    assert transfer(shown(at=9.0, picked_up=True)) == ("pending", [])
    assert transfer(shown(picked_up=True), shown(at=9.0)) == ("pending", [])


def test_what_another_partition_shows_can_be_withdrawn() -> None:
    """Its endpoint was a guess; and a link that follows from others."""
    assert transfer(shown(picked_up=True), shown(withdrawn=True)) == ("pending", [])
    assert transfer(shown(picked_up=True), shown("other", withdrawn=True)) == ("reached", ["far"])
    link = SessionsLinked(session_id="a", other_session_id="x", elsewhere=True, derived=True)
    assert transfer(link) == ("pending", ["x"])
    assert transfer(link, link, link.model_copy(update={"withdrawn": True})) == ("pending", [])


def test_a_log_of_all_partitions_has_the_far_leg_itself() -> None:
    """What its partition showed of it says nothing more then. Nor does it where no transfer led there."""
    far = DialinConnected(session_id="far", sip_endpoint=OTHER, occurred_at=12.0)
    assert transfer(far, shown(ended=True)) == ("reached", ["far"])
    assert transfer(shown(ended=True), far) == ("reached", ["far"])
    engine = fed(connected("a"), shown(picked_up=True))
    session = engine.session("a")
    assert session is not None
    assert (session.transfers, engine.record(session)["legs"]) == ((), [])


# --- callers ----------------------------------------------------------------------------------------------------------


def test_a_caller_who_was_handed_over_is_not_lost_here() -> None:
    """Nor do they wait here, nor leave a record when they leave memory."""
    engine = fed(HELD, forwarded(handed_over=True))
    assert caller(engine).is_elsewhere
    assert engine.waiting() == engine.unconnected() == []
    assert engine.passed(10_000.0) == []
    assert engine.advance(20_000.0) == ()
    assert not any(engine.sizes().values())


def test_the_session_in_the_other_partition_becomes_theirs() -> None:
    """With what was known of them; whatever comes first."""
    here = fed(HELD)
    goes_on = forwarded(engine=here)
    for events in ((goes_on, connected()), (connected(), goes_on)):
        there = fed(DialinReady(sip_endpoint=URI, room="there"), *events, at=20.0)
        session = there.session("d")
        assert session is not None
        assert (session.caller, session.called) == ("+12025550142", "+12025550100")
        assert caller(there).started_at == 10.0
        assert caller(there).state == "connected"


def test_a_caller_who_does_not_connect_there_is_lost_there() -> None:
    """Once: here they are somebody else's."""
    there = fed(forwarded(engine=fed(HELD)))
    assert [one.call_id for one in there.waiting()] == ["c"]
    (limit,) = there.passed(700.0)
    assert isinstance(limit, DeadlinePassed)
    assert there.receive(limit, 700.0).lost_caller is caller(there)


def test_a_log_of_all_partitions_has_one_caller() -> None:
    """In either order of the two events; and with the limit of the room's partition."""
    here = fed(HELD)
    goes_on, gone = forwarded(engine=here), forwarded(handed_over=True)
    for second, third in ((goes_on, gone), (gone, goes_on)):
        engine = fed(HELD, second, third)
        assert not caller(engine).is_elsewhere
        assert [one.call_id for one in engine.waiting()] == ["c"]
        assert len(engine.passed(10_000.0)) == 1
        engine.receive(connected(), 13.0)
        assert caller(engine).session_id == "d"


def test_a_caller_may_be_handed_over_again_and_come_back() -> None:
    """Each partition knows whether they are its own."""
    here = fed(HELD)
    first = fed(forwarded(engine=here))
    second = fed(forwarded(OTHER, engine=first))
    first.receive(forwarded(OTHER, handed_over=True), 12.0)
    assert caller(first).is_elsewhere
    assert not caller(second).is_elsewhere
    first.receive(forwarded(engine=second), 13.0)
    assert not caller(first).is_elsewhere
    assert caller(first).forwarded_to == URI
    assert len(first.passed(10_000.0)) == 1


def test_they_survive_a_restart() -> None:
    """Where they are, too."""
    for engine in (fed(HELD, forwarded(handed_over=True)), fed(forwarded(engine=fed(HELD)))):
        again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        assert caller(again).dump() == caller(engine).dump()
        assert again.passed(10_000.0) == engine.passed(10_000.0)
