"""Looking only at the callers and dial-ins near to what happened gives the answers of looking at all of the number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, Event, Settings, parse
from telstate.calls import _caller_links
from telstate.calls._caller_matching import Span
from telstate.calls._replay import Replay
from tests.calls import webhook
from tests.property.held_callers import START, Happening, connection, ringing, uri

NUMBERS = st.sampled_from(["+12025550141"] * 4 + ["+12025550142", None])
TIMES = st.sampled_from([0, 3, 30, 58, 61, 63, 120, 124, 178, 190, 660, 662, 700, 1318, 1322, 1400]).map(
    lambda s: START + s
)
"""At, just before and just after what bounds a group: a minute or ten on hold, a minute more, some seconds between clocks."""


def whole(callers: Mapping[str, Span | None], dialins: Mapping[str, float | None], _: object) -> list[Any]:
    """One group of all, whatever happened."""
    return [([*callers], [*dialins])]


@pytest.fixture(autouse=True, scope="module")
def groups_of_few() -> Iterator[None]:
    """Split few callers and dial-ins too: more of them would need longer examples."""
    with mock.patch.object(_caller_links, "_FEW", 0):
        yield


@st.composite
def days(draw: st.DrawFn) -> list[Happening]:
    """Draw many calls of few numbers, in any order: held, forwarded, transferred, in rooms of a trunk, with times that change or are unknown."""
    day: list[Happening] = []
    for n in range(draw(st.integers(1, 4))):
        number = draw(NUMBERS)
        held = {"To": "+12025550100", "From": number, "callId": f"p{n}", "callDomain": "d"}
        day += [(at, held) for at in draw(st.lists(TIMES, min_size=1, max_size=2))]
        if draw(st.integers(0, 3)) == 0:
            day.append((draw(TIMES), {"action": "pinless-forwarded", "callId": f"p{n}", "sipEndpoint": uri("r", 0)}))
    for n in range(draw(st.integers(0, 2))):
        at = draw(TIMES)
        day.append(
            (at, ringing(f"t{n}", draw(st.sampled_from("rs")), draw(NUMBERS), draw(st.sampled_from([at, None]))))
        )
    for n in range(draw(st.integers(1, 5))):
        room, number = draw(st.sampled_from("rs")), draw(NUMBERS)
        for at in draw(st.lists(TIMES, max_size=2)):
            dialect = draw(st.sampled_from(["webhook", "webhook", "daily-js"]))
            day.append((at, connection(dialect, f"s{n}", uri(room, draw(st.integers(0, 1))), number, at)))
        ends = draw(st.lists(TIMES, max_size=1))
        day += [(at, webhook("dialin.stopped", f"s{n}", room=room, timestamp=str(int(at)))) for at in ends]
        if draw(st.integers(0, 3)) == 0:
            to = uri(draw(st.sampled_from("rs")), draw(st.integers(0, 1)))
            day.append((draw(TIMES), webhook("calltransfer.triggered", f"s{n}", to_endpoint=to)))
    return draw(st.permutations(day))


def known(engine: Engine) -> list[dict[str, Any]]:
    """Return the records of all sessions and all callers."""
    sessions = [session.to_dict() for session in engine.sessions()]
    return [*sessions, *(caller.to_dict() for caller in engine.unconnected())]


class Both:
    """Two engines: one looks at what is near, one at all."""

    def __init__(self, settings: Settings) -> None:
        self.near = Engine(settings)
        self.all = Engine(settings)

    def receive(self, event: Event, at: float) -> None:
        """Let both take in an event, and compare what they know then."""
        self.near.receive(event, at)
        with mock.patch.object(_caller_links, "groups_of", whole):
            self.all.receive(event, at)
        assert known(self.near) == known(self.all)

    def pass_limits(self, at: float) -> None:
        """Let pass what is due."""
        limits = self.near.passed(at)
        assert self.all.passed(at) == limits
        for limit in limits:
            self.receive(limit, at)


@given(days(), st.sampled_from([60.0, 600.0]), st.booleans(), st.data())
def test_a_group_alone_is_matched_as_all_together(
    day: list[Happening], hold_limit: float, passes: bool, data: st.DataObject
) -> None:
    """After every event, after limits that passed meanwhile or at the end, and after a restart."""
    both, cut, now = Both(Settings(hold_limit=hold_limit)), data.draw(st.integers(0, len(day))), START
    for place, (at, payload) in enumerate(day):
        if place == cut:
            both.near = Engine.restore(both.near.snapshot())
        now = max(now, at)
        if passes:
            both.pass_limits(now)
        both.receive(parse(payload), at)
    both.pass_limits(START + 5000)


@given(days(), st.booleans())
def test_a_log_of_bare_payloads_too(day: list[Happening], is_in_order: bool) -> None:
    """The lines around a caller's say when they called. After every line, and at the end."""
    near, all_ = Replay(), Replay()
    for at, payload in sorted(day, key=itemgetter(0)) if is_in_order else day:
        line = json.dumps({**payload, "event_ts": at} if "type" in payload else payload).encode()
        near.feed(line)
        with mock.patch.object(_caller_links, "groups_of", whole):
            all_.feed(line)
        assert known(near.engine) == known(all_.engine)
    near.finish()
    with mock.patch.object(_caller_links, "groups_of", whole):
        all_.finish()
    assert known(near.engine) == known(all_.engine)
