"""A number that calls all the time: each event takes no longer than one of a number that calls now and then."""

from __future__ import annotations

from typing import Any

import pytest

from telstate import CallerState, Engine, parse
from telstate.calls import _caller_links as module
from tests.calls.test_callers import connected, hold


def test_an_event_costs_no_more_however_often_a_number_has_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caller becomes their session, and the number's earlier calls are not compared again."""
    monkeypatch.setattr(module, "_MOST_COMPARED", 32)
    fits, compared = module.CallerLinks._fits, 0

    def counted(self: Any, *arguments: Any) -> bool:
        nonlocal compared
        compared += 1
        return fits(self, *arguments)

    monkeypatch.setattr(module.CallerLinks, "_fits", counted)
    engine, costs = Engine(), []
    for number in range(200):
        before, begun = compared, 1_790_000_000.0 + 30 * number
        engine.receive(parse(hold(f"p{number}")), begun)
        event = connected(f"s{number}", room=f"r{number}", timestamp=int(begun) + 5)
        engine.receive(parse(event), begun + 5)
        costs.append(compared - before)
    known = [engine.caller(f"p{number}") for number in range(200)]
    assert [caller and (caller.state, caller.session_id) for caller in known] == [
        (CallerState.CONNECTED, f"s{number}") for number in range(200)
    ]
    assert max(costs[150:]) <= 1.1 * max(costs[40:60])
