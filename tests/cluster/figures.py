"""How many events per second workers handle: `python -m tests.cluster.figures [--events 20000] [--workers 1,2,3] [--ms 0,10,100]`.

The workers share the partitions and are stopped; a backlog is published; they go on, and the time to the end of the last handler counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telstate import Event, Router, Session, parse
from telstate.journals.nats import Names, NatsConnection, StreamSettings, Worker
from telstate.journals.nats._connection import Message
from telstate.journals.nats._names import room_token
from telstate.journals.nats._records import message_of
from telstate.routing._ports import Entry
from tests.cluster.fleet import ROOT
from tests.nats_server import NatsServer

NAMES = Names("figures", "tests")
PARTITIONS = 64
EVENTS_PER_SESSION = 5
_TTL = 120.0


async def work(folder: Path, url: str, seconds: float) -> None:
    """Work until SIGTERM; write down how many handlers have ended, and when the last did."""
    router, ended, last = Router(), 0, 0.0

    @router.on(Event)
    async def handle(session: Session) -> None:
        nonlocal ended, last
        if seconds:
            await asyncio.sleep(seconds)
        ended, last = ended + 1, time.monotonic()

    streams = StreamSettings(partitions=PARTITIONS)
    worker = Worker(router, NatsConnection(url), names=NAMES, streams=streams, ttl=_TTL)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shut_down)
    running = asyncio.ensure_future(worker.run())
    while not running.done():
        await asyncio.wait({running}, timeout=0.2)
        made = folder / f"{os.getpid()}.tmp"
        opened = sum(one.is_open for one in worker.partitions())
        made.write_text(json.dumps({"ended": ended, "last": last, "open": opened}))
        made.replace(folder / f"{os.getpid()}.json")


def told(folder: Path, workers: list[subprocess.Popen[bytes]], field: str) -> list[float]:
    """What each worker last said."""
    paths = [folder / f"{worker.pid}.json" for worker in workers]
    return [json.loads(path.read_text())[field] if path.exists() else 0 for path in paths]


async def publish(url: str, events: int) -> None:
    """Publish a backlog: some events of each session."""
    payload = {"action": "dialin-warning", "errorMsg": "noise"}
    messages: list[Message] = []
    for number in range(events):
        session = f"s{number % (events // EVENTS_PER_SESSION)}"
        payload["sessionId"] = session
        if number < events // EVENTS_PER_SESSION:
            event = parse({"action": "dialin-connected", "sessionId": session})
        else:
            event = parse(payload)
        entry = Entry(time.time(), "daily-js", event.to_json(), event)
        messages.append(message_of(NAMES.received(room_token(session)), entry, f"{number}-{time.time()}", "figures"))
    async with NatsConnection(url) as connection:
        for first in range(0, len(messages), 1000):
            await connection.publish_batch(messages[first : first + 1000])


@contextmanager
def working(folder: Path, url: str, count: int, seconds: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Some workers that share all partitions."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        sys.executable,
        "-m",
        "tests.cluster.figures",
        "--folder",
        str(folder),
        "--url",
        url,
        "--ms",
        str(seconds * 1000),
    ]
    workers = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        while True:
            opened = told(folder, workers, "open")
            if sum(opened) == PARTITIONS and max(opened) - min(opened) <= 1:
                break
            time.sleep(0.1)
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def cpu_of(workers: list[subprocess.Popen[bytes]]) -> float:
    """The seconds of CPU that workers have used."""
    ticks = 0
    for worker in workers:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(events: int, count: int, seconds: float) -> tuple[float, float]:
    """Return events per second, and the seconds of the workers' CPU for each."""
    with tempfile.TemporaryDirectory(prefix="telstate-figures-") as scratch:
        folder = Path(scratch)
        with NatsServer(folder / "nats") as server, working(folder, server.url, count, seconds) as workers:
            for worker in workers:
                worker.send_signal(signal.SIGSTOP)
            asyncio.run(publish(server.url, events))
            begin, cpu = time.monotonic(), cpu_of(workers)
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
            while sum(told(folder, workers, "ended")) < events:
                time.sleep(0.1)
            return events / (max(told(folder, workers, "last")) - begin), (cpu_of(workers) - cpu) / events


def main() -> None:
    """Measure, or be a worker."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.figures", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--workers", default="1,2,3")
    parser.add_argument("--ms", default="0,10,100")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        asyncio.run(work(options.folder, options.url, float(options.ms) / 1000))
        return
    for count in map(int, options.workers.split(",")):
        for milliseconds in map(float, options.ms.split(",")):
            rate, cpu = measure(options.events, count, milliseconds / 1000)
            load = f"{cpu * 1e6:.0f} µs of CPU each (load {os.getloadavg()[0]:.1f})"
            line = f"{count} workers, handlers of {milliseconds:g} ms: {rate:,.0f} events/s, {load}\n"
            sys.stdout.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
