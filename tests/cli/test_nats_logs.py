"""Every command reads streams in NATS as it reads a file: all partitions in one order, the same for all who read."""

from __future__ import annotations

import asyncio
import json
import subprocess
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from telstate import DialoutAnswered, Dispatcher, Event, Router
from telstate.errors import ParseError
from telstate.events import Dialect
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Publisher, StreamSettings, declare
from tests.cli.records_rows import differences_from_replay
from tests.cli.running import command, environment, json_lines, telstate
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.long

PARTITIONS = 4
_services = count(1)
NUMBER = "+12025550177"


class Service(NamedTuple):
    """Streams that receivers and owners have written."""

    server: NatsServer
    url: str
    """Of all partitions; with `/3` behind it of one."""
    published: int


@pytest.fixture(scope="module")
def service(shared_nats: NatsServer) -> Service:
    """Simulated calls in many rooms, in partitions that were owned one after another; a handler that fails; a payload that is no event."""
    events = [line for line in telstate("simulate", "--calls", 60, "--dup", "0.1").stdout.splitlines() if line]
    answered = {
        "type": "dialout.answered",
        "id": "x",
        "payload": {"session_id": "fails", "room": "lobby", "timestamp": "1790000000", "destination": NUMBER},
    }
    router = Router()

    @router.on(DialoutAnswered)
    async def fail(event: Event) -> None:
        if event.session_id == "fails":
            raise LookupError(f"no customer {NUMBER}")

    names = Names("telstate", f"reading{next(_services)}")  # a process that runs some of the tests may make it twice

    async def run() -> None:
        async with NatsConnection(shared_nats.url) as connection:
            streams = await declare(connection, names, StreamSettings(partitions=PARTITIONS, max_bytes=1 << 26))
            async with Publisher(connection, names) as publisher:
                for line in events:
                    await publisher.receive(line, Dialect.WEBHOOK)
                await publisher.receive(answered)
                await publisher.add_dead_letter(b'{"broken":"\xff', ParseError("", "JSON", "x"), Dialect.WEBHOOK)
                await publisher.add_dead_letter(b'{"type":3}', ParseError("type", "text", 3), Dialect.WEBHOOK)
            for partition in range(PARTITIONS):
                last = await connection.last(names.events, names.events_of(partition))
                async with Dispatcher(router, journal=NatsJournal(connection, streams, partition)) as calls:
                    # Only what has come from the stream is waited for by `idle`.
                    await until(lambda seq=0 if last is None else last.seq: calls._sequencer.seq >= seq, 60)  # type: ignore[misc]
                    await calls.idle()

    asyncio.run(run())
    return Service(shared_nats, f"{shared_nats.url}/telstate/{names.environment}", len(events) + 1)


def output(*arguments: object, source: object, shown: str = "LOG") -> bytes:
    """What a command prints, without the name of what it read."""
    run = telstate(*arguments, source)
    assert run.returncode in {0, 1}, run.stderr
    return run.stdout.replace(str(source).encode(), shown.encode())


