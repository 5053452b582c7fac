"""Transfers: targets, outcomes, far legs; what a session was transferred to and why it ended."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from telstate import Cause, Engine, Event, OutcomeKind, Session, Settings, TransferOutcome, TransferRecord, parse
from tests.calls import feed, js, webhook

REACHED, HANDED_OVER, NOT_REACHED, PENDING = TransferOutcome

DESK = "+12025550190"
OTHER = "sip:desk@pbx.example"
URI = "sip:experts.0@example.sip.daily.co"
ROOM = "support"
START = 1_790_000_000.0


def at(time: float, payload: dict[str, Any]) -> tuple[Event, float]:
    """Make a record: an event and the time of its receipt."""
    return parse(payload), START + time


def step(name: str, time: float, to: str | None = DESK, session_id: str = "a") -> tuple[Event, float]:
    """Make the record of a step of a transfer."""
    fields = {} if to is None else {"to_endpoint": to}
    stamp = str(int(START + time))
    hook = webhook(f"calltransfer.{name}", session_id, id=f"{name}{time}{to}", room=ROOM, timestamp=stamp, **fields)
    return at(time, hook)


def local(name: str, time: float, session_id: str = "a", **fields: Any) -> tuple[Event, float]:
    """Make the record of an event of this program."""
    return at(time, js(name, session_id, **fields))


def leg(name: str, time: float, session_id: str, *, room: str | None = ROOM, **fields: Any) -> tuple[Event, float]:
    """Make the record of a lifecycle event, as a webhook has it."""
    more = {} if room is None else {"room": room}
    stamp = str(int(START + time))
    return at(time, webhook(name, session_id, id=f"{name}{session_id}", timestamp=stamp, **more, **fields))


CALL = (leg("dialin.connected", 0, "a"), at(1, {"action": "participant-joined", "participant": {"session_id": "a"}}))
STOPPED = leg("dialin.stopped", 70, "a")


def run(*records: tuple[Event, float]) -> Engine:
    """Feed records to a new engine."""
    engine = Engine()
    for event, time in records:
        engine.receive(event, time)
    return engine


def known(engine: Engine, session_id: str = "a") -> Session:
    """Return a session that must be known."""
    session = engine.session(session_id)
    assert session is not None
    return session


def outcomes(*records: tuple[Event, float]) -> list[tuple[str | None, str]]:
    """Return the targets and outcomes of session a."""
    return [(target, outcome.value) for target, outcome in known(run(*CALL, *records)).transfers]


# --- the rules, one by one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["answered", "completed"])
def test_a_target_that_picked_up_is_reached(name: str) -> None:
    """Whatever else is known."""
    session = known(run(*CALL, step("triggered", 60), local("transfer-failed", 61, toEndpoint=DESK), step(name, 65)))
    assert session.transfers == (TransferRecord(DESK, REACHED),)
    assert (session.transferred_to, session.cause) == (DESK, None)
    assert session.to_dict()["transfers"] == [[DESK, "reached"]]


def test_a_transfer_is_pending_while_the_session_lives() -> None:
    """Accepted is not done."""
    session = known(run(*CALL, local("transfer-requested", 60, toEndpoint=DESK)))
    assert session.transfers == ((DESK, PENDING),)
    assert (session.transferred_to, session.transfer_requested) == (None, True)


@pytest.mark.parametrize("seconds", [-1, 0, 60])
def test_a_session_that_ends_by_a_transfer_was_handed_over(seconds: int) -> None:
    """Nobody said that the target picked up: a SIP REFER has no further events."""
    session = known(run(*CALL, step("triggered", 60), step("initiated", 61), leg("dialin.stopped", 61 + seconds, "a")))
    assert session.transfers == ((DESK, HANDED_OVER),)
    assert (session.transferred_to, session.cause) == (DESK, Cause.TRANSFERRED)


def test_a_session_that_ends_long_after_was_not_transferred() -> None:
    """More than a minute after the latest acceptance."""
    records = [*CALL, step("triggered", 60), step("initiated", 61), leg("dialin.stopped", 122, "a")]
    session = known(run(*records))
    assert session.transfers == ((DESK, NOT_REACHED),)
    assert (session.transferred_to, session.cause) == (None, Cause.COMPLETED)
    assert known(run(*records, step("initiated", 90))).transfers == ((DESK, HANDED_OVER),)


def test_an_expired_session_was_not_handed_over() -> None:
    """Its end is an assumption. A target that picked up was reached all the same."""
    engine = run(*CALL, step("triggered", 60))
    (limit,) = engine.passed(START + 90_000)
    engine.receive(limit, START + 90_000)
    session = known(engine)
    assert (session.transfers, session.cause) == (((DESK, NOT_REACHED),), Cause.EXPIRED)
    assert not session.amended
    engine.receive(*step("answered", 90_001))
    assert (session.cause, session.amended) == (Cause.TRANSFERRED, True)


def test_a_transfer_that_failed() -> None:
    """The program says so, before or after the end."""
    failed = local("transfer-failed", 62, toEndpoint=DESK, reason="486 Busy Here")
    assert outcomes(step("triggered", 60), failed) == [(DESK, "not-reached")]
    engine = run(*CALL, step("triggered", 60), STOPPED)
    assert known(engine).cause is Cause.TRANSFERRED
    outcome = engine.receive(*failed)
    assert (outcome.kind, known(engine).amended) == (OutcomeKind.NOTED, True)
    assert (known(engine).cause, known(engine).transferred_to) == (Cause.COMPLETED, None)


def test_a_target_that_failed_and_was_tried_again() -> None:
    """The failure was that of the first attempt."""
    failed = local("transfer-failed", 62, toEndpoint=DESK)
    assert outcomes(step("triggered", 40), failed, step("triggered", 80)) == [(DESK, "pending")]
    # Two clocks differ: the acceptance that Daily reports may seem to be later than the failure.
    assert outcomes(step("triggered", 40), failed, step("initiated", 66)) == [(DESK, "not-reached")]


def test_a_later_target_replaces_an_earlier_one() -> None:
    """In the order of the first acceptances."""
    first, second = step("triggered", 40), step("triggered", 60, OTHER)
    assert outcomes(second, first) == [(DESK, "not-reached"), (OTHER, "pending")]
    assert outcomes(first, second, STOPPED) == [(DESK, "not-reached"), (OTHER, "handed-over")]
    assert outcomes(first, second, step("answered", 68), STOPPED) == [(DESK, "reached"), (OTHER, "handed-over")]
    session = known(run(*CALL, first, second, step("answered", 68), STOPPED))
    assert session.transferred_to == DESK  # reached outweighs handed over


def test_targets_of_one_second_are_sorted_by_text() -> None:
    """Webhooks have whole seconds."""
    assert outcomes(step("triggered", 60, OTHER), step("triggered", 60)) == [(DESK, "not-reached"), (OTHER, "pending")]


def test_a_caller_talking_on_was_not_transferred() -> None:
    """A sign of life more than five seconds after the acceptance, also one that is reported late."""
    key = at(67, {"action": "dtmf-event", "sessionId": "a", "tone": "1"})
    soon = at(65, {"action": "dtmf-event", "sessionId": "a", "tone": "1"})
    assert outcomes(step("triggered", 60), key) == [(DESK, "not-reached")]
    assert outcomes(step("triggered", 60), soon) == [(DESK, "pending")]
    engine = run(*CALL, step("triggered", 60), STOPPED)
    assert known(engine).transfers == ((DESK, HANDED_OVER),)
    assert engine.receive(*key).kind is OutcomeKind.LATE
    assert (known(engine).transfers, known(engine).amended) == (((DESK, NOT_REACHED),), True)


@pytest.mark.parametrize(("time", "outcome"), [(59, "handed-over"), (60, "not-reached"), (74, "not-reached")])
def test_a_stop_of_this_program_is_not_the_transfer(time: float, outcome: str) -> None:
    """It ended the call, if it was requested after the acceptance. Daily's clock may be some seconds behind."""
    assert outcomes(step("triggered", 60), STOPPED, local("stop-requested", time)) == [(DESK, outcome)]


