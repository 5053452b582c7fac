"""`telstate campaign`: what it refuses, what it shows of a journal, and the whole of it with everything in processes of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from telstate.cli._campaign_options import do_not_call_of
from telstate.cli._campaign_run import CampaignCommand, Output
from telstate.control import Campaign, RetryPlan, read_contacts
from telstate.journals import SqliteJournal
from telstate.testing import PhoneLine
from tests.cli.running import command, environment, json_lines, run_process, telstate
from tests.cli.test_fake_daily import Fake, fake_daily, until
from tests.cli.test_serve import SECRET, replayed
from tests.control.dial_setup import ROOM, in_memory
from tests.ports import free_port

ANN, BOB, CAT, DAN = (f"+1202555010{place}" for place in range(1, 5))
PEOPLE = f"number,name,shop\n{ANN},Ann Smith,North\n{BOB},Bob,\n{CAT},Cat,\nbanana,,\n"
RUN = ("run", "people.csv", "--name", "spring", "--room", "garage")
KEY = {"DAILY_API_KEY": "key"}


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (RUN, {"DAILY_API_KEY": None}, "set DAILY_API_KEY"),
        (RUN, {**KEY, "TELSTATE_NATS": "nats://127.0.0.1"}, "run it without TELSTATE_NATS"),
        (RUN, KEY, "cannot read people.csv"),
        ((*RUN, "--busy", "soon"), KEY, "--busy takes a pause such as 5m, 90s or 2h, several with commas, or `never`"),
        ((*RUN, "--late-events", "soon"), KEY, "--late-events takes a time"),
        ((*RUN, "--hours", "09:00-20:00"), KEY, "give --time-zone"),
        ((*RUN, "--days", "mon-fri"), KEY, "give --hours"),
        ((*RUN, "--until", "tomorrow"), KEY, "--until takes a time such as 2026-05-01T20:00"),
        ((*RUN, "--do-not-call", "missing.txt"), KEY, "cannot read missing.txt"),
        ((*RUN, "--confirm", "nobody:listens"), KEY, "there is no module 'nobody'"),
        ((*RUN, "--confirm", "os:getcwd"), KEY, "expected an async function"),
        ((*RUN, "--json", "--csv"), KEY, "--json or --csv, not both"),
        ((*RUN[:3], "a/b", *RUN[4:]), KEY, "without '/'"),
        (("status", "people.csv", "--name", "spring"), {}, "people.csv is no journal"),
        (("pause", "people.csv", "--name", "spring"), {}, "people.csv is no journal"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_misuse(
    arguments: tuple[str, ...], env: dict[str, str | None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one line, before anybody is called."""
    monkeypatch.chdir(tmp_path)
    run = telstate("campaign", *arguments, env=env)
    assert run.returncode == 2
    (line,) = run.stderr.decode().splitlines()
    assert says in line


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a campaign in which Ann was reached, Bob never answered, and the end of Cat's call is not known."""
    folder = tmp_path_factory.mktemp("journal")
    path, people = folder / "calls.db", folder / "people.csv"
    people.write_text(PEOPLE + f"{DAN},Dan,\n")

    async def main() -> None:
        async with in_memory(line=PhoneLine(answers=0.1, talks=0.1), calls={"journal": SqliteJournal(path)}) as phone:
            phone.daily.lines |= {BOB: PhoneLine(answers=None), CAT: PhoneLine(answers=None)}
            once = RetryPlan(attempts=1)
            campaign = Campaign("spring", read_contacts(people), retry=once, ring_timeout=5, do_not_call={DAN})
            results = [result async for result in campaign.run(phone.dialer)]
            assert len(results) == 5
            for _ in range(2):
                await phone.dial(intent="order-4711")

    anyio.run(main)
    return path


