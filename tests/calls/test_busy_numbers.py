"""A number that calls all the time: each event takes no longer than one of a number that calls now and then."""

from __future__ import annotations

from typing import Any

import pytest

from telstate import CallerState, Engine, parse
from telstate.calls import _caller_links as module
from tests.calls.test_callers import connected, hold


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sessions that were compared with a caller, each time."""
    if not module.__file__.endswith(".py"):
        pytest.skip("nothing can be put into compiled classes")
    fits, found = module.CallerLinks._fits, list[str]()

    def noted(self: Any, caller: Any, session: Any, *arguments: Any) -> bool:
        found.append(session.session_id)
        return fits(self, caller, session, *arguments)

    monkeypatch.setattr(module.CallerLinks, "_fits", noted)
    return found


def test_calls_that_are_far_from_each_other_are_not_compared(compared: list[str]) -> None:
    """Nine calls of one number, each more than the limit after the one before, all within retention."""
    engine = Engine()
    for number in range(9):
        begun = 1_790_000_000.0 + 700 * number
        engine.receive(parse(hold(f"p{number}")), begun)
        engine.receive(parse(connected(f"s{number}", room=f"r{number}", timestamp=int(begun) + 5)), begun + 5)
        if number > 2:  # few are compared sooner than told apart
            assert compared == [f"s{number}"]
        compared.clear()


def test_an_event_costs_no_more_however_often_a_number_has_called(
    monkeypatch: pytest.MonkeyPatch, compared: list[str]
) -> None:
    """Each caller becomes their session, and the number's earlier calls are not compared again."""
    monkeypatch.setattr(module, "_MOST_COMPARED", 32)
    engine, costs = Engine(), []
    for number in range(200):
        begun = 1_790_000_000.0 + 30 * number
        engine.receive(parse(hold(f"p{number}")), begun)
        event = connected(f"s{number}", room=f"r{number}", timestamp=int(begun) + 5)
        engine.receive(parse(event), begun + 5)
        costs.append(len(compared))
        compared.clear()
    known = [engine.caller(f"p{number}") for number in range(200)]
    assert [caller and (caller.state, caller.session_id) for caller in known] == [
        (CallerState.CONNECTED, f"s{number}") for number in range(200)
    ]
    assert max(costs[150:]) <= 1.1 * max(costs[40:60])


def test_a_caller_stays_connected_however_many_dialins_follow_from_their_number() -> None:
    """As from an office whose telephones all show one number: only the last dial-ins are compared."""
    engine, begun = Engine(), 1_790_000_000.0
    engine.receive(parse(hold("p")), begun)
    for number, after in enumerate((5, *range(70, 570, 5))):
        event = connected(f"s{number}", room=f"r{number}", timestamp=int(begun) + after)
        engine.receive(parse(event), begun + after)
    known = engine.caller("p")
    assert known is not None
    assert (known.state, known.session_id) == (CallerState.CONNECTED, "s0")
