"""No change makes an event more expensive unnoticed."""

from __future__ import annotations

import pytest

from tests.benchmarks.guard import GUARDED, RECORDED_WITH, by_instructions, by_time, has_valgrind, margin, versions


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_event_costs_what_it_did() -> None:
    """Counted in instructions, or in time if they cannot be counted."""
    counted = has_valgrind()
    names = [guarded.name for guarded in GUARDED]
    ratios = by_instructions(names) if counted else by_time(names)
    factor = margin(counted=counted, same_versions=versions() == RECORDED_WITH)
    for guarded in GUARDED:
        ratio, recorded = ratios[guarded.name], guarded.instructions if counted else guarded.time
        costs = f"{guarded.name} costs {ratio:.3f} times the floor, recorded are {recorded} with {RECORDED_WITH}, "
        costs += f"this is {versions()}; "
        assert ratio <= recorded * factor, costs + "find what made it more expensive"
        assert ratio >= recorded / factor, costs + "record that: python -m tests.benchmarks.guard"


def test_the_margin_is_narrow_where_nothing_else_changed() -> None:
    """Versions and machines make it wider, and never wider than half of the cost."""
    narrow = margin(counted=True, same_versions=True)
    assert narrow == 1.10
    assert narrow < margin(counted=True, same_versions=False) < margin(counted=False, same_versions=True) <= 1.5


def test_metrics_and_sampled_traces_cost_less_than_a_third_more() -> None:
    """By what is recorded, and so is held by the guard; traces of everything cost what OpenTelemetry's SDK costs."""
    recorded = {guarded.name: guarded.instructions for guarded in GUARDED}
    without = recorded["telstate, webhook, live"]
    assert recorded["telstate, webhook, live with metrics"] / without <= 1.3
    assert recorded["telstate, webhook, live with metrics and sampled traces"] / without <= 1.3
