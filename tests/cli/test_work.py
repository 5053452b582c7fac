"""`telstate work`: a real worker on a real server. It declares the streams, runs handlers, says how it is, and hands over."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate.journals.nats import Names, NatsConnection, Publisher, find
from tests.calls import js
from tests.cli.running import command, environment, telstate
from tests.cli.test_systemd import Systemd
from tests.deploy.sandbox import wait_until
from tests.nats_server import NatsServer

PROGRAM = """
import anyio, os
from telstate import Event, Router, Session
router = Router()

@router.on(Event)
async def note(event: Event, session: Session) -> None:
    if session.session_id == "slow":
        await anyio.sleep(0.5)
    with open("seen.txt", "a") as file:
        file.write(f"{os.getpid()} {event.action} {session.session_id}\\n")
"""
NAMES = Names("telstate", "production")


@contextmanager
def working(
    folder: Path, server: NatsServer, *arguments: object, **env: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A worker, and the address of its health."""
    (folder / "app.py").write_text(PROGRAM)
    options = ("--nats", f"{server.url}/telstate/production", "--port", "0", *arguments)
    process = subprocess.Popen(
        command("work", "app:router", *options), cwd=folder, env=environment(env), stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert "working for" in line, line + process.stderr.read().decode()
        yield process, line.strip().rpartition(" ")[2]
    finally:
        process.kill()
        process.communicate()


def until_ready(url: str, owned: int) -> dict[str, Any]:
    """Wait until it owns so many partitions, and is ready."""
    give_up = time.monotonic() + 60
    while True:
        health: dict[str, Any] = httpx.get(f"{url}/health").json()
        if httpx.get(f"{url}/ready").status_code == 200 and health["open"] == health["owned"] == owned:
            return health
        assert time.monotonic() < give_up, health
        time.sleep(0.05)


def publish(server: NatsServer, *payloads: dict[str, Any]) -> None:
    """Publish as a receiver does."""

    async def run() -> None:
        async with Publisher(NatsConnection(server.url), NAMES) as publisher:
            for payload in payloads:
                await publisher.receive(payload, scope=payload["sessionId"])

    asyncio.run(run())


def seen(folder: Path, count: int) -> list[str]:
    """Wait until handlers have written so many lines; return them without the process."""
    give_up = time.monotonic() + 60
    while (
        len(lines := (folder / "seen.txt").read_text().splitlines() if (folder / "seen.txt").exists() else []) < count
    ):
        assert time.monotonic() < give_up, lines
        time.sleep(0.02)
    return [line.partition(" ")[2] for line in lines]


@pytest.mark.long
def test_it_runs_handlers_and_hands_over_when_it_is_stopped(nats_server: NatsServer, tmp_path: Path) -> None:
    """A second worker takes half; when the first is stopped, all. What runs finishes first, and nothing runs twice."""
    with working(tmp_path, nats_server, "--partitions", 8, "--ttl", 20) as (first, url):
        health = until_ready(url, 8)
        assert (health["behind"], health["pending"], health["seconds_behind"]) == (0, 0, 0.0)
        assert [one["partition"] for one in health["partitions"]] == list(range(8))
        publish(nats_server, js("dialout-connected", "a"), js("dialout-answered", "a"))
        assert seen(tmp_path, 2) == ["dialout-connected a", "dialout-answered a"]
        metrics = httpx.get(f"{url}/metrics").text
        assert "telstate_partitions_owned 8.0" in metrics
        assert 'telstate_partition_behind_records{partition="7"} 0.0' in metrics
        assert 'telstate_sessions_live{direction="dialout",state="answered"} 1.0' in metrics
        assert 'telstate_handler_seconds_count{event="dialout-answered",handler="app.note"} 1.0' in metrics
        with working(tmp_path, nats_server, "--ttl", 20) as (second, other):
            until_ready(url, 4)
            until_ready(other, 4)
            publish(nats_server, js("dialout-connected", "slow"), js("dialout-stopped", "a"))
            seen(tmp_path, 3)
            first.send_signal(signal.SIGTERM)
            assert first.wait(10) == 0
            until_ready(other, 8)
            publish(nats_server, js("dialout-stopped", "slow"))
            assert sorted(seen(tmp_path, 5)) == sorted(
                [
                    "dialout-connected a",
                    "dialout-answered a",
                    "dialout-connected slow",
                    "dialout-stopped a",
                    "dialout-stopped slow",
                ]
            )
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0
            assert second.stderr is not None
            said = [line for line in second.stderr if line.startswith(b"telstate:")]
            assert said == [b"telstate: SIGTERM asks it to stop\n", b"telstate: stopped in order\n"]


@pytest.mark.long
def test_it_waits_for_a_server_and_says_why_it_is_not_ready(nats_server: NatsServer, tmp_path: Path) -> None:
    """It is healthy meanwhile: a restart would help nothing."""
    nats_server.kill()
    with working(tmp_path, nats_server, "--partitions", 4, "--ttl", 2) as (process, url):
        assert httpx.get(f"{url}/health").json()["ok"] is True
        assert "no lease" in httpx.get(f"{url}/ready").json()["error"]
        nats_server.start()
        until_ready(url, 4)
        nats_server.pause()
        give_up = time.monotonic() + 60
        while (ready := httpx.get(f"{url}/ready")).status_code == 200 and time.monotonic() < give_up:
            time.sleep(0.05)
        assert "no lease" in ready.json()["error"]
        nats_server.resume()
        until_ready(url, 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.long
def test_it_refuses_streams_that_are_declared_otherwise(nats_server: NatsServer, tmp_path: Path) -> None:
    """In one line, with what to do."""
    with working(tmp_path, nats_server, "--partitions", 4) as (process, url):
        until_ready(url, 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    run = subprocess.run(
        command("work", "app:router", "--nats", f"{nats_server.url}/telstate/production", "--partitions", 8),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert run.returncode == 2
    assert b"declared with partitions=4, not 8: leave partitions out" in run.stderr
    assert b"Traceback" not in run.stderr

    async def declared() -> int:
        async with NatsConnection(nats_server.url) as connection:
            return (await find(connection, NAMES)).partitions

    assert asyncio.run(declared()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--nats"),
        (("--nats", "http://h"), "give nats://HOST:4222/APP/ENVIRONMENT"),
        (("--nats", "nats://h/telstate/production/3"), "leave the number out"),
        (("--nats", "nats://h", "--ttl", "0.1"), "--ttl"),
        (("--nats", "nats://h", "--replicas", "2"), "expected 1, 3 or 5"),
    ],
)
def test_misuse_is_named(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do."""
    (tmp_path / "work_app.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    run = telstate("work", "work_app:router", *arguments)
    assert run.returncode == 2
    assert said in run.stderr.decode()


@pytest.mark.long
def test_systemd_hears_that_it_is_ready_once_it_has_its_share(nats_server: NatsServer, tmp_path: Path) -> None:
    """While there is no server the status says so. It lives all the same: a restart would not help."""
    systemd = Systemd(str(tmp_path / "notify"))
    with systemd.socket:
        nats_server.kill()
        variables = {**systemd.environment, "WATCHDOG_USEC": "4000000"}
        del variables["PATH"]
        with working(tmp_path, nats_server, "--partitions", 4, **variables) as (process, url):
            status = "STATUS=it has no lease, so no handler starts: the server does not answer"
            for _ in range(3):
                wait_until(lambda: (heard := systemd.heard()) and heard[0] == ["WATCHDOG=1", status], lambda: status)
            nats_server.start()
            wait_until(lambda: ["READY=1", "WATCHDOG=1", "STATUS=ready"] in systemd.heard(), lambda: "it was not ready")
            assert httpx.get(f"{url}/ready").status_code == 200
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: ["STOPPING=1"] in systemd.heard(), lambda: "it did not stop")
            assert process.wait(20) == 0
