"""ExpiringDict: order, expiry and bounds."""

from __future__ import annotations

from time import process_time

from telstate.calls._expiring_dict import ExpiringDict


def test_entries_expire_in_the_order_in_which_they_are_due() -> None:
    """At their time, not before it."""
    entries: ExpiringDict[str, int] = ExpiringDict(10.0)
    entries.put("a", 1, 0.0)
    entries.put("b", 2, 5.0)
    assert entries.next_due() == 10.0
    assert entries.expire(9.9) == []
    assert entries.expire(10.0) == [1]
    assert entries.due(15.0) == [("b", 15.0)]
    assert (entries.find("a"), entries.find("b")) == (None, 2)
    assert entries.take("b") == 2
    assert (entries.take("b"), entries.next_due(), len(entries)) == (None, None, 0)


def test_a_renewed_entry_moves_to_the_end() -> None:
    """Otherwise it would hide later entries that are due before it."""
    entries: ExpiringDict[str, int] = ExpiringDict(10.0)
    entries.put("a", 1, 0.0)
    entries.put("b", 2, 1.0)
    entries.put("a", 3, 2.0)
    assert list(entries) == ["b", "a"]
    assert entries.expire(11.0) == [2]
    assert entries.expire(12.0) == [3]


def test_an_entry_renewed_at_once_moves_to_the_end() -> None:
    """Also if it expires when it would have expired before, and if somebody had asked for the oldest."""
    entries: ExpiringDict[str, int] = ExpiringDict(10.0)
    entries.put("a", 1, 0.0)
    entries.put("b", 2, 0.0)
    assert entries.next_due() == 10.0
    entries.put("a", 3, 0.0)
    assert entries.expire(10.0) == [2, 3]


def test_the_oldest_entry_is_found_whatever_happened_to_those_before_it() -> None:
    """They were removed, renewed, or given another time to live, since the oldest were listed."""
    entries: ExpiringDict[int, int] = ExpiringDict(10.0)
    for n in range(2000):
        entries.put(n, n, float(n))
    assert entries.next_due() == 10.0
    for n in range(1500):
        entries.take(n)
    assert entries.next_due() == 1510.0
    entries.put(1500, 1500, 2000.0)
    assert entries.next_due() == 1511.0
    entries.change(20.0)
    assert entries.next_due() == 1521.0
    assert entries.expire(1530.0) == list(range(1501, 1511))
    assert entries.trim(1) == [*range(1511, 2000)]
    assert list(entries) == [1500]


def test_the_oldest_of_many_is_found_as_fast_as_of_few() -> None:
    """A plain dict looks at the places of all that were removed before: hundreds of times as slow here."""

    def cost_of(size: int) -> float:
        entries: ExpiringDict[int, bool] = ExpiringDict(float(size))
        for n in range(size):
            entries.add(n, True, float(n))
        entries.trim(size // 2)
        began = process_time()
        for n in range(size, size + 200):
            assert entries.expire(float(n + size // 2)) == [True]
            entries.add(n, True, float(n))
        return process_time() - began

    few = min(cost_of(1000) for _ in range(3))
    assert cost_of(100_000) < 20 * few


def test_the_oldest_entries_above_the_limit_are_trimmed() -> None:
    """Above the limit of the dict, or the one passed."""
    entries: ExpiringDict[int, int] = ExpiringDict(10.0, limit=3)
    for n in range(5):
        entries.put(n, n, 0.0)
    assert entries.above_limit() == [0, 1]
    assert entries.trim() == [0, 1]
    assert entries.trim() == []
    assert entries.trim(1) == [2, 3]


def test_entries_added_before_the_clock_started_live_from_its_start() -> None:
    """They have no earlier time to count from."""
    entries: ExpiringDict[str, int] = ExpiringDict(10.0)
    entries.put("a", 1, 0.0)
    entries.start_clock(1000.0)
    assert entries.next_due() == 1010.0


def test_dump_and_load_keep_entries_and_order() -> None:
    """The copy has the same entries in the same order."""
    entries: ExpiringDict[str, int] = ExpiringDict(10.0)
    entries.put("b", 1, 0.0)
    entries.put("a", 2, 1.0)
    copy: ExpiringDict[str, int] = ExpiringDict(10.0)
    copy.load(entries.dump())
    assert list(copy.items()) == list(entries.items())
