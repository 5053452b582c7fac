"""Ladders as text, Mermaid, SVG and HTML: they fit, they say why, and nothing of a log is ever markup."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest

from telstate.calls._replay import Replay
from telstate.events._dialects.journal import base_line
from telstate.events._parse import parse_line
from telstate.testing import Noise, simulate
from telstate.views._call_groups import CallIds
from telstate.views._call_traces import CallTraces
from telstate.views._columns import cells_of, wrap_cells
from telstate.views._ladder import Ladder, LaneKind
from telstate.views._ladder_building import build_ladder
from telstate.views._ladder_html import LADDER_PAGE_CSS, ladder_html_fragment, ladder_page
from telstate.views._ladder_mermaid import ladder_mermaid
from telstate.views._ladder_svg import ladder_svg
from telstate.views._ladder_text import ladder_text
from telstate.views._ladders import ladders_of
from tests.corpus import HERE, read_lines

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)> ]]> --> &amp; style: a#b; classDef c:#d; end\n%%{init: {}}%%\x1b[31m\u202e\ud800'


def ladder_of(lines: list[bytes], sessions: list[str], **options: Any) -> Ladder:
    """The ladder of the call with these ids."""
    replay = Replay()
    traces = CallTraces([CallIds(sessions, [])], lambda: replay.engine)
    for raw in lines:
        outcome = replay.feed(raw)
        if outcome is not None and traces.wants(outcome):
            _, at, dialect, *_ = parse_line(raw)
            traces.see(outcome, at, dialect)
    for end in replay.finish():
        traces.infer(end)
    return build_ladder(traces.traces[0], **options)


def js(name: str, session: str | None = "s", at: float | None = None, **fields: Any) -> bytes:
    """A line of daily-js, or of a journal if it has a time."""
    payload = {"action": name, **({"sessionId": session} if session else {}), **fields}
    if at is None:
        return json.dumps(payload).encode()
    return json.dumps({"v": 1, "seq": 1, "at": at, "dialect": "daily-js", "event": None, "payload": payload}).encode()


def notes_of(ladder: Ladder) -> list[str]:
    """All notes, in order."""
    return [note for step in ladder.steps for note in step.notes]


def evil() -> Ladder:
    """A call in which every text that can come from outside is an attack."""
    lines = [
        js("dialout-requested", EVIL, destination=EVIL, room=EVIL),
        js("dialout-connected", EVIL, displayName=EVIL, room=EVIL),
        js(EVIL, EVIL, room=EVIL),
        js("dialout-warning", EVIL, errorMsg=EVIL),
        js("session-annotated", EVIL, notes={EVIL: EVIL, "nowrap: x": [EVIL]}),
        js("transfer-requested", EVIL, toEndpoint=EVIL),
        js("transfer-failed", EVIL, toEndpoint=EVIL, reason=EVIL),
        js("deadline-passed", EVIL, deadline=EVIL, dueAt=1),
        js("meeting-ended", None, room=EVIL),
        js("stop-requested", EVIL, reason=f"wrap:{EVIL}"),
        js("dialout-error", EVIL, errorMsg=EVIL),
    ]
    return ladder_of(lines, [EVIL.replace("\ud800", "\ufffd"), EVIL], numbers=True)


def many_legs(count: int) -> Ladder:
    """A call of many legs."""
    ids = [f"leg-{at}" for at in range(count)]
    lines = [
        js("dialout-connected", one, destination=f"+1202555{at:04}", room=f"room-{at}") for at, one in enumerate(ids)
    ]
    lines += [js("participant-joined", None, participant={"session_id": one}) for one in ids]
    lines += [js("sessions-linked", ids[0], otherSessionId=one) for one in ids[1:]]
    lines += [js("dialout-stopped", one) for one in ids]
    return ladder_of(lines, ids)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_requests_timers_and_the_state_stand_where_they_belong() -> None:
    """From lane to lane, with the time since the step before."""
    lines = [
        b'{"v":1,"journal":"j","settings":{"ring_deadline":30}}',
        js("dialout-requested", at=100, destination="+12025550100", room="lobby"),
        js("dialout-connected", at=101.25),
        js("deadline-passed", at=131.25, deadline="ring", dueAt=131.25),
        js("stop-requested", at=132, reason="nobody answers"),
        js("dialout-stopped", at=132.5),
    ]
    ladder = ladder_of(lines, ["s"])
    names = [lane.name for lane in ladder.lanes]
    assert names == ["callee", "Daily", "program"]
    shown = [(names[step.source], names[step.target], step.label, step.states, step.delta) for step in ladder.steps]
    assert shown == [
        ("program", "Daily", "dialout-requested to +12•••••••00", (), None),
        ("Daily", "callee", "dialout-connected", ("idle", "connected"), 1.25),
        ("program", "program", "deadline-passed: ring", (), 30.0),
        ("program", "Daily", "stop-requested: nobody answers", (), 0.75),
        ("Daily", "callee", "dialout-stopped", ("connected", "stopped"), 0.5),
    ]
    assert notes_of(ladder) == ["ended: unanswered by local, told by Daily"]
    assert ladder.legs[0].facts[0] == "dial-out s to +12•••••••00, room lobby"


def test_who_hung_up_is_an_arrow_only_if_it_is_known() -> None:
    """A stop says nothing; with our request it was us, and of our own call without one it was them."""
    ends = {}
    for name, lines in {
        "unknown": [],
        "local": [js("stop-requested")],
        "remote": [js("transfer-requested", toEndpoint="+12025550177")],
    }.items():
        last = ladder_of([js("dialin-connected"), *lines, js("dialin-stopped")], ["s"]).steps[-1]
        ends[name] = (last.source, last.target, last.arrow)
    assert ends == {"unknown": (0, 1, False), "local": (1, 0, True), "remote": (0, 1, True)}


def test_what_changed_nothing_says_why() -> None:
    """Duplicate, late, unexpected, unmatched and parked events stand in their place."""
    lines = [
        js("dtmf-event", at=99, tone="1"),
        js("dialout-warning", None, at=99.5, sipCallId="sip"),
        js("dialout-connected", at=100, sipCallId="sip", destination="+12025550100"),
        js("dialout-connected", at=101),
        js("dialin-connected", at=102),
        js("dialout-stopped", at=110),
        js("dialout-answered", at=111),
        js("stop-requested", at=112),
    ]
    ladder = ladder_of(lines, ["s"])
    assert [step.label for step in ladder.steps if not step.counts] == [
        "dialout-warning",
        "dialout-connected",
        "dialin-connected",
        "dialout-answered",
        "stop-requested",
    ]
    assert notes_of(ladder) == [
        "parked: its session was not known yet; applied at 00:01:40",
        "unmatched: no session was known to have its SIP Call-ID; applied at 00:01:40",
        "applied with it, as it had waited: dtmf-event",
        "duplicate: told before",
        "unexpected: it came for a dialout session, and changes nothing",
        "ended: unanswered, told by Daily",
        "late: the session is stopped already; what it reports is kept",
        "after the end: cause unanswered → completed",
        "late: the session is stopped already; what it reports is kept",
        "after the end: ended by unknown → local",
    ]


def test_a_sign_of_the_end_says_when_it_counts() -> None:
    """And that it does not hold any more, where there was life after it."""
    joined = {"session_id": "s", "joined_at": 101}
    lines = [
        js("dialin-connected", at=100),
        js("participant-joined", None, at=101, participant=joined),
        js("participant-left", None, at=200, participant=joined),
        js("participant-joined", None, at=210, participant={"session_id": "s", "joined_at": 210}),
        js("left-meeting", None, at=300),
    ]
    shown = notes_of(ladder_of(lines, ["s"]))
    assert shown[:2] == [
        "a sign of the end: without a sign of life the call ends at 00:04:20",
        "the call goes on: the sign of its end does not hold",
    ]
    end = "ended: completed by local, inferred: our call client left at 00:05:00, and no event reports the end"
    assert shown[2:] == ["a sign of the end: without a sign of life the call ends at 00:06:00", end]


def test_a_gap_is_told_once() -> None:
    """Not again with every later change."""
    lines = [
        js("dialin-connected"),
        js("source-gap", None, reason="reconnected"),
        js("session-annotated", notes={"a": 1}),
        js("network-connection", None, type="signaling", event="interrupted"),
    ]
    assert notes_of(ladder_of(lines, ["s"])) == ["the call is uncertain: events may have been missed"]


def test_keys_that_were_pressed_are_counted_and_never_shown() -> None:
    """People type PINs."""
    lines = [js("dialin-connected"), *(js("dtmf-event", tone=tone) for tone in "4711#")]
    ladder = ladder_of(lines, ["s"], numbers=True)
    assert [(step.label, step.times) for step in ladder.steps] == [("dialin-connected", 1), ("dtmf-event", 5)]
    assert "4711" not in re.sub(r"\W", "", ladder_text(ladder))


def test_a_caller_on_hold_and_their_session_share_a_lane() -> None:
    """The phone is the same one, before and after the forward."""
    ladder = ladder_of(read_lines(HERE / "logs" / "08-hold-to-session.jsonl"), ["a5a5a5a5-0000-4000-8000-00000000000a"])
    assert [lane.kind for lane in ladder.lanes] == list(LaneKind)
    assert ladder.ids == ("a5a5a5a5-0000-4000-8000-00000000000a", "hold-2")
    assert [step.label.split()[0] for step in ladder.steps] == [
        "pinless-dialin",
        "dialin-ready",
        "pinless-forwarded",
        "dialin-connected",
        "participant-joined",
        "dialin-stopped",
    ]
    assert {step.source for step in ladder.steps if step.label.startswith(("pinless-dialin", "dialin-con"))} == {0}


def test_a_caller_on_hold_is_lost_and_comes_back() -> None:
    """What is said of a moment is what was known then; somebody else who joins their room stands there without a phone."""
    bot = {"session_id": "bot", "user_name": "Robo Bot"}
    lines = [
        b'{"v":1,"journal":"j","settings":{"hold_limit":60}}',
        js("pinless-dialin", None, at=100, callId="h", From="+12025550143", To="+12025550100"),
        js("deadline-passed", None, at=160, callId="h", deadline="hold-limit", dueAt=160),
        js("deadline-passed", None, at=161, callId="h", deadline="hold-limit", dueAt=160),
        js("pinless-forwarded", None, at=170, callId="h", sipEndpoint="sip:r@x"),
        js("dialin-connected", at=171, sipEndpoint="sip:r@x", room="r"),
        js("participant-joined", None, at=172, participant=bot, room="r"),
    ]
    ladder = ladder_of(lines, ["s"])
    assert notes_of(ladder) == [
        "the caller on hold is lost: gave-up",
        "late: the caller is not on hold any more",
    ]
    assert ladder.steps[-1].label == "participant-joined R••• B•••"
    assert ladder.lanes[ladder.steps[-1].source].kind is LaneKind.ROOM
    assert ladder.steps[0].label == "pinless-dialin from +12•••••••43 to +12•••••••00"


def test_events_of_other_calls_are_left_out() -> None:
    """Also those of the same room that no session has, if they name another one."""
    others = [js("dialout-connected", "t", room="lobby"), js("dialout-warning", None, sipCallId="other", room="lobby")]
    lines = [
        js("dialin-connected", room="lobby"),
        *others,
        js("meeting-ended", None, room="garage"),
        js("dialin-stopped"),
    ]
    assert [step.label for step in ladder_of(lines, ["s"]).steps] == ["dialin-connected", "dialin-stopped"]


def test_an_id_that_is_used_again_is_a_new_session() -> None:
    """It says so."""
    lines = read_lines(HERE / "logs" / "id-reuse.jsonl")
    assert "! an earlier session had this id: this is a new one" in notes_of(ladder_of(lines, ["a"]))


def test_a_pruned_journal_says_that_something_is_missing() -> None:
    """Its base knows the session; what was odd about it before is not the doing of the first event that is left."""
    replay = Replay()
    for raw in (js("dialin-connected", at=100), js("dialout-connected", at=101)):
        replay.feed(raw)
    base = base_line(2, replay.engine.snapshot())
    ladder = ladder_of([b'{"v":1,"journal":"j","settings":{}}', base, js("dialin-stopped", at=110)], ["s"])
    assert notes_of(ladder) == [
        "what was before is not in the log: it was pruned",
        "ended: completed, told by Daily",
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_of_every_session_stands_in_its_ladder(seed: int) -> None:
    """Repeated, swapped, from two observers: as many as its record counts, and the last state is the session's."""
    noise = Noise(repeated=0.1, swapped=0.2)
    lines = [one.line() for one in simulate(seed, calls=12, dialects=["webhook", "daily-js"], twice=0.3, noise=noise)]
    shown = 0
    for ladder in ladders_of(lines):
        unmatched = sum(step.times for step in ladder.steps if step.outcome == "unmatched")
        for record in (leg.record for leg in ladder.legs if "session_id" in leg.record):
            shown += 1
            own = [step for step in ladder.steps if step.session_id == record["session_id"] and step.outcome]
            told = sum(step.times for step in own if step.outcome != "unmatched")
            assert told <= record["events"] <= told + unmatched
            states = [
                state for step in ladder.steps if step.session_id == record["session_id"] for state in step.states
            ]
            assert states[-1:] in ([], [record["state"]])
    assert shown >= 10


