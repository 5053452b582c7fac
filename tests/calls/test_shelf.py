"""The shelf: order, expiry and bounds."""

from __future__ import annotations

from telstate.calls._expiring_dict import ExpiringDict


def test_entries_leave_in_the_order_in_which_they_are_due() -> None:
    """At their time, not before."""
    shelf: ExpiringDict[str, int] = ExpiringDict(10.0)
    shelf.put("a", 1, 0.0)
    shelf.put("b", 2, 5.0)
    assert shelf.next_due() == 10.0
    assert shelf.expire(9.9) == []
    assert shelf.expire(10.0) == [1]
    assert shelf.due(15.0) == [("b", 15.0)]
    assert (shelf.find("a"), shelf.find("b")) == (None, 2)
    assert shelf.take("b") == 2
    assert (shelf.take("b"), shelf.next_due(), len(shelf)) == (None, None, 0)


def test_what_is_put_again_starts_anew_and_stands_last() -> None:
    """Else it would hide those behind it that are due before."""
    shelf: ExpiringDict[str, int] = ExpiringDict(10.0)
    shelf.put("a", 1, 0.0)
    shelf.put("b", 2, 1.0)
    shelf.put("a", 3, 2.0)
    assert list(shelf) == ["b", "a"]
    assert shelf.expire(11.0) == [2]
    assert shelf.expire(12.0) == [3]


def test_the_oldest_go_first_above_the_limit() -> None:
    """Of the shelf, or the one asked for."""
    shelf: ExpiringDict[int, int] = ExpiringDict(10.0, limit=3)
    for n in range(5):
        shelf.put(n, n, 0.0)
    assert shelf.above_limit() == [0, 1]
    assert shelf.trim() == [0, 1]
    assert shelf.trim() == []
    assert shelf.trim(1) == [2, 3]


def test_a_clock_that_starts_late() -> None:
    """What was there before counts from then."""
    shelf: ExpiringDict[str, int] = ExpiringDict(10.0)
    shelf.put("a", 1, 0.0)
    shelf.start_clock(1000.0)
    assert shelf.next_due() == 1010.0


def test_what_is_written_down_is_read_again() -> None:
    """In its order."""
    shelf: ExpiringDict[str, int] = ExpiringDict(10.0)
    shelf.put("b", 1, 0.0)
    shelf.put("a", 2, 1.0)
    copy: ExpiringDict[str, int] = ExpiringDict(10.0)
    copy.load(shelf.dump())
    assert list(copy.items()) == list(shelf.items())
