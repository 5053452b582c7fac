"""`telstate serve`: it starts, keeps what it acknowledges through kills, and stops in order."""

from __future__ import annotations

import asyncio
import json
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

from telstate import Replay, Settings
from telstate.cli._serve import _journal
from telstate.journals import SqliteJournal
from telstate.journals._sqlite import lines
from telstate.routing._ports import Entry
from telstate.testing import FakeDaily, WebhookSender
from telstate.testing._sender import body_of
from tests.cli.running import command, environment, json_lines, telstate
from tests.ports import free_port

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
    """An event of a session of its own."""
    return {
        "version": "1.0.0",
        "type": f"dialout.{name}",
        "id": f"{number}-{name}",
        "payload": {"session_id": f"session-{number}", "room": "lobby", "timestamp": str(int(time.time()))},
        "event_ts": time.time(),
    }


@contextmanager
def serving(folder: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a service in a folder; give the process and the address."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments),
        cwd=folder,
        env=environment(env),
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
            raise AssertionError(f"it exited with {process.wait()}")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


async def sent(url: str, secret: str | None, *payloads: dict[str, Any]) -> list[int]:
    """Post events; return the status of each answer."""
    async with WebhookSender(f"{url}/webhooks", secret, timeout=60) as sender:
        return [(await sender.post(body_of(payload))).status_code for payload in payloads]


def test_it_receives_and_runs_a_programs_handlers(tmp_path: Path) -> None:
    """With two secrets from the environment, into SQLite; SIGTERM ends it in order, and the log says so."""
    (tmp_path / "app.py").write_text(PROGRAM)
    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=f"{OTHER},{SECRET}") as (process, url):
        assert httpx.get(f"{url}/health").json() == {"ok": True}
        assert asyncio.run(sent(url, SECRET, event(1), event(2))) == [200, 200]
        assert asyncio.run(sent(url, OTHER, event(3))) == [200]
        assert asyncio.run(sent(url, "c29tZWJvZHk=", event(4))) == [401]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        said = [line for line in process.stderr if line.startswith("telstate:")]
        assert said == ["telstate: SIGTERM asks it to stop\n", "telstate: stopped in order\n"]
    assert (tmp_path / "handled").read_text().split() == ["1-answered", "2-answered", "3-answered"]
    live = replayed(tmp_path).engine.live()
    assert [session.session_id for session in live] == ["session-1", "session-2", "session-3"]


def test_a_browser_sees_the_live_board(tmp_path: Path) -> None:
    """At /board, where / leads. With a secret it asks for the token, which is read from the environment."""
    views = {
        "TELSTATE_WEBHOOK_SECRET": SECRET,
        "TELSTATE_VIEW_TOKEN": "a-token-of-length",
        "TELSTATE_VIEW_NUMBERS_TOKEN": "another-one-of-length",
    }
    with serving(tmp_path, **views) as (_, url), httpx.Client(base_url=url, follow_redirects=True) as browser:
        page = browser.get("/")
        assert (str(page.url), "Live calls" in page.text) == (f"{url}/board", True)
        assert browser.get("/board/live").status_code == 401
        assert asyncio.run(
            sent(url, SECRET, {**event(1), "payload": {"session_id": "s", "destination": "+12025550101"}})
        ) == [200]
        for token, shown in (("a-token-of-length", "+12•••••••01"), ("another-one-of-length", "+12025550101")):
            assert browser.post("/board/sign-in", json={"token": token}).status_code == 204
            with browser.stream("GET", "/board/live") as stream:
                assert any(
                    json.loads(line[6:]).get("session", {}).get("destination") == shown
                    for line in stream.iter_lines()
                    if line.startswith("data: ")
                )
            assert "dialout-answered" in browser.post("/board/ladder", json={"id": "s"}).json()["html"]


