"""`telstate ladder`: which calls it shows, in which form, and what it says if there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import DialoutEvent, Dispatcher, Engine, Router, SessionAnnotated, parse
from telstate.events import DialoutRequested, DialoutStopped
from telstate.events._dialects.journal import base_line
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from tests.calls import js
from tests.cli.running import CALL, LOGS, STOP, Run, command, json_lines, telstate
from tests.corpus import HERE
from tests.terminal import watch

TWO_LEGS = HERE / "logs" / "16-transfer-to-another-room.jsonl"
A, B = "a25a25a2-0000-4000-8000-00000000000a", "a25a25a2-0000-4000-8000-00000000000b"
HOLD = HERE / "logs" / "08-hold-to-session.jsonl"


def ladders(run: Run) -> list[dict[str, Any]]:
    """The ladders of a run with `--json`."""
    return [line["ladder"] for line in json_lines(run)]


@pytest.mark.parametrize(
    "chosen",
    [("--call", A), ("--call", B), ("--session", B[:36]), ("--room", "frontdesk"), ("--cause", "transferred"), ()],
)
def test_a_call_has_all_its_legs_whichever_is_asked_for(chosen: tuple[str, ...]) -> None:
    """And one ladder."""
    (found,) = ladders(telstate("ladder", TWO_LEGS, "--json", *chosen))
    assert [leg["record"]["session_id"] for leg in found["legs"]] == [A, B]
    assert len(found["steps"]) == 11


@pytest.mark.parametrize("chosen", [("--call", "hold-2"), ("--number", "202 555 0142"), ("--state", "stopped")])
def test_a_session_has_its_caller_on_hold(chosen: tuple[str, ...]) -> None:
    """From the first request on, and the endpoint that they were forwarded to."""
    (found,) = ladders(telstate("ladder", HOLD, "--json", *chosen))
    labels = [step["label"].split()[0] for step in found["steps"]]
    assert labels[:4] == ["pinless-dialin", "dialin-ready", "pinless-forwarded", "dialin-connected"]


def test_linked_legs_are_found_wherever_their_events_are() -> None:
    """The caller on hold of the other leg too, though only the agent was asked for."""
    lines = [
        '{"To": "+12025550100", "From": "+12025550142", "callId": "hold-9", "callDomain": "d"}',
        '{"action": "pinless-forwarded", "callId": "hold-9", "sipEndpoint": "sip:r@x"}',
        '{"action": "dialin-connected", "sessionId": "in", "sipEndpoint": "sip:r@x"}',
        '{"action": "dialout-connected", "sessionId": "out", "destination": "+12025550177"}',
        '{"action": "sessions-linked", "sessionId": "out", "otherSessionId": "in"}',
        '{"action": "dialin-stopped", "sessionId": "in"}',
        '{"action": "dialout-stopped", "sessionId": "out"}',
    ]
    (found,) = ladders(telstate("ladder", "--json", "--number", "+12025550177", given="\n".join(lines).encode()))
    assert [leg["record"]["session_id"] for leg in found["legs"]] == ["in", "out"]
    assert found["steps"][0]["label"].startswith("pinless-dialin")
    assert len(found["steps"]) == len(lines)


def test_notes_that_were_written_before_the_start_are_those_of_its_call() -> None:
    """Though two calls of one room are dialled at once; also in an export of one of them."""
    events = [
        *(SessionAnnotated(user_id=f"u{of}", room="r", notes={"place": of}) for of in (1, 2)),
        *(DialoutRequested(session_id=f"s{of}", user_id=f"u{of}", room="r") for of in (1, 2)),
        *(DialoutStopped(session_id=f"s{of}") for of in (1, 2)),
    ]
    log = b"\n".join(event.to_json() for event in events)
    for of in (1, 2):
        (found,) = ladders(telstate("ladder", "--json", "--session", f"s{of}", given=log))
        labels = [f"session-annotated: place={of}", "dialout-requested", "dialout-stopped"]
        assert [step["label"] for step in found["steps"]] == labels
        part = telstate("export", "-", "--session", f"s{of}", given=log).stdout
        session, _ = json_lines(telstate("replay", "--json", given=part))
        assert session["session"]["notes"] == {"place": of}
        assert len(part.splitlines()) == len(labels)


def test_each_matching_call_is_shown_up_to_the_limit() -> None:
    """The rest is counted, with what to do."""
    run = telstate("ladder", LOGS / "few-calls.webhook.jsonl", "--limit", "2")
    assert run.returncode == 0
    assert run.stdout.decode().count("told by Daily\n  2026") == 2
    assert run.stderr == b"telstate: 5 more legs and callers match: narrow the filters, or raise --limit\n"


def test_a_picture_has_one_call() -> None:
    """Mermaid and SVG; the others are counted."""
    for form, begin in (("mermaid", b"sequenceDiagram\n"), ("svg", b"<svg xmlns=")):
        run = telstate("ladder", LOGS / "few-calls.webhook.jsonl", "--format", form)
        assert run.stdout.startswith(begin)
        assert run.stdout.count(begin) == 1
        assert b"6 more legs and callers match: choose a call with --call ID" in run.stderr


def test_a_page_has_all_calls() -> None:
    """In one file."""
    page = telstate("ladder", LOGS / "few-calls.webhook.jsonl", "--format", "html").stdout
    assert page.startswith(b"<!DOCTYPE html>")
    assert page.count(b"<section") == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "the log is empty: is it the right file?"),
        (b"{\n{\n", "no line could be read: is this a log with one JSON object per line?"),
        (b'{"action": "source-gap"}\n', "the log has no calls: see `telstate replay` for what its events are"),
        (CALL + STOP, "no call matches. The log has 1 call leg or caller; choose one with --call ID:\n  s"),
    ],
)
def test_no_call_says_what_there_is_and_fails(given: bytes, message: str) -> None:
    """And prints nothing else."""
    run = telstate("ladder", "--session", "another", given=given)
    assert (run.returncode, run.stdout) == (1, b"")
    assert run.stderr.decode().startswith(f"telstate: {message}")


def test_a_call_whose_events_were_pruned_says_so() -> None:
    """Only its record is left, in the journal's base."""
    engine = Engine()
    engine.receive(parse(js("dialout-connected")), 100.0)
    base = b'{"v":1,"journal":"j","settings":{}}\n' + base_line(1, engine.snapshot())
    run = telstate("ladder", given=base)
    assert (run.returncode, run.stdout) == (1, b"")
    assert b"none of its events: they were pruned" in run.stderr