def test_status(journal: Path) -> None:
    """In words and as JSON; it knows who was called, and says whether somebody has the journal open."""
    status = ("campaign", "status", journal, "--name", "spring")
    first, second = telstate(*status).stdout.decode().splitlines()
    assert first == "spring: not paused, no process has the journal open"
    assert second == "4 contacts: 2 unanswered, 1 answered, 1 do-not-call; 3 starts; 0 being called"
    (record,) = json_lines(telstate(*status, "--json"))
    assert record == {
        "campaign": "spring",
        "contacts": 4,
        "dialing": 0,
        "starts": 3,
        "done": {"answered": 1, "unanswered": 2, "do-not-call": 1},
        "paused": False,
        "stopped": False,
        "asked": [],
        "journal_open": False,
    }
    unknown = telstate("campaign", "status", journal, "--name", "sprng")
    assert unknown.returncode == 2
    assert b"knows no campaign 'sprng'; campaigns and intents in it: 'order-4711', 'spring'" in unknown.stderr


def test_report(journal: Path) -> None:
    """Of those who were called; with the list also names, bad rows and the list's order. Masked unless asked otherwise."""
    report = ("campaign", "report", journal, "--name", "spring", "--attempts", "1")
    listed = (*report, "--list", journal.with_name("people.csv"))
    text = telstate(*listed).stdout.decode()
    assert not re.search(r"\+1202555\d{4}|Smith|Bob|banana", text)
    head, *rows, _, summary = text.splitlines()
    assert head.split()[:3] == ["NUMBER", "NAME", "OUTCOME"]
    outcomes = ["answered", "unanswered", "unanswered", "invalid", "do-not-call"]
    assert [next(one for one in row.split() if one in outcomes) for row in rows] == outcomes
    assert summary == "5 contacts: 2 unanswered, 1 answered, 1 do-not-call, 1 invalid; 3 starts"
    cells = list(csv.DictReader(telstate(*listed, "--csv", "--numbers").stdout.decode().splitlines()))
    assert [(one["number"], one["name"]) for one in cells[:2]] == [(ANN, "Ann Smith"), (BOB, "Bob")]
    assert [one["outcome"] for one in cells] == outcomes
    *records, last = json_lines(telstate(*report, "--json"))
    assert Counter(record["result"]["outcome"] for record in records) == last["summary"]["done"]
    assert last["summary"]["contacts"] == len(records) == 4
    assert last["summary"]["starts"] == 3
    assert "2025550" not in json.dumps(records)


def test_wishes_wait_in_the_journal(journal: Path, tmp_path: Path) -> None:
    """Until a process runs the campaign."""
    copy = tmp_path / "calls.db"
    copy.write_bytes(journal.read_bytes())
    for wish in ("pause", "resume", "stop"):
        asked = telstate("campaign", wish, copy, "--name", "spring")
        assert asked.stdout.decode().startswith(f"{wish} requested: ")
    status = telstate("campaign", "status", copy, "--name", "spring").stdout.decode()
    assert status.startswith("spring: not paused, asked to pause, resume, stop, no process has the journal open\n")


@pytest.mark.parametrize("wish", ["pause", "resume", "stop"])
def test_a_misspelt_campaign_is_asked_nothing(wish: str, journal: Path) -> None:
    """It would be told that it stops, and calls would go on."""
    asked = telstate("campaign", wish, journal, "--name", "sprng")
    assert (asked.returncode, asked.stdout) == (2, b"")
    (line,) = asked.stderr.decode().splitlines()
    assert "knows no campaign 'sprng'; campaigns and intents in it: 'order-4711', 'spring'. Check --name" in line
    assert anyio.run(SqliteJournal(journal).campaign_requests, "sprng") == []


def test_a_campaign_that_has_called_nobody_yet_can_be_paused(tmp_path: Path) -> None:
    """The journal knows it from its first run on, before its first call. What a program asked for before that counts, too."""
    path = tmp_path / "calls.db"

    async def nobody() -> AsyncIterator[str]:
        await anyio.sleep_forever()
        yield ANN

    async def main() -> None:
        async with in_memory(calls={"journal": SqliteJournal(path)}) as phone:

            async def run() -> None:
                assert [result async for result in Campaign("spring", nobody()).run(phone.dialer)] == []

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await phone.until(lambda: phone.calls.sizes()["intents"])
                group.cancel_scope.cancel()

    anyio.run(main)
    anyio.run(SqliteJournal(path).request_campaign, "autumn", "pause")
    for name in ("spring", "autumn"):
        assert telstate("campaign", "pause", path, "--name", name).stdout.decode().startswith("pause requested: ")
        assert telstate("campaign", "status", path, "--name", name).returncode == 0


