"""`telstate import`: a service moves to NATS with its calls, its marks and its dead letters; once, however often it is tried."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import Dispatcher, Event, JournalError, ParseError, Router, Settings, SourceGap, StopRequested
from telstate.events import DeadlinePassed, DialoutConnected, PinlessForwarded
from telstate.journals import SqliteJournal
from telstate.journals._export import export_lines
from telstate.journals._offline import prune_before
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Streams, StreamSettings, declare
from telstate.journals.nats import _importing as importing
from telstate.journals.nats._import_plan import ImportPlan
from telstate.journals.nats._importing import Importer
from telstate.testing import FakeClock
from tests.calls import js
from tests.cli.running import LOGS, command, environment, json_lines, telstate
from tests.nats_server import NatsServer

pytestmark = pytest.mark.long

PARTITIONS = 4
SMALL = StreamSettings(partitions=PARTITIONS, max_bytes=1 << 27)


def webhook(kind: str, session: str, number: int, **more: Any) -> dict[str, Any]:
    """A webhook of a room."""
    payload = {"session_id": session, "room": f"room-{session}", "timestamp": str(1_790_000_000 + number), **more}
    return {"type": kind, "id": f"{kind}-{session}", "payload": payload}


RAN: list[str | None] = []
"""The sessions for which `work` has run in a test."""
SERVICE = {"is old": True}


async def work(event: Event) -> None:
    """The handler, here and there: a dead letter names it."""
    if SERVICE["is old"] and event.session_id == "fails" and isinstance(event, DialoutConnected):
        raise LookupError("no such customer")
    if SERVICE["is old"] and event.session_id == "unfinished":
        await anyio.sleep_forever()
    if not isinstance(event, (SourceGap, DeadlinePassed)):
        RAN.append(event.session_id)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a service: a busy day in all dialects, limits, requests, a transfer, a caller on hold, changed settings, dead letters,
    and a handler that is still unfinished."""
    path = tmp_path_factory.mktemp("journal") / "calls.db"
    router = Router()
    router.on(Event)(work)

    async def run() -> None:
        clock, settings = FakeClock(), Settings(ring_deadline=5, silence_before_answer=30)
        async with Dispatcher(router, journal=SqliteJournal(path), settings=settings, clock=clock) as calls:
            await calls.receive_many((LOGS / "busy-day.mixed.jsonl").read_bytes().splitlines())
            await calls.receive(webhook("dialout.connected", "fails", 1))
            await calls.receive({"To": "+12025550100", "From": "+12025550142", "callId": "hold-1", "callDomain": "d"})
            await calls.receive(PinlessForwarded(call_id="hold-1", sip_endpoint="room-held@sip.example"))
            await calls.add_dead_letter(b'{"broken":"\xff', ParseError("", "JSON", "x"), "webhook")
            await clock.advance(60)
            await calls.idle()
        async with Dispatcher(
            router, journal=SqliteJournal(path), settings=Settings(), clock=clock, drain=0.1
        ) as calls:
            await calls.receive(webhook("dialout.answered", "live", 2))
            await calls.receive(StopRequested(session_id="live", reason="tired"))
            await calls.annotate("live", tenant="acme")
            await calls.receive(js("dialout-answered", "roomless"))
            await calls.idle()
            await calls.receive(webhook("dialout.answered", "unfinished", 3))
        await SqliteJournal(path).request_retry([1])

    anyio.run(run)
    return path


@pytest.fixture
def url(shared_nats: NatsServer, request: pytest.FixtureRequest) -> str:
    """Where to, for one test alone."""
    return f"{shared_nats.url}/import/{request.node.name.split('[')[0][:60]}"


def names_of(url: str) -> Names:
    """The names in an address."""
    return Names(*url.split("/")[-2:])


def moved(journal: object, url: str, *arguments: object, env: dict[str, str | None] | None = None) -> str:
    """Import; return what is said."""
    run = telstate("import", "--partitions", PARTITIONS, *arguments, journal, url, env=env)
    assert run.returncode == 0, run.stderr
    return run.stdout.decode()


