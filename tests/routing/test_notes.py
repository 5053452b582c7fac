"""Notes of a program, and the changes that no rise shows: they last, they are bounded, and `changes()` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telstate import (
    Dispatcher,
    NoSuchSession,
    Outcome,
    OutcomeKind,
    ParseError,
    PinlessDialin,
    Presence,
    PresenceChecked,
    Router,
    SessionAnnotated,
    SourceGap,
)
from telstate.calls._notes import NOTES_LIMIT
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from tests.calls import SESSION, js
from tests.routing.kept import payloads, replayed
from tests.routing.test_acting import GatedControl, answered

pytestmark = pytest.mark.anyio


async def test_notes_are_merged_and_survive_a_restart(tmp_path: Path) -> None:
    """On the session, in its record, in a replay, after the end, and in the next run."""
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        session = await answered(calls)
        await calls.annotate(session, tenant="acme", verdict="unknown", tags=["a", {"b": None}])
        await calls.receive(js("dialout-stopped"))
        outcome = await calls.annotate(SESSION, verdict="voicemail")
        assert (str(outcome.kind), outcome.changed, session.amended) == ("noted", (session,), False)
        expected = {"tenant": "acme", "verdict": "voicemail", "tags": ["a", {"b": None}]}
        assert session.notes == session.to_dict()["notes"] == expected
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        known = calls.session(SESSION)
        assert known is not None
        assert known.notes == expected


async def test_notes_about_a_caller_on_hold_are_on_their_session(tmp_path: Path) -> None:
    """Whenever they were written: on hold, connected, after a restart. The session's own note of a name counts."""
    path, held = tmp_path / "calls.db", {"callId": "p", "callDomain": "d", "From": "+12025550142", "To": "+12025550100"}
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        event = (await calls.receive(held)).event
        assert isinstance(event, PinlessDialin)
        await calls.annotate(event, tenant="acme", verdict="unknown", vip=False)
        (caller,) = calls.waiting()
        outcome = await calls.annotate(caller, vip=True)
        assert (str(outcome.kind), outcome.changed) == ("noted", ())
        assert caller.notes == {"tenant": "acme", "verdict": "unknown", "vip": True}
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        session = (await calls.receive(js("dialin-connected", sipFrom="sip:+12025550142@x"))).session
        assert session is not None
        assert (session.pinless_call_id, session.notes) == ("p", caller.notes)
        await calls.annotate(session, verdict="person")
        outcome = await calls.annotate(event, verdict="voicemail", late=1)
        assert outcome.changed == (session,)
        expected = {"tenant": "acme", "verdict": "person", "vip": True, "late": 1}
        assert session.notes == session.to_dict()["notes"] == expected
        with pytest.raises(ValueError, match="at most 4096 bytes"):
            await calls.annotate(event, long="x" * NOTES_LIMIT)
        half = {"half": "x" * (NOTES_LIMIT // 2)}
        await calls.annotate(event, **half)
        with pytest.raises(ValueError, match="at most 4096 bytes"):
            await calls.annotate(session, other="x" * (NOTES_LIMIT // 2))
        with pytest.raises(NoSuchSession, match="no caller with the call id 'q'"):
            await calls.annotate(PinlessDialin(call_id="q"), x=1)
    (again,) = replayed(path).sessions()
    assert again.notes == {**expected, **half}


async def test_notes_are_a_copy() -> None:
    """Neither what the program passed nor what it got changes them."""
    async with Dispatcher(Router()) as calls:
        session = await answered(calls)
        tags = ["a"]
        await calls.annotate(session, tags=tags, pair=(1, 2))
        tags.append("b")
        session.notes["tags"].append("c")
        session.to_dict()["notes"]["tags"].append("d")
        assert session.notes == {"tags": ["a"], "pair": [1, 2]}
        with pytest.raises(TypeError):
            session.notes["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    "value", ["x" * NOTES_LIMIT, object(), {1, 2}, float("nan"), b"bytes", "\ud800", [[[[]]]] * 1000], ids=range(7)
)
async def test_notes_that_cannot_be_kept_are_refused_before_anything_is(value: Any, tmp_path: Path) -> None:
    """Too long, not JSON."""
    journal = SqliteJournal(tmp_path / "calls.db")
    async with Dispatcher(Router(), journal=journal) as calls:
        session = await answered(calls)
        await calls.annotate(session, kept=1)
        with pytest.raises(ValueError, match="notes"):
            await calls.annotate(session, value=value)
        assert session.notes == {"kept": 1}
        assert session.anomalies == ()
        assert calls.counts[OutcomeKind.NOTED] == 1


async def test_deep_notes_are_refused() -> None:
    """JSON that no reader takes must not come into a journal."""
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    async with Dispatcher(Router()) as calls:
        session = await answered(calls)
        with pytest.raises(ValueError, match="notes are JSON values"):
            await calls.annotate(session, deep=deep)


async def test_the_engine_holds_the_bound_too() -> None:
    """For events that did not come by `annotate`."""
    async with Dispatcher(Router()) as calls:
        session = await answered(calls)
        outcome = await calls.receive(SessionAnnotated(session_id=SESSION, notes={"value": "x" * 5000}))
        assert len(outcome.anomalies) == 1
        assert outcome.changed == ()
        with pytest.raises(ParseError, match="written as JSON"):
            await calls.receive(SessionAnnotated(session_id=SESSION, notes={"value": object()}))
        assert session.notes == {}


async def test_an_unknown_session_cannot_be_annotated() -> None:
    """Also one that has left memory."""
    clock = FakeClock()
    async with Dispatcher(Router(), clock=clock) as calls:
        session = await answered(calls)
        await calls.receive(js("dialout-stopped"))
        await clock.advance(7201)
        for unknown in (session, "nobody"):
            with pytest.raises(NoSuchSession):
                await calls.annotate(unknown, x=1)


async def test_the_reason_of_a_stop_is_a_note() -> None:
    """Once Daily has accepted; one that is too long is refused before anything is sent."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        session = await answered(calls)
        with pytest.raises(ValueError, match="4096"):
            await calls.stop(session, reason="x" * 5000)
        assert control.requests == []
        await calls.stop(session, reason="voicemail")
        assert session.notes == {"reason": "voicemail"}
        assert session.stop_requested


async def test_changes_have_amendments_doubts_and_notes() -> None:
    """Besides openings and rises; what changes nothing is not among them."""
    async with Dispatcher(Router()) as calls:
        changes = calls.changes()
        seen: list[Outcome] = []
        session = await answered(calls)
        await calls.receive(js("dialout-warning"))  # changes nothing
        await calls.receive(SourceGap())
        await calls.receive(SourceGap())  # it is doubtful already
        await calls.receive(js("dialout-warning"))  # certain again
        await calls.receive(PresenceChecked(session_id=SESSION, presence=Presence.UNKNOWN))
        await calls.annotate(session, x=1)
        await calls.annotate(session, x=1)
        await calls.receive(js("dialout-stopped"))
        await calls.receive(js("dialout-connected"))  # evidence after the end
        seen += [await anext(changes) for _ in range(7)]
        await calls.receive(js("dialin-connected", "b"))
        seen.append(await anext(changes))
        assert [(one.event.name, [s.session_id for s in one.changed]) for one in seen] == [
            ("dialout-answered", []),
            ("source-gap", [SESSION]),
            ("dialout-warning", [SESSION]),
            ("presence-checked", [SESSION]),
            ("session-annotated", [SESSION]),
            ("dialout-stopped", [SESSION]),
            ("dialout-connected", [SESSION]),
            ("dialin-connected", []),
        ]


async def test_the_key_of_the_api_is_never_kept(tmp_path: Path) -> None:
    """The body of pipecat's runner is a caller on hold; no byte of the key gets into the journal."""
    path = tmp_path / "calls.db"
    caller = {"call_id": "c", "call_domain": "d", "To": "+12025550100", "From": "+12025550142"}
    secret = {"daily_api_key": "0f1e2d3c", "daily_api_url": "https://api.example"}
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        for payload in (
            {"dialin_settings": caller, **secret},
            js("dialin-connected", **secret),
            js("dialin-stopped", sipHeaders={"x": [secret]}),
            {"handler": "on_dtmf_event", "data": {"sessionId": SESSION, **secret}},
            {"type": "recording.ready", "id": "w", "payload": {"deep": secret}},
        ):
            outcome = await calls.receive(payload)
            assert b"0f1e2d3c" not in outcome.event.to_json()
    assert b"0f1e2d3c" not in path.read_bytes()
    assert b"api.example" not in path.read_bytes()
    assert len(payloads(path)) == 5
    assert len(list(replayed(path).sessions())) == 1


async def test_a_caller_on_hold_has_notes_too() -> None:
    """Within the same bound; those about somebody unknown are late."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(PinlessDialin(call_id="c", call_domain="d", from_="+14155550100", to="+14155550101"))
        for notes in ({"tenant": "acme"}, {"tenant": "acme", "plan": 1}):
            await calls.receive(SessionAnnotated(call_id="c", notes=notes))
        (caller,) = calls.waiting()
        assert caller.notes == {"tenant": "acme", "plan": 1}
        outcome = await calls.receive(SessionAnnotated(call_id="c", notes={"x": "x" * 5000}))
        assert "4096" in outcome.anomalies[0]
        assert caller.notes == {"tenant": "acme", "plan": 1}
        outcome = await calls.receive(SessionAnnotated(call_id="nobody", notes={"x": 1}))
        assert outcome.kind is OutcomeKind.LATE