@pytest.mark.parametrize(
    "verb",
    [
        ("replay", "--json"),
        ("replay",),
        ("calls", "--json"),
        ("calls", "--group-by", "room"),
        ("tail",),
        ("tail", "--room", "room-6"),
        ("lint", "--json"),
        ("ladder", "--room", "room-6", "--format", "mermaid"),
        ("redact", "--key", "k"),
        ("export",),
        ("export", "--room", "room-6"),
        ("dead", "list", "--room", "lobby"),
    ],
    ids=" ".join,
)
def test_a_command_says_the_same_of_streams_as_of_their_export(
    service: Service, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    """And the same again."""
    exported = tmp_path / "export.jsonl"
    assert telstate("export", service.url, exported).returncode == 0
    found = output(*verb, source=service.url)
    assert found == output(*verb, source=service.url)
    if verb[0] not in {"lint", "ladder", "redact"}:  # these know more of a journal, or have its marks as lines
        assert found == output(*verb, source=exported)
    assert len(found) > 200


def test_records_of_streams_are_those_of_a_replay(service: Service, tmp_path: Path) -> None:
    """In a database; again changes nothing."""
    database = f"sqlite:///{tmp_path / 'records.db'}"
    for _ in range(2):
        assert telstate("records", service.url, "--into", database).returncode == 0
        replayed = telstate("replay", service.url, "--json", "--numbers").stdout.splitlines()
        assert differences_from_replay(database, replayed) == []


def test_all_partitions_together_are_the_partitions(service: Service) -> None:
    """Each session is in one of them, and is told as its owner knows it. Nothing that was published is missing."""
    whole = {
        line["session"]["session_id"]: line
        for line in json_lines(telstate("replay", "--json", service.url))
        if "session" in line
    }
    parts = {}
    received = 0
    for partition in range(PARTITIONS):
        for line in json_lines(telstate("replay", "--json", f"{service.url}/{partition}")):
            if "session" in line:
                assert line["session"]["session_id"] not in parts
                parts[line["session"]["session_id"]] = line
            if "summary" in line:
                received += line["summary"]["received"]
                assert line["summary"]["invalid"] == 0, "an unreadable payload is a dead letter, and no line"
    assert {key: {**line["session"], "legs": []} for key, line in whole.items()} == {
        key: {**line["session"], "legs": []} for key, line in parts.items()
    }
    assert len({line["session"]["room"] for line in whole.values()}) > PARTITIONS
    assert received >= service.published


def test_an_export_has_marks_and_dead_letters(service: Service) -> None:
    """In the order of the stream's numbers, with one header."""
    lines = [json.loads(line) for line in telstate("export", service.url).stdout.splitlines()]
    seqs = [line["seq"] for line in lines if "seq" in line]
    assert seqs == sorted(set(seqs))
    assert ["journal" in line for line in lines] == [True] + [False] * (len(lines) - 1)
    done = {line["done"] for line in lines if "done" in line}
    letters = [line["dead"] for line in lines if "dead" in line]
    assert set(seqs) <= done
    assert sorted(letter["reason"] for letter in letters) == ["LookupError", "ParseError", "ParseError"]
    assert {letter["seq"] for letter in letters if letter["reason"] == "ParseError"}.isdisjoint(seqs)


def test_a_ladder_knows_the_handlers(service: Service) -> None:
    """As of a journal in SQLite: what failed stands there."""
    run = telstate("ladder", "--session", "fails", service.url)
    assert run.returncode == 0, run.stderr
    assert b"LookupError" in run.stdout
    assert NUMBER.encode() not in run.stdout


def test_dead_letters_are_listed_retried_and_dropped(service: Service) -> None:
    """By their numbers in the stream, whichever partition has them."""
    listed = json_lines(telstate("dead", "list", "--json", service.url))
    (failed,) = [letter for letter in listed if letter["reason"] == "LookupError"]
    broken = [letter["number"] for letter in listed if letter["reason"] == "ParseError"]
    shown = telstate("dead", "show", service.url, failed["number"])
    assert (shown.returncode, b"fails" in shown.stdout, NUMBER.encode() in shown.stdout) == (0, True, False)
    run = telstate("dead", "retry", service.url, failed["number"])
    assert (run.returncode, run.stdout) == (0, b"retry requested for 1\n")
    again = {
        letter["number"]: letter["retry_requested"]
        for letter in json_lines(telstate("dead", "list", "--json", service.url))
    }
    assert again == {failed["number"]: True, **dict.fromkeys(broken, False)}
    assert telstate("dead", "drop", service.url, *broken).stdout == b"2 dropped\n"
    assert [letter["number"] for letter in json_lines(telstate("dead", "list", "--json", service.url))] == [
        failed["number"]
    ]
    assert b"there is no dead letter 9999" in telstate("dead", "drop", service.url, 9999).stderr


@pytest.mark.long
def test_tail_follows(service: Service, tmp_path: Path) -> None:
    """What receivers publish is shown soon, also after the server was away."""
    with NatsServer(tmp_path / "nats") as server:
        url = f"{server.url}/telstate/tail"

        def publish(*sessions: str) -> None:
            async def run() -> None:
                names = Names("telstate", "tail")
                async with NatsConnection(server.url) as connection:
                    await declare(connection, names, StreamSettings(partitions=4, max_bytes=1 << 24))
                    async with Publisher(connection, names) as publisher:
                        for one in sessions:
                            event = {"action": "dialout-answered", "sessionId": one, "room": one}
                            await publisher.receive(event, Dialect.DAILY_JS)

            asyncio.run(run())

        publish("one")
        process = subprocess.Popen(command("tail", "-f", url), env=environment(), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert " one " in process.stdout.readline()
            publish("two", "three")
            assert " two " in process.stdout.readline()
            assert " three " in process.stdout.readline()
            server.restart(kill=True)
            publish("four")
            assert " four " in process.stdout.readline()
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/telstate/other", "has no stream telstate-other-events: start a worker"),
        ("/telstate/reading/4", "have partitions 0 to 3, not 4"),
        ("/telstate", "after the host come app, environment"),
        ("/telstate/reading/x", "after the host come app, environment"),
    ],
)
@pytest.mark.parametrize("verb", ["replay", "tail", "export", "calls"])
def test_what_is_wrong_is_said_before_anything_is_printed(service: Service, verb: str, place: str, said: str) -> None:
    """In one line, with what to do."""
    place = place.replace("/reading", f"/{service.url.rpartition('/')[2]}")
    run = telstate(verb, f"{service.server.url}{place}")
    assert (run.returncode, run.stdout) == (2, b"")
    assert said in run.stderr.decode()


def test_what_an_owner_would_not_believe_is_in_no_log(service: Service) -> None:
    """A stolen receiver cannot say that this program stopped a call."""

    async def forge() -> None:
        async with NatsConnection(service.server.url) as connection:
            names = Names("telstate", "forged")
            await declare(connection, names, StreamSettings(partitions=2, max_bytes=1 << 24))
            for dialect, payload in (
                ("daily-js", b'{"action":"dialout-answered","sessionId":"s"}'),
                ("daily-js", b'{"action":"stop-requested","sessionId":"s"}'),
                (
                    "journal",
                    b'{"v":1,"seq":1,"at":1.0,"dialect":"daily-js","event":null,"payload":{"action":"stop-requested","sessionId":"s"}}',
                ),
            ):
                await connection.publish(names.received("r"), payload, {"Telstate": f"- {dialect} somebody"})

    asyncio.run(forge())
    (session, *_, summary) = json_lines(telstate("replay", "--json", f"{service.server.url}/telstate/forged"))
    assert session["session"]["events"] == 1
    assert summary["summary"]["received"] == 1


def test_no_output_has_the_password(service: Service, tmp_path: Path) -> None:
    """Of an address; the report's title neither."""
    url = service.url.replace("nats://", "nats://somebody:pa55word@")
    page = tmp_path / "report.html"
    run = telstate("calls", "--html", page, url)
    assert run.returncode == 0
    wrong = telstate("replay", f"{url}9")
    assert b"pa55word" not in run.stdout + run.stderr + page.read_bytes() + wrong.stdout + wrong.stderr
    assert wrong.returncode == 2


def test_two_streams_are_compared(service: Service) -> None:
    """A log with itself, and a partition with all."""
    assert telstate("diff", service.url, f"{service.url}").stdout.startswith(b"Identical")
    assert telstate("diff", service.url, f"{service.url}/1").returncode == 1
