"""`telstate serve` as a process: it starts, says where, keeps what it acknowledges through kills, and ends in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate import Replay
from telstate.journals._sqlite import lines
from telstate.testing import FakeDaily, WebhookSender
from telstate.testing._sender import body_of

SECRET, OTHER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "c29tZXRoaW5nIGVsc2U="

PROGRAM = """
import os
from telstate import DialoutEvent, Router

router = Router()
book = os.open("handled", os.O_APPEND | os.O_CREAT | os.O_WRONLY)


@router.on(DialoutEvent)
async def write(event: DialoutEvent) -> None:
    os.write(book, f"{event.webhook_id}\\n".encode())
"""


def event(number: int, name: str = "answered") -> dict[str, Any]:
    """One of a session of its own."""
    return {
        "version": "1.0.0",
        "type": f"dialout.{name}",
        "id": f"{number}-{name}",
        "payload": {"session_id": f"session-{number}", "room": "lobby", "timestamp": str(int(time.time()))},
        "event_ts": time.time(),
    }


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run it in a folder; tell the process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "telstate", "serve", "--port", "0", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                yield process, line.split("listening on ")[1].split(",")[0]
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def failing(folder: Path, *arguments: str, **environment: str) -> str:
    """Run it where it must not start; what it says."""
    run = subprocess.run(
        [sys.executable, "-m", "telstate", "serve", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


async def sent(url: str, secret: str | None, *payloads: dict[str, Any]) -> list[int]:
    """Post events, and tell the answers' statuses."""
    async with WebhookSender(f"{url}/webhooks", secret) as sender:
        return [(await sender.post(body_of(payload))).status_code for payload in payloads]


def test_it_receives_and_runs_a_programs_handlers(tmp_path: Path) -> None:
    """With two secrets of the environment, into SQLite by default; and SIGTERM ends it in order."""
    (tmp_path / "app.py").write_text(PROGRAM)
    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=f"{OTHER},{SECRET}") as (process, url):
        assert httpx.get(f"{url}/health").json() == {"ok": True}
        assert asyncio.run(sent(url, SECRET, event(1), event(2))) == [200, 200]
        assert asyncio.run(sent(url, OTHER, event(3))) == [200]
        assert asyncio.run(sent(url, "c29tZWJvZHk=", event(4))) == [401]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (tmp_path / "handled").read_text().split() == ["1-answered", "2-answered", "3-answered"]
    replay = Replay()
    for line in lines(str(tmp_path / "calls.db")):
        replay.feed(line)
    assert [session.session_id for session in replay.engine.live()] == ["session-1", "session-2", "session-3"]


HANGS_UP = """
from telstate import DialoutAnswered, Router, Session

router = Router()


@router.on(DialoutAnswered)
async def hang_up(session: Session, calls) -> None:
    await calls.stop(session)
"""


def test_with_daily_s_key_handlers_act_on_calls(tmp_path: Path) -> None:
    """The key of the environment, as for `telstate webhook`."""
    (tmp_path / "app.py").write_text(HANGS_UP)
    with FakeDaily() as daily:
        environment = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url}
        with serving(tmp_path, "app:router", "--journal", "calls.jsonl", **environment) as (process, url):
            daily.host("support")
            bearer = {"Authorization": f"Bearer {daily.key}"}
            hook = {"url": f"{url}/webhooks", "eventTypes": ["dialout.answered", "dialout.stopped"]}
            assert httpx.post(f"{daily.url}/webhooks", headers=bearer, json=hook).status_code == 200
            start = f"{daily.url}/rooms/support/dialOut/start"
            assert httpx.post(start, headers=bearer, json={"phoneNumber": "+12025550101"}).status_code == 200
            until = time.monotonic() + 10
            while daily.live() and time.monotonic() < until:
                time.sleep(0.02)
            assert [leg.ended_by for leg in daily.sessions] == ["stop"]
            daily.settled()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    replay = Replay()
    for line in (tmp_path / "calls.jsonl").read_bytes().splitlines():
        replay.feed(line)
    assert [(session.cause, session.ended_by) for session in replay.engine.sessions()] == [("completed", "local")]


def test_without_a_program_events_are_kept(tmp_path: Path) -> None:
    """In a file of lines where its name says so; without a secret only for this machine."""
    with serving(tmp_path, "--journal", "calls.jsonl") as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
    assert b"1-answered" in (tmp_path / "calls.jsonl").read_bytes()