def test_steps_without_a_target() -> None:
    """They belong to the only target. If there is none, the target is unknown."""
    assert outcomes(step("triggered", 60), step("answered", 65, None)) == [(DESK, "reached")]
    assert outcomes(step("triggered", 60, ""), step("answered", 65, None)) == [(None, "reached")]
    session = known(run(*CALL, step("triggered", 60, None), STOPPED))
    assert (session.cause, session.transferred_to) == (Cause.TRANSFERRED, None)


def test_a_step_without_a_target_belongs_to_the_only_one_until_then() -> None:
    """Also where the call is transferred to another one after it. If there were several, the target is unknown."""
    retry = [step("triggered", 60), local("transfer-failed", 62), step("triggered", 65, OTHER), STOPPED]
    for records in permutations(retry):
        assert outcomes(*records) == [(DESK, "not-reached"), (OTHER, "handed-over")]
    failed_too = local("transfer-failed", 69)
    assert outcomes(*retry, failed_too) == [(DESK, "not-reached"), (OTHER, "handed-over"), (None, "not-reached")]
    late = step("answered", 64, None)
    assert known(run(*CALL, *retry, late)).transferred_to == DESK


def test_two_spellings_of_one_address_are_one_target() -> None:
    """It is shown as it was spelled first, by time."""
    spellings = [step("triggered", 60, "desk@PBX.example"), step("initiated", 61, "sip:desk@pbx.example?x=1")]
    for records in permutations([*spellings, step("answered", 65, OTHER)]):
        assert outcomes(*records) == [("desk@PBX.example", "reached")]


