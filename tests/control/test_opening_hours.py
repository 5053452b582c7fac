"""Opening hours by the callee's clock, also on the days on which clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from telstate.control import OpeningHours
from telstate.errors import DefinitionError

BERLIN = "Europe/Berlin"


def next_open(hours: OpeningHours, at: str, zone: str | None = None) -> str:
    """The next opening, from a time in the zone on, as it is there."""
    there = ZoneInfo(zone or hours.time_zone)
    found = hours.next_open(datetime.fromisoformat(at).replace(tzinfo=there).timestamp(), zone)
    return datetime.fromtimestamp(found, there).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-03-25T08:59", "2026-03-25T09:00+01:00"),
        ("2026-03-25T09:00", "2026-03-25T09:00+01:00"),
        ("2026-03-25T19:59", "2026-03-25T19:59+01:00"),
        ("2026-03-25T20:00", "2026-03-26T09:00+01:00"),
        ("2026-03-27T20:00", "2026-03-30T09:00+02:00"),  # over the weekend in which clocks change
        ("2026-10-23T23:00", "2026-10-26T09:00+01:00"),
    ],
)
def test_the_next_opening(at: str, opens: str) -> None:
    """Of hours on weekdays."""
    hours = OpeningHours("09:00", "20:00", BERLIN, days="mon-fri")
    assert next_open(hours, at) == opens


def test_days_on_which_clocks_change() -> None:
    """An hour that is left out opens later; one that comes twice is open both times."""
    early = OpeningHours("02:30", "04:00", BERLIN)
    assert next_open(early, "2026-03-29T00:00") == "2026-03-29T03:30+02:00"
    night = OpeningHours("00:00", "24:00", BERLIN)
    assert next_open(night, "2026-10-25T02:30") == "2026-10-25T02:30+02:00"
    long_day = OpeningHours("01:00", "03:00", BERLIN)
    second_time = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo(BERLIN)).timestamp()
    assert long_day.next_open(second_time) == second_time


def test_the_callees_zone_counts() -> None:
    """Nine in the morning is eight hours earlier in Tokyo."""
    hours = OpeningHours("09:00", "20:00", BERLIN)
    at = datetime(2026, 6, 1, 3, tzinfo=ZoneInfo(BERLIN)).timestamp()
    assert hours.next_open(at, "Asia/Tokyo") == at
    assert hours.next_open(at) == at + 6 * 3600


def test_days_over_the_end_of_a_week() -> None:
    """A range may go on past Sunday."""
    hours = OpeningHours("09:00", "20:00", BERLIN, days="sat-mon, wed")
    assert next_open(hours, "2026-06-02T10:00") == "2026-06-03T09:00+02:00"
    assert next_open(hours, "2026-06-04T10:00") == "2026-06-06T09:00+02:00"


@pytest.mark.parametrize(
    "wrong",
    [
        ("20:00", "09:00", BERLIN, "mon-sun"),
        ("9", "20:00", BERLIN, "mon-sun"),
        ("24:00", "24:00", BERLIN, "mon-sun"),
        ("09:00", "20:00", "Berlin", "mon-sun"),
        ("09:00", "20:00", BERLIN, "weekdays"),
    ],
    ids=["over midnight", "no minutes", "end first", "no zone", "no days"],
)
def test_what_makes_no_sense_is_refused(wrong: tuple[str, str, str, str]) -> None:
    """With what came, and what was expected."""
    with pytest.raises(DefinitionError):
        OpeningHours(*wrong)
