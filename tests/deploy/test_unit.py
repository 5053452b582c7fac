"""The units of examples/deploy: their commands tell a socket what systemd wants to hear, and a real systemd runs them."""

from __future__ import annotations

import asyncio
import io
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from tests.cli.running import environment
from tests.cli.test_serve import SECRET, event, sent
from tests.cli.test_systemd import Systemd
from tests.deploy.files import UNIT, WORKER_UNIT, unit
from tests.deploy.sandbox import Container, Sandbox, wait_until
from tests.deploy.test_image import SEND
from tests.documents import ROOT
from tests.nats_server import NatsServer, binary
from tests.ports import free_ports

pytestmark = pytest.mark.long

HANDLERS = """
import os, time
from telstate import DialoutEvent, Router

router = Router()


@router.on(DialoutEvent)
async def follow(event: DialoutEvent) -> None:
    if event.room == "hang":
        hang_once(os.path.join(os.environ["STATE_DIRECTORY"], "hung"))


def hang_once(mark: str) -> None:
    is_first = not os.path.exists(mark)
    open(mark if is_first else f"{mark}-before", "w").close()
    if is_first:
        time.sleep(600)
"""
"""A program whose handler blocks the event loop, once."""
WATCHDOG = 4.0
"""Seconds, in place of the unit's: nobody waits for half a minute here."""


