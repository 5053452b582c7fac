"""The last hour: each call that ended counts once, in its minute, and leaves after sixty of them."""

from __future__ import annotations

from telstate import Engine
from telstate.views._last_hour import LastHour
from tests.calls import feed, joined, js, webhook

NOW = 1_790_000_040.0
MINUTE = 1_790_000_040


def test_a_call_counts_once_in_the_minute_of_its_end() -> None:
    """By its way, whether it was answered, and the cause; a live one does not count; late evidence moves it."""
    engine, hour = Engine(), LastHour()
    feed(engine, js("dialin-connected", "in"), joined("in"), js("dialout-connected", "out"), at=NOW)
    for session in engine.sessions():
        hour.add(session, NOW)
    assert hour.to_dict(NOW)["minutes"] == []
    feed(engine, js("dialin-stopped", "in"), js("dialout-stopped", "out"), at=NOW + 1)
    for session in [*engine.sessions(), *engine.sessions()]:
        hour.add(session, NOW + 1)
    expected = [[MINUTE, [["in", True, "completed", 1], ["out", False, "unanswered", 1]]]]
    assert hour.to_dict(NOW + 1)["minutes"] == expected
    version = hour.version
    feed(engine, js("dialout-error", "out"), at=NOW + 2)
    for session in engine.sessions():
        hour.add(session, NOW + 2)
    assert hour.version > version
    (_, kinds) = hour.to_dict(NOW + 2)["minutes"][0]
    assert ["out", False, "failed", 1] in kinds
    assert len(kinds) == 2


def test_after_an_hour_nothing_is_left() -> None:
    """Of the counts, and of what was counted. What ended before is not counted at all."""
    engine, hour = Engine(), LastHour()
    feed(engine, webhook("dialout.stopped", "a", timestamp=str(NOW - 5)), at=NOW)
    feed(engine, webhook("dialout.stopped", "b", timestamp=str(NOW - 4_000)), at=NOW)
    for session in engine.sessions():
        hour.add(session, NOW)
    assert [len(kinds) for _, kinds in hour.to_dict(NOW)["minutes"]] == [1]
    assert hour.to_dict(NOW + 3_700)["minutes"] == []
    assert not hour._of
    assert not hour._minutes


def test_while_nobody_looks_no_more_than_an_hour_is_kept() -> None:
    """A log that is played may have days."""
    engine, hour = Engine(), LastHour()
    for number in range(100):
        now = NOW + number * 60
        feed(engine, webhook("dialout.stopped", f"s{number}", timestamp=str(now)), at=now)
        (session,) = [one for one in engine.sessions() if one.session_id == f"s{number}"]
        hour.add(session, now)
    assert len(hour._minutes) == len(hour._of) == 60


def test_a_caller_who_is_lost_on_hold_counts_apart() -> None:
    """They got to no session."""
    engine, hour = Engine(), LastHour()
    feed(engine, {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"}, at=NOW)
    (caller,) = engine.unconnected()
    hour.add_lost(caller, NOW)
    hour.add_lost(caller, NOW)
    assert hour.to_dict(NOW)["minutes"] == [[MINUTE, [["hold", False, "lost on hold", 1]]]]
