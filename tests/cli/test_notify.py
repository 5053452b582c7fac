"""`telstate serve --notify`: receivers from URLs and files, refused where they cannot be right, and told through kills."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import anyio
import pytest
from starlette.responses import Response

from telstate import Dispatcher, Router
from telstate.control import Notifier, NotifyTarget
from telstate.journals import SqliteJournal
from tests.calls import js
from tests.cli.running import telstate
from tests.cli.test_serve import event, sent, serving
from tests.control.notifying import receiver, status
from tests.crash.receiver import SECRET, Receiver

OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ENV = {"TELSTATE_NOTIFY_SECRET": SECRET}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--notify", "http://example.com/"], "or --notify-allow example.com"),
        (["--notify", "https://u:pw@example.com/"], "no user and no password"),
        (["--notify", "missing.toml"], "missing.toml: No such file"),
        (["--notify-allow", "localhost"], "give --notify with it"),
        (["--notify", "https://a.example/", "--nats", "nats://localhost"], "--notify has no effect"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: list[str], problem: str) -> None:
    """In a line that says what to do, without a secret in it."""
    run = telstate("serve", *arguments, env=ENV)
    assert run.returncode == 2
    assert problem in run.stderr.decode()
    assert b"pw" not in run.stderr


def test_it_needs_a_secret() -> None:
    """And says how to make one."""
    run = telstate("serve", "--notify", "https://example.com/", env={"TELSTATE_NOTIFY_SECRET": None})
    assert run.returncode == 2
    assert b"openssl rand" in run.stderr


def test_a_worker_says_why_it_notifies_nobody() -> None:
    """The streams have no place for what waits."""
    run = telstate("work", "app:router", "--nats", "nats://localhost", "--notify", "https://example.com/")
    assert run.returncode == 2
    assert b"streams in NATS have no place" in run.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("receiver = 1", "expected tables [[receiver]]"),
        ("[other]", "expected tables [[receiver]]"),
        ("[[receiver]\n", "Expected ']]'"),
        (
            "[[receiver]]\nurl = 'https://a.example/'\nsecret = 'x'",
            "receiver 1: there is no secret: did you mean secrets?",
        ),
        ("[[receiver]]\nurl = 'https://a.example/'\nevents = ['call.end']", "receiver 1: 'call.end' is none of"),
        ("[[receiver]]\nurl = 'https://a.example/'\nwhere = 'colour == 1'", "there is no field 'colour'"),
        (
            "[[receiver]]\nurl = 'https://a.example/'\nevents = 'call.ended'",
            "receiver 1: events: input should be a valid list",
        ),
        ("[[receiver]]\nurl = 'https://a.example/'\nsecret_env = 'NOBODY_SET_THIS'", "NOBODY_SET_THIS has none"),
        ("[[receiver]]\nurl = 'https://a.example/'\n" * 2, "two receivers have the same name"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """With the number of the receiver."""
    (tmp_path / "receivers.toml").write_text(text)
    run = telstate("serve", "--notify", tmp_path / "receivers.toml", env=ENV)
    assert run.returncode == 2
    assert problem in run.stderr.decode()


@pytest.mark.long
def test_a_receiver_is_told_through_a_kill(tmp_path: Path) -> None:
    """Receivers of a file, with filters and secrets of their own; what waits when the service is killed comes after its start."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Receiver(tmp_path / "a") as all_of_them, Receiver(tmp_path / "b") as ends:
        (tmp_path / "receivers.toml").write_text(
            f"[[receiver]]\nurl = '{all_of_them.url}'\nsecrets = ['{OTHER}', '{SECRET}']\n"
            f"[[receiver]]\nurl = '{ends.url}'\nname = 'crm'\nsecret_env = 'CRM_SECRET'\nevents = ['call.ended']\n"
            "where = 'room == \"lobby\"'\n"
        )
        options = ("--notify", "receivers.toml", "--notify-allow", "127.0.0.1")
        all_of_them.wait_ready()
        ends.kill()
        with serving(tmp_path, *options, CRM_SECRET=SECRET) as (process, url):
            assert asyncio.run(sent(url, None, event(1), event(1, "stopped"))) == [200, 200]
            all_of_them.wait_for(3)
            process.kill()
        ends.keep_alive()
        ends.wait_ready()
        with serving(tmp_path, *options, CRM_SECRET=SECRET) as (process, url):
            ends.wait_for(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert [kind for _, kind, _ in all_of_them.messages()] == ["call.started", "call.answered", "call.ended"]
        ((_, kind, body),) = ends.messages()
    assert kind == "call.ended"
    assert json.loads(body)["data"]["session"]["cause"] == "completed"


def test_a_dead_letter_shows_no_number_unless_asked(tmp_path: Path) -> None:
    """In the list, in full, and in a log that is redacted; and it is selected by its call."""
    journal = tmp_path / "calls.db"
    number = "+12025550143"

    async def give_up() -> None:
        async def gone(*_: object) -> Response:
            return status(410)

        async with receiver(gone) as got:
            notifier = Notifier(NotifyTarget(got.url, SECRET, name="crm"), allow=["127.0.0.1"])
            async with Dispatcher(Router(), journal=SqliteJournal(journal), notify=notifier) as calls:
                await calls.receive(js("dialout-connected", "s", destination=number))
                with anyio.fail_after(10):
                    while not await calls.dead_letters.list():  # noqa: ASYNC110 - the receiver is another task's
                        await anyio.sleep(0.01)

    asyncio.run(give_up())
    (line,) = telstate("dead", "list", journal).stdout.splitlines()[1:2]
    assert b"Gone" in line
    assert b"notify crm" in line
    shown = json.loads(telstate("dead", "show", journal, 1, "--json").stdout)
    assert (shown["receiver"], shown["message"]["type"]) == ("crm", "call.started")
    assert shown["message"]["data"]["session"]["session_id"] == "s"
    assert number not in json.dumps(shown)
    assert number.encode() in telstate("dead", "show", journal, 1, "--numbers").stdout
    for selected, count in ((number, 1), ("+12025550199", 0)):
        assert len(telstate("dead", "list", journal, "--number", selected, "--json").stdout.splitlines()) == count
    (tmp_path / "calls.jsonl").write_bytes(telstate("export", journal).stdout)
    redacted = [json.loads(line) for line in telstate("redact", tmp_path / "calls.jsonl").stdout.splitlines()]
    (letter,) = [line["dead"] for line in redacted if "dead" in line]
    pseudonym = letter["facts"]["notification"]["body"]["data"]["session"]["destination"]
    assert pseudonym not in (None, number)
    assert number not in json.dumps(redacted)