@pytest.mark.long
def test_pinless_dialin_and_trunks_may_have_secrets_of_their_own(tmp_path: Path) -> None:
    """In the environment. One of them is enough to listen for other machines; what it is not for is refused, and the log says why."""
    trunk = {"type": "sip_trunk.incoming", "id": "1", "payload": {"room": {"url": "https://x.daily.co/r"}}}
    pinless = {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"}

    async def statuses(url: str) -> list[int]:
        found = []
        for path, body, secret in (
            *(("sip-trunk", trunk, SECRET), ("pinless", pinless, OTHER)),
            *(("sip-trunk", trunk, OTHER), ("pinless", pinless, SECRET), ("webhooks", event(1), SECRET)),
        ):
            async with WebhookSender(f"{url}/{path}", secret) as sender:
                found.append((await sender.post(body)).status_code)
        return found

    own = {"TELSTATE_TRUNK_SECRET": f"{SECRET}, b2xk", "TELSTATE_PINLESS_SECRET": OTHER}
    with serving(tmp_path, "--host", "0.0.0.0", **own) as (process, url):
        assert asyncio.run(statuses(url)) == [200, 200, 401, 401, 401]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    assert "x-siptrunk-signature: the signature does not match" in log
    assert "x-webhook-signature, and no secret for that is known" in log
    callers = replayed(tmp_path).engine.unconnected()
    assert [(caller.call_id, caller.via_trunk) for caller in callers] == [("r", True), ("c", False)]


HANGS_UP = """
from telstate import DialoutAnswered, Router, Session

router = Router()


@router.on(DialoutAnswered)
async def hang_up(session: Session, calls) -> None:
    await calls.stop(session)
"""


def test_with_an_api_key_handlers_act_on_calls(tmp_path: Path) -> None:
    """The key is read from the environment, as by `telstate webhook`."""
    (tmp_path / "app.py").write_text(HANGS_UP)
    with FakeDaily() as daily:
        key = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url}
        with serving(tmp_path, "app:router", **key) as (process, url):
            daily.host("support")
            bearer = {"Authorization": f"Bearer {daily.key}"}
            hook = {"url": f"{url}/webhooks", "eventTypes": ["dialout.answered", "dialout.stopped"]}
            assert httpx.post(f"{daily.url}/webhooks", headers=bearer, json=hook).status_code == 200
            start = f"{daily.url}/rooms/support/dialOut/start"
            assert httpx.post(start, headers=bearer, json={"phoneNumber": "+12025550101"}).status_code == 200
            until = time.monotonic() + 60
            while daily.live() and time.monotonic() < until:
                time.sleep(0.02)
            assert [leg.ended_by for leg in daily.sessions] == ["stop"]
            daily.settled()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    sessions = replayed(tmp_path).engine.sessions()
    assert [(session.cause, session.ended_by) for session in sessions] == [("completed", "local")]


@pytest.mark.long
def test_without_a_program_events_are_kept(tmp_path: Path) -> None:
    """Without a secret only for senders on this machine."""
    with serving(tmp_path) as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
    assert kept_in(tmp_path) == {"1-answered"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a command that runs in this process; what the command changes is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for name in PROGRAMS:
        sys.modules.pop(name, None)
    for number, handler in signals.items():
        signal.signal(number, handler)


def refused(*arguments: str) -> str:
    """Run a service that must not start; return what it says."""
    run = telstate("serve", *arguments)
    assert run.returncode == 2, run.stderr
    assert run.stdout == b""
    return run.stderr.decode()


PROGRAMS = {
    "app": "router = 5\n",
    "broken": "from telstate import Router\nrouter = Router()\n@router.on('dialout-answerd')\nasync def f(): ...\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "without a secret it listens only on this machine"),
        (["--secret", "no base64!"], "telstate: --secret: a secret is base64"),
        (["--view-token", "short"], "telstate: --view-token: a view token has at least 16"),
        (["nothing:router"], "there is no module 'nothing' here"),
        (["app:routes"], "app has no 'routes'"),
        (["app:router"], "expected a telstate.Router, got int"),
        (["broken"], "there is no event 'dialout-answerd'"),
        ([":router"], "is not the name of a module"),
        ([""], "is not the name of a module"),
        (["..app:router"], "is not the name of a module"),
        (["./app.py:router"], "is not the name of a module"),
        (["--journal", ""], "--journal needs the name of a file"),
        (["--journal", "calls.jsonl"], "telstate export"),
        (["--keep", "a week"], "--keep takes a number of days, or `all`, not 'a week'"),
        (["--keep=-1"], "--keep takes"),
        (["--keep", "nan"], "--keep takes"),
        (["--keep", "all", "--archive", "old.jsonl"], "leave one of them out"),
        (["--max-deliveries", "1"], "--max-deliveries"),
    ],
)
def test_misuse_is_reported_before_it_starts(folder: Path, arguments: list[str], message: str) -> None:
    """With exit code 2, and what to do."""
    for name, text in PROGRAMS.items():
        (folder / f"{name}.py").write_text(text)
    assert message in refused(*arguments)
    assert not (folder / "calls.db").exists()


