"""Run `telstate doctor`, and what it looks at: a service that a test lets say anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from telstate.control import NEEDED
from telstate.events import Dialect
from telstate.journals._database import connect, create_or_check
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead
from tests.cli.running import telstate
from tests.cli.test_serve import serving
from tests.threaded_server import ThreadedServer

__all__ = [
    "OTHER",
    "SECRET",
    "Findings",
    "Served",
    "StandIn",
    "doctor",
    "hook",
    "journal_of",
    "listed",
    "served",
    "service",
    "stand_in",
]

SECRET, OTHER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "c29tZXRoaW5nIGVsc2U="
_UNSET = (
    "DAILY_API_KEY",
    "TELSTATE_DAILY_API_URL",
    "TELSTATE_WEBHOOK_SECRET",
    "TELSTATE_PINLESS_SECRET",
    "TELSTATE_TRUNK_SECRET",
    "TELSTATE_NATS",
    "TELSTATE_RECORDS",
)


class Findings(NamedTuple):
    """What a run found."""

    returncode: int
    found: list[dict[str, str]]
    """Each finding: its check, its health and its texts."""
    summary: dict[str, int]

    def of(self, check: str) -> list[tuple[str, str]]:
        """The findings of one check: health and text. Whatever is not ok says why it matters and what to do."""
        return [(one["health"], one["found"]) for one in self.found_of(check)]

    def found_of(self, check: str) -> list[dict[str, str]]:
        """The findings of one check, with all their texts."""
        ours = [one for one in self.found if one["check"] == check]
        assert ours, check
        for one in ours:
            assert bool(one["why"] and one["do"]) == (one["health"] in ("warning", "fault")), one
        return ours

    def one(self, check: str, health: str) -> str:
        """The text of the only finding of a check with this health."""
        (text,) = [text for found, text in self.of(check) if found == health]
        return text


def doctor(*arguments: object, daily: FakeDaily | None = None, env: Mapping[str, str] | None = None) -> Findings:
    """Run the command in this process; neither the key nor a secret is in its output."""
    ours = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url} if daily is not None else {}
    given = env or {}
    variables = {**dict.fromkeys(_UNSET), **ours, **given}
    run = telstate("doctor", *arguments, "--json", env=variables)
    assert not run.stderr, run.stderr
    text = run.stdout.decode()
    for secret in (KEY, SECRET, OTHER, *(value for name, value in given.items() if "SECRET" in name)):
        assert secret not in text
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    return Findings(run.returncode, [line["finding"] for line in lines[:-1]], lines[-1]["summary"])


class StandIn(ThreadedServer):
    """A service on this machine that answers as a test wants; its address is no loopback one.

    Attributes:
        ready: status and body of the answer to `GET /ready`.
        answer: status and body of the answer to every POST.
        head: the status of the answer to every HEAD.
        ahead: seconds that its clock is ahead.
        delay: seconds before each answer.
        asked: the methods and paths of all requests.
    """

    def __init__(self) -> None:
        stand_in = self
        self.ready: tuple[int, bytes] = (200, b'{"ok": true}')
        self.answer: tuple[int, bytes] = (200, b'{"ok": true, "verified": false}')
        self.head = 405
        self.ahead = 0.0
        self.delay = 0.0
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(*stand_in.ready)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._reply(*stand_in.answer)

            def do_HEAD(self) -> None:
                self._reply(stand_in.head, b"")

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate((timestamp or time.time()) + stand_in.ahead, usegmt=True)

            def _reply(self, status: int, body: bytes) -> None:
                stand_in.asked.append(f"{self.command} {self.path}")
                time.sleep(stand_in.delay)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # who asks may have read enough
                    self.wfile.write(body)

        super().__init__(Handler, "0.0.0.0")  # so its address is no loopback one


class Served(NamedTuple):
    """A real service, and its folder."""

    folder: Path
    url: str

    @property
    def journal(self) -> Path:
        """Its journal."""
        return self.folder / "calls.db"


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Run a real service with a secret."""
    with serving(folder, TELSTATE_WEBHOOK_SECRET=SECRET) as (_, url):
        yield Served(folder, url)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A service that says what a test wants."""
    with StandIn() as one:
        yield one


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real service with a secret."""
    with served(tmp_path_factory.mktemp("service")) as one:
        yield one


def hook(daily: FakeDaily, url: str, **fields: Any) -> str:
    """Let there be a webhook; return its id."""
    uuid = f"u{len(daily.hooks)}"
    whole = {"uuid": uuid, "url": url, "hmac": SECRET, "state": "ACTIVE", "retryType": "exponential"}
    daily.hooks[uuid] = {**whole, "eventTypes": list(NEEDED), **fields}
    return uuid


def listed(daily: FakeDaily, *numbers: dict[str, Any], **config: Any) -> None:
    """Let the domain's configuration have numbers."""
    domain = {"domain_name": "example", "config": {"pinless_dialin": numbers, **config}}
    daily.rules["/"] = instead(200, json.dumps(domain).encode())


def journal_of(path: Path, *events: tuple[float, Dialect], letters: int = 0) -> Path:
    """Make a journal with events of these times."""
    database = connect(path, busy=1.0)
    create_or_check(database, {})
    rows = [(seq, at, dialect, b"{}") for seq, (at, dialect) in enumerate(events, 1)]
    database.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    for _ in range(letters):
        database.execute(
            "INSERT INTO dead_letters (seq, reason, detail, at, dialect, payload) VALUES (1, 'E', '', 0, 'webhook', '')"
        )
    database.close()
    return path
