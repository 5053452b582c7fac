"""What becomes of transfers, against a model of the rules that knows the whole history at once.

The model is written from the design and shares nothing with `telstate.calls`: it looks at what happened, not at events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, Event, parse
from tests.property.histories import shuffled

START = 1_790_000_000
ROOM = "support"
TARGETS = {
    "+12025550190": ["+12025550190"],
    "desk@pbx.example": ["sip:desk@pbx.example", "desk@PBX.example", "sip:desk@pbx.example?x=1"],
    "experts.0@example.sip.daily.co": ["sip:experts.0@example.sip.daily.co"],
}
OUR_ENDPOINT = "experts.0@example.sip.daily.co"
ACCEPTED = ("requested", "triggered", "initiated")
SECONDS = st.integers(0, 200)
"""The times of the histories. Whole seconds, so that a webhook has the time at which it happened."""


@dataclass
class FarLeg:
    """A session that may be the other end of a transfer."""

    session_id: str
    is_dialin: bool
    room: str
    address: str
    steps: dict[str, int]
    """`connected`, `answered`, `stopped` with their times."""

    @property
    def picked_up(self) -> bool:
        """A dial-out was answered, a dial-in connected."""
        return ("connected" if self.is_dialin else "answered") in self.steps


@dataclass
class History:
    """All that happened to one caller who is to be transferred, and to the legs that this may have made."""

    life: list[int]
    ended: int | None
    stops: list[int]
    steps: list[tuple[str, str, int]]
    """Step, plain target, time. The target is empty if the step named none, and might belong to several."""
    legs: list[FarLeg]
    records: list[tuple[Event, float]] = field(default_factory=list)

    def give_nameless_steps(self) -> None:
        """A step that names no target belongs to the only one until then. Of those of one kind, the first and the last are known."""
        named = [step for step in self.steps if step[1]]
        if not named:
            return

        def place(target: str) -> tuple[int, str]:
            accepted = [time for step, to, time in named if to == target and step in ACCEPTED]
            return min(accepted or [time for _, to, time in named if to == target]), self.shown(target) or ""

        first, *later = sorted({to for _, to, _ in named}, key=place)
        until = place(later[0])[0] if later else 10_000
        for kind in {step for step, to, _ in self.steps if not to}:
            times = [time for step, to, time in self.steps if step == kind and not to]
            named += [(kind, first if time < until else "", time) for time in (min(times), max(times))]
        self.steps = named

    def far_leg(self, target: str) -> FarLeg | None:
        """Find the earliest session at the target that begins after the latest acceptance, and not long after that or the end.

        Without an acceptance it begins during the session, before the target picked up.
        """
        accepted = [time for step, to, time in self.steps if to == target and step in ACCEPTED]
        told = [time for step, to, time in self.steps if to == target and step in ("triggered", "initiated")]
        is_told = bool(told) and max(accepted) <= max(told) + 5  # else by a request of this program, by its own clock
        earliest = -1 if not accepted else max(told) - 1 if is_told else max(accepted) - 5
        picked_up = [time for step, to, time in self.steps if to == target and step in ("answered", "completed")]
        latest = max(accepted) + 600 if accepted else min(picked_up, default=10_000) + 5
        if self.ended is not None:
            latest = min(latest, self.ended + 60)
        found = [
            (min(leg.steps.values()), leg.session_id, leg)
            for leg in self.legs
            if leg.address == target
            and (leg.is_dialin or leg.room == ROOM)
            and earliest <= min(leg.steps.values()) <= latest
        ]
        return min(found)[2] if found else None

    def outcome(self, target: str, first: dict[str, tuple[int, str]]) -> str:
        """Apply the rules in their order."""
        mine = [(step, time) for step, to, time in self.steps if to == target]
        accepted = max((time for step, time in mine if step in ACCEPTED), default=None)
        leg = self.far_leg(target)
        if {"answered", "completed"} & {step for step, _ in mine} or (leg is not None and leg.picked_up):
            return "reached"
        failed = max((time for step, time in mine if step == "failed"), default=None)
        if failed is not None and (accepted is None or accepted <= failed + 5):
            return "not-reached"
        if leg is not None and "stopped" in leg.steps:
            return "not-reached"
        if any(first[other] > first[target] for other in first):
            return "not-reached"
        assert accepted is not None
        if max(self.life) > accepted + 5:
            return "not-reached"
        if any(accepted <= stop and (self.ended is None or stop <= self.ended + 5) for stop in self.stops):
            return "not-reached"
        if self.ended is None:
            return "pending"
        return "handed-over" if self.ended - accepted <= 60 else "not-reached"

    def expected(self) -> tuple[str | None, str | None, dict[str | None, str]]:
        """Return cause, where it was transferred to, and the outcomes."""
        shown, first = {to: self.shown(to) for _, to, _ in self.steps}, {}
        for target, text in shown.items():
            accepted = [time for step, to, time in self.steps if to == target and step in ACCEPTED]
            if accepted:
                first[target] = (min(accepted), text or "")
        outcomes = {target: self.outcome(target, first) for target in shown}

        def place(target: str) -> tuple[int, str]:
            """A target that was never accepted has the time of its first other step."""
            return first.get(target) or (min(time for _, to, time in self.steps if to == target), shown[target] or "")

        to = None
        for kind in ("reached", "handed-over"):
            if to is None:
                to = max((target for target in outcomes if outcomes[target] == kind), key=place, default=None)
        cause = None if self.ended is None else "completed" if to is None else "transferred"
        return cause, shown.get(to or ""), {shown[target]: outcome for target, outcome in outcomes.items()}

    def shown(self, target: str) -> str | None:
        """Return a target as it was spelled first."""
        return min((time, text) for text, time in self.spelled(target))[1] if target else None

    def spelled(self, target: str) -> list[tuple[str, int]]:
        """Return each spelling of a target in its events, with its time."""
        return [
            (text, int(time) - START)
            for event, time in self.records
            if (text := getattr(event, "to_endpoint", None)) in TARGETS[target]
        ]


def hook(kind: str, session_id: str, time: int, number: int, **fields: Any) -> dict[str, Any]:
    """Make a webhook."""
    payload = {"session_id": session_id, "timestamp": str(START + time), **fields}
    return {"type": kind, "id": f"{kind}-{session_id}-{number}", "payload": payload}


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a history: targets that do and do not answer, a caller who leaves or talks on, and legs in several rooms."""
    joined = draw(st.booleans())
    keys = draw(st.lists(SECONDS, max_size=2))
    ended = draw(st.none() | SECONDS)
    stops = draw(st.lists(SECONDS, max_size=2))
    some = draw(st.lists(st.sampled_from(list(TARGETS)), min_size=1, max_size=3, unique=True))
    names = st.sampled_from([*ACCEPTED, *ACCEPTED, "answered", "completed", "failed"])
    steps = draw(st.lists(st.tuples(names, st.sampled_from([*some, *some, ""]), SECONDS), min_size=1, max_size=6))
    legs = []
    for number in range(draw(st.integers(0, 3))):
        address = draw(st.sampled_from(some))
        is_dialin = address == OUR_ENDPOINT and draw(st.booleans())
        kinds = ["connected", "stopped"] if is_dialin else ["connected", "answered", "stopped"]
        happened = draw(st.lists(st.sampled_from(kinds), min_size=1, unique=True))
        room = draw(st.sampled_from([ROOM, "experts"]))
        legs.append(FarLeg(f"leg-{number}", is_dialin, room, address, {name: draw(SECONDS) for name in happened}))
    history = History([0, *([1] if joined else []), *keys], ended, stops, steps, legs)

    records: list[tuple[dict[str, Any], int]] = [(hook("dialin.connected", "a", 0, 0, room=ROOM), 0)]
    if joined:
        records.append(({"action": "participant-joined", "participant": {"session_id": "a"}}, 1))
    if ended is not None:
        records.append((hook("dialin.stopped", "a", ended, 0, room=ROOM), ended))
    records += [({"action": "dtmf-event", "sessionId": "a"}, time) for time in keys]
    records += [({"action": "stop-requested", "sessionId": "a"}, time) for time in stops]
    for number, (step, target, time) in enumerate(steps):
        to = draw(st.sampled_from(TARGETS[target])) if target else ""
        if step in ("requested", "failed"):
            records.append(({"action": f"transfer-{step}", "sessionId": "a", "toEndpoint": to}, time))
        else:
            records.append((hook(f"calltransfer.{step}", "a", time, number, room=ROOM, to_endpoint=to), time))
    for leg in legs:
        kind, address = ("dialin", "sipEndpoint") if leg.is_dialin else ("dialout", "destination")
        text = draw(st.sampled_from(TARGETS[leg.address]))
        for name, time in leg.steps.items():
            records.append((hook(f"{kind}.{name}", leg.session_id, time, 0, room=leg.room), time))
        # Another observer knows the address: a duplicate, of the same time.
        name, time = draw(st.sampled_from(sorted(leg.steps.items())))
        records.append(({"action": f"{kind}-{name}", "sessionId": leg.session_id, address: text}, time))
    history.records = [(parse(payload), float(START + time)) for payload, time in records]
    history.give_nameless_steps()
    return history


