"""The rules of `telstate lint`: each finds what it is about, and nothing where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.testing import Noise, simulate
from telstate.views._findings import spoken
from telstate.views._lint import RULES, Linter
from tests.cli.running import telstate

START = 1_790_000_000


def lint(lines: Iterable[dict[str, Any] | bytes], *options: str) -> list[dict[str, Any]]:
    """The findings, as JSON."""
    given = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)
    run = telstate("lint", "--json", "--fail-on", "never", "--numbers", *options, given=given)
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert list(found[-1]) == ["summary"]
    return [one["finding"] for one in found[:-1]]


def codes(lines: Iterable[dict[str, Any] | bytes], *options: str) -> set[str]:
    """The codes of the findings."""
    return {one["code"] for one in lint(lines, *options)}


def hook(at: float, kind: str, session: str | None, *, sent: float | None = None, **payload: Any) -> dict[str, Any]:
    """A webhook: `at` seconds after the start, sent at once unless said otherwise."""
    if session is not None:
        payload["session_id"] = session
    return {
        "version": "1.0.0",
        "type": kind,
        "id": f"{kind}-{session}-{at}",
        "payload": {"room": "r", "domain_id": "d", "timestamp": str(int(START + at)), **payload},
        "event_ts": START + (at if sent is None else sent) + 0.2,
    }


def record(at: float, payload: dict[str, Any], seq: int = 1, dialect: str = "daily-js") -> dict[str, Any]:
    """A line of a journal, with its time of receipt."""
    return {"v": 1, "seq": seq, "at": START + at, "dialect": dialect, "event": None, "payload": payload}


def sent_at(webhook: dict[str, Any]) -> float:
    """When it was sent."""
    at: float = webhook["event_ts"]
    return at


def talk(session: str, at: float = 0, seconds: float = 60, **facts: Any) -> Iterator[dict[str, Any]]:
    """A dial-out that is answered, and its end."""
    yield hook(at, "dialout.connected", session, destination="+12025550100", **facts)
    yield hook(at + 5, "dialout.answered", session, destination="+12025550100", **facts)
    yield hook(at + 5 + seconds, "dialout.stopped", session, destination="+12025550100", **facts)


def failure(session: str, at: float, text: str) -> Iterator[dict[str, Any]]:
    """A dial-out that fails."""
    yield hook(at, "dialout.connected", session)
    yield hook(at + 1, "dialout.error", session, error_msg=text)


def test_nothing_is_wrong_with_good_calls() -> None:
    """Nor with two observers, who tell everything twice and not at the same time."""
    assert lint([*talk("a"), *talk("b", 100)]) == []
    client = [{"action": one["type"].replace(".", "-"), "sessionId": "a", "callClientId": "c"} for one in talk("a")]
    both = [one for pair in zip(client, talk("a"), strict=True) for one in pair]
    assert lint(both) == []
    assert lint([*talk("a"), *client]) == []
    assert lint([*client, *talk("a")]) == []


@pytest.mark.parametrize("dialect", ["daily-js", "webhook", "daily-python", "journal"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_quiet_day_has_no_false_alarm(dialect: str, seed: int) -> None:
    """Over a good network there are only failed calls, unanswered ones, and warnings of Daily."""
    sent = simulate(seed, calls=150, dialects=[dialect])
    assert codes(one.line() for one in sent) <= {"T201", "T203", "T206"}


def test_two_observers_on_a_quiet_day_raise_no_alarm() -> None:
    """Each call is told by two of the dialects."""
    sent = simulate(5, calls=150, dialects=["daily-js", "webhook", "daily-python"], twice=1.0)
    assert codes(one.line() for one in sent) <= {"T201", "T203", "T206", "T207", "T208"}


def test_a_bad_day_is_told_from_a_good_one() -> None:
    """Repeats and disorder are found on most calls that had them, and on no others' account."""
    noise = Noise(repeated=0.3, swapped=0.3)
    found = lint(one.line() for one in simulate(4, calls=100, dialects=["webhook"], noise=noise))
    assert {"T301", "T302", "T507"} <= {one["code"] for one in found}


