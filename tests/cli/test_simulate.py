"""`telstate simulate`: the generator of `telstate.testing` as a command."""

from __future__ import annotations

import gzip
import json
import signal
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest

from telstate.cli import _simulate
from telstate.cli._simulate import SCENARIOS
from telstate.testing import SCRIPTS
from tests.cli.running import json_lines, telstate
from tests.cli.test_serve import SECRET, serving


def sessions(log: bytes) -> list[dict[str, object]]:
    """The calls that a replay finds."""
    lines = json_lines(telstate("replay", "--json", given=log))
    return [line["session"] for line in lines if "session" in line]


def test_every_script_is_a_scenario() -> None:
    """By its name, with dashes."""
    assert tuple(script.__name__.replace("_", "-") for script in SCRIPTS) == SCENARIOS


def test_a_seed_gives_the_same_log() -> None:
    """As many calls as asked for, in webhooks."""
    one, same, other = (telstate("simulate", "--calls", 20, "--seed", seed) for seed in (1, 1, 2))
    assert one.returncode == 0
    assert one.stdout == same.stdout != other.stdout
    assert len(sessions(one.stdout)) == 20
    assert all("type" in json.loads(line) or "To" in json.loads(line) for line in one.stdout.splitlines())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_all_that_happens(scenario: str) -> None:
    """In all calls."""
    found = sessions(telstate("simulate", scenario, "--calls", 8).stdout)
    assert {one["direction"] for one in found} == {scenario.partition("-")[0]}
    causes = {"failed": "failed", "transferred": "transferred", "unanswered": "unanswered", "busy": "unanswered"}
    assert {one["cause"] for one in found} == {causes.get(scenario.rpartition("-")[2], "completed")}


@pytest.mark.parametrize("dialect", ["daily-js", "webhook", "daily-python", "journal"])
def test_dialects(dialect: str) -> None:
    """Each can be told in, and several together."""
    log = telstate("simulate", "--calls", 10, "--dialect", dialect).stdout
    assert len(sessions(log)) == 10
    keys = {"daily-js": "action", "webhook": "type", "daily-python": "handler", "journal": "dialect"}
    assert keys[dialect] in json.loads(log.splitlines()[0])
    mixed = telstate("simulate", "--calls", 30, "--dialect", dialect, "--dialect", "daily-js").stdout
    assert len(sessions(mixed)) == 30


def test_the_faults_of_a_network() -> None:
    """Events are lost, come twice, and out of order."""
    quiet = telstate("simulate", "--calls", 40).stdout.splitlines()
    lossy = telstate("simulate", "--calls", 40, "--drop", 0.5).stdout.splitlines()
    assert len(lossy) < 0.75 * len(quiet)
    twice = telstate("simulate", "--calls", 40, "--dup", 0.5).stdout.splitlines()
    assert len(twice) > 1.25 * len(quiet)
    ids = Counter(json.loads(line).get("id") for line in twice)
    assert ids.most_common(1)[0][1] > 1
    for option in ("--shuffle", "--delay"):
        run = telstate("lint", "--json", given=telstate("simulate", "--calls", 40, option, 0.4).stdout)
        assert b'"T302"' in run.stdout


def test_a_rate_is_kept() -> None:
    """Events a second, by the clock."""
    begun = monotonic()
    lines = telstate("simulate", "dialout-busy", "--calls", 5, "--rate", 50).stdout.splitlines()
    assert monotonic() - begun >= (len(lines) - 1) / 50


def test_a_file(tmp_path: Path) -> None:
    """Plain or compressed; one that exists is kept."""
    plain = telstate("simulate", "--calls", 5).stdout
    for name in ("log.jsonl", "log.jsonl.gz"):
        assert telstate("simulate", "--calls", 5, "-o", tmp_path / name).returncode == 0
        data = (tmp_path / name).read_bytes()
        assert (gzip.decompress(data) if name.endswith(".gz") else data) == plain
        assert telstate("simulate", "-o", tmp_path / name).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lunch",), "no scenario 'lunch'"),
        (("--to", "localhost:8080"), "http://"),
        (("--to", "http://x", "--dialect", "daily-js"), "--to posts webhooks"),
        (("--to", "http://x", "--secret", "!"), "base64"),
        (("--to", "http://127.0.0.1:1/webhooks", "--calls", 1), "the receiver gave no answer after 0 events"),
        (("--drop", "2"), "--drop"),
    ],
)
def test_misuse(arguments: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what came and what to do."""
    monkeypatch.setattr(_simulate, "_STARTS_WITHIN", 0.0)
    run = telstate("simulate", *arguments)
    assert run.returncode == 2
    assert words in run.stderr.decode()


def test_a_receiver_that_starts_at_the_same_time_is_waited_for() -> None:
    """As where somebody starts a service in the background, and this command after it."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver, bind_and_activate=False) as server:
        server.server_bind()  # until it listens, connections are refused

        def listen() -> None:
            server.server_activate()
            server.serve_forever(0.01)

        starting = Timer(0.3, listen)
        starting.start()
        run = telstate(
            "simulate", "dialout-busy", "--calls", 1, "--to", f"http://127.0.0.1:{server.server_port}/webhooks"
        )
        server.shutdown()
        starting.join()
    assert (run.returncode, run.stderr) == (0, b"")


PROGRAM = "from telstate import Router\nrouter = Router()\n"


@pytest.mark.long
def test_a_service_gets_signed_webhooks(tmp_path: Path) -> None:
    """All of them, callers on hold too; with a wrong secret it refuses them, and the exit code is 1."""
    (tmp_path / "app.py").write_text(PROGRAM)
    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        run = telstate("simulate", "--calls", 20, "--to", f"{url}/webhooks", "--secret", SECRET)
        assert run.returncode == 0, run.stderr
        refused = telstate("simulate", "--calls", 1, "--to", f"{url}/webhooks", "--secret", "d3Jvbmc=")
        assert refused.returncode == 1
        assert b"refused: " in refused.stdout
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    found = json_lines(telstate("replay", "--json", tmp_path / "calls.db"))
    assert sum("session" in line for line in found) == 20
    assert found[-1]["summary"]["received"] == int(run.stdout.split()[0])