def test_a_file_of_numbers_that_is_being_written_lets_nobody_be_called(tmp_path: Path) -> None:
    """While it is written anew it is empty for a moment. Once it is left alone, who is not in it any more may be called."""
    path = tmp_path / "not.txt"
    path.write_text(f"number\n{ANN}\n+1 (202) 555-0102, asked us to\n")
    must_not = do_not_call_of(str(path))
    assert callable(must_not)
    for text in ("", f"number\n{CAT[:6]}", f"number\n{CAT}\n"):
        path.write_text(text)
        assert must_not(ANN)
        assert must_not(BOB)
    assert must_not(CAT)
    os.utime(path, (0, 0))
    assert [must_not(number) for number in (ANN, BOB, CAT)] == [False, False, True]
    path.unlink()
    assert must_not(CAT)


def test_a_line_that_spares_nobody_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A number without its country code is nobody's. The number itself is not shown."""
    path = tmp_path / "not.txt"
    path.write_text(f"number\n{ANN}\n# from the shop\n\n0761 863000\n2025550102\n")
    os.utime(path, (0, 0))
    must_not = do_not_call_of(str(path))
    assert callable(must_not)
    assert must_not(ANN)
    said = capfd.readouterr().err
    assert "line 5 and 1 more without a number" in said
    assert "863" not in said


def test_a_call_whose_end_was_not_reported_is_not_waited_for_all_day(capfd: pytest.CaptureFixture[str]) -> None:
    """At the end of a campaign Daily is asked now and then whether the calls that go on still exist."""

    async def main() -> None:
        async with in_memory(line=PhoneLine(answers=0.1, talks=60, loses={"dialout.stopped"})) as phone:
            assert await phone.dial(ANN)
            run = CampaignCommand(Campaign("spring", []), ROOM, 5, cast("Output", None))
            began = phone.clock.now() or 0.0
            with phone.clock.move_on_after(3600) as scope:
                await run._until_calls_end(phone.calls, phone.dialer)
            assert not scope.cancelled_caught
            assert 60 <= (phone.clock.now() or 0.0) - began <= 120

    anyio.run(main)
    assert "1 call still going on" in capfd.readouterr().err


# --- with processes ---------------------------------------------------------------------------------------------------

APP = """
from telstate import Router, Session
from telstate.control import Attempt, Verdict

router = Router()


@router.on_end()
async def keep(session: Session) -> None:
    with open("ended.txt", "a") as file:
        file.write(f"{session.session_id} {session.notes.get('shop')}\\n")


async def listen(session: Session, attempt: Attempt) -> Verdict:
    is_person = session.destination != "+12025550102"
    return Verdict(is_person, "person" if is_person else "voicemail")
"""