def test_private_values_are_masked_unless_asked_for() -> None:
    """Names too, wherever they stand."""
    lines = [
        js("dialout-connected", destination="+12025550100", displayName="Ada Lovelace"),
        js("session-annotated", notes={"said": "Ada Lovelace called from +12025550199"}),
        js("dialout-error", errorMsg="Lovelace at +12025550100 is busy"),
    ]
    masked, plain = (json.dumps(ladder_of(lines, ["s"], numbers=one).to_dict()) for one in (False, True))
    assert "Lovelace" not in masked
    assert "5550" not in masked
    assert plain.count("Lovelace") >= 3
    assert plain.count("+12025550100") >= 2


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """With few lanes, with many, and with words that do not break."""
    for ladder in (evil(), many_legs(2), many_legs(9), ladder_of([js("dialout-error", errorMsg="語" * 200)], ["s"])):
        for encoding in ("utf-8", "ascii"):
            lines = ladder_text(ladder, width, encoding=encoding).splitlines()
            assert max(map(cells_of, lines)) <= width
            assert len(lines) > len(ladder.steps)


def test_more_lanes_than_fit_are_merged() -> None:
    """One for all phones, one for all rooms; the words name the leg."""
    text = ladder_text(many_legs(9), 80)
    assert "phones" in text
    assert "rooms" in text
    assert "i: dialout-stopped" in text
    assert "phone i" in ladder_text(many_legs(9), 300)


