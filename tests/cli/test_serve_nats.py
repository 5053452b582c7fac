"""`telstate serve --nats`: a receiver that publishes to real streams, and says what is wrong when it cannot."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest

from telstate.journals.nats import Names, NatsConnection, StreamSettings, declare
from tests.cli.running import telstate
from tests.cli.test_serve import SECRET, event, sent, serving
from tests.nats_server import NatsServer

NAMES = Names("telstate", "production")


def declared(server: NatsServer, names: Names = NAMES) -> None:
    """Declare the streams, as a worker does."""

    async def run() -> None:
        async with NatsConnection(server.url) as connection:
            await declare(connection, names, StreamSettings(partitions=8, max_bytes=1 << 24))

    asyncio.run(run())


def stored(server: NatsServer, names: Names = NAMES) -> int:
    """How many events the stream has."""

    async def run() -> int:
        async with NatsConnection(server.url) as connection:
            info = await connection.ask(f"STREAM.INFO.{names.events}")
            return int(info["state"]["messages"])

    return asyncio.run(run())


@pytest.mark.long
def test_it_publishes_what_it_verified_and_stops_in_order(nats_server: NatsServer, tmp_path: Path) -> None:
    """It starts before there is a stream, survives the server's restart, and ends at SIGTERM."""
    arguments = ("--nats", nats_server.url, "--environment", "production", "--secret", SECRET)
    with serving(tmp_path, *arguments) as (process, url):
        assert "no stream for it is declared" in httpx.get(f"{url}/ready").json()["error"]
        assert httpx.get(f"{url}/health").json() == {"ok": True}
        began = time.monotonic()
        assert asyncio.run(sent(url, SECRET, event(1))) == [503]
        assert time.monotonic() - began < 8  # it does not wait for what is not there yet
        declared(nats_server)
        give_up = time.monotonic() + 10
        while httpx.get(f"{url}/ready").status_code != 200 and time.monotonic() < give_up:
            time.sleep(0.1)
        assert asyncio.run(sent(url, SECRET, event(1), event(2))) == [200, 200]
        assert asyncio.run(sent(url, "c29tZWJvZHk=", event(3))) == [401]
        metrics = httpx.get(f"{url}/metrics").text
        assert 'telstate_events_total{dialect="webhook",event="dialout-answered",outcome="published"} 2.0' in metrics
        assert 'telstate_webhook_requests_total{code="401"} 1.0' in metrics
        assert "telstate_ready 1.0" in metrics
        nats_server.restart(kill=True)
        assert asyncio.run(sent(url, SECRET, event(4))) == [200]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "publisher.ready" in process.stderr.read()
    assert stored(nats_server) == 3
    assert not (tmp_path / "calls.db").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("app:router", "--nats", "nats://h"), "MODULE:ROUTER has no effect"),
        (("--nats", "nats://h", "--journal", "x.db"), "--journal has no effect"),
        (("--nats", "nats://h", "--calls-end-within", "3"), "--calls-end-within has no effect"),
        (("--app", "telstate"), "give --nats URL with them"),
        (("--nats", "http://h"), "give nats://HOST:4222/APP/ENVIRONMENT"),
        (("--nats", "nats://h/telstate"), "after the host come app, environment"),
        (("--nats", "nats://h/telstate/production/3"), "publishes to all partitions"),
        (
            ("--nats", "nats://h/telstate/production", "--environment", "test"),
            "'test', and the address says 'production'",
        ),
        (("--nats", "nats://u:secret@h/A/b"), "nats://h/A/b: app: expected"),
        (("--nats", "nats://u:secret@h:99999999"), "nats://h:99999999 is no address"),
    ],
)
def test_misuse_is_named(arguments: tuple[str, ...], said: str) -> None:
    """With what to do, and without a password."""
    run = telstate("serve", "--port", "0", *arguments)
    assert run.returncode == 2
    assert said in run.stderr.decode()
    assert "secret" not in run.stderr.decode()


@pytest.mark.long
def test_nobody_at_the_address_ends_the_start() -> None:
    """Within seconds, in one line."""
    run = telstate("serve", "--port", "0", "--nats", "nats://127.0.0.1:1")
    assert run.returncode == 2
    assert "telstate: no connection to NATS at 127.0.0.1:1 within 10 seconds" in run.stderr.decode()
