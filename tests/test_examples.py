"""Every program in examples/ runs, and does what it says."""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import httpx
import pytest

from telstate.testing.sender import WebhookSender, body_of
from tests.sources.live import installed

EXAMPLES = Path(__file__).parents[1] / "examples"
LOGS = EXAMPLES / "logs"


def run(program: str, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """As its docstring says."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60)


def test_each_has_a_test_here() -> None:
    """Nothing is shown that is not run; make_logs has its own test."""
    tested = {
        "bot_backend.py",
        "call_records.py",
        "dialout_app.py",
        "fastapi_app.py",
        "make_logs.py",
        "pipecat_dialin.py",
        "__init__.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_the_bot_backend_speaks_to_callers_and_cleans_up() -> None:
    """Whatever the day brings, no bot is left behind."""
    log = (LOGS / "busy-day.mixed.jsonl").read_bytes()
    out = run("bot_backend.py", given=log).stdout.decode().splitlines()
    live, bots = (int(word) for word in out[-1].split() if word.isdigit())
    assert live == bots < 10
    assert sum("bot: Hello" in line for line in out) > 50
    assert sum(line.endswith(" closed") for line in out) > 200
    assert sum(" failed: " in line for line in out) > 5


def test_a_caller_who_hangs_up_is_not_spoken_to_any_more() -> None:
    """The bot is cut off, then closed."""
    events = [
        {"action": "dialout-answered", "sessionId": "11111111"},
        {"action": "dialout-stopped", "sessionId": "11111111"},
    ]
    out = run("bot_backend.py", given="\n".join(map(json.dumps, events)).encode() + b"\nnonsense\n")
    lines = out.stdout.decode().splitlines()
    assert lines[-2:] == ["11111111 closed", "0 calls still live, 0 bots open"]
    assert not any("Let me look" in line for line in lines)
    assert b"not understood" in out.stderr


@pytest.mark.parametrize("log", ["busy-day.webhook", "busy-day.daily-js", "busy-day.mixed"])
def test_call_records_of_every_session_that_ended(log: str) -> None:
    """One line each, the same facts as `telstate replay`."""
    path = str(LOGS / f"{log}.jsonl")
    records = list(csv.DictReader(io.StringIO(run("call_records.py", path).stdout.decode())))
    replayed = subprocess.run(
        [sys.executable, "-m", "telstate", "replay", "--json", path], capture_output=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in replayed.stdout.splitlines()]
    sessions = {line["session"]["session_id"]: line["session"] for line in lines if "session" in line}
    ended = {key for key, session in sessions.items() if session["cause"]}
    assert {record["session_id"] for record in records} == ended
    assert len(records) == len(ended)
    for record in records:
        session = sessions[record["session_id"]]
        assert (record["cause"], record["ended_by"]) == (session["cause"], session["ended_by"])
        assert record["talk_s"] == ("" if session["talk_s"] is None else str(session["talk_s"]))


def test_the_dial_out_app_needs_no_guards() -> None:
    """Two calls at once, a refusal, an error, keys, and events upside down."""
    told: dict[str, list[str]] = {}
    for line in run("dialout_app.py").stdout.decode().splitlines():
        number, _, status = line.partition(": ")
        told.setdefault(number, []).append(status)
    assert told == {  # in each session's order; between sessions there is none
        "+12025550101": ["calling", "ringing", "connected", "key pressed", "completed, by local"],
        "+12025550102": [
            "calling",
            "ringing",
            "failed, by remote: DialOut failed with error: process error, Channel closed",
        ],
        "+9995550103": ["refused, by remote: NOT_ALLOWED"],
        "+12025550104": ["calling", "connected", "completed, by remote"],
        "odd": ["origin came as 5"] * 2,
    }


def test_the_fastapi_app_receives_and_tells(tmp_path: Path) -> None:
    """Run as its docstring says; a kill between two webhooks, and it still knows the call."""
    secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port), "fastapi_app:app"]
    environment = {**os.environ, "TELSTATE_WEBHOOK_SECRET": secret, "PYTHONPATH": str(EXAMPLES.parent)}
    url = f"http://127.0.0.1:{port}"

    async def send(name: str) -> int:
        payload = {"session_id": "s", "room": "lobby", "timestamp": str(int(time.time()))}
        async with WebhookSender(f"{url}/daily/webhooks", secret) as sender:
            event = {"type": f"dialout.{name}", "id": name, "payload": payload, "event_ts": time.time()}
            return (await sender.post(body_of(event))).status_code

    for name, state in (("answered", "answered"), ("stopped", "stopped")):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=DEVNULL, stderr=DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert httpx.get(f"{url}/daily/health").json() == {"ok": True}
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            assert asyncio.run(send(name)) == 200
            told = httpx.get(f"{url}/calls/s").json()
            assert (told["state"], told["room"]) == (state, "lobby")
            assert len(httpx.get(f"{url}/calls").json()) == (name == "answered")
            assert httpx.get(f"{url}/calls/t").status_code == 404
        finally:
            process.kill()
            process.wait()


async def _a_dialin(said: list[str]) -> None:
    """A call on the real transport, which has joined nothing: what Daily would tell it is told by its own registry."""
    transport = installed("pipecat.transports.daily.transport").DailyTransport("https://x.daily.co/room", None, "bot")
    left = asyncio.Event()

    async def say(text: str) -> None:
        said.append(text)

    async def leave() -> None:
        left.set()

    async def talk() -> None:
        await transport._on_dialin_ready("sip:room@example.sip.daily.co")
        await transport._on_dialin_connected({"sessionId": "s", "sipFrom": "sip:bob@pbx.example"})
        await transport._call_event_handler("on_participant_joined", {"id": "s", "info": {}})
        while not said:  # noqa: ASYNC110 - the handler of another task says it
            await asyncio.sleep(0.005)
        await transport._on_dtmf_event({"sessionId": "s", "tone": "1"})
        await transport._on_dialin_stopped({"sessionId": "s"})
        await transport._on_dialin_stopped({"sessionId": "s"})  # told twice, and the bot leaves once
        await asyncio.wait_for(left.wait(), 20)

    await importlib.import_module("examples.pipecat_dialin").bot(transport, say, leave, talk)


def test_the_pipecat_bot_greets_who_dials_in_and_leaves_when_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The bot is pipecat-shaped; no room is joined, and no pipeline runs."""
    said: list[str] = []
    asyncio.run(_a_dialin(said))
    assert said == ["Hello, you call from sip:bob@pbx.example.", "You pressed a key."]
    assert capsys.readouterr().out.count("s: completed") == 1
    source = (EXAMPLES / "pipecat_dialin.py").read_text()
    for line in source.splitlines():
        if line.strip().startswith("from pipecat"):
            exec(line.strip())  # noqa: S102 - what main imports is there in the installed version
