"""`python -m tests.cluster hour [--minutes 60] [--rate 20]`: whether memory and streams stay bounded while calls come and go.

A NATS server, a receiver and two workers, each a process, handle simulated calls at a low steady rate. All that has an age has a short one, so
that an hour shows many generations: sessions leave memory after two minutes, and events and marks leave the streams after four. The stream of
the events is so small that owners remove events up to their checkpoints, too. Every ten minutes a third worker joins for one minute.

What is sampled must not have grown from the middle third to the last third. The first third is there to come to that level.
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
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple

from telstate import Dispatcher, Event, Router, Session, Settings
from telstate.errors import JournalError
from telstate.events import Dialect
from telstate.journals.nats import Names, NatsConnection, StreamSettings, Worker, _showing, _streams, _views
from telstate.testing import Noise, WebhookSender, simulate
from tests.cluster.fleet import ROOT
from tests.nats_server import NatsServer
from tests.ports import free_ports

__all__ = ["Sampled", "grown", "run"]

NAMES = Names("hour", "tests")
PARTITIONS = 8
SETTINGS = Settings(
    retention=120.0,
    key_ttl=120.0,
    parked_ttl=120.0,
    silence_before_answer=60.0,
    silence_before_media=60.0,
    silence_in_call=180.0,
    end_grace=10.0,
    ring_deadline=5.0,
)
STREAMS = StreamSettings(PARTITIONS, 1, 4 << 20, timedelta(minutes=4))
VIEWS_FOR = timedelta(minutes=4)
SECRET = b64encode(b"simulated").decode()
SPEED = 10.0
"""Calls last so many times shorter than real ones."""
EVENTS_PER_CALL = 4.57
"""Webhooks that a simulated call has, on average."""
_SAMPLE_EVERY = 5.0
_THIRD_EVERY, _THIRD_FOR = 600.0, 60.0
GROWS_BY = {"MB": 0.05, "": 0.15}
"""The part by which the last third may be above the middle third. Counts depend on the calls that chance brings."""


class Sampled(NamedTuple):
    """One sample."""

    at: float
    """Seconds since the start."""
    values: dict[str, float]
    """Named; memory in MB has names that end in MB."""


# --- the worker -------------------------------------------------------------------------------------------------------


def router() -> Router:
    """Make handlers that use what a service uses: notes, and calls of other partitions."""
    made, other = Router(), ""

    @made.on_start()
    async def started(session: Session, calls: Dispatcher) -> None:
        nonlocal other
        other, before = session.session_id, other
        found = calls.session(before)
        if found is not None:
            calls.legs(before)
            if len(other) % 2 and not found.ended:
                await calls.annotate(found, next=other)

    @made.on(Event)
    async def handle(session: Session) -> None:
        await asyncio.sleep(0.001)

    @made.on_end()
    async def ended(session: Session, calls: Dispatcher) -> None:
        await calls.annotate(session, ended="yes")

    @made.on_retired()
    async def retired(session: Session) -> None:
        await asyncio.sleep(0.001)

    return made


async def work(folder: Path, url: str) -> None:
    """Work until SIGTERM; write down each second how much is remembered."""
    for module in (_streams, _views):
        vars(module)["VIEWS_FOR"] = VIEWS_FOR
    _showing._AGAIN_AFTER = VIEWS_FOR.total_seconds() / 2
    worker = Worker(router(), NatsConnection(url), names=NAMES, streams=STREAMS, ttl=10.0, settings=SETTINGS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shut_down)
    running = asyncio.ensure_future(worker.run())
    path = folder / f"{os.getpid()}.json"
    while not running.done():
        await asyncio.wait({running}, timeout=1.0)
        made = path.with_suffix(".tmp")
        made.write_text(json.dumps(_remembered(worker)))
        made.replace(path)
    running.result()


def _remembered(worker: Worker) -> dict[str, int]:
    """Count what all partitions of a worker remember."""
    session = worker._session
    calls = [] if session is None else [one.calls for one in session.partitions if one.calls is not None]
    total: dict[str, int] = {"partitions": len(calls), "views": 0 if session is None else len(session._views)}
    for one in calls:
        for name, count in one.sizes().items():
            total[name] = total.get(name, 0) + count
    return total


# --- the processes ----------------------------------------------------------------------------------------------------


class _Service:
    """The processes, and what is sampled of them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.nats = stack.enter_context(NatsServer(folder / "nats"))
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.workers = [self.join(), self.join()]
        more = ("--nats", self.nats.url, "--app", NAMES.app, "--environment", NAMES.environment, "--port", str(port))
        self.receiver = self._start("receiver", "-m", "telstate", "serve", *more)

    def join(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        return self._start("worker", "-m", "tests.cluster.hour", "--folder", str(self._folder), "--url", self.nats.url)

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            env = {**os.environ, "PYTHONPATH": self._path, "TELSTATE_WEBHOOK_SECRET": SECRET}
            process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=env, stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def pids(self) -> dict[str, int]:
        """The processes that run from the start to the end."""
        workers = {f"worker {number}": one.pid for number, one in enumerate(self.workers, 1)}
        return {"NATS": self.nats.pid, "receiver": self.receiver.pid, **workers}

    def cpu(self) -> float:
        """The seconds of CPU that they have used."""
        ticks = 0
        for pid in self.pids().values():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def sample(self, connection: NatsConnection) -> dict[str, float]:
        """Measure everything once."""
        found = {f"{name} MB": _resident(pid) for name, pid in self.pids().items()}
        store = sum(path.stat().st_blocks * 512 for path in (self._folder / "nats").rglob("*") if path.is_file())
        found["disk MB"] = store / 1e6
        for stream in NAMES.streams:
            state = (await connection.ask(f"STREAM.INFO.{stream}"))["state"]
            name = stream.rpartition("-")[2]
            found |= {f"{name}: messages": state["messages"], f"{name}: kB": state["bytes"] / 1000}
        remembered: dict[str, float] = {}
        for worker in self.workers:
            path = self._folder / f"{worker.pid}.json"
            for name, count in (json.loads(path.read_text()) if path.exists() else {}).items():
                remembered[f"remembered: {name}"] = remembered.get(f"remembered: {name}", 0) + count
        return found | remembered


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# --- the hour -----------------------------------------------------------------------------------------------------------


async def run(folder: Path, minutes: float, rate: float, third: bool = True) -> tuple[list[Sampled], dict[str, float]]:
    """Play calls for some minutes, at so many events a second; return what was sampled, and some facts."""
    samples: list[Sampled] = []
    seconds = minutes * 60
    with ExitStack() as stack:
        service = _Service(folder, stack)
        async with NatsConnection(service.nats.url) as connection:
            await _until_all_are_open(service, connection)
            begin, cpu = time.monotonic(), service.cpu()
            playing = asyncio.ensure_future(_play(service.url, seconds, rate))
            joining = asyncio.ensure_future(_join_now_and_then(service)) if third else None
            while not playing.done():
                await asyncio.wait({playing}, timeout=_SAMPLE_EVERY)
                at = time.monotonic() - begin
                samples.append(Sampled(at, await service.sample(connection)))
                if len(samples) % 60 == 0:
                    sys.stderr.write(f"{at / 60:.0f} min: {_line(samples[-1])}\n")
            if joining is not None:
                joining.cancel()
            facts = {"events": playing.result(), "cpu": (service.cpu() - cpu) / (time.monotonic() - begin)}
    return samples, facts


async def _until_all_are_open(service: _Service, connection: NatsConnection) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            if (await service.sample(connection)).get("remembered: partitions") == PARTITIONS:
                return
        except JournalError:  # no worker has declared the streams yet
            pass
        assert time.monotonic() < give_up, "the workers do not start"
        await asyncio.sleep(0.5)


async def _play(url: str, seconds: float, rate: float) -> int:
    """Post the webhooks of simulated calls, signed; return how many."""
    calls, span, posted = int(seconds * rate / EVENTS_PER_CALL), seconds * SPEED, 0
    start, begin = time.time() - span, time.monotonic()
    noise = Noise.of_a_bad_day()
    async with WebhookSender(f"{url}/webhooks", SECRET) as webhooks, WebhookSender(f"{url}/pinless", SECRET) as pinless:
        for sent in simulate(calls=calls, rooms=200, start=start, span=span, dialects=[Dialect.WEBHOOK], noise=noise):
            due = begin + (sent.at - start) / SPEED
            if due > begin + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            assert await (webhooks if "type" in sent.payload else pinless).deliver(sent.payload)
            posted += 1
    return posted


async def _join_now_and_then(service: _Service) -> None:
    while True:
        await asyncio.sleep(_THIRD_EVERY - _THIRD_FOR)
        third = service.join()
        await asyncio.sleep(_THIRD_FOR)
        third.terminate()
        code = await asyncio.to_thread(third.wait, 60)
        assert code == 0, f"a worker ended with {code}"


# --- judging ----------------------------------------------------------------------------------------------------------


def thirds(samples: Sequence[Sampled], name: str) -> tuple[float, float, float]:
    """The medians of the thirds of the time."""
    end = samples[-1].at
    parts: list[list[float]] = [[], [], []]
    for sample in samples:
        parts[min(2, int(3 * sample.at / end))].append(sample.values.get(name, 0.0))
    first, middle, last = (median(part or [0.0]) for part in parts)
    return first, middle, last


def grown(samples: Sequence[Sampled]) -> list[str]:
    """Name what has grown from the middle third to the last third by more than it may."""
    found = []
    for name in samples[-1].values:
        _, middle, last = thirds(samples, name)
        allowed = GROWS_BY["MB" if name.endswith(" MB") else ""]
        if last > middle * (1 + allowed) + 1:
            found.append(f"{name}: {middle:.1f} in the middle third, {last:.1f} in the last third")
    return found


def table(samples: Sequence[Sampled]) -> str:
    """Write the medians of the thirds, and the greatest value."""
    lines = ["| | first third | middle third | last third | greatest |", "|---|---|---|---|---|"]
    for name in samples[-1].values:
        values = [*thirds(samples, name), max(sample.values.get(name, 0.0) for sample in samples)]
        lines.append(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in values) + " |")
    return "\n".join(lines) + "\n"


def _line(sample: Sampled) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in sample.values.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the hour, or be a worker of it; return 1 if something has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster hour", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="events per second")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.url:
        asyncio.run(work(options.folder, options.url))
        return 0
    with tempfile.TemporaryDirectory(prefix="telstate-hour-") as scratch:
        samples, facts = asyncio.run(run(options.folder or Path(scratch), options.minutes, options.rate))
    found = grown(samples)
    sys.stdout.write(table(samples))
    sys.stdout.write(f"{facts['events']:.0f} events; all processes together used {facts['cpu']:.0%} of a core\n")
    sys.stdout.write("".join(f"GROWN {one}\n" for one in found) or "nothing has grown\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
