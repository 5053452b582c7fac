"""`telstate fake-daily` with everything in processes of its own: a service, a backend that is killed, bots, and the commands."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate.cli._commands import _COMMANDS, _make
from tests.cli.running import command, environment, run_process, telstate
from tests.cli.test_serve import SECRET
from tests.cli.test_serve import serving as service
from tests.documents import blocks
from tests.ports import free_port

ANN, BOB, CAT = "+12025550101", "+12025550102", "+12025550103"
SUPPORT = "+12025550150"

BACKEND = """
import os, sys

import anyio
import httpx

from telstate import Dispatcher, Router, Session
from telstate.control import Attempt, DailyApi, Dialer, RestControl, Verdict, Webhooks
from telstate.journals import SqliteJournal
from telstate.options import PhoneDialout
from telstate.sources import serve_webhooks

key, url, port = os.environ["DAILY_API_KEY"], os.environ["TELSTATE_DAILY_API_URL"], int(sys.argv[1])


async def listen(session: Session, attempt: Attempt) -> Verdict:
    simulated = f"{url.removesuffix('/v1')}/simulation/sessions/{session.session_id}"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        heard = (await client.get(simulated)).json()["answeredBy"]
    return Verdict(heard == "person", heard)


async def main() -> None:
    secret = os.environ["TELSTATE_WEBHOOK_SECRET"]
    async with (
        DailyApi(key, url=url) as api,
        Dispatcher(Router(), control=RestControl(api), journal=SqliteJournal("backend.db")) as calls,
        serve_webhooks(calls, secrets=[secret], port=port) as receiver,
        Dialer(calls, room="garage", pauses=[0.1]) as dialer,
        anyio.create_task_group() as group,
    ):
        if not any(hook.url == f"{receiver}/webhooks" for hook in await Webhooks(api).list()):
            await Webhooks(api).create(f"{receiver}/webhooks", secret=secret)

        async def call(number: str) -> None:
            options = PhoneDialout(phone_number=number)
            result = await dialer.dial(options, attempts=4, ring_timeout=20, confirm=listen, intent=f"call-{number[-2:]}")
            print(number, result.outcome, len(result.attempts), flush=True)

        for number in sys.argv[2:]:
            group.start_soon(call, number)