def test_what_cannot_work_is_said_before_it_starts(tmp_path: Path) -> None:
    """With exit code 2, and what to do."""
    (tmp_path / "app.py").write_text("router = 5\n")
    (tmp_path / "broken.py").write_text(
        "from telstate import Router\nrouter = Router()\n@router.on('dialout-answerd')\nasync def f(): ...\n"
    )
    assert "without a secret it listens only on this machine" in failing(tmp_path, "--host", "0.0.0.0")
    assert "base64" in failing(tmp_path, "--secret", "no base64!")
    assert "there is no module 'nothing' here" in failing(tmp_path, "nothing:router")
    assert "app has no 'routes'" in failing(tmp_path, "app:routes")
    assert "is no telstate.Router, but int" in failing(tmp_path, "app:router")
    assert "there is no event 'dialout-answerd'" in failing(tmp_path, "broken")
    (tmp_path / "buggy.py").write_text("import os\nos.no_such_thing\n")
    for name in (":router", "", "..app:router", "./app.py:router"):
        assert "names no module" in failing(tmp_path, name)
    run = subprocess.run(
        [sys.executable, "-m", "telstate", "serve", "buggy"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "no_such_thing" in run.stderr  # the program's own mistake, with its traceback
    assert "--journal takes" in failing(tmp_path, "--journal", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in failing(tmp_path, "--port", port)
    (tmp_path / "calls.db").write_text("this is no database at all, but some text that is long enough to look like one")
    assert "calls.db" in failing(tmp_path)


SLOW = """
import asyncio
from telstate import DialoutEvent, Router

router = Router()


@router.on(DialoutEvent)
async def write(event: DialoutEvent) -> None:
    await asyncio.sleep(60)
"""


def test_a_second_signal_shortens_the_end(tmp_path: Path) -> None:
    """What was cut off is handled again at the next start."""
    (tmp_path / "slow.py").write_text(SLOW)
    with serving(tmp_path, "slow", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None  # its handler gets time to finish
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert time.monotonic() - started < 10
    (tmp_path / "slow.py").write_text(PROGRAM)
    with serving(tmp_path, "slow", TELSTATE_WEBHOOK_SECRET=SECRET):
        deadline = time.monotonic() + 10
        while not (tmp_path / "handled").exists() or (tmp_path / "handled").read_text() != "1-answered\n":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_thread_that_never_ends_is_ended_by_one_more_signal(tmp_path: Path) -> None:
    """Nothing can stop it from inside."""
    (tmp_path / "stuck.py").write_text(
        SLOW.replace("asyncio.sleep(60)", "asyncio.to_thread(__import__('time').sleep, 60)")
    )
    with serving(tmp_path, "stuck", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        started = time.monotonic()
        while process.poll() is None and time.monotonic() - started < 30:
            process.send_signal(signal.SIGTERM)
            time.sleep(1.0)
        assert process.poll() in (0, -signal.SIGTERM)


def test_connections_on_which_nobody_asks_are_closed(tmp_path: Path) -> None:
    """Else a few thousand of them would keep Daily out."""
    with serving(tmp_path) as (_, url):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
            assert silent.recv(1) == b""


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    """Of the kind that its name says, as where a container's file was made before."""
    (tmp_path / "calls.db").touch()
    with serving(tmp_path) as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
    assert (tmp_path / "calls.db").read_bytes().startswith(b"SQLite format 3")


BURST = 5_000


@pytest.mark.timeout(300)
def test_of_a_burst_with_a_kill_in_the_middle_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """5 000 webhooks from a hundred senders, kill -9, a start on what is there, and Daily's retries of the rest."""
    (tmp_path / "app.py").write_text(PROGRAM)
    acknowledged: set[str] = set()
    payloads = [event(number) for number in range(BURST)]

    async def burst(url: str, todo: list[dict[str, Any]], until: int, process: subprocess.Popen[str]) -> None:
        """Post until so many are acknowledged; then kill, while others are on their way."""
        rest, done = iter(todo), count(1)

        async def send(client: WebhookSender) -> None:
            for payload in rest:
                with suppress(httpx.HTTPError):
                    if (await client.post(body_of(payload))).status_code == 200:
                        acknowledged.add(payload["id"])
                        if next(done) == until:
                            process.kill()

        async with WebhookSender(f"{url}/webhooks", SECRET) as client:
            await asyncio.gather(*(send(client) for _ in range(100)))

    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        asyncio.run(burst(url, payloads, BURST // 2, process))
        assert process.wait(10) == -signal.SIGKILL
    assert BURST // 2 <= len(acknowledged) < BURST
    assert acknowledged <= kept_in(tmp_path)
    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        asyncio.run(burst(url, [payload for payload in payloads if payload["id"] not in acknowledged], 0, process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    everything = {payload["id"] for payload in payloads}
    assert acknowledged == everything == kept_in(tmp_path)
    handled = Counter((tmp_path / "handled").read_text().split())
    assert set(handled) == everything  # at least once, and again only what the kill cut off or its retry told twice
    assert sum(handled.values()) < BURST + BURST // 4
    replay = Replay()
    for line in lines(str(tmp_path / "calls.db")):
        replay.feed(line)
    assert len(replay.engine.live()) == BURST


def kept_in(folder: Path) -> set[str]:
    """The ids of the events in the journal."""
    found = (json.loads(line) for line in lines(str(folder / "calls.db")) if b'"payload":' in line)
    return {record["payload"]["id"] for record in found if "id" in record["payload"]}
