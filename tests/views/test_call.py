"""Calls as a whole: which sessions belong together, what the call counts as, and the totals."""

from __future__ import annotations

from itertools import permutations

from telstate import Direction, Engine, Session
from telstate.views._call import CallGrouping, WholeCall
from telstate.views._call_totals import CallTotals, GroupBy, GroupTotals
from tests.calls import feed, js


def call_of(*payloads: dict[str, object], times: list[float] | None = None) -> WholeCall:
    """A call with all sessions that these events make."""
    engine = Engine()
    for place, payload in enumerate(payloads):
        feed(engine, payload, at=None if times is None else times[place])
    return WholeCall((session, session.to_dict(legs=())) for session in engine.sessions())


def leg(session_id: str, *others: str) -> tuple[Session, dict[str, object]]:
    """A session with its record, which names the other legs."""
    session = Session(session_id, Direction.DIALIN)
    return session, session.to_dict(legs=others)


def test_a_call_comes_out_when_its_last_session_came() -> None:
    """In any order, though a session knows only those legs that were known when it left memory."""
    for order in permutations([("a", "b"), ("b", "a", "c"), ("c", "b"), ("alone",)]):
        grouping, found = CallGrouping(), []
        for one in order:
            call = grouping.add(*leg(*one))
            found += [call] if call is not None else []
        found += grouping.rest()
        ids = sorted(sorted(session.session_id for session, _ in call.legs) for call in found)
        assert ids == [["a", "b", "c"], ["alone"]]
        assert list(grouping.rest()) == []


def test_a_leg_that_never_leaves_keeps_the_others_until_the_end() -> None:
    """Nothing is lost by it."""
    grouping = CallGrouping()
    assert grouping.add(*leg("a", "never")) is None
    assert [call.call_id for call in grouping.rest()] == ["a"]


def test_a_call_counts_as_its_first_answered_session() -> None:
    """A first attempt that nobody answered is not the call."""
    call = call_of(
        js("dialout-connected", sessionId="one", destination="+12025550100"),
        js("dialout-stopped", sessionId="one"),
        js("dialout-connected", sessionId="two", destination="+12025550101"),
        js("dialout-answered", sessionId="two"),
        js("dialout-stopped", sessionId="two"),
        times=[0.0, 30.0, 40.0, 50.0, 80.0],
    )
    assert call.call_id == "one"
    assert (call.number, call.cause, call.answered) == ("+12025550101", "completed", True)
    assert (call.ring_s, call.talk_s, call.started_at, call.ended_at) == (10.0, 30.0, 0.0, 80.0)


def test_what_still_rings_is_neither_answered_nor_not() -> None:
    """It is no part of the answer rate."""
    rings = call_of(js("dialout-connected", sessionId="one"))
    lost = call_of(js("dialout-connected", sessionId="two"), js("dialout-stopped", sessionId="two"))
    assert (rings.answered, lost.answered) == (None, False)
    totals = CallTotals()
    totals.add(rings)
    totals.add(lost)
    assert (totals.stats.calls, totals.stats.decided, totals.stats.answer_rate) == (2, 1, 0.0)
    assert dict(totals.causes) == {"(connected)": 1, "unanswered": 1}


def test_a_long_log_is_shown_by_day_and_an_hour_without_calls_has_a_row() -> None:
    """An outage is such a gap."""
    totals = CallTotals()
    for at in (0.0, 3 * 3600.0):
        totals.add(call_of(js("dialout-connected", sessionId="s"), times=[at]))
    name, spans = totals.spans()
    assert (name, [stats.calls for _, stats in spans]) == ("hour", [1, 0, 0, 1])
    totals.add(call_of(js("dialout-connected", sessionId="s"), times=[10 * 86_400.0]))
    name, spans = totals.spans()
    assert (name, len(spans), spans[0][1].calls) == ("day", 11, 2)
    totals.add(call_of(js("dialout-connected", sessionId="s"), times=[900 * 86_400.0]))
    name, spans = totals.spans()
    assert (name, [span for span, _ in spans]) == ("month", ["1970-01", "1972-06"])


def test_spellings_of_one_number_are_one_group() -> None:
    """Of an international number, that is."""
    groups = GroupTotals(GroupBy.NUMBER)
    for place, number in enumerate(
        ("+1 202 555 0100", "sip:+12025550100@carrier.example", "0012025550100", "+12025550199")
    ):
        groups.add(call_of(js("dialout-connected", sessionId=str(place), destination=number)))
    assert [record["calls"] for record in groups.records()] == [3, 1]
