"""Every program in examples/ runs and does what its docstring says."""

from __future__ import annotations

import ast
import asyncio
import csv
import importlib
import io
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import Process
from standardwebhooks import Webhook

from telstate import Cause, Direction, PinlessDialin, SipTrunkIncoming, State
from telstate.control import Room
from telstate.testing import Sent, SimulatedCall, WebhookSender
from telstate.testing._sender import body_of
from tests.ports import free_port
from tests.sources.live import installed

EXAMPLES = Path(__file__).parents[1] / "examples"
LOGS = EXAMPLES / "logs"
SOURCE = Path(__file__).read_text(encoding="utf-8")
DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def run(
    program: str,
    *arguments: str,
    given: bytes = b"",
    code: int = 0,
    environment: dict[str, str] | None = None,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[bytes]:
    """Run an example as its docstring says, without an account."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("DAILY_", "TELSTATE_"))}
    done = subprocess.run(
        command, input=given, capture_output=True, check=False, timeout=timeout, env=outside | (environment or {})
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def simulated(program: str, *arguments: str, **environment: str) -> list[str]:
    """The lines an example prints after its first, which says that Daily is simulated; nothing goes wrong in its log."""
    done = run(program, *arguments, environment=environment)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    first, *lines = done.stdout.decode().splitlines()
    assert first.startswith("SIMULATED: without DAILY_API_KEY")
    return lines


def run_telstate(*arguments: str) -> list[str]:
    """The output lines of a verb."""
    command = [sys.executable, "-m", "telstate", *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode().splitlines()


def wait_for_health(url: str) -> None:
    """Wait until a receiver accepts events."""
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = httpx.get(url).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            assert answer == {"ok": True}
            return


def code_lines(source: str, names: set[str]) -> int:
    """How many lines these functions and classes have with decorators, without blank lines, comments and docstrings."""
    lines = source.splitlines()
    counted: set[int] = set()
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DEFINED) and node.name in names:
            found.add(node.name)
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            counted |= set(range(first, (node.end_lineno or first) + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DEFINED) and ast.get_docstring(node) is not None:
            counted -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    assert found == names
    return sum(bool(text) and not text.startswith("#") for text in (lines[line - 1].strip() for line in counted))


def test_every_example_has_a_test_here() -> None:
    """Add a test with an example. (make_logs.py is run in tests/testing, those of deploy in tests/deploy.)"""
    names = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("[!_]*.py")}
    names -= {"make_logs.py", "deploy/handlers.py", "cluster/handlers.py"}  # the workers of cluster/run.py run that
    assert {name for name in names if f'"{name}"' not in SOURCE and f"examples.{name[:-3]}" not in SOURCE} == set()


COUNTED = ["cold_transfer.py", "dialout_bot.py", "pinless_dialin.py", "warm_transfer.py"]
SIMULATED = [*COUNTED, "sip_trunk.py"]


@pytest.mark.parametrize("program", COUNTED)
def test_the_line_counts_in_the_docstring_are_right(program: str) -> None:
    """Of the whole file, and of the functions that handle the call."""
    source = (EXAMPLES / program).read_text()
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    [(whole, ours, names)] = re.findall(r"this file (\d+)\..* ours (\d+) \(([a-z_, ]+)\)", text)
    assert int(whole) == len(source.splitlines())
    assert int(ours) == code_lines(source, set(names.split(", ")))


@pytest.mark.parametrize("program", SIMULATED)
def test_the_part_to_copy_does_not_use_the_fake(program: str) -> None:
    """The simulation stands below a separator; only the choice between the two comes after it."""
    to_copy, separator, simulation = (EXAMPLES / program).read_text().partition("\n# --- the simulation")
    assert separator
    code = "\n".join(line for line in to_copy.splitlines() if not line.startswith("    python examples/"))
    assert "telstate.testing" not in code
    assert "fake" not in code.lower()
    assert simulation.count("telstate.testing") >= 1


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("program", [*SIMULATED, "campaign.py"])
def test_with_a_key_it_needs_the_other_variables_too(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not fall back to the simulation."""
    for name in list(os.environ):
        if name.startswith(("DAILY_", "TELSTATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAILY_API_KEY", "k")
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(KeyError, match=r"^'[A-Z_]+'$"):
        runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    assert "SIMULATED" not in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_campaign_that_is_killed_five_times_reaches_nobody_twice() -> None:
    """The fake in the other process is the witness. How many starts nobody can tell of depends on where the kills hit."""
    first, *lines = run("campaign.py", timeout=240).stdout.decode().splitlines()
    assert first.startswith("SIMULATED: without DAILY_API_KEY")
    kills, results, promises = lines[:5], lines[5], lines[6:]
    known = [
        int(found[1]) for line in kills if (found := re.fullmatch("kill -9, when (\\d+) of 200 had a result", line))
    ]
    assert len(known) == 5
    assert known == sorted(known)
    outcomes = {outcome: int(count) for count, outcome in re.findall(r"(\d+) ([a-z]+)", results)}
    assert sum(outcomes.values()) == 200
    assert set(outcomes) <= {"answered", "unanswered", "unconfirmed", "cancelled", "unknown"}
    assert outcomes["answered"] >= 100
    assert promises == [
        "numbers without exactly one result: 0",
        "people who were reached twice: 0",
        "numbers that were called again while a call went on: 0",
        "numbers with more starts than planned: 0",
        "people counted as reached whom nobody reached: 0",
    ]


SERVICES = [
    "cold_transfer.py",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("pinless_dialin.py", "sip_trunk.py", "warm_transfer.py")),
]


@pytest.mark.long
@pytest.mark.parametrize("program", SERVICES)
def test_with_a_key_it_serves_until_sigterm(program: str) -> None:
    """No events arrive, so nothing is asked of Daily."""
    port = free_port()
    environment = {
        **os.environ,
        "DAILY_API_KEY": "k",
        "TELSTATE_WEBHOOK_SECRET": "c2VjcmV0",
        "PORT": str(port),
        "OPERATORS": "+12025550190",
        "AGENT": "+12025550190",
        "BOT": "true",
    }
    command = [sys.executable, "-W", "error", str(EXAMPLES / program)]
    process = subprocess.Popen(command, env=environment, stdout=DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_for_health(f"http://127.0.0.1:{port}/health")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


@pytest.mark.long
def test_the_dialout_bot_retries_until_the_call_is_answered(tmp_path: Path) -> None:
    """Busy, no answer, answered; the journal says the same."""
    journal = tmp_path / "calls.db"
    lines = simulated("dialout_bot.py", "+12025550107", TELSTATE_JOURNAL=str(journal))
    spoken = [line for line in lines if line.startswith("bot to")]
    assert spoken == [
        "bot to +12025550107: Hello, this is the bot of your garage.",
        "bot to +12025550107: Your car is ready.",
        "bot to +12025550107: Goodbye.",
    ]
    assert [line for line in lines if line not in spoken and "(" not in line] == [
        "+12025550107: unanswered",
        "+12025550107: unanswered",
        "+12025550107: completed",
        "the fake was dialled 3 times, 1 at once",
    ]
    assert "+12025550107: answered (unanswered, unanswered, answered)" in lines
    replayed = run_telstate("replay", "--json", str(journal))
    sessions = [session for line in replayed if (session := json.loads(line).get("session"))]
    ends = sorted((session["cause"], session["ended_by"]) for session in sessions)
    assert ends == [("completed", "local"), ("unanswered", "local"), ("unanswered", "remote")]
    assert {session["room"] for session in sessions} == {"garage"}


@pytest.mark.long
def test_a_waiting_caller_gets_a_bot_or_is_dropped() -> None:
    """In every case the room is deleted: the simulation waits for that."""
    lines = simulated("pinless_dialin.py")
    assert sorted(lines[:-1]) == [
        "+12025550141: completed",
        "+12025550142: hung up before the bot was there",
        "+12025550143: no bot came within 0.8 seconds",
        "bot to +12025550141: Hello. What can I do for you?",
    ]
    assert lines[-1] == "the fake has 0 calls and 0 rooms left, 1 caller on hold"


@pytest.mark.long
def test_a_trunks_caller_is_greeted_or_hangs_up_first() -> None:
    """In both cases the room is deleted: the simulation waits for that."""
    first, *lines = simulated("sip_trunk.py")
    assert first == "the carrier sends calls to sip:example-support.siptrunk.sip-us.daily.co"
    assert sorted(lines[:-1]) == [
        "+12025550141 calls +12025550100",
        "+12025550141: completed",
        "+12025550142 calls +12025550100",
        "+12025550142: hung up before the bot was there",
        "bot to +12025550141: Hello. What can I do for you?",
    ]
    assert lines[-1] == "the fake's calls: connected, abandoned; 0 calls and 0 rooms left"


@pytest.mark.parametrize("program", ["pinless_dialin", "sip_trunk"])
def test_the_bot_command_is_run_with_the_address_of_its_room(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command may have arguments; nothing waits for it or reads its output."""
    given = tmp_path / "given"
    code = "import pathlib, sys; print('x' * 200_000); pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    monkeypatch.setenv("BOT", shlex.join([sys.executable, "-c", code, str(given)]))

    open_process, opened = anyio.open_process, list[Process]()

    async def opening(*command: Any, **how: Any) -> Process:
        opened.append(await open_process(*command, **how))
        return opened[0]

    async def start() -> None:
        url = "https://x.daily.co/r"
        trunk, pinless = (
            (SipTrunkIncoming(room="r", room_url=url),),
            (Room("r", url, None, (), {}), PinlessDialin(call_id="c")),
        )
        arguments = trunk if program == "sip_trunk" else pinless
        await importlib.import_module(f"examples.{program}").run_bot(*arguments)
        with anyio.fail_after(20):
            await opened[0].wait()
        await opened[0].aclose()

    monkeypatch.setattr(anyio, "open_process", opening)
    asyncio.run(start())
    assert given.read_text() == "https://x.daily.co/r"


@pytest.mark.long
def test_a_cold_transfer_ends_as_transferred() -> None:
    """To the second operator. A caller who hung up is not transferred; one whose transfer Daily refuses stays with the bot."""
    lines = simulated("cold_transfer.py")
    printed: dict[str, list[str]] = {}
    for line in lines[:-1]:
        name, _, text = line.removeprefix("bot to sip:").removeprefix("sip:").partition("@example.com: ")
        printed.setdefault(name, []).append(text)
    assert printed["handed-on"][2:] == [
        "I connect you with a colleague.",  # the first one does not answer
        "transferred (not-reached +12025550190, handed-over +12025550191)",
        "the operator picked up",
    ]
    assert printed["hangs-up"] == ["Hello. What can I do for you?", "completed"]
    assert printed["refused"][2].startswith("not transferred: POST /rooms/refused/sipCallTransfer: Daily answered 400")
    assert printed["refused"][3:] == ["I cannot reach anybody. May I take a message?", "completed"]
    assert lines[-1] == "the fake saw these ends: transfer, remote, remote"


@pytest.mark.long
def test_a_warm_transfer_connects_caller_and_agent() -> None:
    """If the agent leaves, the bot takes the caller back; if the caller leaves, the agent's phone stops ringing."""
    parts = "\n".join(simulated("warm_transfer.py")).split("--- ")
    anna, ben, cora, dan = (part.splitlines()[3:] for part in parts[1:])
    together = "bot to +12025550190: I have somebody for you. A car does not start."
    assert anna[:2] == [together, "bot: sip:anna@example.com and +12025550190 hear each other"]
    assert anna[2:] == ["sip:anna@example.com: completed", "+12025550190: completed"]
    assert ben == [
        together,
        "bot: sip:ben@example.com and +12025550190 hear each other",
        "+12025550190: completed",
        "bot to sip:ben@example.com: My colleague has left. What else can I do for you?",
        "sip:ben@example.com: completed",
    ]
    assert cora == [
        "+12025550190: unanswered",
        "bot to sip:cora@example.com: Nobody is free. What else can I do for you?",
        "sip:cora@example.com: completed",
    ]
    assert sorted(dan[:2]) == ["+12025550190: unanswered", "sip:dan@example.com: completed"]
    assert dan[2:] == ["the fake saw these ends: remote, stop, remote, remote, remote, busy, remote, stop"]


@pytest.mark.long
def test_the_bot_backend_speaks_to_callers_and_cleans_up() -> None:
    """After a whole day, every bot belongs to a live call."""
    log = (LOGS / "busy-day.mixed.jsonl").read_bytes()
    out = run("bot_backend.py", given=log).stdout.decode().splitlines()
    live, bots = (int(word) for word in out[-1].split() if word.isdigit())
    assert live == bots < 10
    assert sum("bot: Hello" in line for line in out) > 50
    assert sum(line.endswith(" closed") for line in out) > 200
    assert sum(" failed: " in line for line in out) > 5


def test_the_bot_stops_speaking_when_the_caller_hangs_up() -> None:
    """It is cancelled, then closed."""
    events = [
        {"action": "dialout-answered", "sessionId": "11111111"},
        {"action": "dialout-stopped", "sessionId": "11111111"},
    ]
    out = run("bot_backend.py", given="\n".join(map(json.dumps, events)).encode() + b"\nnonsense\n")
    lines = out.stdout.decode().splitlines()
    assert lines[-2:] == ["11111111 closed", "0 calls still live, 0 bots open"]
    assert not any("Let me look" in line for line in lines)
    assert b"not understood" in out.stderr


OTHER_DAYS = [pytest.param(name, marks=pytest.mark.long) for name in ("busy-day.webhook", "busy-day.daily-js")]


@pytest.mark.long
@pytest.mark.parametrize("log", ["busy-day.mixed", *OTHER_DAYS])
def test_call_records_have_every_session_that_ended(log: str) -> None:
    """One line each, with the same facts as `telstate replay`."""
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


def test_the_dialout_app_needs_no_guards() -> None:
    """Two calls at once, a refusal, an error, key presses, and events out of order."""
    statuses: dict[str, list[str]] = {}
    for line in run("dialout_app.py").stdout.decode().splitlines():
        number, _, status = line.partition(": ")
        statuses.setdefault(number, []).append(status)
    assert statuses == {  # in order within a session; there is no order between sessions
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


@pytest.mark.long
def test_the_fastapi_app_receives_and_answers(tmp_path: Path) -> None:
    """Run as its docstring says. It is killed between two webhooks and still knows the call."""
    secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(EXAMPLES),
        "--port",
        str(port),
        "fastapi_app:app",
    ]  # "fastapi_app.py"
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
            wait_for_health(f"{url}/daily/health")
            assert asyncio.run(send(name)) == 200
            call = httpx.get(f"{url}/calls/s").json()
            assert (call["state"], call["room"]) == (state, "lobby")
            assert len(httpx.get(f"{url}/calls").json()) == (name == "answered")
            assert httpx.get(f"{url}/calls/t").status_code == 404
        finally:
            process.kill()
            process.wait()


def test_the_receiver_of_notifications_verifies_and_keeps_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is not signed is refused. Its process is killed in `tests/crash`."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    monkeypatch.setenv("TELSTATE_NOTIFY_SECRET", secret)
    monkeypatch.setenv("RECEIVED", str(tmp_path / "received.db"))
    receiver = runpy.run_path(str(EXAMPLES / "notify_receiver.py"))
    body = json.dumps({"type": "call.ended", "data": {"session": {"session_id": "s"}}})
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }

    async def post(**more: str) -> int:
        transport = httpx.ASGITransport(receiver["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return (await client.post("/calls", content=body, headers={**headers, **more})).status_code

    statuses = [asyncio.run(post()), asyncio.run(post()), asyncio.run(post(**{"webhook-id": "msg_2"}))]
    assert statuses == [204, 204, 401]
    assert capsys.readouterr().out == "call.ended s\ncall.ended s, again\n"
    assert receiver["received"].execute("SELECT id, type, body FROM messages").fetchall() == [
        ("msg_1", "call.ended", body)
    ]
    receiver["received"].close()


async def _dial_in(spoken: list[str]) -> None:
    """A dial-in on pipecat's real transport, which has joined no room: the events are passed to its own callbacks."""
    transport = installed("pipecat.transports.daily.transport").DailyTransport("https://x.daily.co/room", None, "bot")
    left = asyncio.Event()

    async def say(text: str) -> None:
        spoken.append(text)

    async def leave() -> None:
        left.set()

    async def talk() -> None:
        await transport._on_dialin_ready("sip:room@example.sip.daily.co")
        await transport._on_dialin_connected({"sessionId": "s", "sipFrom": "sip:bob@pbx.example"})
        await transport._call_event_handler("on_participant_joined", {"id": "s", "info": {}})
        while not spoken:  # noqa: ASYNC110 - a handler speaks in another task
            await asyncio.sleep(0.005)
        await transport._on_dtmf_event({"sessionId": "s", "tone": "1"})
        await transport._on_dialin_stopped({"sessionId": "s"})
        await transport._on_dialin_stopped({"sessionId": "s"})  # a duplicate; the bot leaves once
        await asyncio.wait_for(left.wait(), 20)

    await importlib.import_module("examples.pipecat_dialin").bot(transport, say, leave, talk)


def test_the_pipecat_bot_greets_the_caller_and_leaves_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    """No room is joined, and no pipeline runs."""
    spoken: list[str] = []
    asyncio.run(_dial_in(spoken))
    assert spoken == ["Hello, you call from sip:bob@pbx.example.", "You pressed a key."]
    assert capsys.readouterr().out.count("s: completed") == 1
    source = (EXAMPLES / "pipecat_dialin.py").read_text()
    for line in source.splitlines():
        if line.strip().startswith("from pipecat"):
            exec(line.strip())  # noqa: S102 - the installed version has what main imports


@pytest.mark.long
def test_a_cluster_loses_workers_and_no_calls() -> None:
    """Everything is as it was played, handled and replayed. It takes half a minute, and longer beside other tests."""
    done = run("cluster/run.py", timeout=150)
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("SIMULATED: nobody calls")
    assert [line for line in lines if line.startswith("worker")] == [
        "worker ann is killed: kill -9",
        "worker ben is frozen for 6 s; its lease lasts 3 s",
        "worker ben goes on",
    ]
    assert "ends handled: 300; missing: 0" in lines
    assert "final states: 300 equal to a replay of the stream; different: 0" in lines
    assert "states in the replay: 300 as played; different: 0" in lines
    assert lines[-1] == "nothing was lost"


def test_the_cluster_tells_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """An end that no handler finished, a state that the replay does not have, a call that the stream does not have."""
    cluster = importlib.import_module("examples.cluster.run")
    played = [Sent(0.0, {}, SimulatedCall("s", Direction.DIALIN, "lobby", {}, State.STOPPED, Cause.COMPLETED))]
    line = {"handler": "ended", "event": 7, "call": "s", "state": "stopped", "cause": "completed", "worker": 1}
    began, finished = {**line, "what": "begin"}, {**line, "what": "finish"}
    replayed = {"s": ("stopped", "completed")}
    assert cluster.compare(played, [began, finished], replayed)
    assert cluster.compare(played, [began, began, finished], replayed)
    assert "ran twice: 1" in capsys.readouterr().out
    assert not cluster.compare(played, [began], replayed)
    assert "missing: 1" in capsys.readouterr().out
    assert not cluster.compare(played, [began, {**finished, "state": "answered"}], replayed)
    assert "a replay of the stream; different: 1" in capsys.readouterr().out
    assert not cluster.compare(played, [began, finished], {})
    assert capsys.readouterr().out.endswith("SOMETHING WAS LOST\n")