def test_the_ninth_target_replaces_the_first() -> None:
    """A session keeps eight, and nothing of the one that left."""
    engine = run(*CALL, *(step("triggered", 10 + n, f"sip:{n}@x") for n in range(12)))
    assert [target for target, _ in known(engine).transfers] == [f"sip:{n}@x" for n in range(4, 12)]
    feed(engine, js("dialin-stopped", "a"), at=START + 100)
    engine.advance(START + 100 + 7200)
    assert set(engine.sizes().values()) == {0}


def test_a_failed_session_keeps_its_cause() -> None:
    """An error outweighs a transfer."""
    session = known(run(*CALL, step("triggered", 60), at(61, js("dialin-error", "a"))))
    assert (session.cause, session.transfers) == (Cause.FAILED, ((DESK, HANDED_OVER),))


def test_evidence_that_changes_nothing_does_not_amend() -> None:
    """The far end hangs up an hour later."""
    session = known(run(*CALL, step("triggered", 60), step("answered", 65), STOPPED, step("completed", 3600)))
    assert (session.transfers, session.amended) == (((DESK, REACHED),), False)


# --- far legs -----------------------------------------------------------------------------------------------------

DIALOUT = {
    "connected": leg("dialout.connected", 61, "far"),
    "answered": leg("dialout.answered", 65, "far"),
    "stopped": leg("dialout.stopped", 90, "far"),
    "destination": at(61, {"action": "dialout-connected", "sessionId": "far", "destination": f"{DESK}"}),
}


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        ("connected destination answered", "reached"),
        ("connected destination answered stopped", "reached"),
        ("connected destination stopped", "not-reached"),
        ("connected destination", "handed-over"),
        ("connected stopped", "handed-over"),  # nobody knows its destination
    ],
)
def test_the_far_leg_as_dial_out_of_the_same_room(names: str, outcome: str) -> None:
    """Its answer is evidence, and so is its end without one. In any order, and also from a snapshot."""
    records = [*CALL, step("triggered", 60), STOPPED, *(DIALOUT[name] for name in names.split())]
    for shift in range(len(records)):
        engine = run(*records[shift:], *records[:shift])
        for one in (engine, Engine.restore(json.loads(json.dumps(engine.snapshot())))):
            assert known(one).transfers == ((DESK, outcome),)
            linked = ["a", "far"] if "destination" in names else ["a"]
            assert sorted(session.session_id for session in one.legs("a")) == linked
            assert one.sizes() == engine.sizes()
    assert known(run(*records)).cause is (Cause.COMPLETED if outcome == "not-reached" else Cause.TRANSFERRED)