class Running:
    """A campaign that runs in a process, and where its output goes."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def said(self) -> str:
        """What it has said by now."""
        return (self._folder / "said.txt").read_text()

    @property
    def results(self) -> list[dict[str, Any]]:
        """The results that it has printed by now, as JSON Lines."""
        lines = (self._folder / "out.txt").read_text().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [record["result"] for record in records if "result" in record]

    def wait(self) -> int:
        """Wait for its end."""
        return self.process.wait(60)


@contextmanager
def campaign(
    folder: Path, fake: Fake, port: int, *arguments: object, room: str = "garage", **env: str
) -> Iterator[Running]:
    """Run a campaign; killed after the block."""
    plan = (
        "--busy",
        "0.2s",
        "--no-answer",
        "0.2s",
        "--unconfirmed",
        "0.2s",
        "--late-events",
        "1s",
        "--json",
        "--numbers",
    )
    with (folder / "out.txt").open("wb") as out, (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command("campaign", *RUN[:-1], room, "--port", port, *plan, *arguments),
            cwd=folder,
            env=environment({**fake.env, "TELSTATE_WEBHOOK_SECRET": SECRET, **env}),
            stdout=out,
            stderr=said,
        )
    try:
        yield Running(process, folder)
    finally:
        process.kill()
        process.wait()


@contextmanager
def faking(folder: Path, port: int, lines: dict[str, Any], people: list[str], *arguments: object) -> Iterator[Fake]:
    """A fake with a room, which sends its events to a port; and a list."""
    (folder / "lines.json").write_text(json.dumps(lines))
    (folder / "people.csv").write_text("number,shop\n" + "".join(f"{number},North\n" for number in people))
    hook = (
        "--webhook",
        f"http://127.0.0.1:{port}/webhooks",
        "--secret",
        SECRET,
        "--retries",
        "0.2,0.5,1,2,2,2,2,2,2,2,2",
    )
    with fake_daily(folder, "--room", "garage", "--lines", "lines.json", *hook, *arguments) as fake:
        yield fake


def verb(folder: Path, name: str, *arguments: object) -> str:
    """What a verb says of the campaign, from another process."""
    run = run_process("campaign", name, "calls.db", "--name", "spring", *arguments, cwd=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout.decode()


def ended(folder: Path) -> dict[str, str]:
    """The sessions whose handler has run, with what it saw as their note."""
    path = folder / "ended.txt"
    return dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}


def begun(folder: Path) -> set[str | None]:
    """The user id of each start in the journal: it is there before Daily is asked for it."""
    engine = replayed(folder).engine
    known = [intent for name in engine.intents() if (intent := engine.intent(name)) is not None]
    return {record.user_id for intent in known for record in intent.records}


@pytest.mark.long
@pytest.mark.timeout(120)
def test_killed_and_gone_on(tmp_path: Path) -> None:
    """Each has one result, and nobody who was reached is called again. The program's handlers run; the status is known meanwhile."""
    (tmp_path / "app.py").write_text(APP)
    people = [f"+12025551{place:03}" for place in range(30)]
    port = free_port()
    lines = {"*": {"answers": 0.3, "talks": 0.3}, people[4]: [{"busy": True}, {"answers": 0.2, "talks": 0.2}]}
    options = ("app:router", "--at-once", "5", "--starts-per-second", "10", "--results", "results.csv")
    with faking(tmp_path, port, lines, people) as fake:
        with campaign(tmp_path, fake, port, *options) as first:
            until(lambda: len(first.results) > 5)
            status = verb(tmp_path, "status")
            assert status.startswith("spring: not paused, a process has the journal open\n")
            first.process.kill()
            first.wait()
            before, had_ended = begun(tmp_path), set(ended(tmp_path))
            known = {result["number"]: result for result in first.results}
        assert "no process has the journal open" in verb(tmp_path, "status")
        with campaign(tmp_path, fake, port, *options) as second:
            assert second.wait() == 0, second.said
            found = {result["number"]: result for result in second.results}
            assert len(found) == len(second.results)
            assert sorted(found) == people
            assert {number: found[number] for number in known} == known
        reached = Counter(one["destination"] for one in fake.sessions() if one["answeredAt"] is not None)
        assert set(reached.values()) == {1}
        assert {number for number in found if found[number]["outcome"] == "answered"} <= set(reached)
        answered = {one["sessionId"] for one in fake.sessions() if one["answeredAt"] is not None}
        shops = ended(tmp_path)
        assert answered <= set(shops)
        # Of a call that the kill cut off, the end may be reported before the next process has written the notes. Daily may even have
        # begun that call after the kill: who asked for it tells it from those of the next process.
        by_first = {one.session_id for one in replayed(tmp_path).engine.sessions() if one.user_id in before}
        cut_off = by_first - had_ended
        assert {shop for session_id, shop in shops.items() if session_id not in cut_off} == {"North"}
        with (tmp_path / "results.csv").open() as file:
            assert sorted(row["number"] for row in csv.DictReader(file)) == people
        listed = json_lines(
            run_process("campaign", "report", "calls.db", *RUN[2:4], "--list", "people.csv", "--json", cwd=tmp_path)
        )
        assert listed[-1]["summary"]["done"] == Counter(result["outcome"] for result in found.values())


