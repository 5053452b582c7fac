"""`telstate tail URL`: what happens to the calls of a running service, as it happens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from telstate.cli import _live_stream
from tests.cli.running import environment, telstate
from tests.cli.test_serve import SECRET, event, sent, serving
from tests.cli.test_tail import tail
from tests.ports import free_port
from tests.threaded_server import ThreadedServer

TOKEN = "0123456789abcdef0123"
ENV = {"TELSTATE_WEBHOOK_SECRET": SECRET, "TELSTATE_VIEW_TOKEN": TOKEN}
NUMBER = "+12025550142"


def answered(number: int) -> dict[str, object]:
    """An event with a phone number."""
    made = event(number)
    made["payload"]["destination"] = NUMBER
    return made


@pytest.mark.parametrize("more", [(), ("--follow",)])
def test_an_address_without_a_scheme_is_told_what_is_missing(more: tuple[str, ...]) -> None:
    """It would be the name of a file, and a follower would wait for that for ever."""
    run = telstate("tail", "127.0.0.1:8391", *more)
    assert (run.returncode, run.stdout) == (2, b"")
    assert b"telstate tail http://127.0.0.1:8391" in run.stderr


@pytest.mark.long
def test_it_prints_what_tail_prints_of_the_journal(tmp_path: Path) -> None:
    """After the calls that were there before. Ctrl-C is not a failure; the end of the service is told, and waited out."""
    with serving(tmp_path, **ENV) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1), event(2), event(2, "stopped"))) == [200] * 3
        with tail(url, "--token", TOKEN) as text, tail("--json", f"{url}/", "--token", TOKEN) as lines:
            assert text.line().split() == ["live", "session-1", "out", "answered"]
            assert json.loads(lines.whole_line())["session"]["session_id"] == "session-1"
            payloads = [event(1), answered(3), event(3, "stopped"), event(1, "stopped")]
            assert asyncio.run(sent(url, SECRET, *payloads)) == [200] * 4
            shown = [text.whole_line() for _ in payloads]
            as_json = [lines.whole_line() for _ in payloads]
            journal = tmp_path / "calls.db"
            assert telstate("tail", journal).stdout.decode().splitlines()[3:] == shown
            assert telstate("tail", "--json", journal).stdout.decode().splitlines()[3:] == as_json
            process.send_signal(signal.SIGTERM)
            assert "the service stops; trying again until Ctrl-C" in text.error()
            assert process.wait(10) == 0
            assert text.end(signal.SIGINT) == lines.end(signal.SIGTERM) == 0
            assert text.rest() == []


@pytest.mark.long
def test_after_a_restart_it_goes_on(tmp_path: Path) -> None:
    """And says whether something is missing."""
    port = str(free_port())
    with serving(tmp_path, "--port", port, **ENV) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(2))) == [200]
        running = tail(url, "--csv", "--token", TOKEN)
        lines = running.__enter__()
        assert lines.whole_line() == "at,outcome,event,session_id,direction,moves,state,cause,anomalies"
        assert lines.whole_line().endswith(",live,answered,session-2,dialout,[],answered,,[]")
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        assert '"[[""idle"", ""answered"", ""dialout-answered""]]",answered,,[]' in lines.whole_line()
        process.kill()
        assert "trying again" in lines.error()
    with serving(tmp_path, "--port", port, **ENV) as (_, url):
        assert "connected again" in lines.error()
        assert asyncio.run(sent(url, SECRET, event(1, "stopped"))) == [200]
        while ",moved,dialout-stopped,session-1,dialout," not in lines.whole_line():
            pass
        assert lines.end(signal.SIGINT) == 0
        running.__exit__(None, None, None)


@pytest.mark.long
def test_numbers_and_filters(tmp_path: Path) -> None:
    """The service masks numbers unless told otherwise; then tail masks them, unless told otherwise."""
    with serving(tmp_path, **ENV) as (_, url):
        run = telstate("tail", url, "--number", NUMBER, env={"TELSTATE_VIEW_TOKEN": TOKEN})
        assert run.returncode == 2
        assert b"--view-numbers" in run.stderr
        assert asyncio.run(sent(url, SECRET, event(2))) == [200]
        with tail(url, "--numbers", "--json", "--token", TOKEN) as lines:
            assert "session-2" in lines.whole_line()
            assert "masks numbers" in lines.error()
            assert asyncio.run(sent(url, SECRET, answered(1))) == [200]
            assert NUMBER not in lines.whole_line()
    other = tmp_path / "other"
    other.mkdir()
    with serving(other, "--view-numbers", **ENV) as (_, url):
        assert asyncio.run(sent(url, SECRET, answered(1), event(2))) == [200, 200]
        chosen = ("--json", "--number", "202 555 0142", "--token", TOKEN)
        with tail(url, *chosen) as masked, tail(url, *chosen, "--numbers") as full:
            assert NUMBER not in masked.whole_line()
            assert NUMBER in full.whole_line()
            assert asyncio.run(sent(url, SECRET, event(2, "stopped"), event(1, "stopped"))) == [200, 200]
            assert json.loads(full.whole_line())["outcome"]["session_id"] == "session-1"


def test_without_a_secret_it_is_open_to_this_machine(tmp_path: Path) -> None:
    """With one, Daily and so others reach the service, and the view needs a token."""
    with serving(tmp_path) as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
        with tail(url) as lines:
            assert lines.line().split()[:2] == ["live", "session-1"]
            assert asyncio.run(sent(url, None, event(2))) == [200]
            assert lines.line().split()[:2] == ["moved", "session-2"]


@pytest.mark.long
def test_what_cannot_be_helped_exits_with_2_and_says_what_to_do(tmp_path: Path) -> None:
    """On one line."""

    def refused(*arguments: str, env: str | None = None) -> str:
        run = telstate("tail", *arguments, env={"TELSTATE_VIEW_TOKEN": env})
        assert (run.returncode, run.stdout) == (2, b""), run
        assert run.stderr.count(b"\n") == 1, run.stderr
        return run.stderr.decode()

    with serving(tmp_path, **ENV) as (_, url):
        assert "the token is missing: give the service's TELSTATE_VIEW_TOKEN" in refused(url)
        assert "the token is wrong" in refused(url, "--token", "wrong")
        assert "the token is wrong" in refused(url, env="wrong")
        assert "there is no live view (404)" in refused(f"{url}/webhooks/1")
        assert "no file with it" in refused(url, "calls.db")
        assert "a password or a query" in refused(url.replace("://", "://a:b@"))
        assert "a password or a query" in refused(f"{url}?token={TOKEN}")
        assert "characters that a token cannot have" in refused(url, "--token", "\xe9")
        assert "two forms" in refused(url, "--json", "--csv")
    assert "nobody answers" in refused(url)
    assert "there is no host" in refused("http://")
    with serving(tmp_path, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url):
        assert "start the service with one" in refused(url)


ANSWERS = {
    "redirects": (301, "text/plain", b"", "redirects to https://other.example"),
    "a page": (200, "text/html", b"<p>", "it answers 200"),
    "later": (200, "text/event-stream", b'event: hello\ndata: {"version": 2}\n\n', "use the same version of both"),
    "no JSON": (200, "text/event-stream", b"event: hello\ndata: {\n\n", "cannot read"),
    "no object": (200, "text/event-stream", b"event: hello\ndata: 5\n\n", "cannot read"),
    "odd": (
        200,
        "text/event-stream",
        b'event: hello\ndata: {"version": 1, "numbers": false, "resumed": true}\n\nevent: outcome\ndata: {"outcome": 5, "session": null}\n\n',
        "cannot read",
    ),
}


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """Serve one answer; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Location", "https://other.example")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadedServer(Handler) as server:
        yield server.url


