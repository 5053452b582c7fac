"""Where two records of one call first differ: in what happened, not in when by the wall clock, nor in how often it was told.

What is compared, in this order: the direction, the states with the events that led to them, how it ended, its transfers, its caller on hold, its legs,
and the durations. Numbers and names are not: a log and its redacted copy do not differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Difference", "essence", "first_difference"]

_FIELDS = ("direction", "state", "cause", "ended_by", "end_source", "end_sign", "pinless_call_id")
_TIMES = ("requested_at", "connected_at", "answered_at", "ended_at")
_DURATIONS = ("setup_s", "ring_s", "talk_s", "held_s")


class Difference(NamedTuple):
    """The first difference of a call."""

    what: str
    """The field, or the step (`step 3`)."""
    a: Any
    b: Any


def essence(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a session's or a waiting caller's record, as JSON values."""
    kept = {name: record.get(name) for name in _FIELDS}
    start = record.get("started_at")
    for name in _TIMES:
        at = record.get(name)
        kept[name] = None if at is None or start is None else round(at - start, 3)
    kept.update((name, record.get(name)) for name in _DURATIONS)
    kept["steps"] = record.get("transitions") or []
    kept["transfers"] = [outcome for _, outcome in record.get("transfers") or ()]
    kept["legs"] = sorted(record.get("legs") or ())
    return kept


def first_difference(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float) -> Difference | None:
    """Compare what `essence` returned of two records; None if they do not differ.

    Args:
        a: of one.
        b: of the other.
        tolerance: seconds by which times and durations may differ. One that is unknown on either side is not compared.
    """
    if a["direction"] != b["direction"]:
        return Difference("direction", a["direction"], b["direction"])
    for number in range(max(len(a["steps"]), len(b["steps"]))):
        one, other = (side["steps"][number] if number < len(side["steps"]) else None for side in (a, b))
        if one != other:
            return Difference(f"step {number + 1}", one, other)
    for name in (*_FIELDS, "transfers", "legs"):
        if a[name] != b[name]:
            return Difference(name, a[name], b[name])
    for name in (*_DURATIONS, *_TIMES):
        if None not in (a[name], b[name]) and abs(a[name] - b[name]) > tolerance:
            return Difference(name, a[name], b[name])
    return None
