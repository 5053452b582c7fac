"""A session as programs see it: read-only, with one record, and help without internals."""

from __future__ import annotations

import json
import pydoc
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from telstate import Direction, EndSource, Engine, Session, Settings, State
from tests.calls import SESSION, feed, joined, js, webhook

ROOT = Path(__file__).parents[2]
# The keys of a record, as the design lists them.
KEYS = re.findall(
    r"\w+",
    """
    session_id direction state cause ended_by end_source end_sign sip_call_id room domain_id provider destination origin
    caller_id sip_from sip_endpoint sip_headers caller called pinless_call_id held_s display_name user_id error warnings
    transferred_to transfers notes legs dtmf events duplicates late unexpected anomalies amended uncertain started_at
    requested_at connected_at answered_at ended_at setup_s ring_s talk_s transitions
    """,
)


def engine_of(*payloads: dict[str, object], at: float | None = None) -> tuple[Engine, Session]:
    """Feed payloads of one session to a new engine."""
    engine = Engine()
    feed(engine, *payloads, at=at)
    session = engine.session(SESSION)
    assert session is not None
    return engine, session


# --- read-only ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["room", "state", "direction", "events", "cause", "transitions", "anything", "_evidence"]
)
def test_assignment_raises_and_changes_nothing(name: str) -> None:
    """The message says where a program keeps its own data."""
    _, session = engine_of(js("dialin-connected"))
    before = session.to_dict()
    advice = re.escape(
        f"{name!r} cannot be changed: a session is read-only. Keep your own data in session.context[{name!r}]"
    )
    with pytest.raises(AttributeError, match=advice):
        setattr(session, name, "x")
    with pytest.raises(AttributeError, match=advice):
        delattr(session, name)
    assert session.to_dict() == before


ASSIGNMENTS = """
from typing import Any
from telstate import Direction, Session, State

def handler(session: Session) -> dict[Any, Any]:
    session.room = "x"
    session.state = State.ERROR
    session.cause = None
    session.anything = 1
    session.sip_headers = {}
    return session.context
"""


@pytest.mark.long
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_assignment_is_an_error_for_type_checkers(checker: str, tmp_path: Path) -> None:
    """All five assignments, and nothing else."""
    if subprocess.run([sys.executable, "-c", f"import {checker}"], check=False, capture_output=True).returncode:
        pytest.skip(f"{checker} is not installed")
    file = tmp_path / "program.py"
    file.write_text(ASSIGNMENTS, encoding="utf-8")
    options = (
        ["--strict", "--config-file=", "--no-incremental"] if checker == "mypy" else ["--pythonpath", sys.executable]
    )
    run = subprocess.run(
        [sys.executable, "-m", checker, *options, str(file)], cwd=ROOT, capture_output=True, check=False, timeout=240
    )
    lines = {int(line) for line in re.findall(r"program\.py:(\d+):.*error", run.stdout.decode())}
    assert lines == {6, 7, 8, 9, 10}, run.stdout.decode()


def test_context_belongs_to_the_program() -> None:
    """It is a dict that is made at first use."""
    engine, session = engine_of(js("dialin-connected"))
    session.context["bot"] = 1
    feed(engine, js("dialin-stopped"))
    assert session.context == {"bot": 1}
    assert repr(session) == f"<Session {SESSION} dialin stopped/completed>"


def test_help_shows_what_a_user_needs() -> None:
    """Every attribute of the record, and no method of the engine's."""
    text = pydoc.plain(pydoc.render_doc(Session))
    methods = re.findall(r"^ \|  (\w+)\(", text, re.MULTILINE)
    assert set(methods) == {"Session", "__init__", "__repr__", "to_dict"}
    attributes = {"error": "error_msg", "legs": None, "notes": None, "called": None, "held_s": None}
    for key in KEYS:
        name = attributes.get(key, key)
        assert name is None or re.search(rf"\b{name}\b", text), key


# --- the record ---------------------------------------------------------------------------------------------------


