"""The legs among the views: who is one call with whom, and who is told."""

from __future__ import annotations

from telstate.journals.nats._leg_views import LegViews
from telstate.journals.nats._view import Ties

NONE = Ties(None, [])


def views(**ties: Ties) -> LegViews:
    """Views of sessions."""
    made = LegViews()
    for session_id, each in ties.items():
        made.put(session_id, each)
    return made


def test_a_call_is_what_ties_lead_to() -> None:
    """In either direction; by a name, a SIP Call-ID, and both."""
    found = views(a=Ties(None, ["b"]), b=Ties("x", []), c=Ties("x", []), d=Ties(None, ["c"]), e=Ties("y", []))
    for one in "abcd":
        assert found.call_of(one) == {"a", "b", "c", "d"}
    assert found.call_of("e") == {"e"}
    assert found.call_of("nobody") == {"nobody"}


def test_what_is_known_better_outweighs_a_view() -> None:
    """Also where another session's view would say so."""
    found = views(a=Ties(None, ["b"]), b=Ties(None, ["c"]))
    assert found.call_of("b", {"a": NONE}.get) == {"b", "c"}
    assert found.call_of("a", {"a": Ties(None, ["d"])}.get) == {"a", "d"}


def test_too_many_sessions_are_no_call() -> None:
    """Whatever leads to them."""
    for ties in (Ties("unknown", []), Ties(None, ["all"])):
        assert views(**{f"s{number}": ties for number in range(15)}).call_of("s0") != set()
        assert views(**{f"s{number}": ties for number in range(17)}).call_of("s0") == set()


def test_those_who_are_legs_no_more_are_told_too() -> None:
    """And whoever watches the endpoint where a session was, or is."""
    found, arrived = views(a=Ties(None, ["b"]), b=Ties(None, ["c"])), list[str]()
    ends = [found.watch_arrivals(endpoint, arrived.append) for endpoint in ("one", "two")]
    before, after = found.ties("a"), Ties(None, ["d"], "one")
    found.put("a", after)
    assert found.tell("a", before, after) == {"a", "b", "c", "d"}
    assert found.tell("a", after, Ties(None, ["d"], "two")) == {"a", "d"}
    for end in ends:
        end()
    found.tell("a", after, after)
    assert arrived == ["a", "a", "a"]
    for session_id in "ab":
        found.forget(session_id)
    assert len(found) == 0
    assert not found._watchers