def test_an_end_that_is_assumed() -> None:
    """In a journal, the silence limit is an event."""
    log = [
        {"v": 1, "journal": "j", "settings": {}},
        record(0, {"action": "dialout-connected", "sessionId": "a"}),
        record(600, {"action": "deadline-passed", "sessionId": "a", "deadline": "silence", "dueAt": START + 600}, 2),
    ]
    (found,) = lint(log)
    assert (found["code"], found["severity"], found["session_id"]) == ("T101", "error", "a")


def test_an_end_that_is_inferred() -> None:
    """From a participant who left: a warning."""
    log = [
        hook(0, "dialin.connected", "a"),
        hook(1, "participant.joined", "a", joined_at=START + 1),
        hook(60, "participant.left", "a", joined_at=START + 1, duration=59),
    ]
    (found,) = lint(log)
    assert (found["code"], found["severity"]) == ("T102", "warning")
    assert "the participant left the room" in found["found"]


def test_no_end_at_all() -> None:
    """A warning if the log goes on for long without the call, else an info."""
    begun = list(talk("a"))[:2]
    assert [(one["code"], one["severity"]) for one in lint(begun)] == [("T104", "info")]
    assert [(one["code"], one["severity"]) for one in lint([*begun, *talk("b", 900)])] == [("T103", "warning")]


def test_a_caller_whom_nobody_heard() -> None:
    """Only where the log reports the media of others; a caller who hangs up at once changed their mind."""
    silent = [hook(0, "dialin.connected", "a"), hook(30, "dialin.stopped", "a")]
    heard = [
        hook(100, "dialin.connected", "b"),
        hook(101, "participant.joined", "b", joined_at=START + 101),
        hook(130, "dialin.stopped", "b"),
    ]
    short = [hook(200, "dialin.connected", "c"), hook(204, "dialin.stopped", "c")]
    assert lint(silent) == []
    assert [(one["code"], one["session_id"]) for one in lint([*heard, *short])] == []
    found = lint([*heard, hook(300, "dialin.connected", "a"), hook(330, "dialin.stopped", "a")])
    assert [(one["code"], one["session_id"]) for one in found] == [("T202", "a")]


def test_a_transfer_that_did_not_happen() -> None:
    """An error with the target; a warning if another target was reached."""
    to: dict[str, Any] = {"to_endpoint": "+12025550190", "is_sip_refer": False}
    log = [
        hook(0, "dialin.connected", "a"),
        hook(10, "calltransfer.initiated", "a", **to),
        hook(300, "dialin.stopped", "a"),
    ]
    (found,) = lint(log)
    assert (found["code"], found["severity"]) == ("T204", "error")
    assert "+12025550190" in found["found"]
    log[2:2] = [hook(60, "calltransfer.answered", "a", to_endpoint="sip:desk@pbx.example")]
    assert [one["severity"] for one in lint(log) if one["code"] == "T204"] == ["warning"]


@pytest.mark.parametrize(
    ("step", "end", "said"),
    [
        ("answered", "dialin.stopped", "; the one to sip:desk@pbx.example did."),
        ("answered", "dialin.error", "; the one to sip:desk@pbx.example did."),
        ("initiated", "dialin.stopped", "; the call was handed over to sip:desk@pbx.example instead."),
        ("initiated", "dialin.error", "; the call was handed over to sip:desk@pbx.example instead."),
    ],
)
def test_of_a_second_target_only_what_is_known_is_said(step: str, end: str, said: str) -> None:
    """That it was reached only if it was, and also where the session failed after that."""
    log = [
        hook(0, "dialin.connected", "a"),
        hook(5, "calltransfer.initiated", "a", to_endpoint="+12025550190"),
        hook(60, f"calltransfer.{step}", "a", to_endpoint="sip:desk@pbx.example"),
        hook(70, end, "a"),
    ]
    (found,) = [one for one in lint(log) if one["code"] == "T204"]
    assert (found["severity"], found["found"].endswith(said)) == ("warning", True)