@pytest.mark.long
def test_it_keeps_events_as_long_as_asked(tmp_path: Path) -> None:
    """Pruning itself is tested with its journal: here calls would have to be over for hours."""
    archive = tmp_path / "old.jsonl.gz"
    stored = _journal(str(tmp_path / "calls.db"), "0.5", str(archive))
    assert stored._archive is not None
    assert (stored._keep, stored._archive.path) == (43_200, archive)
    assert _journal("calls.db", "all", None)._keep is None
    options = ("--keep", "7", "--archive", str(archive), "--max-deliveries", "3")
    with serving(tmp_path, *options, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url):
        assert httpx.get(f"{url}/ready", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "import os\nos.no_such_thing\n",
            "AttributeError: module 'os' has no attribute 'no_such_thing' (bad.py, line 2)",
        ),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' (bad.py, line 1)"),
        ("def f(:\n", "SyntaxError: "),
        ("raise SystemExit('no key')\n", "SystemExit: no key (bad.py, line 1)"),
    ],
)
@pytest.mark.parametrize("verb", ["serve", "work"])
def test_a_program_that_cannot_be_imported_is_one_line(folder: Path, verb: str, program: str, said: str) -> None:
    """With the place, and how to see the rest."""
    (folder / "bad.py").write_text(program)
    address = ("--nats", "nats://127.0.0.1:1") if verb == "work" else ()
    run = telstate(verb, "bad:router", *address)
    assert (run.returncode, run.stdout) == (2, b"")
    (line,) = run.stderr.decode().splitlines()
    assert f"bad cannot be imported: {said}" in line
    assert line.endswith("python -c 'import bad'")


def test_a_port_that_is_taken_is_reported(folder: Path) -> None:
    """With its number, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}: another process listens there" in refused("--port", port)


def test_a_file_that_is_not_a_journal_is_reported(folder: Path) -> None:
    """Nothing is written to it."""
    text = "this is not a database, but a text that is long enough to look like one"
    (folder / "calls.db").write_text(text)
    assert "calls.db" in refused("--port", "0")
    assert (folder / "calls.db").read_text() == text


SLOW = """
import asyncio
from telstate import DialoutEvent, Router

router = Router()


@router.on(DialoutEvent)
async def write(event: DialoutEvent) -> None:
    await asyncio.sleep(60)
