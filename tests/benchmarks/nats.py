"""What a partition of a NATS stream costs: events per second of one dispatcher, its CPU beside one with SQLite, and the latency.

`python -m tests.benchmarks.nats [--events N]` prints a JSON object. Publishers are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from telstate import Dispatcher, Event, OutcomeKind, Router
from telstate.journals import SqliteJournal
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Streams, StreamSettings, declare
from telstate.journals.nats._records import message_of
from telstate.routing._ports import Entry
from tests.benchmarks.harness import lines_of
from tests.nats_server import NatsServer

__all__ = ["measure"]

_WINDOW = 500
"""Publishes under way at a time, where a publisher does not wait."""
_RATE = 200
_TICK = os.sysconf("SC_CLK_TCK")


def measure(events: int) -> dict[str, Any]:
    """Measure all in one run."""
    with TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as server:
        measured: dict[str, Any] = {"events": events}
        for name, part in (("sqlite", _sqlite), ("nats_backlog", _backlog), ("nats_live", _live)):
            gc.collect()
            measured[name] = asyncio.run(part(events, server, Path(folder)))
        measured["nats_latency_ms"] = asyncio.run(_latency(min(events, 2_000), server))
        ratio = measured["nats_live"]["cpu_us"] / measured["sqlite"]["cpu_us"]
        return {**measured, "cpu_beside_sqlite": round(ratio, 2)}


class _Meter:
    """Counts the events that handlers ran for, and what that took."""

    def __init__(self, events: int, server: NatsServer | None = None) -> None:
        self.router = Router()
        self.late: list[float] = []
        self._events = events
        self._server = server
        self._seen = 0
        self._began = self._cpu = self._server_cpu = 0.0
        self._all = asyncio.Event()

        @self.router.on(Event, outcomes=OutcomeKind)
        async def handle(event: Event) -> None:
            if (sent := (event.model_extra or {}).get("sent")) is not None:
                self.late.append(time.time() - sent)
            self._seen += 1
            if not self._began:
                self.start()
            if self._seen == self._events:
                self._all.set()

    def start(self) -> None:
        """Count from now on."""
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._server_cpu = _cpu_of(self._server)

    async def result(self) -> dict[str, float]:
        """Wait until all were seen, and say what it took."""
        await self._all.wait()
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        server = _cpu_of(self._server) - self._server_cpu
        found = {"events_per_second": round(self._events / seconds), "cpu_us": round(cpu / self._events * 1e6, 1)}
        return found if self._server is None else {**found, "server_cpu_us": round(server / self._events * 1e6, 1)}


def _cpu_of(server: NatsServer | None) -> float:
    if server is None:
        return 0.0
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def _sqlite(events: int, _: NatsServer, folder: Path) -> dict[str, float]:
    meter, lines = _Meter(events), lines_of(events)
    async with Dispatcher(meter.router, journal=SqliteJournal(folder / "calls.db", None)) as calls:
        meter.start()
        waiting = iter(lines)

        async def receive() -> None:
            for line in waiting:
                await calls.receive(line)

        await asyncio.gather(*(receive() for _ in range(_WINDOW)))
        return await meter.result()


async def _declare(connection: NatsConnection, environment: str) -> Streams:
    return await declare(connection, Names("bench", environment), StreamSettings(partitions=1, max_bytes=1 << 30))


async def _backlog(events: int, server: NatsServer, _: Path) -> dict[str, float]:
    """All events are there before the dispatcher starts."""
    meter = _Meter(events, server)
    async with NatsConnection(server.url) as connection:
        streams = await _declare(connection, "backlog")
        await asyncio.to_thread(_publisher(server, "backlog", events, 0).wait)
        meter.start()
        async with Dispatcher(
            meter.router, journal=NatsJournal(connection, streams, 0), pending_limit=10**6, lane_limit=10**6
        ):
            return await meter.result()


async def _live(events: int, server: NatsServer, _: Path) -> dict[str, float]:
    """A publisher sends as fast as it can, and the dispatcher follows."""
    meter = _Meter(events, server)
    async with NatsConnection(server.url) as connection:
        streams = await _declare(connection, "live")
        async with Dispatcher(meter.router, journal=NatsJournal(connection, streams, 0)):
            publisher = _publisher(server, "live", events, 0)
            result = await meter.result()
        await asyncio.to_thread(publisher.wait)
        return result


async def _latency(events: int, server: NatsServer) -> dict[str, float]:
    """From before the publish to the start of the handler, at a few hundred events per second."""
    meter = _Meter(events, server)
    async with NatsConnection(server.url) as connection:
        streams = await _declare(connection, "latency")
        async with Dispatcher(meter.router, journal=NatsJournal(connection, streams, 0)):
            publisher = _publisher(server, "latency", events, _RATE)
            await meter.result()
        await asyncio.to_thread(publisher.wait)
    cuts = statistics.quantiles(meter.late, n=100)
    return {"p50": round(cuts[49] * 1e3, 2), "p99": round(cuts[98] * 1e3, 2)}


def _publisher(server: NatsServer, environment: str, events: int, rate: int) -> subprocess.Popen[bytes]:
    arguments = ["--publish", server.url, environment, str(events), str(rate)]
    return subprocess.Popen([sys.executable, "-m", "tests.benchmarks.nats", *arguments])


async def _publish(url: str, environment: str, events: int, rate: int) -> None:
    """Publish a simulated log as receivers do: many at a time, or at a rate."""
    async with NatsConnection(url) as connection:
        names = Names("bench", environment)
        numbered = iter(enumerate(lines_of(events)))

        async def send(number: int, line: bytes) -> None:
            if rate:
                line = b'%s,"sent":%f}' % (line.rstrip()[:-1], time.time())
            entry = Entry(time.time(), "daily-js", line)
            await connection.publish(*message_of(names.received("room"), entry, f"{environment}-{number}", "bench"))

        async def work() -> None:
            for number, line in numbered:
                await send(number, line)
                if rate:
                    await asyncio.sleep(1 / rate)

        await asyncio.gather(*(work() for _ in range(1 if rate else _WINDOW)))


def main() -> None:
    """Measure and print; or publish, for a process that measures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nats", description=__doc__)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--publish", nargs=4, metavar=("URL", "ENVIRONMENT", "EVENTS", "RATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        url, environment, events, rate = options.publish
        asyncio.run(_publish(url, environment, int(events), int(rate)))
        return
    sys.stdout.write(json.dumps(measure(options.events)) + "\n")


if __name__ == "__main__":
    main()
