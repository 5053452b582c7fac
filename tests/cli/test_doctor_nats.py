"""What `telstate doctor` finds in NATS, on real servers: each finding once. It stores nothing there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from telstate.cli._doctor_nats import _clock
from telstate.cli._doctor_service import ClockOffset
from telstate.journals.nats import NatsConnection, StreamSettings, declare
from telstate.journals.nats._inspection import not_permitted, subjects_of_a_worker
from tests.cli.doctor_setup import doctor
from tests.cli.test_serve import SECRET, serving
from tests.cli.test_serve_nats import NAMES, declared
from tests.cli.test_work import until_ready, working
from tests.journals.nats.test_permissions import Guarded, guarded, prepared
from tests.nats_server import NatsServer

__all__ = ["guarded"]

pytestmark = pytest.mark.long


def found(server: NatsServer, **env: str) -> list[tuple[str, str]]:
    """The findings about streams."""
    return doctor("--nats", server.url, "--environment", "production", env=env).of("nats")


def messages(server: NatsServer) -> list[int]:
    """The last numbers of all streams: what was ever stored."""

    async def ask() -> list[int]:
        async with NatsConnection(server.url) as connection:
            infos = [await connection.ask(f"STREAM.INFO.{name}") for name in NAMES.streams]
        return [info["state"]["last_seq"] for info in infos]

    return asyncio.run(ask())


def test_nobody_answers(nats_server: NatsServer) -> None:
    """A port without a server, a name without an address, and a server that says nothing."""
    nats_server.pause()
    for url, said in (
        (nats_server.url, "within 5 seconds"),
        ("nats://127.0.0.1:9", "no connection to NATS at"),
        ("nats://telstate.invalid", "no address of telstate.invalid is known"),
    ):
        run = doctor("--nats", url)
        assert (run.returncode, said in run.one("nats", "fault")) == (1, True)


def test_streams_that_are_not_there_or_not_right(nats_server: NatsServer, tmp_path: Path) -> None:
    """No worker has declared them, or somebody has changed them. A receiver is not ready then, and says why."""
    _, missing = found(nats_server)
    assert missing[0] == "fault"
    assert "has no stream telstate-production-events: start a worker" in missing[1]
    arguments = ("--nats", nats_server.url, "--environment", "production", "--secret", SECRET)
    with serving(tmp_path, *arguments) as (_, url):
        assert "takes no calls now: " in doctor(url).one("service", "fault")
        declared(nats_server)
        until_answers(url)
        assert doctor(url).of("service") == [("ok", f"{url} answers, and takes calls")]

    async def change() -> None:
        async with NatsConnection(nats_server.url) as connection:
            config = (await connection.ask(f"STREAM.INFO.{NAMES.marks}"))["config"]
            await connection.ask(f"STREAM.UPDATE.{NAMES.marks}", {**config, "max_msgs": 5})

    asyncio.run(change())
    assert "telstate-production-marks is declared with max_msgs=5" in found(nats_server)[1][1]


def until_answers(url: str) -> None:
    """Wait until a receiver is ready."""
    for _ in range(100):
        if httpx.get(f"{url}/ready").status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError(httpx.get(f"{url}/ready").text)


@pytest.fixture
def declared_server(nats_server: NatsServer) -> NatsServer:
    """A server with the streams of 8 partitions."""
    declared(nats_server)
    return nats_server


def test_workers_and_their_partitions(declared_server: NatsServer, tmp_path: Path) -> None:
    """Nobody, one who owns all, and one who was killed. Nothing is stored by looking."""
    server = declared_server
    before = messages(server)
    run = found(server)
    assert run[0][1].endswith(" lets this user in")
    assert run[1:] == [
        ("ok", "the streams telstate-production-* are declared as telstate needs them, with 8 partitions"),
        ("ok", "the server's clock agrees with this machine's to within 5 s"),
        ("ok", "the stream of the events has 0% of its 16,777,216 bytes"),
        ("ok", "this user may publish all that a receiver and a worker publish"),
        ("fault", "no worker is there"),
    ]
    assert messages(server) == before
    with working(tmp_path, server, "--ttl", "5") as (process, health):
        until_ready(health, 8)
        assert found(server)[-1] == ("ok", "1 worker owns 8 of 8 partitions")
        process.kill()
        process.wait()
    give_up = time.monotonic() + 20  # its lease runs out by the server's clock
    while found(server)[-1] != ("fault", "no worker is there"):
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_partitions_that_nobody_owns(declared_server: NatsServer) -> None:
    """A worker lives, by its key, and owns three of them."""

    async def write() -> None:
        async with NatsConnection(declared_server.url) as connection:
            await connection.publish(NAMES.worker("w"), b'{"alive": true, "ttl": 3600}')
            for partition in range(3):
                await connection.publish(NAMES.owner(partition), b'{"worker": "w"}')
            await connection.publish(NAMES.owner(3), b"nonsense")

    asyncio.run(write())
    assert found(declared_server)[-1] == ("fault", "1 worker owns 3 of 8 partitions")


def test_a_stream_that_is_nearly_full(nats_server: NatsServer) -> None:
    """It is a warning before receivers are refused; one without a limit says so."""

    async def fill() -> None:
        async with NatsConnection(nats_server.url) as connection:
            await declare(connection, NAMES, StreamSettings(partitions=1, max_bytes=1 << 20))
            await connection.publish(NAMES.received("r"), bytes(900_000))

    asyncio.run(fill())
    (text,) = [text for health, text in found(nats_server) if health == "warning"]
    assert text == "the stream of the events has 86% of its 1,048,576 bytes"

    async def free() -> None:
        async with NatsConnection(nats_server.url) as connection:
            config = (await connection.ask(f"STREAM.INFO.{NAMES.events}"))["config"]
            await connection.ask(f"STREAM.UPDATE.{NAMES.events}", {**config, "max_bytes": -1})

    asyncio.run(free())
    assert ("ok", "the stream of the events has no limit of its own") in found(nats_server)


def test_the_clock_of_the_server() -> None:
    """It cannot be set here, so its difference is given."""
    assert _clock(ClockOffset(2.0, 0.5)).health == "ok"
    behind = _clock(ClockOffset(-60.0, 0.5))
    assert (behind.health, behind.found) == ("warning", "the server's clock is 1 min behind this machine's")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_message_that_only_asks_is_never_stored(guarded: Guarded) -> None:
    """By no stream, whatever its kind; and who may not publish is told apart."""
    await prepared(guarded)
    async with guarded.connection("worker") as connection:
        before = [(await connection.ask(f"STREAM.INFO.{one}"))["state"]["last_seq"] for one in NAMES.streams[:5]]
        subjects = [NAMES.received("doctor"), *subjects_of_a_worker(NAMES)]
        assert await not_permitted(connection, subjects) == []
        after = [(await connection.ask(f"STREAM.INFO.{one}"))["state"]["last_seq"] for one in NAMES.streams[:5]]
    assert after == before
    async with guarded.connection("receiver") as connection:
        assert await not_permitted(connection, subjects) == subjects[1:]


def test_permissions(guarded: Guarded) -> None:
    """As the README gives them to each role: what a role may not read is not checked, and nobody needs more for this."""
    asyncio.run(prepared(guarded))

    def of(role: str, **changed: str) -> list[tuple[str, str]]:
        env = {name: str(value) for name, value in guarded.environment(role).items()} | changed
        return found(guarded.server, **env)

    assert ("ok", "this user may publish all that a receiver and a worker publish") in of("worker")
    reader = of("reader")
    assert (
        "ok",
        "this user may read and not publish: enough for telstate tail and replay, not for serve and work",
    ) in reader
    assert reader[-1][0] == "not checked"
    receiver = of("receiver")
    assert receiver[1] == ("ok", "this user may publish events, as a receiver does")
    assert receiver[2][0] == "not checked"
    health, text = of("worker", TELSTATE_NATS_PASSWORD="wrong")[0]  # noqa: S106
    assert (health, "does not let this user in" in text) == ("fault", True)
