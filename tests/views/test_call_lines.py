"""Which lines of a log bear on a call: its own, and those of its room, its client, its endpoint and its source at the time."""

from __future__ import annotations

import json
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.views._call_lines import CallLines

START = 1_790_000_000
READY = "sip:%d@r.sip.daily.co"


def lines_of(session_id: str, *log: dict[str, Any]) -> list[int]:
    """The places of the lines that bear on the call of a session."""
    replay, kept = Replay(), set[int]()
    lines = CallLines(lambda record: record.get("session_id") == session_id, kept.add)
    for number, payload in enumerate(log):
        outcome = replay.feed(json.dumps(payload).encode())
        assert outcome is not None
        lines.see(number, outcome, replay.engine)
        for gone in outcome.departed:
            if isinstance(gone, (Session, Caller)):
                lines.leave(gone, gone.to_dict())
    replay.finish()
    for session in replay.engine.sessions():
        lines.leave(session, replay.engine.record(session))
    lines.end()
    return sorted(kept)


def hook(at: int, kind: str, session: str | None = None, room: str = "r", **fields: Any) -> dict[str, Any]:
    """A webhook, some seconds after the start."""
    payload = {"room": room, "timestamp": str(START + at), **fields}
    if session is not None:
        payload["session_id"] = session
    return {
        "version": "1.0.0",
        "type": kind,
        "id": f"{kind} {session} {at}",
        "payload": payload,
        "event_ts": START + at,
    }


def guest(at: int, kind: str, room: str = "r") -> dict[str, Any]:
    """Somebody who is no caller joins or leaves."""
    return hook(at, f"participant.{kind}", f"guest-{room}", room, joined_at=START + at)


def test_what_happens_in_its_room_meanwhile_belongs_to_it() -> None:
    """Not what was before and after, nor what was in other rooms, nor what other calls did there."""
    assert lines_of(
        "a",
        guest(0, "joined"),
        hook(10, "dialout.connected", "a", destination="+12025550100"),
        guest(11, "joined", "other"),
        hook(12, "recording.started"),
        hook(13, "dialout.connected", "b", destination="+12025550101"),
        guest(20, "left"),
        hook(30, "dialout.stopped", "a"),
        hook(40, "recording.stopped"),
    ) == [1, 3, 5, 6]


def test_what_is_said_of_its_source_belongs_to_it() -> None:
    """Also while it is in doubt already; not what is said of another room's."""
    gap = {"action": "source-gap", "reason": "restart"}
    assert lines_of(
        "a",
        gap,
        hook(10, "dialout.connected", "a"),
        gap,
        gap,
        {**gap, "room": "other"},
        hook(30, "dialout.stopped", "a"),
        gap,
    ) == [1, 2, 3, 5]


def test_all_endpoints_of_its_room_that_were_ready_before_belong_to_it() -> None:
    """With two of them nobody knows by which it came, and the part must not say that it does. Of each the last time counts."""
    log = [
        hook(0, "dialin.ready", sip_endpoint=READY % 1),
        hook(1, "dialin.ready", sip_endpoint=READY % 2),
        hook(2, "dialin.ready", sip_endpoint=READY % 1),
        hook(3, "dialin.ready", room="other", sip_endpoint=READY % 3),
        hook(10, "dialin.connected", "a", sip_from="sip:+12025550142@carrier.example"),
        hook(20, "dialin.stopped", "a"),
    ]
    assert lines_of("a", *log) == [1, 2, 4, 5]


def test_a_meeting_that_ended_belongs_to_a_call_that_is_heard_of_later() -> None:
    """Webhooks come in any order. One that ended before the call began says nothing about it."""
    log = [
        {**hook(5, "meeting.ended", end_ts=START + 5), "id": "1"},
        {**hook(60, "meeting.ended", end_ts=START + 60), "id": "2"},
        hook(10, "dialin.connected", "a"),
    ]
    assert lines_of("a", *log)[-2:] == [1, 2]
    assert lines_of("a", log[0], log[2]) == [1]


def test_the_next_caller_on_its_endpoint_belongs_to_it() -> None:
    """That is how the end of the call is known. The rest of that other call does not belong to it."""
    assert lines_of(
        "a",
        hook(0, "dialin.connected", "a", sip_endpoint=READY % 1),
        hook(1, "dialin.connected", "x", "other", sip_endpoint=READY % 2),
        hook(2, "dialin.connected", "b", sip_endpoint=READY % 1),
        hook(3, "dialin.stopped", "b"),
    ) == [0, 2]
