"""The ledger of dials: one turn at a time, starts before they are sent, and one result."""

from __future__ import annotations

import json

from telstate import Engine, Event, OutcomeKind, Settings
from telstate.calls._intents import Intent
from telstate.events import (
    AttemptBegun,
    AttemptEnded,
    CampaignPaused,
    CampaignResumed,
    CampaignStopped,
    IntentClaimed,
    IntentHeld,
    IntentReleased,
    parse,
)

NOTED, DUPLICATE, LATE = OutcomeKind.NOTED, OutcomeKind.DUPLICATE, OutcomeKind.LATE
NAME = "order-4711"


def claimed(claim: str = "a", expires_at: float = 40.0, *, takes_over: bool | None = None) -> IntentClaimed:
    """A claim."""
    return IntentClaimed(intent=NAME, claim=claim, expires_at=expires_at, takes_over=takes_over)


def begun(user_id: str = "u", claim: str = "a") -> AttemptBegun:
    """A start that is about to be sent."""
    return AttemptBegun(intent=NAME, claim=claim, user_id=user_id, destination="+12025550142", room="r")


def ended(outcome: str = "unanswered", user_id: str = "u") -> AttemptEnded:
    """What came of it."""
    return AttemptEnded(intent=NAME, user_id=user_id, outcome=outcome, ended_session_id="s", ended_at=12.0, rang=True)


def released(claim: str = "a", outcome: str | None = None) -> IntentReleased:
    """The end of a turn."""
    return IntentReleased(intent=NAME, claim=claim, outcome=outcome)


def kinds(*events: Event | tuple[float, Event]) -> list[OutcomeKind]:
    """The outcomes of events, at second 10 unless they say so."""
    engine = Engine()
    timed = [one if isinstance(one, tuple) else (10.0, one) for one in events]
    return [engine.receive(parse(event.to_json()), at).kind for at, event in timed]


def known(engine: Engine) -> Intent:
    """The intent."""
    found = engine.intent(NAME)
    assert found is not None
    return found


def test_one_turn_at_a_time() -> None:
    """A claim is renewed by its owner, and others get it when it has expired, or when its owner has certainly ended."""
    assert kinds(claimed(), claimed("b"), claimed(expires_at=60), (50.0, claimed("b", 90))) == [
        NOTED,
        LATE,
        NOTED,
        LATE,
    ]
    assert kinds(claimed(), (41.0, claimed("b", 90)), (42.0, claimed())) == [NOTED, NOTED, LATE]
    assert kinds(claimed(), claimed("b", takes_over=True), claimed()) == [NOTED, NOTED, LATE]
    assert kinds(claimed(), released("b"), released(), claimed("b")) == [NOTED, LATE, NOTED, NOTED]


def test_only_who_has_the_claim_can_start() -> None:
    """So who stood still for too long sends nothing."""
    assert kinds(begun()) == [LATE]
    assert kinds(claimed(), begun(claim="b")) == [NOTED, LATE]
    assert kinds(claimed(), (41.0, claimed("b", 90)), (42.0, begun())) == [NOTED, NOTED, LATE]
    assert kinds(claimed(), begun(), begun()) == [NOTED, NOTED, DUPLICATE]


def test_an_attempt_ends_once_but_for_an_answer() -> None:
    """Which may be reported late."""
    assert kinds(ended()) == [LATE]
    assert kinds(claimed(), begun(), ended("unknown", "v")) == [NOTED, NOTED, LATE]
    assert kinds(claimed(), begun(), ended(), ended("failed"), ended("answered"), ended("answered")) == [
        *(NOTED, NOTED, NOTED),
        *(DUPLICATE, NOTED, DUPLICATE),
    ]


def test_a_result_ends_the_intent() -> None:
    """Nobody gets a turn after it."""
    assert kinds(claimed(), released(outcome="answered"), claimed("b"), begun(), released()) == [
        *(NOTED, NOTED),
        *(LATE, LATE, LATE),
    ]


def test_the_ledger_survives_a_restart_and_is_bounded() -> None:
    """In time and number. What it has of an attempt is what its events said."""
    engine = Engine(Settings(intent_ttl=100.0, max_intents=2))
    for event in (claimed(), begun(), ended(), begun("v")):
        engine.receive(event, 10.0)
    again = Engine.restore(json.loads(json.dumps(engine.snapshot())))
    assert known(again) == known(engine)
    first, second = known(again).records
    assert (first.outcome, first.session_id, first.rang, first.started_at, first.ended_at) == (
        "unanswered",
        "s",
        True,
        10,
        12,
    )
    assert second.is_open
    for number in range(2):
        again.receive(IntentClaimed(intent=f"{number}", claim="a", expires_at=1.0), 20.0)
    assert again.intents() == ["0", "1"]
    again.advance(200.0)
    assert not any(again.sizes().values())


def test_a_campaign_is_paused_resumed_and_stopped() -> None:
    """Under its name, over a snapshot too; a stop is for good."""
    paused, resumed, stopped = CampaignPaused(intent=NAME), CampaignResumed(intent=NAME), CampaignStopped(intent=NAME)
    assert kinds(resumed, paused, paused, resumed, stopped, stopped, paused, resumed) == [
        *(DUPLICATE, NOTED, DUPLICATE, NOTED),
        *(NOTED, DUPLICATE, LATE, LATE),
    ]
    engine = Engine()
    engine.receive(paused, 10.0)
    assert known(Engine.restore(json.loads(json.dumps(engine.snapshot())))).halt == "paused"
    assert known(engine).records == ()


def test_an_intent_that_is_held_is_remembered() -> None:
    """Its time begins anew; what nobody knew is known from then on, without a start."""
    engine = Engine(Settings(intent_ttl=100))
    assert engine.receive(IntentHeld(intent=NAME), 0.0).kind is NOTED
    assert known(engine) == Intent()
    engine.receive(claimed(), 0.0)
    assert engine.receive(IntentHeld(intent=NAME), 90.0).kind is NOTED
    engine.advance(150.0)
    assert known(engine).claim == "a"
    engine.advance(191.0)
    assert engine.intent(NAME) is None