def test_the_record_has_these_keys_and_unknown_values_are_none() -> None:
    """In this order, as JSON values."""
    record = Session("a", Direction.DIALOUT).to_dict()
    assert list(record) == KEYS
    assert json.loads(json.dumps(record)) == record
    known = {key: value for key, value in record.items() if value is not None}
    lists = ("warnings", "transfers", "anomalies", "transitions")
    counts = ("dtmf", "events", "duplicates", "late", "unexpected")
    assert known == {
        "session_id": "a",
        "direction": "dialout",
        "state": "idle",
        "notes": {},
        "amended": False,
        "uncertain": False,
        **{key: [] for key in lists},
        **dict.fromkeys(counts, 0),
    }


def test_the_record_of_a_call() -> None:
    """Numbers are not masked, enums are texts, a parked event is named so."""
    engine = Engine()
    feed(engine, joined(), at=101.0)
    feed(engine, js("dialin-connected", sipFrom="sip:+12025550100@x", sipHeaders={"X-A": "b"}, sipCallId="c"), at=101.0)
    feed(engine, js("dialin-warning", errorMsg="w"), js("dtmf-event", tone="1"), at=102.0)
    feed(engine, js("dialin-error", errorMsg="boom"), at=111.0)
    session = engine.session(SESSION)
    assert session is not None
    record = session.to_dict()
    assert json.loads(json.dumps(record)) == record
    expected = {
        "state": "error",
        "cause": "failed",
        "ended_by": "unknown",
        "end_source": "told",
        "error": "boom",
        "sip_from": "sip:+12025550100@x",
        "sip_headers": {"X-A": "b"},
        "warnings": ["w"],
        "dtmf": 1,
        "events": 5,
        "connected_at": 101.0,
        "answered_at": 101.0,
        "ended_at": 111.0,
        "talk_s": 10.0,
        "legs": None,
        "transitions": [
            ["idle", "connected", "dialin-connected"],
            ["connected", "answered", "parked"],
            ["answered", "error", "dialin-error"],
        ],
    }
    assert {key: record[key] for key in expected} == expected
    assert not any(type(value) in (State, Direction) for value in record.values())


def test_the_engine_adds_the_other_legs_to_the_record() -> None:
    """A session alone does not know them."""
    engine, session = engine_of(js("dialin-connected", sipCallId="c"), js("dialout-connected", "b", sipCallId="c"))
    assert engine.record(session) == {**session.to_dict(), "legs": ["b"]}


def test_how_an_end_is_known() -> None:
    """Daily reported it, or the session only expired."""
    engine, session = engine_of(js("dialout-connected"), at=0.0)
    (limit,) = engine.passed(600.0)
    engine.receive(limit, 600.0)
    assert (session.ended, session.end_source, session.to_dict()["end_source"]) == (True, EndSource.ASSUMED, "assumed")
    feed(engine, js("dialout-stopped"), at=601.0)
    assert (session.end_source, session.to_dict()["end_source"]) == (EndSource.TOLD, "told")


# --- what its events say ------------------------------------------------------------------------------------------


def test_an_answer_that_is_reported_after_the_end_counts() -> None:
    """The state does not go back, but the session was answered."""
    engine, session = engine_of(js("dialout-stopped"))
    assert (session.was_answered, session.states_reported) == (False, (State.STOPPED,))
    feed(engine, js("dialout-answered"))
    assert (session.was_answered, session.states_reported) == (True, (State.ANSWERED, State.STOPPED))
    assert session.state is State.STOPPED


def test_a_callee_who_joins_has_not_answered() -> None:
    """They join while it rings. A caller who joins has."""
    assert not engine_of(js("dialout-connected"), joined())[1].was_answered
    assert engine_of(js("dialin-connected"), joined())[1].was_answered


@pytest.mark.parametrize("action", ["stop-requested", "transfer-requested"])
def test_requests_of_this_program(action: str) -> None:
    """Each is known as what it is."""
    _, session = engine_of(js("dialout-connected"), js(action))
    assert (session.stop_requested, session.transfer_requested) == (
        action == "stop-requested",
        action == "transfer-requested",
    )