def test_a_terminal_without_boxes_gets_plain_ascii() -> None:
    """As `LANG=C` has it."""
    text = ladder_text(evil(), 80, encoding="ascii")
    assert text.isascii()
    assert "|<--" in text
    assert "[idle -> connected]" in text


def test_text_is_harmless() -> None:
    """No escape of a terminal, and no line end of its own."""
    text = ladder_text(evil(), 80)
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("text", ["", "a", "  two words", "word " * 30, "x" * 99, "語" * 50, "a  b"])
def test_wrapped_texts_lose_no_word(text: str) -> None:
    """And no line is too wide."""
    lines = list(wrap_cells(text, 20, 2))
    assert max(map(cells_of, lines)) <= 20
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ladder", [evil(), many_legs(1), many_legs(9)], ids=["evil", "one", "nine"])
def test_svg_is_well_formed_and_everything_lies_in_the_picture(ladder: Ladder) -> None:
    """It is plain ASCII, and has no elements but its own."""
    svg = ladder_svg(ladder)
    assert svg.isascii()
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own output
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    kinds = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert kinds <= {"svg", "title", "style", "rect", "path", "text", "g", "circle"}
    texts = list(root.iter(f"{SVG}text"))
    assert all(0 <= float(text.attrib["x"]) <= width for text in texts)
    assert all(0 <= float(text.attrib["y"]) <= height for text in texts)
    beside = [text for text in texts if text.get("class") in ("label", "note", "state")]
    assert all(float(text.attrib["x"]) + 7.85 * len(text.text or "") <= width for text in beside)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_html_needs_nothing_else_and_runs_nothing() -> None:
    """Its policy allows its own style, by its digest, and nothing else."""
    page = ladder_page([evil(), many_legs(2)])
    assert page.isascii()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert re.search(r"<(script|img|link|iframe|object|b)\b|\bon\w+=\"|style=\"|javascript:|https?:", page) is None
    assert "alert(1)" in unescape(page)
    assert page.count("<svg") == page.count("</svg>") == 2
    assert LADDER_PAGE_CSS in style


