"""What systemd is told of a service, over a real socket. `tests/test_deploy.py` runs the command of the shipped unit."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
import structlog

from telstate import Dispatcher, Router
from telstate.cli._serve import _is_alive
from telstate.cli._systemd import ServiceManager
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from tests.calls import js
from tests.routing import until


class Systemd:
    """The end of systemd's socket, and the environment that it gives a service.

    Args:
        address: a path, or a name of an abstract socket that begins with @.
    """

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0") if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "PATH": "/bin"}

    def heard(self) -> list[list[str]]:
        """The messages since the last look, each as its lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """One that listens at a path."""
    made = Systemd(str(tmp_path / "notify"))
    with made.socket:
        yield made


class State:
    """How a service is."""

    reason: str | None = "it is starting"
    is_alive = True

    def not_ready(self) -> str | None:
        """Why no new calls should come."""
        return self.reason

    def lives(self) -> bool:
        """Whether a restart can help nothing."""
        return self.is_alive


def test_it_hears_of_the_start_the_state_and_the_stop(systemd: Systemd) -> None:
    """READY=1 comes once, when it is ready for the first time; what it should know later is in the status."""
    state = State()
    heard: list[list[str]] = []

    def listened() -> int:
        heard.extend(systemd.heard())
        return len(heard)

    async def run() -> None:
        async with ServiceManager(systemd.environment).informed(state.not_ready, state.lives):
            await until(lambda: listened() == 1)
            state.reason = None
            await until(lambda: listened() == 2)
            state.reason = "the journal\ncannot keep events"
            await until(lambda: listened() == 3)
            state.reason = None
            await until(lambda: listened() == 4)

    asyncio.run(run())
    listened()
    assert heard == [
        ["STATUS=it is starting"],
        ["READY=1", "STATUS=ready"],
        ["STATUS=the journal\ufffdcannot keep events"],  # a line of its own would be a command to systemd
        ["STATUS=ready"],
        ["STOPPING=1"],
    ]
    assert systemd.environment == {"PATH": "/bin"}, "what handlers start must not speak for the service"


def test_signs_of_life_end_where_only_a_restart_can_help(systemd: Systemd) -> None:
    """Several come in the time after which systemd misses them, also while it is not ready. None while the event loop does not turn."""
    systemd.environment |= {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": str(os.getpid())}
    state = State()

    async def run() -> None:
        manager = ServiceManager(systemd.environment)
        assert manager.watchdog_s == 0.4
        async with manager.informed(state.not_ready, state.lives):
            await until(lambda: systemd.heard() == [["WATCHDOG=1", "STATUS=it is starting"]])
            state.reason = None
            await until(lambda: ["READY=1", "WATCHDOG=1", "STATUS=ready"] in systemd.heard())
            for _ in range(3):
                await until(lambda: systemd.heard() == [["WATCHDOG=1", "STATUS=ready"]])
            state.is_alive = False
            await asyncio.sleep(0.2)
            systemd.heard()
            await asyncio.sleep(0.4)
            assert systemd.heard() == []
            state.is_alive = True
            await until(lambda: systemd.heard() == [["WATCHDOG=1", "STATUS=ready"]])

    asyncio.run(run())


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "400000"},
        {"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "soon"},
    ],
    ids=["nobody", "without a socket", "of another process", "not a number"],
)
def test_signs_of_life_are_for_who_asked(environment: dict[str, str]) -> None:
    """A process that a shell has started, say, is not the one that systemd watches."""
    assert ServiceManager(environment).watchdog_s is None
    assert environment == {}


def test_an_abstract_socket_is_found() -> None:
    """Where systemd has no path for it."""
    systemd = Systemd(f"@telstate-test-{os.getpid()}")
    with systemd.socket:
        ServiceManager(systemd.environment).stopping()
        assert systemd.heard() == [["STOPPING=1"]]


def test_nobody_who_listens_ends_no_service(tmp_path: Path) -> None:
    """The log says so."""
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with structlog.testing.capture_logs() as logs:
        manager.stopping()
        manager.stopping()
    assert [(log["event"], log["message"]) for log in logs] == [("systemd.not_told", "STOPPING=1")]


class Slow(SqliteJournal):
    """A journal whose disk hangs until it is let go."""

    gate: anyio.Event

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Hang, then append."""
        await self.gate.wait()
        return await super().append(entries)


def test_a_journal_that_answers_nothing_is_not_alive(tmp_path: Path) -> None:
    """Once that has lasted for as long as systemd waits for a sign of life. One that answers again is alive."""

    async def run() -> None:
        journal = Slow(tmp_path / "calls.db")
        journal.gate = anyio.Event()
        calls = Dispatcher(Router(), journal=journal)
        assert _is_alive(calls, 0.1), "before the journal is open"
        async with calls, anyio.create_task_group() as group:
            assert _is_alive(calls, 0.1)
            group.start_soon(calls.receive, js("dialout-connected"))
            await until(lambda: not _is_alive(calls, 0.1))
            assert _is_alive(calls, 60)
            assert _is_alive(calls, None)
            journal.gate.set()
            await until(lambda: _is_alive(calls, 0.1))
            assert calls.vitals().appending_s == 0
        assert _is_alive(calls, 0.1), "once it is closed"

    asyncio.run(run())
