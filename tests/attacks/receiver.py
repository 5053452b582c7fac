"""`python -m tests.attacks`: one attack on `telstate serve` after another, while somebody with the secret sends; prints JSON objects.

The service, the strangers and the sender are three processes. The sender posts one event after another: a hundred on a connection that
it keeps, and as many each on a new one. An attempt that is not answered with 200 is repeated after 0.2 s, as Daily repeats it after
longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from telstate.journals._sqlite import lines
from telstate.testing import WebhookSender
from tests.attacks.strangers import VIEW_TOKEN
from tests.cli.running import command, environment

__all__ = ["Report", "receive_under_attack"]

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_ATTEMPTS = 5
_TIMEOUT = 30.0
"""Seconds that the sender waits for an answer; on a machine that others use, the service may get an eighth of a core."""


class Report(NamedTuple):
    """What came of an attack."""

    attack: str
    sent: int
    acknowledged: int
    lost: int
    """Acknowledged, and not in the journal."""
    retries: int
    kept_ms: float
    """From the first attempt to the answer 200 on a connection that is kept: the median."""
    kept_max_ms: float
    new_ms: float
    """The same on a new connection for each event."""
    new_max_ms: float
    health_ms: float
    """Of a request for `/health`, at the end."""
    open_files: int
    """Of the service: the most that was seen."""
    peak_mb: float
    """VmHWM of the service."""
    grown_mb: float
    """Of it, since the attack began."""
    log_bytes: int
    """That requests caused. A machine that others use blocks the loop, which is in the log too."""


@contextmanager
def _service(folder: Path, files: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `telstate serve` with a limit of open files; its log goes to a file, because a full pipe would block it."""
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            ["sh", "-c", 'ulimit -n "$0"; exec "$@"', str(files), *command("serve", "--port", "0")],
            cwd=folder,
            env=environment({"TELSTATE_WEBHOOK_SECRET": SECRET, "TELSTATE_VIEW_TOKEN": VIEW_TOKEN}),
            stderr=stderr,
        )
    try:
        until = time.monotonic() + 60
        while "listening on" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the service did not start: {log.read_text()}")
            time.sleep(0.02)
        yield process, int(log.read_text().split("listening on ")[1].split(",")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


@contextmanager
def _strangers(attack: str, port: int, connections: int, addresses: int, pause: float) -> Iterator[None]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.attacks.strangers", attack, str(port)),
            *("--connections", str(connections), "--addresses", str(addresses), "--pause", str(pause)),
        ],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert process.poll() is None, "the attack ended by itself"
    finally:
        process.kill()
        process.wait()


def _memory(process: subprocess.Popen[bytes], what: str) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def _written_because_of_requests(log: bytes) -> int:
    """How many bytes of a log are not about a loop that had no processor, each with its stack."""
    of_loops, written = False, 0
    for line in log.splitlines(keepends=True):
        of_loops = b" loop." in line or (of_loops and line.startswith(b"  "))
        written += 0 if of_loops else len(line)
    return written


def _event(number: int) -> dict[str, Any]:
    return {
        "version": "1.0.0",
        "type": "dialout.answered",
        "id": f"attacked-{number}",
        "payload": {"session_id": f"s-{number}", "room": "lobby", "timestamp": str(int(time.time()))},
        "event_ts": time.time(),
    }


class _Deliveries:
    """What the sender with the secret saw."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.sent = 0
        self.acknowledged: set[str] = set()
        self.kept: list[float] = []
        self.new: list[float] = []
        self.retries = 0

    async def deliver(self, sender: WebhookSender, times: list[float]) -> None:
        """Deliver one event, with retries."""
        payload = _event(self.sent)
        self.sent += 1
        started = time.perf_counter()
        for _ in range(_ATTEMPTS):
            with suppress(httpx.HTTPError):
                if (await sender.post(payload)).status_code == 200:
                    self.acknowledged.add(payload["id"])
                    times.append(time.perf_counter() - started)
                    return
            self.retries += 1
            await asyncio.sleep(0.2)

    async def run(self, seconds: float) -> None:
        """Deliver on a kept connection and on new ones."""
        until = time.monotonic() + seconds
        async with WebhookSender(self._url, SECRET, timeout=_TIMEOUT) as kept:
            while time.monotonic() < until:
                await self.deliver(kept, self.kept)
                async with WebhookSender(self._url, SECRET, timeout=_TIMEOUT) as new:
                    await self.deliver(new, self.new)
                await asyncio.sleep(0.02)


def _ms(times: list[float], of: Callable[[list[float]], float]) -> float:
    return round(1000 * of(times), 1) if times else float("inf")


def receive_under_attack(
    attack: str, *, seconds: float, connections: int, addresses: int = 1, files: int = 20_000, pause: float = 1.0
) -> Report:
    """Run a service, attack it, deliver, and report.

    Args:
        attack: its name, or `all` of them at once.
        seconds: for which the sender delivers.
        connections: how many the strangers keep open.
        addresses: from how many addresses they come.
        files: how many files the service may open.
        pause: seconds after which a stranger whose connection was closed opens another one.
    """
    with tempfile.TemporaryDirectory(prefix="telstate-attack-") as name, _service(Path(name), files) as (service, port):
        folder = Path(name)
        before, most = _memory(service, "VmHWM"), 0
        deliveries = _Deliveries(f"http://127.0.0.1:{port}/webhooks")
        with _strangers(attack, port, connections, addresses, pause):
            time.sleep(1.0)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                asyncio.run(deliveries.run(min(1.0, until - time.monotonic())))
                most = max(most, len(os.listdir(f"/proc/{service.pid}/fd")))
            started = time.perf_counter()
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=_TIMEOUT, trust_env=False).status_code == 200
            health = time.perf_counter() - started
        peak = _memory(service, "VmHWM")
        log_bytes = _written_because_of_requests((folder / "log").read_bytes())
        service.send_signal(signal.SIGTERM)
        service.wait(30)
        kept = {
            json.loads(line)["payload"].get("id") for line in lines(str(folder / "calls.db")) if b"attacked-" in line
        }
    return Report(
        attack=attack if addresses == 1 else f"{attack} from {addresses} addresses",
        sent=deliveries.sent,
        acknowledged=len(deliveries.acknowledged),
        lost=len(deliveries.acknowledged - kept),
        retries=deliveries.retries,
        kept_ms=_ms(deliveries.kept, statistics.median),
        kept_max_ms=_ms(deliveries.kept, max),
        new_ms=_ms(deliveries.new, statistics.median),
        new_max_ms=_ms(deliveries.new, max),
        health_ms=round(1000 * health, 1),
        open_files=most,
        peak_mb=round(peak, 1),
        grown_mb=round(peak - before, 1),
        log_bytes=log_bytes,
    )