def test_a_fragment_is_a_part_of_any_page() -> None:
    """Without a style of its own: a page's policy would refuse it."""
    fragment = ladder_html_fragment(many_legs(2))
    assert "<style" not in fragment
    assert fragment.startswith("<section")
    assert fragment.endswith("</section>")
    assert "+1202555" not in fragment


MERMAID_LINE = re.compile(
    r" {4}(participant L\d+ as |L\d+-{1,2}>{1,2}L\d+: |Note over L\d+(,L\d+)?: )[^<>%{}\"]*((?:<br/>)[^<>%{}\"]*)*"
)


def test_mermaid_has_only_its_own_syntax() -> None:
    """Everything else is an entity. mermaid 11 itself reads it, and the ladders of the whole corpus."""
    for ladder in (evil(), many_legs(3)):
        head, *lines = ladder_mermaid(ladder).splitlines()
        assert head == "sequenceDiagram"
        for line in lines:
            assert MERMAID_LINE.fullmatch(line), line
            text = line.partition(": " if ": " in line[:24] else " as ")[2]
            assert re.search(r"#(?!\d+;)|(?<!\d);|style|classDef", text) is None, line
            assert not re.match(r"(no)?wrap", text), line


def test_json_has_everything() -> None:
    """Legs with their records, lanes and steps."""
    found = json.loads(json.dumps(many_legs(2).to_dict()))
    assert list(found) == ["call", "legs", "lanes", "steps"]
    assert [leg["tag"] for leg in found["legs"]] == ["a", "b"]
    assert found["legs"][0]["record"]["session_id"] == "leg-0"
    assert found["lanes"][0] == {"kind": "phone", "name": "phone a", "detail": "+12•••••••00"}
    assert " ".join(found["steps"][0]) == (
        "at delta source target arrow label leg states outcome notes session_id failed times until"
    )


def test_ids_and_rooms_are_never_masked() -> None:
    """People search for them, whatever they look like."""
    ladder = ladder_of([js("dialin-connected", "4930761863001", room="+4930761863")], ["4930761863001"])
    assert ladder.legs[0].facts[0] == "dial-in 4930761863001, room +4930761863"


def test_the_renderers_take_a_ladder_without_steps() -> None:
    """Of a call of which no event was read."""
    empty = Ladder("s", (), many_legs(1).lanes, ())
    for text in (ladder_text(empty), ladder_mermaid(empty), ladder_svg(empty), ladder_page([empty])):
        assert text
