"""Callers on hold in a log of bare payloads: theirs have no time, so the lines around them say when they called."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from telstate import CallerState, Dialect
from telstate.calls._replay import Replay
from telstate.testing import simulate
from tests.calls import webhook

NUMBER = "+12025550141"
BEGIN = 1_790_000_000


def replayed(lines: Iterable[dict[str, Any]]) -> Replay:
    """Replay a log to its end."""
    replay = Replay()
    for line in lines:
        replay.feed(json.dumps(line).encode())
    replay.finish()
    return replay


def hold(call_id: str = "p") -> dict[str, Any]:
    """What Daily sends when somebody calls: without a time."""
    return {"To": "+12025550100", "From": NUMBER, "callId": call_id, "callDomain": "d"}


def event(kind: str, session_id: str, after: float, **more: Any) -> dict[str, Any]:
    """A webhook, sent so many seconds after the begin."""
    told = {
        "sip_from": f"sip:{NUMBER}@carrier.example",
        "room": session_id,
        "timestamp": str(int(BEGIN + after)),
        **more,
    }
    return {**webhook(kind, session_id, id=f"{kind} {session_id}", **told), "event_ts": BEGIN + after}


def direct(session_id: str, after: float) -> list[dict[str, Any]]:
    """A call of the same number that was over in a minute."""
    return [event("dialin.connected", session_id, after), event("dialin.stopped", session_id, after + 60)]


def state_of(replay: Replay, call_id: str = "p") -> tuple[str, str | None]:
    """What became of a caller."""
    caller = replay.engine.caller(call_id)
    assert caller is not None
    assert caller.started_at is None
    return caller.state, caller.session_id


def test_who_gives_up_on_hold_is_not_an_earlier_call_of_their_number() -> None:
    """They never got to a session, as far as the log goes on."""
    other = [
        event("dialout.connected", "x", 200),
        hold(),
        event("dialout.answered", "x", 210),
        event("dialout.stopped", "x", 900),
    ]
    replay = replayed([*direct("a", 0), *other])
    assert state_of(replay) == (CallerState.GAVE_UP, None)
    assert replay.engine.unconnected()[0].held_s is None


def test_a_log_may_begin_with_their_line() -> None:
    """Only the line after it says when they called, which is enough: a call of their number an hour later is not theirs."""
    others = [event("dialout.connected", "x", 0), *direct("b", 3600)]
    assert state_of(replayed([hold(), *others])) == (CallerState.GAVE_UP, None)
    assert state_of(replayed([hold(), *direct("a", 0), *others])) == (CallerState.CONNECTED, "a")


def test_a_caller_may_leave_memory_before_a_line_dates_them() -> None:
    """More come without a time than are remembered."""
    replay = Replay({"max_parked": 1})
    for line in (hold("p"), hold("q"), event("dialout.connected", "x", 0)):
        replay.feed(json.dumps(line).encode())
    assert [one.call_id for one in replay.engine.unconnected()] == ["q"]


def test_who_waits_at_the_end_of_the_log_still_waits() -> None:
    """Nothing says that the limit has passed."""
    replay = replayed(
        [*direct("a", 0), event("dialout.connected", "x", 200), hold(), event("dialout.stopped", "x", 500)]
    )
    assert state_of(replay) == (CallerState.WAITING, None)


def test_they_are_the_next_dialin_however_long_nothing_happened_before() -> None:
    """The line before theirs may be hours old."""
    replay = replayed([*direct("a", 0), hold(), *direct("b", 7000)])
    assert state_of(replay) == (CallerState.CONNECTED, "b")
    assert replay.engine.session("b").to_dict()["pinless_call_id"] == "p"  # type: ignore[union-attr]


def test_a_later_call_of_their_number_is_not_theirs() -> None:
    """The limit has passed since the next line."""
    replay = replayed([hold("q"), *direct("a", 0), hold(), event("dialout.connected", "x", 200), *direct("b", 1000)])
    assert state_of(replay, "q") == (CallerState.CONNECTED, "a")
    assert state_of(replay) == (CallerState.GAVE_UP, None)


def test_their_line_may_be_late() -> None:
    """Two requests of Daily's that come at once may be written in any order."""
    replay = replayed([event("dialin.ready", "a", 0, sip_endpoint="sip:a.0@x.example"), *direct("a", 5)[:1], hold()])
    assert state_of(replay) == (CallerState.CONNECTED, "a")


def test_bare_payloads_give_the_links_of_a_journal() -> None:
    """Of a busy hour in which few numbers call again and again."""
    sent = list(islice(simulate(3, calls=400, span=2700, dialects=[Dialect.WEBHOOK]), 2000))
    found = []
    for bare in (True, False):
        replay = replayed(
            one.payload
            if bare
            else {"v": 1, "seq": n, "at": one.at, "dialect": "webhook", "event": None, "payload": one.payload}
            for n, one in enumerate(sent, 1)
        )
        engine = replay.engine
        linked = {one.session_id: one.pinless_call_id for one in engine.sessions()}
        found.append((linked, sorted((one.call_id, one.state) for one in engine.unconnected())))
    assert found[0] == found[1]
    assert len([one for one in found[0][0].values() if one]) > 30