@pytest.mark.parametrize("direction", Direction)
def test_a_stopped_after_an_error_does_not_amend_the_session(direction: Direction) -> None:
    """Daily may send both, and it changes no answer. Any other evidence after the end does amend it."""
    engine, session = engine_of(js(f"{direction}-connected"), js(f"{direction}-error"))
    feed(engine, js(f"{direction}-stopped"))
    assert (session.late, session.amended) == (1, False)
    feed(engine, webhook("calltransfer.completed"))
    assert session.amended


def test_an_error_after_a_stopped_amends_the_session() -> None:
    """It changes the cause."""
    _, session = engine_of(js("dialin-stopped"), js("dialin-error"))
    assert session.amended


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ([js("dialin-error", errorMsg="SDP failed"), webhook("dialin.error", error_msg="no codec")], "SDP failed"),
        ([webhook("dialin.error", error_msg=""), js("dialin-error", errorMsg="SDP failed")], "SDP failed"),
        ([js("dialout-refused", errorMsg="not allowed"), js("dialout-error", errorMsg="SDP failed")], "SDP failed"),
        ([js("dialout-error", errorMsg="SDP failed"), js("dialout-refused", errorMsg="not allowed")], "SDP failed"),
        ([js("dialout-refused", errorMsg="not allowed"), js("dialout-error")], "not allowed"),
        ([js("dialout-error"), js("dialout-refused", errorMsg="not allowed")], "not allowed"),
    ],
)
def test_the_first_text_of_an_error_is_kept(reports: list[dict[str, Any]], text: str) -> None:
    """It outweighs that of a refusal in any order. An error without text leaves what is known."""
    assert engine_of(*reports)[1].error_msg == text


@pytest.mark.parametrize("texts", list(permutations(["codec", "", "video"])))
def test_a_warning_without_text_yields_to_one_with_text(texts: tuple[str, ...]) -> None:
    """Webhooks report dial-out warnings without a text, and another observer has it in words."""
    warnings = [js("dialout-warning", errorMsg=text) for text in texts]
    assert sorted(engine_of(*warnings)[1].warnings) == ["codec", "video"]
    assert engine_of(webhook("dialout.warning"))[1].warnings == ("a warning without text",)


def test_a_record_knows_legs_that_left_memory_before_it() -> None:
    """And a session that has left memory still knows its own."""
    engine = Engine(Settings(retention=100, key_ttl=100))
    feed(engine, js("dialin-connected", "a", sipCallId="c"), js("dialin-connected", "b", sipCallId="c"), at=1.0)
    (a, b) = engine.sessions()
    assert a.to_dict()["legs"] is None
    assert engine.record(a)["legs"] == ["b"]
    feed(engine, js("dialin-stopped", "a"), at=10.0)
    assert engine.advance(200.0) == (a,)
    assert a.to_dict()["legs"] == ["b"]
    assert engine.record(b)["legs"] == ["a"]
    feed(engine, js("dialin-stopped", "b"), at=300.0)
    assert engine.advance(500.0) == (b,)
    assert b.to_dict()["legs"] == ["a"]
    assert set(engine.sizes().values()) == {0}


@pytest.mark.parametrize("seconds", [0.0, 50.0])
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("order", list(permutations("abcd")))
def test_legs_know_each_other_to_the_last_however_they_leave_memory(
    order: tuple[str, ...], at_end: bool, seconds: float
) -> None:
    """One after the other, all at once, or at the end of a log; and whoever held the others together may leave first."""
    engine = Engine(Settings(retention=100, key_ttl=100))
    feed(engine, *(js("dialout-connected", one, sipCallId="x" if one in "ad" else None) for one in "abcd"), at=1.0)
    feed(engine, *(js("sessions-linked", "a", otherSessionId=other) for other in "bc"))
    sessions = list(engine.sessions())
    for place, one in enumerate(order):
        feed(engine, js("dialout-stopped", one), at=10.0 + place * seconds)
    if at_end:
        engine.retire()
    for place in range(4):
        engine.advance(110.0 + place * seconds)
    for session in sessions:
        assert set(session.to_dict()["legs"] or ()) == set("abcd") - {session.session_id}
    assert set(engine.sizes().values()) == {0}
