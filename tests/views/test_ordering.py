"""The order of calls, and their number."""

from __future__ import annotations

from typing import Any

from telstate.views import Ordering


def shown(ordering: Ordering, *values: Any) -> str:
    """Show calls with these values of `x`, each as its value."""
    texts = [text for value in values for text in ordering.add({"x": value}, str(value))]
    return " ".join([*texts, *ordering.rest()])


def test_without_a_field_the_first_are_shown_at_once() -> None:
    """As many as asked."""
    assert list(Ordering().add({}, "a")) == ["a"]
    assert shown(Ordering(limit=2), 3, 1, 2) == "3 1"


def test_sorted_by_a_field() -> None:
    """Numbers before texts; what has no value comes last, in either direction."""
    assert shown(Ordering("x"), 3, None, "b", 1.5, [], "a", 2) == "1.5 2 3 a b None []"
    assert shown(Ordering("-x"), 3, None, 1.5, 2) == "3 2 1.5 None"
    assert shown(Ordering("x", limit=2), 3, None, 1.5, 2) == "1.5 2"
    assert shown(Ordering("x", limit=2), None, 5) == "5 None"


def test_a_limit_bounds_what_is_kept() -> None:
    """However many calls there are."""
    ordering = Ordering("-x", limit=10)
    for number in range(50_000):
        assert list(ordering.add({"x": number % 9_973}, str(number % 9_973))) == []
        assert len(ordering._known) < 2_000
    assert list(ordering.rest()) == ["9972"] * 5 + ["9971"] * 5