def sessions(*sources: object) -> dict[str, dict[str, Any]]:
    """The records of all sessions, and of the callers that got to none."""
    found = {}
    for source in sources:
        for line in json_lines(telstate("replay", "--json", source)):
            for kind, key in (("session", "session_id"), ("caller", "call_id")):
                if kind in line:
                    one = line[kind]
                    assert one[key] not in found
                    found[one[key]] = one
    return found


def events_of(source: str) -> list[tuple[float, str, str]]:
    """The time, the dialect and the payload of each event of Daily's, in order."""
    lines = (json.loads(line) for line in telstate("export", source).stdout.splitlines())
    return [
        (line["at"], line["dialect"], json.dumps(line["payload"]))
        for line in lines
        if "payload" in line and line["payload"].get("action") not in {"source-gap", "settings-changed"}
    ]


@pytest.mark.long
def test_a_service_moves_with_everything(journal: Path, url: str) -> None:
    """The same calls, with the times at which they were received, each in the partition of its room; and nothing a second time."""
    assert "events imported, 0 were there already;" in moved(journal, url)
    assert events_of(url) == events_of(str(journal))
    before = sessions(journal)
    live = {key for key, one in before.items() if one.get("state") in {"idle", "connected", "answered"}}
    assert live
    after = sessions(url)
    for key in live:  # a move is a gap
        assert after[key].pop("uncertain", True)
        before[key].pop("uncertain", None)
    assert {"waiting", "forwarded"}.intersection(one["state"] for one in before.values())
    assert after == before
    assert "0 events imported, " in moved(journal, url)
    assert ", 0 were there" not in moved(journal, url)
    assert events_of(url) == events_of(str(journal))


def test_a_partition_knows_its_calls(journal: Path, url: str) -> None:
    """Also what happened to them without naming the room: requests, notes, limits, links."""
    moved(journal, url)
    whole, parts = sessions(url), sessions(*(f"{url}/{number}" for number in range(PARTITIONS)))
    alone = {
        "legs",
        "caller",
        "called",
        "pinless_call_id",
        "held_s",
    }  # what other partitions have does not matter there

    def shown(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            key: {name: one[name] for name in one.keys() - alone} for key, one in found.items() if "session_id" in one
        }

    assert shown(parts) == shown(whole)
    assert parts["live"]["notes"] == {"reason": "tired", "tenant": "acme"}


