"""A large journal starts at once, and nobody feels that it prunes itself."""

from __future__ import annotations

import pytest

from tests.benchmarks.pruning import measure


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_large_journal_costs_nothing() -> None:
    """The times have a wide margin here, as other tests run beside; quote those of an idle machine."""
    cost = measure(100_000, 5.0, to_the_end=True)
    assert cost.start_s < 1, cost
    assert cost.p99_pruning_ms < max(5 * cost.p99_ms, 100), cost
    assert cost.pruned > 5_000, cost
    assert cost.size_pruned_mb < cost.size_mb / 2, cost
