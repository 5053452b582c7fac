"""`python -m tests.benchmarks.webhooks [--rounds N] [--seconds S] [--folder PATH] [--json]`: a durable webhook, and what it costs by hand.

The services run at the same time and are loaded in turns, so a machine that slows down slows all. Takes four minutes by default.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from telstate import Event, Router, Session
from tests.benchmarks.harness import about
from tests.benchmarks.targets import Figure, row
from tests.benchmarks.webhook_load import SECRET, Load

__all__ = [
    "BY_HAND",
    "CONNECTIONS",
    "PEERS",
    "TELSTATE",
    "Measured",
    "Round",
    "Rounds",
    "figures",
    "measure",
    "medians",
    "report",
    "router",
    "sync_us",
]

ROOT = Path(__file__).parents[2]
CONNECTIONS = (1, 16, 256)
_READY = re.compile(r"(?:listening|running) on http://127\.0\.0\.1:(\d+)", re.IGNORECASE)
_STARTS_WITHIN = 30.0

router = Router()
"""What telstate's service runs: the same as the one by hand."""
states: dict[str, str] = {}


@router.on(Event)
async def follow(session: Session | None) -> None:
    """Follow the state of the call."""
    if session is not None:
        states[session.session_id] = session.state


class Peer(NamedTuple):
    """A service."""

    name: str
    command: tuple[str, ...]
    """After the interpreter."""


TELSTATE = Peer(
    "telstate serve",
    ("-m", "telstate", "serve", "tests.benchmarks.webhooks:router", "--port", "0", "--journal", "calls.db"),
)
_UVICORN = ("-m", "uvicorn", "tests.benchmarks.by_hand:app", "--port", "0", "--no-access-log")
BY_HAND = Peer("by hand, uvicorn", (*_UVICORN, "--loop", "asyncio", "--http", "h11"))
BY_HAND_STANDARD = Peer("by hand, uvicorn[standard]", (*_UVICORN, "--loop", "uvloop", "--http", "httptools"))
"""With `pip install 'uvicorn[standard]'`, as `fastapi[standard]` brings it."""
PEERS = (TELSTATE, BY_HAND, *((BY_HAND_STANDARD,) if find_spec("uvloop") and find_spec("httptools") else ()))


class Round(NamedTuple):
    """What one round saw of a service."""

    load: Load
    cpu_us: float
    """Processor time of the service per request, in microseconds."""


class Measured(NamedTuple):
    """A service at a number of connections: medians of all rounds."""

    peer: str
    connections: int
    rate: float
    """Requests per second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Processor time of the service per request, in microseconds."""
    sender_busy: float
    """The part of a core that the sender took."""


Rounds = dict[tuple[str, int], list[Round]]
"""By the name of a service and the number of connections."""