"""


@pytest.mark.long
def test_a_second_signal_cancels_the_handlers(tmp_path: Path) -> None:
    """Their events are handled again at the next start."""
    (tmp_path / "slow.py").write_text(SLOW)
    with serving(tmp_path, "slow", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None  # the handler has time to finish
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert time.monotonic() - started < 10
    (tmp_path / "slow.py").write_text(PROGRAM)
    with serving(tmp_path, "slow", TELSTATE_WEBHOOK_SECRET=SECRET):
        deadline = time.monotonic() + 60
        while not (tmp_path / "handled").exists() or (tmp_path / "handled").read_text() != "1-answered\n":
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.long
def test_a_third_signal_ends_a_handlers_thread(tmp_path: Path) -> None:
    """Nothing can stop a thread from inside."""
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


@pytest.mark.long
async def fill(path: Path, events: int) -> None:
    """Make a journal without a checkpoint: its start reads everything."""
    journal = SqliteJournal(path, None)
    await journal.open(Settings().model_dump())
    for first in range(0, events, 10_000):
        numbers = range(first, first + 10_000)
        await journal.append(
            [Entry(1.79e9 + n, "daily-js", b'{"action":"dialout-stopped","sessionId":"s%d"}' % n) for n in numbers]
        )
        await journal.done([one for n in numbers for one in (n + 1, -n - 1)])
    await journal.aclose()


@contextmanager
def starting(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service whose start takes seconds; give the process and the address, before it has started."""
    asyncio.run(fill(folder / "calls.db", 100_000))
    port = free_port()
    process = subprocess.Popen(
        command("serve", "--port", str(port), "--keep", "all"),
        cwd=folder,
        env=environment({"TELSTATE_WEBHOOK_SECRET": SECRET}),
        stderr=subprocess.PIPE,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def first_answer(url: str) -> httpx.Response:
    """Ask until it listens."""
    for _ in range(500):
        with suppress(httpx.ConnectError):
            return httpx.get(url, timeout=60)
        time.sleep(0.02)
    raise AssertionError("it does not listen")


@pytest.mark.long
def test_while_it_starts_it_lives_and_is_not_ready_and_events_wait(tmp_path: Path) -> None:
    """`/health` says so, `/ready` says why, and a webhook is answered once it is kept."""
    for attempt in range(5):
        (folder := tmp_path / str(attempt)).mkdir()
        with starting(folder) as (_, url):
            assert first_answer(f"{url}/health").status_code == 200
            ready = httpx.get(f"{url}/ready", timeout=60)
            while (statuses := asyncio.run(sent(url, SECRET, event(1)))) == [503]:
                pass  # it has waited for ten seconds
            assert statuses == [200]
            assert httpx.get(f"{url}/ready", timeout=60).status_code == 200, "events wait until it has started"
        if ready.status_code != 200:  # else this process stood still until the other one had started
            break
    assert (ready.status_code, ready.json()["error"]) == (503, "it is starting: it reads its journal")


@pytest.mark.long
def test_a_signal_ends_a_start(tmp_path: Path) -> None:
    """At once, with exit code 0, and the next start is a start like any other."""
    for attempt in range(5):
        (folder := tmp_path / str(attempt)).mkdir()
        with starting(folder) as (process, url):
            first_answer(f"{url}/health")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert process.stderr is not None
            said = process.stderr.read()
        if b"listening on" not in said:  # else this process stood still until the other one had started
            break
    assert b"listening on" not in said
    with serving(folder, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url):
        assert httpx.get(f"{url}/ready", timeout=60).status_code == 200


async def asked(url: str, payload: dict[str, Any]) -> int:
    """Send a caller on hold; return the status of the answer."""
    async with WebhookSender(url, SECRET) as sender:
        return (await sender.post(body_of(payload))).status_code


@pytest.mark.long
def test_a_live_call_goes_on_after_a_signal(tmp_path: Path) -> None:
    """Its events are taken in, `/ready` is off; once it has ended, the service ends."""
    options = ("--calls-end-within", "60")
    with serving(tmp_path, *options, TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while (ready := httpx.get(f"{url}/ready", timeout=60)).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (ready.status_code, "1 call goes on" in ready.text) == (503, True)
        waiting = {"To": "+12025550100", "From": "+12025550101", "callId": "hold", "callDomain": "d"}
        assert asyncio.run(asked(f"{url}/pinless", waiting)) == 503  # Daily retries, and finds the next service
        assert asyncio.run(sent(url, SECRET, event(1, "stopped"))) == [200]
        assert process.wait(30) == 0


@pytest.mark.long
def test_silent_connections_are_closed(tmp_path: Path) -> None:
    """Otherwise a few thousand of them would keep Daily out."""
    with serving(tmp_path) as (_, url):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
            assert silent.recv(1) == b""


@pytest.mark.long
def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """For example one that was made for a container to mount."""
    (tmp_path / "calls.db").touch()
    with serving(tmp_path) as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
    assert (tmp_path / "calls.db").read_bytes().startswith(b"SQLite format 3")


BURST = 5_000


@pytest.mark.long
@pytest.mark.timeout(300)
def test_of_a_burst_with_a_kill_in_the_middle_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """5 000 webhooks from a hundred senders, kill -9, a start on what is there, and Daily's retries of the rest."""
    (tmp_path / "app.py").write_text(PROGRAM)
    acknowledged: set[str] = set()
    payloads = [event(number) for number in range(BURST)]

    async def burst(url: str, todo: list[dict[str, Any]], until: int, process: subprocess.Popen[str]) -> None:
        """Post until so many are acknowledged; then kill, while others are under way."""
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
    assert set(handled) == everything  # at least once; again what the kill interrupted, or what a retry sent twice
    assert sum(handled.values()) < BURST + BURST // 4
    assert len(replayed(tmp_path).engine.live()) == BURST


def kept_in(folder: Path) -> set[str]:
    """The ids of the events in the journal."""
    found = (json.loads(line) for line in lines(str(folder / "calls.db")) if b'"payload":' in line)
    return {record["payload"]["id"] for record in found if "id" in record["payload"]}


def replayed(folder: Path) -> Replay:
    """A replay of the journal."""
    replay = Replay()
    for line in lines(str(folder / "calls.db")):
        replay.feed(line)
    return replay


DEADLY = """
import os
from telstate import DialoutEvent, Router, Session

router = Router()
book = os.open("handled", os.O_APPEND | os.O_CREAT | os.O_WRONLY)


@router.on(DialoutEvent)
async def write(session: Session) -> None:
    os.write(book, f"{session.session_id}\\n".encode())
    if session.session_id == "session-2":
        DIE
"""


@pytest.mark.long
def test_one_poisoned_event_does_not_keep_it_down(tmp_path: Path) -> None:
    """A handler ends the process at each of five starts, whatever the exit code; then the service comes up without it."""
    (tmp_path / "app.py").write_text(DEADLY.replace("DIE", "os._exit(0)"))
    with serving(tmp_path, "app:router") as (process, url):
        with suppress(httpx.TransportError):
            asyncio.run(sent(url, None, event(1), event(2)))
        assert process.wait(20) == 0
    for _ in range(4):
        again = subprocess.run(
            command("serve", "--port", "0", "app:router"),
            cwd=tmp_path,
            env=environment(),
            check=False,
            timeout=60,
        )
        assert again.returncode == 0
    with serving(tmp_path, "app:router") as (process, url):
        assert asyncio.run(sent(url, None, event(3))) == [200]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    handled = Counter((tmp_path / "handled").read_text().split())
    assert (handled["session-2"], handled["session-3"]) == (5, 1)
    listed = telstate("dead", "list", tmp_path / "calls.db").stdout.decode()
    assert "1 dead letter\n" in listed
    assert "the process ended 5 times while its handlers ran" in listed
    (letter,) = json_lines(telstate("dead", "list", tmp_path / "calls.db", "--json"))
    assert (letter["reason"], letter["session"]["session_id"]) == ("ProcessDied", "session-2")


@pytest.mark.long
def test_a_keyboard_interrupt_of_a_handler_stops_it_in_order(tmp_path: Path) -> None:
    """Who has sent the event gets its answer, and the next start has nothing to do."""
    (tmp_path / "app.py").write_text(DEADLY.replace("DIE", "raise KeyboardInterrupt"))
    with serving(tmp_path, "app:router") as (process, url):
        assert asyncio.run(sent(url, None, event(1), event(2))) == [200, 200]
        assert process.wait(20) == 130
    with serving(tmp_path, "app:router") as (process, url):
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (tmp_path / "handled").read_text().split() == ["session-1", "session-2"]
    (letter,) = json_lines(telstate("dead", "list", tmp_path / "calls.db", "--json"))
    assert letter["reason"] == "KeyboardInterrupt"