@pytest.mark.parametrize(
    ("time", "room", "is_far_leg"),
    [
        (59, ROOM, True),  # webhooks round
        (58, ROOM, False),
        (130, ROOM, True),
        (131, ROOM, False),  # a room is used again
        (61, "elsewhere", False),
        (61, None, False),
    ],
)
def test_which_dial_out_is_the_far_leg(time: float, room: str | None, is_far_leg: bool) -> None:
    """It begins after the acceptance, in the same room, not long after the session left it."""
    answered = leg("dialout.answered", time, "far", room=room)
    destination = at(time, {"action": "dialout-connected", "sessionId": "far", "destination": DESK})
    assert outcomes(step("triggered", 60), STOPPED, answered, destination) == [
        (DESK, "reached" if is_far_leg else "handed-over")
    ]


@pytest.mark.parametrize(
    ("requested", "told", "earliest"),
    [
        (61.5, 60, 59),  # Daily had begun when its answer came
        (59.0, 60, 59),
        (65.0, 60, 59),
        (65.5, 60, 60.5),  # requested again, and no event of Daily's says so
        (61.5, None, 56.5),
    ],
)
def test_daily_says_better_than_our_request_from_when_on_a_far_leg_may_begin(
    requested: float, told: float | None, earliest: float
) -> None:
    """The request is noted after Daily's answer, and by another clock."""
    steps = [local("transfer-requested", requested, toEndpoint=DESK)]
    if told is not None:
        steps.append(step("initiated", told))
    for time in (earliest - 0.5, earliest):
        far = at(time, js("dialout-answered", "far", destination=DESK, room=ROOM))
        assert outcomes(*steps, STOPPED, far) == [(DESK, "reached" if time == earliest else "handed-over")]


@pytest.mark.parametrize(("time", "outcome"), [(660, REACHED), (661, NOT_REACHED)])
@pytest.mark.parametrize("target", [DESK, URI])
def test_a_session_long_after_the_acceptance_is_another_call(
    target: str, time: float, outcome: TransferOutcome
) -> None:
    """The caller talks on with the bot, which dials the target later; or somebody else comes to the endpoint."""
    dialout = js("dialout-answered", "far", destination=DESK, room=ROOM)
    dialin = js("dialin-connected", "far", sipEndpoint=URI)
    far = at(time, dialout if target == DESK else dialin)
    for order in permutations([step("triggered", 60, target), far, at(1200, js("dialin-stopped", "a"))]):
        engine = run(*CALL, *order)
        assert known(engine).transfers == ((target, outcome),)
        assert len(engine.legs("a")) == (2 if outcome is REACHED else 1)


def test_the_earliest_is_the_far_leg() -> None:
    """The link to a later one is withdrawn, unless the program declared it."""

    def dialout(session_id: str, time: float) -> tuple[Event, float]:
        return at(time, {"action": "dialout-connected", "sessionId": session_id, "destination": DESK})

    near = (*CALL, step("triggered", 60))
    room = [leg("dialout.stopped", 90, "x"), leg("dialout.answered", 75, "y")]
    engine = run(*near, dialout("y", 71), *room)
    assert known(engine).transfers == ((DESK, REACHED),)
    assert [session.session_id for session in engine.legs("a")] == ["a", "y"]
    engine.receive(*dialout("x", 70))
    assert known(engine).transfers == ((DESK, NOT_REACHED),)
    assert [session.session_id for session in engine.legs("a")] == ["a", "x"]
    engine = run(*near, dialout("y", 71), *room, local("sessions-linked", 72, otherSessionId="y"), dialout("x", 70))
    assert {session.session_id for session in engine.legs("a")} == {"a", "x", "y"}