@contextmanager
def started(
    folder: Path, systemd: Systemd, path: Path = UNIT, options: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start what a unit starts as systemd would, with folders of its own, and some other options; give the process and its address."""
    app, secrets, state = (folder / name for name in ("app", "secrets", "state"))
    for one in (app, secrets, state):
        one.mkdir(exist_ok=True)
    (app / "handlers.py").write_text(HANDLERS)
    for credential in unit(path)["LoadCredential"]:
        (secrets / credential.partition(":")[0]).write_text(f"{SECRET}\n")
    variables = dict(one.split("=", 1) for line in unit(path)["Environment"] for one in line.split())
    own = {"STATE_DIRECTORY": str(state), "NOTIFY_SOCKET": systemd.environment["NOTIFY_SOCKET"]}
    own["WATCHDOG_USEC"] = str(round(WATCHDOG * 1e6))
    program, *arguments = shlex.split(unit(path)["ExecStart"][0].replace("${STATE_DIRECTORY}", str(state)))
    assert program == "/opt/telstate/bin/telstate"
    (port,) = free_ports(1)
    for name, value in {"--port": str(port), **(options or {})}.items():
        arguments[arguments.index(name) + 1] = value
    process = subprocess.Popen(
        [sys.executable, "-m", "telstate", *arguments],
        cwd=app,
        env=environment({**{name: value.replace("%d", str(secrets)) for name, value in variables.items()}, **own}),
        stderr=subprocess.PIPE,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def until(systemd: Systemd, beginning: str, seconds: float = 60) -> None:
    """Wait until the socket has heard a line that begins so."""
    give_up = time.monotonic() + seconds
    while not any(line.startswith(beginning) for message in systemd.heard() for line in message):
        assert time.monotonic() < give_up, beginning
        time.sleep(0.02)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """What listens where systemd does."""
    made = Systemd(str(tmp_path / "notify"))
    with made.socket:
        yield made


def test_its_command_is_ready_lives_and_stops_once_the_last_call_has_ended(tmp_path: Path, systemd: Systemd) -> None:
    """It has its secret from the credentials, says that it stops at once, and goes on to say that it lives."""
    with started(tmp_path, systemd) as (process, url):
        until(systemd, "READY=1")
        assert httpx.get(f"{url}/ready").status_code == 200
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        assert asyncio.run(sent(url, "c29tZWJvZHk=", event(2))) == [401]
        for _ in range(3):
            until(systemd, "WATCHDOG=1", WATCHDOG)
        process.send_signal(signal.SIGTERM)
        until(systemd, "STOPPING=1")
        until(systemd, "STATUS=it is stopping: 1 call goes on")
        until(systemd, "WATCHDOG=1", WATCHDOG)
        assert asyncio.run(sent(url, SECRET, event(1, "stopped"))) == [200]
        assert process.wait(30) == 0


def test_a_call_that_goes_on_keeps_it_for_so_long_and_no_longer(tmp_path: Path, systemd: Systemd) -> None:
    """With another --calls-end-within than the unit's ten minutes."""
    with started(tmp_path, systemd, options={"--calls-end-within": "2"}) as (process, url):
        until(systemd, "READY=1")
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began >= 2
        assert systemd.heard()[-1] != ["READY=1"]


def test_no_sign_of_life_while_the_event_loop_hangs(tmp_path: Path, systemd: Systemd) -> None:
    """Of what systemd sends then, the process ends, and says where it hung. The event is in the journal: the next one handles it."""
    hanging: dict[str, Any] = event(1)
    hanging["payload"]["room"] = "hang"
    with started(tmp_path, systemd) as (process, url):
        until(systemd, "READY=1")
        with suppress(httpx.TransportError, TimeoutError):  # the answer may hang too
            asyncio.run(asyncio.wait_for(sent(url, SECRET, hanging), 2))
        wait_until((tmp_path / "state" / "hung").exists, lambda: "no handler ran")
        systemd.heard()
        time.sleep(WATCHDOG + 0.5)
        assert systemd.heard() == []
        process.send_signal(signal.SIGABRT)
        _, log = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGABRT
        assert b'handlers.py", line 18 in hang_once' in log
    with started(tmp_path, systemd) as (process, url):
        until(systemd, "READY=1")
        wait_until((tmp_path / "state" / "hung-before").exists, lambda: "its handler did not run again")
        process.send_signal(signal.SIGTERM)


def test_the_command_of_the_worker_is_ready_lives_and_hands_over(tmp_path: Path, systemd: Systemd) -> None:
    """It has its password from the credentials: the server lets nobody else in."""
    users = f'authorization {{ users: [{{ user: worker, password: "{SECRET}" }}] }}'
    with NatsServer(tmp_path / "nats", users) as server:
        options = {"--nats": server.url, "--replicas": "1"}
        with started(tmp_path, systemd, WORKER_UNIT, options) as (process, url):
            until(systemd, "READY=1")
            assert httpx.get(f"{url}/ready").status_code == 200
            until(systemd, "WATCHDOG=1", WATCHDOG)
            process.send_signal(signal.SIGTERM)
            until(systemd, "STOPPING=1")
            assert process.wait(30) == 0


def python_in(root: Any) -> list[str]:
    """Put telstate into /opt/telstate of a root; what it needs is this Python's. Return options of the container."""
    root.run("python", "-m", "venv", "--without-pip", "/opt/telstate")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(ROOT / "telstate", "telstate")
    root.unpack(packed.getvalue(), "/opt/telstate/own")
    packages = root.run(
        "/opt/telstate/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).strip()
    root.write(f"{packages}/all.pth", "/opt/telstate/own\n/opt/telstate/packages\n")
    root.write(
        "/opt/telstate/bin/telstate", "#!/opt/telstate/bin/python\nfrom telstate.__main__ import main\nmain()\n", 0o755
    )
    root.run("mkdir", "/opt/telstate/packages")
    return [f"--bind-ro={Path(typer.__file__).parents[1]}:/opt/telstate/packages"]


class Machine:
    """A machine on which systemd runs the unit.

    Args:
        container: systemd is its process 1.
        unit: its name.
    """

    def __init__(self, container: Container, unit: str) -> None:
        self._container = container
        self._unit = unit

    def facts(self) -> dict[str, str]:
        """What systemd says of the service."""
        names = "ActiveState,StatusText,NRestarts,MainPID,Result,ExecMainStatus,Type"
        shown = self._container.run("systemctl", "show", f"--property={names}", self._unit, check=False)
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def log(self) -> str:
        """The log of the service."""
        return self._container.run("journalctl", "--no-pager", "--output=cat", f"--unit={self._unit}", check=False)

    def until(self, **wanted: str) -> dict[str, str]:
        """Wait until systemd says so."""
        wait_until(
            lambda: wanted.items() <= self.facts().items(),
            lambda: f"{self.facts()}\n{self.log()}\n{self._container.log}",
        )
        return self.facts()

    def send(self, secret: str, name: str, room: str) -> str:
        """Send an event to the service; return the status of the answer, or what became of the request."""
        return self._container.run("/opt/telstate/bin/python", "-", secret, name, room, given=SEND, check=False).strip()


@contextmanager
def booted(
    path: Path, settings: str, options: Sequence[str] = (), others: Mapping[str, str] | None = None
) -> Iterator[Container]:
    """Boot a systemd that starts a unit.

    Args:
        path: of the unit.
        settings: more of its section `[Service]`.
        options: of the container.
        others: more units to start, by their names.
    """
    with Sandbox() as sandbox:
        root = sandbox.root("machine")
        own = python_in(root)
        root.write("/opt/telstate/app/handlers.py", HANDLERS)
        for credential in unit(path)["LoadCredential"]:
            root.write(credential.partition(":")[2], SECRET, 0o600)
        root.write("/etc/machine-id", "5f2d1c8e9a7b4c3d8e6f0a1b2c3d4e5f\n")
        for name, text in {path.name: path.read_text(), **(others or {})}.items():
            root.write(f"/etc/systemd/system/{name}", text)
        root.write(f"/etc/systemd/system/{path.name}.d/test.conf", f"[Service]\n{settings}\n")
        root.write("/etc/systemd/system/test.target", f"[Unit]\nWants={' '.join((*(others or ()), path.name))}\n")
        boot = ["/lib/systemd/systemd", "systemd.unit=test.target"]
        with root.container(*boot, options=[*own, *options]) as container:
            yield container


def test_a_real_systemd_runs_the_unit() -> None:
    """It is ready, has its secret, is no root; a hang restarts it; a live call goes on after `systemctl stop`."""
    with booted(UNIT, f"WatchdogSec={WATCHDOG}") as container:
        machine = Machine(container, UNIT.stem)
        facts = machine.until(ActiveState="active")
        assert (facts["Type"], facts["StatusText"], facts["NRestarts"]) == ("notify", "ready", "0")
        assert container.run("stat", "--format=%U", f"/proc/{facts['MainPID']}").strip() == "telstate"
        assert machine.send(SECRET, "answered", "lobby") == "200"
        assert machine.send("c29tZWJvZHk=", "answered", "lobby") == "401"
        time.sleep(WATCHDOG + 1)
        assert machine.facts()["NRestarts"] == "0", machine.log()
        machine.send(SECRET, "stopped", "hang")
        machine.until(NRestarts="1", ActiveState="active", StatusText="ready")
        assert 'handlers.py", line 18 in hang_once' in machine.log()
        assert "Watchdog timeout" in machine.log()
        container.run("systemctl", "stop", "--no-block", "telstate")
        machine.until(ActiveState="deactivating")
        assert machine.send(SECRET, "stopped", "lobby") == "200"
        facts = machine.until(ActiveState="inactive")
        assert (facts["Result"], facts["ExecMainStatus"]) == ("success", "0")


def test_a_real_systemd_runs_the_worker() -> None:
    """It is ready once it has its share of the calls, is no root, and hands over when it is stopped."""
    command = unit(WORKER_UNIT)["ExecStart"][0].replace("--replicas 3", "--replicas 1 --partitions 8")
    command = re.sub(r"nats://\S+", "nats://127.0.0.1:4222", command)
    server = (
        f"[Service]\nExecStart=/usr/bin/nats-server --jetstream --store_dir /run/nats --user worker --pass {SECRET}\n"
    )
    with booted(
        WORKER_UNIT,
        f"WatchdogSec={WATCHDOG}\nExecStart=\nExecStart={command}",
        [f"--bind-ro={binary()}:/usr/bin/nats-server"],
        {"nats.service": server},
    ) as container:
        machine = Machine(container, WORKER_UNIT.stem)
        facts = machine.until(ActiveState="active")
        assert (facts["Type"], facts["StatusText"], facts["NRestarts"]) == ("notify", "ready", "0")
        assert container.run("stat", "--format=%U", f"/proc/{facts['MainPID']}").strip() == WORKER_UNIT.stem
        time.sleep(WATCHDOG + 1)
        assert machine.facts()["NRestarts"] == "0", machine.log()
        container.run("systemctl", "stop", WORKER_UNIT.stem)
        facts = machine.until(ActiveState="inactive")
        assert (facts["Result"], facts["ExecMainStatus"]) == ("success", "0")