class _Service:
    """A process that serves.

    Args:
        process: the process.
        port: where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._stat = Path(f"/proc/{process.pid}/stat")

    def cpu(self) -> float:
        """Seconds of processor time until now."""
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(peer: Peer, folder: Path) -> Iterator[_Service]:
    log = folder / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TELSTATE_WEBHOOK_SECRET": SECRET,
        "SECRET": SECRET,
        "JOURNAL": str(folder / "by_hand.db"),
    }
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, *peer.command], cwd=folder, env=environment, stderr=stderr)
    try:
        until = time.monotonic() + _STARTS_WITHIN
        while (found := _READY.search(log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{peer.name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield _Service(process, int(found[1]))
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _load(service: _Service, connections: int, seconds: float) -> Round:
    """Load a service from a process of its own. Each number of connections has calls of its own."""
    how = ("--connections", str(connections), "--seconds", str(seconds), "--seed", str(connections))
    before = service.cpu()
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.webhook_load", str(service.port), *how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60 + 3 * seconds,
    )
    if run.returncode:
        raise RuntimeError(f"the sender failed: {run.stderr.decode()[-2000:]}")
    load = Load(**json.loads(run.stdout))
    return Round(load, (service.cpu() - before) / load.sent * 1e6)


def measure(
    rounds: int, seconds: float, folder: Path, connections: Sequence[int] = CONNECTIONS, peers: Sequence[Peer] = PEERS
) -> Rounds:
    """Load the services in turns. Each round begins with new services and empty databases, in `folder`."""
    seen: Rounds = {}
    for number in range(rounds):
        with ExitStack() as stack:
            running = []
            for peer in peers:
                own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telstate-webhooks-", dir=folder)))
                running.append((peer, stack.enter_context(_serving(peer, own))))
            for level in connections:
                for peer, service in running if number % 2 == 0 else reversed(running):
                    seen.setdefault((peer.name, level), []).append(_load(service, level, seconds))
    return seen


def medians(seen: Rounds) -> list[Measured]:
    """The medians of all rounds, by the number of connections."""
    return [_median(*key, several) for key, several in sorted(seen.items(), key=lambda item: item[0][1])]


def _median(name: str, connections: int, several: Sequence[Round]) -> Measured:
    def of(what: Callable[[Round], float]) -> float:
        return statistics.median(what(one) for one in several)

    return Measured(
        name,
        connections,
        rate=of(lambda one: one.load.rate),
        p50_ms=of(lambda one: one.load.p50_ms),
        p99_ms=of(lambda one: one.load.p99_ms),
        cpu_us=of(lambda one: one.cpu_us),
        sender_busy=of(lambda one: one.load.busy),
    )


def figures(seen: Rounds) -> list[Figure]:
    """The targets: medians of ratios to each service by hand in the same rounds."""
    found = [figure for name, level in seen if name != TELSTATE.name for figure in _against(seen, name, level)]
    if (TELSTATE.name, 1) in seen:
        p50 = statistics.median(one.load.p50_ms for one in seen[TELSTATE.name, 1])
        found.append(Figure("p50 at 1 connection", p50, "ms", 1.0))
    return found


def _against(seen: Rounds, name: str, level: int) -> Iterator[Figure]:
    def ratio(of: Callable[[Round], float]) -> float:
        pairs = zip(seen[TELSTATE.name, level], seen[name, level], strict=True)
        return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)

    which = f"at {level}, against {name}"
    yield Figure(f"time a webhook {which}", ratio(lambda one: 1 / one.load.rate), "x", 1.0 if level == 1 else 1 / 1.5)
    yield Figure(f"processor time {which}", ratio(lambda one: one.cpu_us), "x")
    if level == max(CONNECTIONS):
        yield Figure(f"p99 {which}", ratio(lambda one: one.load.p99_ms), "x", 1.0)


def report(measured: Sequence[Measured], found: Sequence[Figure]) -> str:
    """The measurements as text."""
    return "\n".join(
        [
            f"{'':<28}{'connections':>12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}{'sender':>9}",
            *(
                f"{one.peer:<28}{one.connections:>12}{one.rate:>12.0f}{one.p50_ms:>9.2f}{one.p99_ms:>9.2f}"
                f"{one.cpu_us:>9.0f}{one.sender_busy:>9.0%}"
                for one in measured
            ),
            "",
            *(row(figure) for figure in found),
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.webhooks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for which each service is loaded in each round")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="for the databases: on the disk"
    )
    parser.add_argument("--connections", type=int, nargs="*", default=list(CONNECTIONS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    seen = measure(options.rounds, options.seconds, options.folder, options.connections)
    measured, found = medians(seen), figures(seen)
    whole: dict[str, Any] = {
        **about(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "sync_us": sync_us(options.folder),
        "services": [one._asdict() for one in measured],
        "figures": [{**figure._asdict(), "met": figure.met} for figure in found],
    }
    head = (
        "{date}, Python {python}, {machine}; {rounds} rounds of {seconds} s; the disk syncs in {sync_us:.0f} µs".format(
            **whole
        )
    )
    sys.stdout.write(json.dumps(whole) if options.json else f"{head}\n\n{report(measured, found)}")
    sys.stdout.write("\n")


def sync_us(folder: Path) -> float:
    """Microseconds in which the disk syncs what was written: the median of some."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(100):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    main()