@pytest.mark.parametrize("name", ANSWERS)
def test_another_service_is_told_from_one_of_telstate(name: str) -> None:
    """Whatever it answers."""
    status, kind, body, message = ANSWERS[name]
    with answering(status, kind, body) as url:
        run = telstate("tail", url)
    assert run.returncode == 2
    assert message in run.stderr.decode()


def test_a_refusal_whose_body_does_not_end_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is enough."""
    monkeypatch.setattr(_live_stream, "_LONGEST_ERROR_READ", 0.1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)

    with ThreadedServer(Handler) as server:
        run = telstate("tail", server.url)
    assert run.returncode == 2
    assert b"refuses: Forbidden" in run.stderr


@pytest.mark.long
def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    """Quietly, as `tail | head -1` does."""
    with serving(tmp_path) as (_, url):
        assert asyncio.run(sent(url, None, event(1))) == [200]
        script = f"set -o pipefail; {sys.executable} -m telstate tail {url} | head -1"
        with subprocess.Popen(
            ["bash", "-c", script], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as shell:
            assert shell.stdout is not None
            assert shell.stderr is not None
            assert b"live" in shell.stdout.readline()
            until = time.monotonic() + 10
            for number in range(2, 1_000):  # head takes a moment to exit
                if shell.poll() is not None or time.monotonic() > until:
                    break
                assert asyncio.run(sent(url, None, event(number))) == [200]
            assert (shell.wait(5), shell.stderr.read()) == (0, b"")