ARRIVES = at(62, js("dialin-connected", "b", sipEndpoint=f"{URI}?x=1"))


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_far_leg_as_dial_in_of_another_room(order: tuple[int, ...]) -> None:
    """It came by the endpoint that the call was transferred to. In any order of arrival."""
    records = [CALL[0], step("triggered", 60, URI), STOPPED, ARRIVES]
    engine = run(*(records[place] for place in order))
    assert known(engine).transfers == ((URI, REACHED),)
    assert (known(engine).cause, known(engine).transferred_to) == (Cause.TRANSFERRED, URI)
    assert {session.session_id for session in engine.legs("b")} == {"a", "b"}


def test_a_session_that_was_on_the_endpoint_before_is_not_the_far_leg() -> None:
    """Nor is the session itself, nor one that comes an hour later."""
    before = at(5, js("dialin-connected", "b", sipEndpoint=URI))
    after = at(3600, js("dialin-connected", "c", sipEndpoint=URI))
    engine = run(*CALL, before, step("triggered", 60, URI), STOPPED, after)
    assert known(engine).transfers == ((URI, HANDED_OVER),)
    assert [session.session_id for session in engine.legs("a")] == ["a"]
    own = run(at(59.5, js("dialin-connected", "a", sipEndpoint=URI)), step("triggered", 60, URI))
    assert known(own).transfers == ((URI, PENDING),)


@pytest.mark.parametrize(("time", "is_far_leg"), [(-2000, False), (-2, False), (-1, True), (75, True), (76, False)])
@pytest.mark.parametrize("begins", [True, False])
def test_the_far_leg_of_a_transfer_whose_acceptance_was_lost(time: float, is_far_leg: bool, begins: bool) -> None:
    """It begins during the session, before the target picked up: who came to the endpoint hours ago is somebody else."""
    far = at(time, js("dialin-connected", "b", sipEndpoint=URI))
    begin = CALL if begins else (at(0, js("dialin-warning", "a")),)
    for order in permutations([*begin, step("answered", 70, URI), STOPPED, far]):
        engine = run(*order)
        assert known(engine).transfers == ((URI, REACHED),)
        linked = is_far_leg if begins else -600 <= time <= 75
        assert {one.session_id for one in engine.legs("a")} == ({"a", "b"} if linked else {"a"})


def test_a_far_leg_that_never_connects_is_not_reached() -> None:
    """The session on our endpoint ended without media and without a connected."""
    engine = run(*CALL, step("triggered", 60, URI), STOPPED)
    feed(engine, js("dialin-stopped", "b", sipEndpoint=URI), at=START + 66)
    assert (known(engine).transfers, known(engine).amended) == (((URI, NOT_REACHED),), True)


def test_late_steps_of_a_transfer_link_no_other_session() -> None:
    """Its far leg has arrived and left; the webhooks are only slower."""
    engine = run(*CALL, local("transfer-requested", 59, toEndpoint=URI), ARRIVES)
    engine.receive(*step("triggered", 60, URI))
    feed(engine, js("dialin-stopped", "b"), at=START + 80)
    engine.receive(*step("completed", 80, URI))
    feed(engine, js("dialin-connected", "stranger", sipEndpoint=URI), at=START + 81)
    assert [session.session_id for session in engine.legs("a")] == ["a", "b"]


def test_a_chain_of_transfers() -> None:
    """A far leg may be transferred itself."""
    desk = leg("dialout.answered", 90, "c", room="experts")
    destination = at(90, {"action": "dialout-connected", "sessionId": "c", "destination": DESK})
    onward = (leg("dialin.connected", 62, "b", room="experts"), step("initiated", 88, DESK, "b"))
    engine = run(*CALL, step("triggered", 60, URI), ARRIVES, *onward, desk, destination)
    assert known(engine).transfers == ((URI, REACHED),)
    assert [session.session_id for session in engine.legs("a")] == ["a", "b", "c"]
    # The steps of b's transfer name the room of a in this log, which is an anomaly but costs nothing.
    assert known(engine, "b").transfers == ((DESK, REACHED),)