anyio.run(main)
"""
"""Dials numbers, each until a person answers; a new run takes up what a killed one left."""

BOT = """
import json, os, pathlib, signal, sys
told = pathlib.Path(sys.argv[1])
new = told.with_name(f"{os.getpid()}")
new.write_text(json.dumps(json.load(sys.stdin)))
new.rename(told)
signal.pause()
"""


class Fake:
    """A running fake."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def printed(self) -> str:
        """What it printed so far."""
        return self._output.read_text()

    @property
    def env(self) -> dict[str, str]:
        """What the others need in their environment, as it prints it."""
        (line,) = re.findall("^telstate: export (.*)$", self.printed, re.MULTILINE)
        return dict(pair.split("=", 1) for pair in line.split())

    def ask(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
        """Send a request to the API, or to the simulation beside it."""
        url = self.env["TELSTATE_DAILY_API_URL"].removesuffix("/v1")
        headers = {"Authorization": f"Bearer {self.env['DAILY_API_KEY']}"}
        answer = httpx.request(method, url + path, json=body, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sessions(self, destination: str | None = None) -> list[dict[str, Any]]:
        """All sessions, or those to a number."""
        query = f"?destination={destination.replace('+', '%2B')}" if destination else ""
        found: list[dict[str, Any]] = self.ask(f"/simulation/sessions{query}")["data"]
        return found


@contextmanager
def fake_daily(folder: Path, *arguments: object) -> Iterator[Fake]:
    """Run it; after the block it ends in order, and has printed no number, unless that was asked for."""
    output = folder / "fake.log"
    with output.open("w") as out:
        process = subprocess.Popen(
            command("fake-daily", "--port", 0, *arguments), cwd=folder, env=environment(), stdout=out, stderr=out
        )
    fake = Fake(process, output)
    try:
        until(lambda: "telstate: export" in fake.printed or process.poll() is not None)
        yield fake
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        sys.stdout.write(fake.printed)  # pytest shows it if the test fails
    assert fake.printed.endswith("telstate: stopped\n")
    assert bool(re.search(r"\+1202555\d{4}", fake.printed)) == ("--numbers" in arguments)


def until(holds: Callable[[], object], within: float = 30) -> None:
    """Wait for a condition."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_backend_that_is_killed_reaches_everybody_once(tmp_path: Path) -> None:
    """A service beside it sees every call of both its lives. The fake, the service and the backend are processes."""
    (tmp_path / "backend.py").write_text(BACKEND)
    lines = {
        ANN: {"answers": 4},  # rings while the backend is killed
        BOB: [{"busy": True}, {"voicemail": {"rings": 1, "ring": 0.2}}, {"answers": 0.3}],
        CAT: [{"answer_lost": True, "answers": 0.3}, {"busy": True}],
    }
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    port = free_port()

    def backend(fake: Fake, *numbers: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, tmp_path / "backend.py", str(port), *numbers],
            cwd=tmp_path,
            env=environment({**fake.env, "TELSTATE_WEBHOOK_SECRET": SECRET}),
            stdout=subprocess.PIPE,
            text=True,
        )

    with (
        fake_daily(tmp_path, "--room", "garage", "--lines", "lines.json", "--retries", "0.2,0.5,1,2,4,8,16,16") as fake,
        service(tmp_path, TELSTATE_WEBHOOK_SECRET=SECRET) as (serve, url),
    ):
        created = run_process(
            "webhook", "create", f"{url}/webhooks", env={**fake.env, "TELSTATE_WEBHOOK_SECRET": SECRET}
        )
        assert created.returncode == 0, created.stderr
        with backend(fake, ANN) as first:
            until(lambda: any(one["state"] == "connected" for one in fake.sessions(ANN)))
            first.kill()
        with backend(fake, ANN, BOB, CAT) as second:
            printed = second.communicate(timeout=60)[0]
        assert sorted(line.split()[:2] for line in printed.splitlines()) == [
            [one, "answered"] for one in (ANN, BOB, CAT)
        ]
        for number, starts in ((ANN, 1), (BOB, 3), (CAT, 1)):
            dialled = fake.sessions(number)
            assert len(dialled) == starts
            assert [one["answeredBy"] for one in dialled if one["answeredBy"] == "person"] == ["person"]
            for before, after in pairwise(dialled):
                assert before["endedAt"] <= after["startedAt"]
        for session in fake.sessions():
            if session["endedAt"] is None:
                fake.ask("/simulation/hangUp", "POST", {"id": session["sessionId"]})
        until(lambda: [one["state"] for one in kept(tmp_path, "session")] == ["stopped"] * 5)
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(20) == 0
    assert sorted(one["cause"] for one in kept(tmp_path, "session")) == ["completed"] * 4 + ["unanswered"]


def kept(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The sessions, or the callers who got to none, in the service's journal."""
    run = telstate("replay", folder / "calls.db", "--json") if (folder / "calls.db").exists() else None
    return [] if run is None else [line[kind] for line in map(json.loads, run.stdout.splitlines()) if kind in line]


@pytest.mark.long
@pytest.mark.timeout(60)
def test_people_call_a_number_and_get_a_bot(tmp_path: Path) -> None:
    """The stand-in starts a command for each of them; the service, whose URL is given here, sees their calls."""
    (tmp_path / "bot.py").write_text(BOT)
    bot = f"{sys.executable} {tmp_path}/bot.py {tmp_path}/told"
    with service(tmp_path, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url):
        hook = ("--webhook", f"{url}/webhooks", "--secret", SECRET, "--bot", bot, "--bot-joins", 0)
        people = ("--call-in", SUPPORT, "--callers", 2, "--every", 0.2, "--talks", 60, "--numbers")
        with fake_daily(tmp_path, *hook, *people) as fake:
            until(
                lambda: [one["state"] for one in fake.sessions()] == ["answered"] * 2 and (tmp_path / "told").exists()
            )
            told = json.loads((tmp_path / "told").read_text())
            assert told["body"]["dialin_settings"]["To"] == SUPPORT
            assert told["body"]["daily_api_url"] == fake.env["TELSTATE_DAILY_API_URL"]
            for one in fake.sessions():
                fake.ask("/simulation/hangUp", "POST", {"id": one["sessionId"]})
            until(lambda: [one["state"] for one in kept(tmp_path, "session")] == ["stopped"] * 2)


@pytest.mark.long
@pytest.mark.timeout(60)
def test_the_commands_for_daily_can_be_pointed_at_it(tmp_path: Path) -> None:
    """By the environment, and by --api-url; then a caller of the number goes to the service. A second fake cannot have its port."""
    (shown,) = [shlex.split(one.text) for one in blocks("bash") if one.text.startswith("telstate fake-daily ")]
    with (
        service(tmp_path, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url),
        fake_daily(tmp_path, *shown[2:], "--per-room", 9, "--bot-in-new-rooms") as fake,
    ):
        env = {**fake.env, "TELSTATE_WEBHOOK_SECRET": SECRET}

        def run(*arguments: str) -> str:
            done = telstate(*arguments, env=env)
            assert done.returncode == 0, done.stderr
            return done.stdout.decode()

        run("webhook", "create", f"{url}/webhooks")
        assert "ok" in run("webhook", "check")
        run("pinless", "set", SUPPORT, f"{url}/pinless")
        assert SUPPORT in run("pinless", "show")
        run("trunk", "create", "support", f"{url}/sip-trunk", "--open")
        assert "1 trunk" in run("trunk", "list")
        env = {**env, "TELSTATE_DAILY_API_URL": "http://127.0.0.1:9/v1"}
        assert "1 webhook" in run("webhook", "list", "--api-url", fake.env["TELSTATE_DAILY_API_URL"])
        port = fake.env["TELSTATE_DAILY_API_URL"].split(":")[2].removesuffix("/v1")
        assert (
            f"cannot listen on 127.0.0.1:{port}: another process listens there"
            in telstate("fake-daily", "--port", port).stderr.decode()
        )
        call_id = fake.ask("/simulation/calls", "POST", {"to": SUPPORT})["callId"]
        until(lambda: [one["call_id"] for one in kept(tmp_path, "caller")] == [call_id])
        assert fake.ask("/v1/rooms/garage")["config"]["max_sip_pstn_sessions_per_room"] == 9
        assert fake.ask("/v1/rooms", "POST", {"name": "new"})["name"] == "new"
        until(lambda: fake.ask("/v1/rooms/new/presence")["total_count"] == 1)


def test_every_command_that_asks_daily_can_ask_another() -> None:
    """Also one that is new."""
    asking = []
    for name, (place, _) in _COMMANDS.items():
        source = inspect.getsource(import_module(f"telstate.cli.{place.partition('.')[0]}"))
        if name != "fake-daily" and re.search(r"\b(DailyApi|_?daily_api)\b", source):
            verb = _make(name, place)
            for one in getattr(verb, "commands", {"": verb}).values():
                assert "--api-url" in {option for each in one.params for option in each.opts}, f"{name} {one.name}"
            asking.append(name)
    assert {"serve", "work", "webhook", "trunk", "pinless"} <= set(asking)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--line", f"{ANN} bussy"], "no 'bussy', but 'busy'"),
        (["--line", "nobody busy"], "E.164"),
        (["--lines", "nowhere.json"], "nowhere.json"),
        (["--secret", "ä"], "base64"),
        (["--refuse", "0.7", "--cut", "0.7"], "at most 1 together"),
        (["--retries", "soon"], "--retries"),
        (["--bot", "no-such-command-of-anybody"], "command that exists"),
        (["--host", "0.0.0.0"], "--api-key"),
        (["--presence", "maybe"], "presence"),
    ],
    ids=["field", "number", "file", "secret", "shares", "retries", "bot", "host", "presence"],
)
def test_options_that_make_no_sense(arguments: list[str], said: str) -> None:
    """Are refused on one line, with 2, before anything listens."""
    run = telstate("fake-daily", *arguments)
    assert (run.returncode, run.stdout) == (2, b"")
    assert said in run.stderr.decode()
    assert ANN not in run.stderr.decode()