def test_a_caller_who_is_lost_on_hold() -> None:
    """After the limit, or when Daily refuses to forward them."""
    caller = {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"}
    log = [record(0, caller, 1, "webhook")]
    assert [one["code"] for one in lint(log)] == ["T208"]
    later = record(900, {"action": "dialin-ready", "sipEndpoint": "sip:x@y"}, 2)
    (found,) = lint([*log, later])
    assert (found["code"], found["severity"], found["call_id"]) == ("T207", "error", "c")
    refused = {"action": "forward-refused", "callId": "c", "sipEndpoint": "sip:x@y", "error": "no such endpoint"}
    (found,) = lint([*log, record(5, refused, 2)])
    assert (found["code"], found["severity"]) == ("T207", "error")
    assert "no such endpoint" in found["found"]


def test_repeats_disorder_and_the_wrong_direction() -> None:
    """Each counted for its call."""
    first, second, end = talk("a")
    assert [one["code"] for one in lint([first, first, second, end])] == ["T301"]
    assert [one["code"] for one in lint([first, end, second])] == ["T302"]
    wrong = {"action": "dialin-connected", "sessionId": "a", "callClientId": "c"}
    assert [one["code"] for one in lint([first, wrong, second, end])] == ["T303"]


def test_a_participant_who_comes_again_is_no_repeat() -> None:
    """They may leave and join; a webhook with the same id is a repeat."""
    joined = [hook(at, "participant.joined", "a", joined_at=START + at) for at in (1, 20)]
    log = [hook(0, "dialin.connected", "a"), *joined, hook(60, "dialin.stopped", "a")]
    assert lint(log) == []
    log[2:2] = [joined[0]]
    assert [one["code"] for one in lint(log)] == ["T301"]


def test_slow_delivery() -> None:
    """Of one call, and of many: then the log is slow."""
    first, second, _ = talk("a")
    end = hook(65, "dialout.stopped", "a", sent=600)
    (found,) = lint([first, second, end])
    assert (found["code"], found["found"]) == ("T304", "1 event came late, up to 8 min 55 s after it happened.")
    log = [one for at in range(20) for one in talk(str(at), at)]
    for at, one in enumerate(log):
        one["event_ts"] = START + 1_000 + at
    assert "T506" in codes(log)


def test_ids_that_are_used_again() -> None:
    """Soon after the end, and after the session has left memory."""
    soon = [*talk("a"), hook(600, "dialout.connected", "a")]
    assert "T305" in codes(soon)
    much_later = [*talk("a"), *talk("a", 20_000)]
    found = [one for one in lint(much_later) if one["code"] == "T305"]
    assert [one["found"] for one in found] == ["Its id had another call before, and is used again 5 h 32 min after that call ended."]  # fmt: skip
    assert "T305" not in codes([*talk("a"), *talk("b", 20_000)])


def test_a_call_that_two_logs_tell_of_is_not_another_one() -> None:
    """One log after the other, each of several hours: sessions leave memory in between."""
    webhooks = [*talk("a"), *talk("b", 20_000)]
    (found,) = [one for one in lint([*webhooks, *talk("a")]) if one["code"] == "T305"]
    assert found["found"] == "Its events are hours apart in the log, though it is one call: it is counted twice."
    assert found["do"].startswith("Sort the lines of all logs by time")


def test_one_sip_call_id_for_unrelated_calls() -> None:
    """By their parties, or by their times. Legs of one call are no finding."""

    def call(session: str, direction: str, sip: str, **facts: Any) -> list[dict[str, Any]]:
        return [
            {"action": f"{direction}-{what}", "sessionId": session, "sipCallId": sip, **facts}
            for what in ("connected", "stopped")
        ]

    legs = [*call("a", "dialin", "x", sipFrom="sip:1@y"), *call("b", "dialout", "x", destination="+12025550100")]
    assert "T306" not in codes(legs)
    others = [*call("a", "dialin", "x", sipFrom="sip:1@y"), *call("b", "dialin", "x", sipFrom="sip:2@y")]
    (found,) = [one for one in lint(others) if one["code"] == "T306"]
    assert found["session_id"] == "b"
    assert "that of a," in found["found"]
    timed = [record(at, one, at) for at, one in zip((1, 9, 500, 510), legs, strict=True)]
    assert "T306" in codes(timed)


def test_events_that_do_not_agree() -> None:
    """The anomalies of a session."""
    log = [{"action": f"dialout-{what}", "sessionId": "a", "destination": to} for what, to in (("connected", "+12025550100"), ("stopped", "+12025550101"))]  # fmt: skip
    assert "T307" in codes(log)


def test_many_failures_of_one_kind() -> None:
    """Whatever the figures in the text; not of few calls, and not of different kinds."""
    good = [one for at in range(9) for one in talk(f"good-{at}", at * 10)]
    alike = [one for at in range(3) for one in failure(f"bad-{at}", at * 10, f"no route to +1202555{at:04}")]
    found = [one for one in lint([*good, *alike]) if one["code"] == "T401"]
    assert [one["found"] for one in found] == ["3 of 12 calls (25%) failed alike: no route to +12025550000."]
    assert "T401" not in codes([*good[:3], *alike])  # four calls
    unlike = [one for at, text in enumerate(("one", "two", "three")) for one in failure(f"bad-{at}", at * 10, text)]
    assert "T401" not in codes([*good, *unlike])
    assert "T401" not in codes([*good, *(one for at in range(9, 18) for one in talk(f"good-{at}", at)), *alike])


def test_hardly_anybody_answers() -> None:
    """More than half of ten dial-outs."""

    def rings(number: int) -> list[dict[str, Any]]:
        return [
            hook(at, f"dialout.{what}", f"s-{one}")
            for one in range(number)
            for at, what in ((one, "connected"), (one + 20, "stopped"))
        ]

    assert "T402" in codes([*rings(9), *talk("a")])
    assert "T402" not in codes([*rings(5), *(one for at in range(5) for one in talk(f"a-{at}"))])


def test_the_ends_of_many_calls_are_not_told() -> None:
    """Not if the bot left: nobody was there to hear of the end."""

    def ends(number: int) -> list[dict[str, Any]]:
        return [
            one
            for at in range(number)
            for one in (
                hook(at, "dialin.connected", f"s-{at}"),
                hook(at + 1, "participant.joined", f"s-{at}", joined_at=START + at + 1),
                hook(at + 50, "participant.left", f"s-{at}", joined_at=START + at + 1, duration=49),
            )
        ]

    assert "T403" in codes(ends(10))
    bots = [
        one
        for at in range(12)
        for one in (
            {"handler": "on_dialin_connected", "data": {"sessionId": f"s-{at}"}},
            {"handler": "on_left", "data": None},
        )
    ]
    assert codes(bots) == {"T102"}


@pytest.mark.parametrize("given", [b"", b"\n\n", b"nope\n", b'{"v":1,"journal":"j","settings":{}}\n'])
def test_a_log_without_events(given: bytes) -> None:
    """An error that says what to do."""
    found = lint([given])
    assert found[0]["code"] == "T501"
    assert found[0]["do"]


def test_webhooks_that_stopped_coming() -> None:
    """Nothing for half an hour while three calls are live that are never heard of again. A lost hang-up alone is none."""
    lost = [one for at in range(3) for one in list(talk(f"lost-{at}", at))[:2]]
    after = [one for at in range(3) for one in talk(f"after-{at}", 2_000 + at)]
    (found,) = [one for one in lint([*lost, *after]) if one["code"] == "T502"]
    assert found["severity"] == "error"
    assert "while 3 calls were live; 3 of them" in found["found"]
    assert "33 min 13 s from 2026-09-21 14:13:27" in found["found"]
    assert "T502" not in codes([*lost[:2], *after])
    long = sorted((one for at in range(3) for one in talk(f"long-{at}", at, seconds=3_000)), key=sent_at)
    assert "T502" not in codes(long)


def test_webhooks_that_stop_while_a_bot_goes_on() -> None:
    """The log goes on, so it is known that they stopped."""
    lost = [record(at, one, at, "webhook") for at, one in enumerate([one for n in range(2) for one in list(talk(f"l-{n}"))[:2]], 1)]  # fmt: skip
    goes_on = [
        record(at, {"handler": "on_dialin_ready", "data": "sip:x@y"}, at, "daily-python") for at in (100, 900, 1_800)
    ]
    (found,) = [one for one in lint([*lost, *goes_on]) if one["code"] == "T502"]
    assert found["found"].startswith("No webhook came for 29 min 56 s")


def test_a_gap_that_the_log_tells() -> None:
    """Only while calls are live: a restart in between harms none."""
    gap = {"action": "source-gap", "reason": "restart"}
    (first, second, end) = (record(at, one, at, "webhook") for at, one in enumerate(talk("a"), 1))
    found = [one for one in lint([first, record(2, gap), second, end]) if one["code"] == "T503"]
    assert [one["found"].endswith("events of 1 call may be missing (restart).") for one in found] == [True]
    assert "T503" not in codes([first, second, end, record(99, gap)])
    signalling = {"action": "network-connection", "type": "signaling", "event": "interrupted"}
    assert "T503" in codes([first, record(2, signalling), second, end])


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    """Within one file: files may be given in any order."""
    first, second, end = (record(at, one, n, "webhook") for n, (at, one) in enumerate(zip((100, 40, 110), talk("a"), strict=True)))  # fmt: skip
    found = [one for one in lint([first, second, end]) if one["code"] == "T504"]
    assert [one["found"] for one in found] == ["The time steps back once, first by 1 min at -:2."]
    for name, lines in (("one", talk("a", 5_000)), ("two", talk("b"))):
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    run = telstate("lint", tmp_path / "one", tmp_path / "two")
    assert b"T504" not in run.stdout
    early = [record(-100, one, n, "webhook") for n, one in enumerate(talk("a"))]
    assert "T505" in codes(early)


def test_a_clock_that_is_fast() -> None:
    """Events in a row that are late by the same time. Retries are late by different ones."""
    calls = [one for at in range(4) for one in talk(f"s-{at}", at * 100)]
    receipts = [one["event_ts"] - START for one in calls]
    fast = [record(at + (3_600 if n > 4 else 0), one, n, "webhook") for n, (at, one) in enumerate(zip(receipts, calls, strict=True))]  # fmt: skip
    found = [one for one in lint(fast) if one["code"] == "T504"]
    assert [one["found"].split(":")[:2] for one in found] == [["From -", "6 on the clock is 1 h fast"]]
    retried = [record(at + 400 * n, one, n, "webhook") for n, (at, one) in enumerate(zip(receipts, calls, strict=True))]
    assert "T504" not in codes(retried)


def test_what_cannot_be_read_matched_or_known() -> None:
    """Each is said once for the log, with what came."""
    log: list[dict[str, Any] | bytes] = [
        *talk("a"),
        b"nope\n",
        {"action": "dialout-error", "errorMsg": "boom"},
        {"type": "recording.started", "id": "1", "payload": {}},
        {"type": "sip_trunk.test", "id": "2", "payload": {}},
        b'{"test":"test"}\n',
    ]
    found = {one["code"]: one["found"] for one in lint(log)}
    assert set(found) == {"T509", "T510", "T511"}
    assert "1 of 8 lines could not be read; the first is -:4" in found["T509"]
    assert "dialout-error (1)" in found["T510"]
    assert ": recording.started (1)." in found["T511"]  # and not the tests of an address, which are no events


def test_much_disorder() -> None:
    """More than one in ten."""
    log = [one for at in range(10) for one in reversed(list(talk(f"s-{at}", at * 100)))]
    assert "T508" in codes(log)


def test_every_rule_is_complete() -> None:
    """A code, sentences, and no rule that no test of this file names."""
    named = Path(__file__).read_text(encoding="utf-8")
    for code, rule in RULES.items():
        assert code == rule.code
        assert rule.fix.endswith(".")
        assert rule.meaning.endswith(".")
        assert rule.causes
        assert f'"{code}"' in named or code in {"T105", "T205"}  # these two: tests/corpus


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.43, "0.4 s"), (3, "3 s"), (45, "45 s"), (60, "1 min"), (187, "3 min 7 s"), (3_600, "1 h"), (3_607, "1 h"), (90_000, "1 d 1 h"), (59.7, "1 min")],
)  # fmt: skip
def test_seconds_in_words(seconds: float, text: str) -> None:
    """Two units at most."""
    assert spoken(seconds) == text


def test_memory_is_for_live_calls() -> None:
    """What was kept of a call is forgotten with it; for the log there are counts."""
    replay, linter = Replay({"retention": 60.0, "key_ttl": 60.0}), Linter()
    most = 0
    for sent in simulate(1, calls=600, span=10 * 86_400.0, dialects=["webhook"], noise=Noise(lost=0.02)):
        outcome = replay.feed(sent.line())
        assert outcome is not None
        linter.see(outcome, replay.engine.live, file="f", line=1, at=replay.at, dialect=replay.dialect, is_record=False)
        for gone in outcome.departed:
            if isinstance(gone, Session):
                linter.call(gone)
        kept = len(linter.facts._calls)
        assert kept <= sum(1 for _ in replay.engine.sessions()) + 1
        most = max(most, kept)
    assert most < 40
    assert linter.facts.calls > 550
    assert len(linter.facts._by_sip_call) <= len(linter.facts._calls)