def test_lines_that_cannot_be_read_are_counted() -> None:
    """They are no reason to fail."""
    run = telstate("ladder", given=CALL + b"{\n" + STOP)
    assert run.returncode == 0
    assert run.stderr == b"telstate: 1 of 3 lines could not be read: see `telstate replay`\n"


def test_misuse_exits_with_2(tmp_path: Path) -> None:
    """A file that is missing, and a format that is none."""
    assert telstate("ladder", tmp_path / "none").returncode == 2
    assert telstate("ladder", TWO_LEGS, "--format", "pdf").returncode == 2


def test_standard_input_is_read_twice() -> None:
    """As a file is."""
    assert telstate("ladder", given=TWO_LEGS.read_bytes()).stdout == telstate("ladder", TWO_LEGS).stdout


@pytest.mark.parametrize("form", ["text", "mermaid", "svg", "html", "json"])
def test_numbers_are_masked_unless_asked_for(form: str) -> None:
    """In every form."""
    assert b"2025550142" not in telstate("ladder", TWO_LEGS, "--format", form).stdout
    assert b"2025550142" in telstate("ladder", TWO_LEGS, "--format", form, "--numbers").stdout


def test_a_journal_tells_of_its_handlers(tmp_path: Path) -> None:
    """Those that failed stand after their event; an export has no marks, so nothing is said of unfinished ones."""
    router = Router()

    @router.on(DialoutEvent)
    async def bill(event: DialoutEvent) -> None:
        if event.name == "dialout-answered":
            raise LookupError(f"no customer {event.destination}")

    async def run() -> None:
        async with Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db")) as calls:
            for name in ("dialout-connected", "dialout-answered", "dialout-stopped"):
                await calls.receive(js(name, destination="+12025550101"))
                await calls.idle()  # the handler is given up before the next event comes
        journal = SqliteJournal(tmp_path / "calls.db")
        await journal.request_retry([1])

    anyio.run(run)
    (found,) = ladders(telstate("ladder", tmp_path / "calls.db", "--json"))
    labels = [step["label"] for step in found["steps"]]
    failed = labels.index(
        "tests.cli.test_ladder.test_a_journal_tells_of_its_handlers.<locals>.bill failed: LookupError: no customer +12•••••••01"
    )
    assert labels[failed - 1] == "dialout-answered"
    assert found["steps"][failed]["notes"] == ["given up on dialout-answered: dead letter 1, retry requested"]
    assert [step for step in found["steps"] if "its handlers have not finished" in step["notes"]] == []


def test_handlers_that_have_not_finished_are_named(tmp_path: Path) -> None:
    """As after a crash: their event has no mark."""

    async def run() -> None:
        journal = SqliteJournal(tmp_path / "calls.db")
        async with Dispatcher(Router(), journal=journal) as calls:
            await calls.receive(js("dialout-connected"))
        await journal.open(journal.settings or {})
        await journal.append([Entry(2_000_000_000.0, "daily-js", json.dumps(js("dialout-answered")).encode())])
        await journal.aclose()

    anyio.run(run)
    (found,) = ladders(telstate("ladder", tmp_path / "calls.db", "--json"))
    assert [step["notes"] for step in found["steps"]] == [[], ["its handlers have not finished"]]


@pytest.mark.long
@pytest.mark.parametrize("columns", [80, 200])
def test_it_fits_a_real_terminal(columns: int) -> None:
    """And shows no escape sequences but those of the progress bar."""
    watched = watch(command("ladder", TWO_LEGS), columns=columns)
    assert watched.returncode == 0
    lines = watched.lines()
    assert max(map(len, lines)) <= columns
    assert max(map(len, lines)) > columns * 0.6
    assert len(json.dumps(lines)) > 1000