def test_a_far_leg_that_left_memory_still_counts() -> None:
    """And leaves nothing behind."""
    engine = Engine(Settings(retention=100, key_ttl=100))
    for event, time in (*CALL, step("triggered", 60, URI), ARRIVES, at(70, js("dialin-stopped", "b"))):
        engine.receive(event, time)
    engine.advance(START + 175)
    assert engine.session("b") is None
    engine.receive(*step("initiated", 61, URI))
    assert known(engine).transfers == ((URI, REACHED),)
    assert engine.record(known(engine))["legs"] == ["b"]
    engine = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    feed(engine, js("dialin-stopped", "a"), at=START + 180)
    assert known(engine).cause is Cause.TRANSFERRED
    engine.advance(START + 300)
    assert set(engine.sizes().values()) == {0}


def test_many_sessions_at_one_address() -> None:
    """Everybody calls the same desk. Nothing is left when all have ended."""
    engine = Engine()
    for n in range(100):
        feed(engine, js("dialin-connected", f"a{n}", room="r"), at=START + n)
        feed(engine, webhook("calltransfer.triggered", f"a{n}", id=f"t{n}", room="r", to_endpoint=DESK), at=START + n)
        feed(engine, webhook("dialout.answered", f"b{n}", id=f"o{n}", room="r"), at=START + n)
        feed(engine, js("dialout-connected", f"b{n}", destination=DESK), at=START + n)
        feed(engine, js("dialin-stopped", f"a{n}"), js("dialout-stopped", f"b{n}"), at=START + n)
    assert {session.transfers for session in engine.sessions() if session.session_id[0] == "a"} == {((DESK, REACHED),)}
    assert engine.sizes()["transfers"] == 200
    assert len(Engine.restore(json.loads(json.dumps(engine.snapshot()))).legs("a50")) == len(engine.legs("a50"))
    engine.advance(START + 100 + 7200)
    assert set(engine.sizes().values()) == {0}


def test_without_transfers_nothing_is_indexed() -> None:
    """Most programs never transfer a call. The first transfer finds the sessions that were known before it."""
    engine = run(*CALL, ARRIVES, at(62, js("dialout-connected", "far", destination=DESK, callClientId="c")))
    assert (engine.sizes()["addresses"], engine.sizes()["transfers"]) == (0, 0)
    engine.receive(*step("triggered", 60, URI))
    assert (engine.sizes()["addresses"], engine.sizes()["transfers"]) == (2, 2)
    assert known(engine).transfers == ((URI, REACHED),)


def test_without_any_time() -> None:
    """The rules that compare times count only where they are known."""
    engine = Engine()
    feed(engine, js("dialin-connected", "a"), js("transfer-requested", "a", toEndpoint=DESK), js("dialin-stopped", "a"))
    assert known(engine).transfers == ((DESK, HANDED_OVER),)
    feed(engine, js("stop-requested", "a"))
    assert (known(engine).transfers, known(engine).cause) == (((DESK, NOT_REACHED),), Cause.COMPLETED)


def test_a_link_that_two_transfers_make_stays_until_both_are_withdrawn() -> None:
    """Each is transferred to where the other is. In the end the second is too early to be the first one's far leg."""
    records = (
        at(150, js("dialin-connected", "a", sipEndpoint=URI)),
        step("initiated", 41, OTHER),
        leg("dialout.warning", 83, "b", destination=OTHER),
        step("triggered", 31, URI, "b"),
    )
    for order in permutations(records):
        engine = run(*order)
        assert [one.session_id for one in engine.legs("a") if one.session_id != "a"] == ["b"]