def answers(engine: Engine) -> tuple[str | None, str | None, dict[str | None, str]]:
    """Return what an engine knows of the caller's transfers."""
    session = engine.session("a")
    assert session is not None
    return session.cause, session.transferred_to, {to: outcome.value for to, outcome in session.transfers}


@given(st.data())
def test_transfers_are_what_the_model_says_in_any_order(data: st.DataObject) -> None:
    """Any permutation with any repetition, with a restart from a snapshot in between."""
    history = data.draw(histories())
    expected = history.expected()
    for outcome in expected[2].values():
        note(outcome)
    for _ in range(2):
        records = data.draw(shuffled(history.records))
        restart = data.draw(st.integers(0, len(records)))
        engine = Engine()
        for place, (event, time) in enumerate(records):
            if place == restart:
                engine = Engine.restore(json.loads(json.dumps(engine.snapshot())))
            engine.receive(event, time)
        assert answers(engine) == expected
        far = {leg.session_id for target in {to for _, to, _ in history.steps} if (leg := history.far_leg(target))}
        assert {leg.session_id for leg in engine.legs("a")} == {"a", *far}


@given(histories())
def test_nothing_of_transfers_is_left_behind(history: History) -> None:
    """When all have ended and retention has passed."""
    engine = Engine()
    for event, time in history.records:
        engine.receive(event, time)
    for session in engine.live():
        engine.receive(parse({"action": f"{session.direction}-stopped", "sessionId": session.session_id}), START + 300)
    engine.advance(START + 300 + 7200)
    assert set(engine.sizes().values()) == {0}