@pytest.mark.long
@pytest.mark.timeout(120)
def test_pause_resume_and_stop_from_another_process(tmp_path: Path) -> None:
    """A pause holds over SIGTERM, which ends the service in order; a stop is for good."""
    people = [f"+12025551{place:03}" for place in range(200)]
    port = free_port()
    with faking(tmp_path, port, {"*": {"answers": 0.1, "talks": 0.1}}, people) as fake:
        with campaign(tmp_path, fake, port, "--starts-per-second", "5") as first:
            until(lambda: len(first.results) > 2)
            assert verb(tmp_path, "pause").startswith("pause requested")
            until(lambda: "paused: " in first.said)
            assert verb(tmp_path, "status").startswith("spring: paused, a process has the journal open\n")
            until(lambda: all(one["endedAt"] is not None for one in fake.sessions()))
            first.process.send_signal(signal.SIGTERM)
            assert first.wait() == 1
            assert "the campaign was ended before everybody had a result" in first.said
            assert "Traceback" not in first.said
        until(lambda: all(one["endedAt"] is not None for one in fake.sessions()))
        started = len(fake.sessions())  # a start may have been on its way to Daily when the pause came
        with campaign(tmp_path, fake, port, "--starts-per-second", "5") as second:
            until(lambda: "paused: " in second.said)
            time.sleep(1)  # in which five would be started
            assert len(fake.sessions()) == started
            verb(tmp_path, "resume")
            until(lambda: len(fake.sessions()) > started)
            verb(tmp_path, "stop")
            assert second.wait() == 0
            outcomes = Counter(result["outcome"] for result in second.results)
            assert set(outcomes) == {"answered", "campaign-stopped"}
            assert outcomes.total() == len(people)
            assert len(fake.sessions()) == outcomes["answered"]
        assert verb(tmp_path, "status").startswith("spring: stopped, no process")


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_wrong_key_and_a_misspelt_room_cost_nobody_a_start(tmp_path: Path) -> None:
    """It ends with a hint, and goes on once that is mended."""
    people = [ANN, BOB, CAT]
    port = free_port()
    with faking(tmp_path, port, {"*": {"answers": 0.1, "talks": 0.1}}, people) as fake:
        with campaign(tmp_path, fake, port, "--attempts", "1", DAILY_API_KEY="wrong") as wrong:
            assert wrong.wait() == 1
            assert "The API key is not valid" in wrong.said
            assert "Such a start counts against nobody" in wrong.said
        with campaign(tmp_path, fake, port, "--attempts", "1", room="garge") as wrong:
            assert wrong.wait() == 1
            assert "/rooms/garge/dialOut/start" in wrong.said
            assert "Traceback" not in wrong.said
        assert "0 contacts: none; 0 starts" in verb(tmp_path, "status")
        with campaign(tmp_path, fake, port, "--attempts", "1") as right:
            assert right.wait() == 0
            assert [(one["outcome"], one["starts"]) for one in right.results] == [("answered", 1)] * 3


@pytest.mark.long
@pytest.mark.timeout(120)
def test_who_must_not_be_called_and_who_does_not_count(tmp_path: Path) -> None:
    """The file of numbers may change while it runs; `--confirm` decides whether an answer counts."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "not.txt").write_text("number\n")
    port = free_port()
    lines = {ANN: {"answers": 0.1, "talks": 0.1}, BOB: {"answers": 0.1}, CAT: {"busy": True}}
    options = ("--confirm", "app:listen", "--do-not-call", "not.txt", "--attempts", "2", "--busy", "5s")
    with faking(tmp_path, port, lines, [ANN, BOB, CAT]) as fake, campaign(tmp_path, fake, port, *options) as run:
        until(lambda: fake.sessions(CAT))
        (tmp_path / "not.txt").write_text(f"number\n{CAT},asked us to\n")
        assert run.wait() == 0, run.said
        found = {
            one["number"]: (one["outcome"], one["verdict"], one["starts"], one["cut_short"]) for one in run.results
        }
        assert found == {
            ANN: ("answered", "person", 1, None),
            BOB: ("unconfirmed", "voicemail", 2, None),
            CAT: ("unanswered", None, 1, "do-not-call"),
        }


@pytest.mark.long
@pytest.mark.timeout(120)
def test_it_says_that_no_event_arrives(tmp_path: Path) -> None:
    """Without the webhook nobody would count as reached."""
    people = [ANN, BOB, CAT]
    port, nobody = free_port(), free_port()
    with faking(tmp_path, nobody, {"*": {"answers": 0.1}}, people) as fake:
        with campaign(tmp_path, fake, port, "--ring-timeout", "1") as run:
            assert run.wait() == 0
        assert "no event of the first 3 calls has arrived" in run.said
        assert {one["outcome"] for one in run.results} == {"unknown"}