@pytest.mark.long
def test_marks_and_dead_letters_move(journal: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what has finished does not run again, and what has not runs there."""
    said = moved(journal, url)
    assert "2 dead letters" in said
    assert "0 marks, 0 dead letters" in moved(journal, url)
    letters = {letter["reason"]: letter for letter in json_lines(telstate("dead", "list", "--json", url))}
    assert {reason: letter["retry_requested"] for reason, letter in letters.items()} == {
        "LookupError": True,
        "ParseError": False,
    }
    router = Router()
    router.on(Event)(work)
    monkeypatch.setitem(SERVICE, "is old", False)
    RAN.clear()

    async def own() -> None:
        async with NatsConnection(url.rsplit("/", 2)[0]) as connection:
            streams = await declare(connection, names_of(url))
            for partition in range(PARTITIONS):
                async with Dispatcher(router, journal=NatsJournal(connection, streams, partition)) as calls:
                    with anyio.move_on_after(1.5):
                        await calls.idle()
                        await anyio.sleep_forever()

    for _ in range(10):  # once, unless the machine stands still until the time is over
        asyncio.run(own())
        if len(RAN) > 1:
            break
    assert Counter(RAN) == Counter({"unfinished": 1, "fails": 1}), "the dead letter was retried, the rest is done"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_an_import_that_was_killed_goes_on(journal: Path, url: str, seed: int) -> None:
    """Wherever it was: each event is there once, in order, with its mark."""
    place = f"{url}_{seed}"
    draw = random.Random(seed)
    for _ in range(6):
        process = subprocess.Popen(
            command("import", "--partitions", PARTITIONS, journal, place), env=environment(), stdout=subprocess.DEVNULL
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.6, 1.6))
        process.kill()
        process.wait()
    moved(journal, place)
    assert events_of(place) == events_of(str(journal))
    done = [
        json.loads(line)["done"] for line in telstate("export", place).stdout.splitlines() if b'"done":' in line[:20]
    ]
    expected = [line for line in export_lines(journal) if line.startswith(b'{"v":1,"done":')]
    assert len(set(done)) >= len(expected)


def planned(journal: Path) -> ImportPlan:
    """The first reading."""
    plan = ImportPlan()
    for line in export_lines(journal):
        plan.learn(line)
    return plan


async def write(
    connection: NatsConnection, streams: Streams, journal: Path, *, stop_after: int | None = None, pause: float = 0
) -> None:
    """The second one, or a part of it."""
    plan = planned(journal)
    importer = Importer(connection, streams, plan)
    await importer.begin()
    for number, line in enumerate(export_lines(journal)):
        event = plan.place(line)
        if stop_after is not None and number > stop_after:
            return
        if event is not None:
            await importer.add(event)
        await anyio.sleep(pause)
    await importer.finish()


async def forget_ids_soon(connection: NatsConnection, names: Names) -> None:
    """Let the server know `Nats-Msg-Id`s for a tenth of a second only."""
    config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
    await connection.ask(f"STREAM.UPDATE.{names.events}", {**config, "duplicate_window": 100_000_000})


@pytest.mark.long
@pytest.mark.parametrize("at_once", [7, 1000])
def test_it_does_not_count_on_the_servers_memory_of_ids(
    journal: Path, url: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that goes on after days finds in the stream what it has written; so do two that run at the same time."""
    place = f"{url}_{at_once}"
    names = names_of(place)
    monkeypatch.setattr(importing, "BATCH_LIMIT", at_once)

    async def run() -> None:
        async with NatsConnection(place.rsplit("/", 2)[0]) as connection:
            streams = await declare(connection, names, SMALL)
            await forget_ids_soon(connection, names)
            await write(connection, streams, journal, stop_after=400)
            await anyio.sleep(0.2)
            async with anyio.create_task_group() as group:
                group.start_soon(partial(write, connection, streams, journal, pause=0.0002))
                await anyio.sleep(0.1)
                group.start_soon(partial(write, connection, streams, journal, pause=0.0001))
            config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
            await connection.ask(f"STREAM.UPDATE.{names.events}", {**config, "duplicate_window": 120_000_000_000})

    asyncio.run(run())
    assert events_of(place) == events_of(str(journal))


def test_a_session_stays_where_it_is_when_its_room_is_told_later(tmp_path: Path, url: str) -> None:
    """Between two imports: else its events were in two partitions."""
    path = tmp_path / "calls.db"

    async def receive(*payloads: dict[str, Any]) -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
            await calls.receive_many(payloads)
            await calls.idle()

    for number in range(8):
        anyio.run(receive, js("dialout-connected", f"s{number}"))
    moved(path, url)
    for number in range(8):
        told = webhook("dialout.answered", f"s{number}", 1)
        told["payload"]["room"] = f"s{number}-lobby"
        anyio.run(receive, told, js("dialout-stopped", f"s{number}"))
    moved(path, url)
    found = sessions(*(f"{url}/{number}" for number in range(PARTITIONS)))
    assert {one["state"] for one in found.values()} == {"stopped"}
    assert {one["events"] for one in found.values()} == {3}


def test_workers_must_not_run(journal: Path, url: str) -> None:
    """They would run handlers that have finished. A key that nobody renews is one of a worker that was killed."""
    names = names_of(url)

    async def run() -> None:
        async with NatsConnection(url.rsplit("/", 2)[0]) as connection:
            streams = await declare(connection, names, SMALL)
            key, value = names.worker("a"), json.dumps({"alive": True, "ttl": 2.5}).encode()

            async def renew() -> None:
                while True:
                    await connection.publish(key, value)
                    await anyio.sleep(0.1)

            await connection.publish(key, value)
            await Importer(connection, streams, planned(journal)).begin()
            async with anyio.create_task_group() as group:
                group.start_soon(renew)
                with pytest.raises(JournalError, match=r"1 of the workers of .* run: stop them"):
                    await Importer(connection, streams, planned(journal)).begin()
                group.cancel_scope.cancel()

    asyncio.run(run())


@pytest.mark.long
def test_from_one_set_of_streams_to_another(journal: Path, url: str) -> None:
    """Such as one with another number of partitions. By a pipe, too."""
    moved(journal, f"{url}_a")
    exported = telstate("export", f"{url}_a").stdout
    run = telstate("import", "--partitions", 7, "-", f"{url}_b", given=exported)
    assert run.returncode == 0, run.stderr
    assert events_of(f"{url}_b") == events_of(f"{url}_a")
    assert sessions(f"{url}_b") == sessions(f"{url}_a")
    assert "same place" in telstate("import", f"{url}_a", f"{url}_a").stderr.decode()
    header = json.loads(telstate("export", f"{url}_b/3").stdout.splitlines()[0])
    assert header["settings"]["max_ended"] == Settings().max_ended


def test_a_pruned_journal_moves_what_is_whole(tmp_path: Path, url: str) -> None:
    """Sessions that began before what is left are left out, and those that are still live are named."""
    path = tmp_path / "calls.db"
    clock = FakeClock(1_790_000_000.0)

    async def fill() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            for number in range(40):
                await calls.receive(webhook("dialout.answered", f"old-{number}", number))
                await calls.receive(webhook("dialout.stopped", f"old-{number}", number))
            await clock.advance(3 * 3600)
            await calls.receive(webhook("dialout.answered", "long", 11_000))
            await calls.receive(webhook("dialout.answered", "longer", 11_000))
            await calls.idle()
            await clock.advance(3600)
            await calls.receive(webhook("dialout.answered", "between", 15_000))
            await calls.receive(webhook("dialout.stopped", "long", 15_000))
            await calls.idle()
        await prune_before(path, clock.now() - 1800, None)
        async with Dispatcher(Router(), journal=SqliteJournal(path), clock=clock) as calls:
            await calls.receive(webhook("dialout.warning", "between", 15_001))
            await calls.receive(webhook("dialout.answered", "new", 15_000))
            await calls.idle()

    anyio.run(fill)
    assert any(line.startswith(b'{"v":1,"base":') for line in export_lines(path))
    run = telstate("import", "--partitions", PARTITIONS, path, url)
    assert (run.returncode, run.stderr) == (0, b"")
    assert set(sessions(url)) == {"long", "longer", "between", "new"}
    run = telstate("import", "--partitions", PARTITIONS, "-", f"{url}_2", given=telstate("export", path).stdout)
    assert run.returncode == 0, run.stderr
    assert set(sessions(f"{url}_2")) == {"new"}
    assert b"1 event left out" in run.stderr
    assert b"2 of these sessions are still live" in run.stderr
    assert b"longer" in run.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b'{"action":"dialout-answered","sessionId":"s"}\n', "begins with no header"),
        (b"", "is empty"),
        (b'{"v":1,"journal":"a","settings":{}}\n{"v":1,"journal":"b","settings":{}}\n', "one journal at a time"),
    ],
)
def test_what_is_no_journal_is_refused(url: str, given: bytes, said: str) -> None:
    """With what to do; nothing is declared then."""
    run = telstate("import", "-", url, given=given)
    assert (run.returncode, run.stdout) == (2, b"")
    assert said in run.stderr.decode()


def test_a_full_stream_ends_an_import_which_goes_on_when_there_is_room(journal: Path, url: str) -> None:
    """The error says what to do. What was written by then is not written again."""
    names = names_of(url)

    async def resize(max_bytes: int) -> None:
        async with NatsConnection(url.rsplit("/", 2)[0]) as connection:
            await declare(connection, names, StreamSettings(partitions=PARTITIONS))
            config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
            await connection.ask(f"STREAM.UPDATE.{names.events}", {**config, "max_bytes": max_bytes})

    asyncio.run(resize(600_000))
    run = telstate("import", journal, url)
    assert run.returncode == 2
    assert b"NATS has no room" in run.stderr
    assert b"raise max_bytes" in run.stderr
    asyncio.run(resize(1 << 26))
    assert ", 0 were there" not in moved(journal, url)
    assert events_of(url) == events_of(str(journal))
