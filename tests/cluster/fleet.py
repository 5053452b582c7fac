"""The worker processes of a storm, and what is done to them. Everything that happens is written down with its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.nats_server import NatsCluster, NatsServer

__all__ = ["OLDEST", "ROOT", "WORKER", "Fault", "Fleet", "Member", "fleet_of_storm"]

ROOT = Path(__file__).parents[2]
OLDEST = 6.0
"""Times to live by which an event may be old when it comes in a storm: longer than any fault. A real journal says two minutes."""
WORKER = "tests.cluster.worker"
"""The module that workers run."""


class Fault(NamedTuple):
    """Something that was done to a worker or a server."""

    kind: str
    pid: int
    """The worker's process; 0 for a server."""
    begin: float
    end: float


class Member:
    """A worker process."""

    def __init__(self, folder: Path, urls: str, *more: str, module: str) -> None:
        self._folder = folder
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / "log.jsonl").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(folder), urls, *more],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def wait_running(self) -> None:
        """Wait until it handles signals."""
        while not (self._folder / f"state-{self.pid}.json").exists():
            assert self.process.poll() is None, "it could not start"
            time.sleep(0.02)

    @property
    def state(self) -> dict[str, Any]:
        """What it last said of itself."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self._folder / f"state-{self.pid}.json").read_text())
            return found
        return {"partitions": [], "not_ready": "it has not said anything yet"}


class Fleet:
    """Some worker processes.

    Args:
        folder: for their files.
        urls: of the servers.
        more: arguments of each.
        module: what they run.
    """

    def __init__(self, folder: Path, urls: str, *more: str, module: str = WORKER) -> None:
        self._folder, self._urls, self._more, self._module = folder, urls, more, module
        self.members: list[Member] = []
        self.faults: list[Fault] = []

    def join(self) -> Member:
        """Start one more."""
        member = Member(self._folder, self._urls, *self._more, module=self._module)
        self.members.append(member)
        return member

    def kill(self, member: Member) -> None:
        """End one with SIGKILL."""
        member.process.kill()
        member.process.wait()
        now = time.monotonic()
        self._note("kill", member.pid, now, now)
        self.members.remove(member)

    def terminate(self, member: Member) -> float:
        """End one with SIGTERM; return how long that took."""
        member.wait_running()
        begin = time.monotonic()
        member.process.terminate()
        code = member.process.wait(60)
        assert code == 0, f"a worker ended with {code}"
        self._note("term", member.pid, begin, time.monotonic())
        self.members.remove(member)
        return time.monotonic() - begin

    def freeze(self, member: Member, seconds: float) -> None:
        """Stop one for a while with SIGSTOP. Blocks."""
        begin = time.monotonic()
        member.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        member.process.send_signal(signal.SIGCONT)
        self._note("freeze", member.pid, begin, time.monotonic())

    def server_fault(self, kind: str, begin: float) -> None:
        """Write down what was done to a server from `begin` until now."""
        self._note(kind, 0, begin, time.monotonic())

    def _note(self, kind: str, pid: int, begin: float, end: float) -> None:
        self.faults.append(Fault(kind, pid, begin, end))

    def wait_shared(self, partitions: int, within: float = 30.0) -> None:
        """Wait until every partition is open in one of them."""
        give_up = time.monotonic() + within
        while sorted(number for member in self.members for number in member.state["partitions"]) != list(
            range(partitions)
        ):
            assert time.monotonic() < give_up, [member.state for member in self.members]
            time.sleep(0.02)

    @contextmanager
    def running(self, workers: int, partitions: int, within: float = 30.0) -> Iterator[None]:
        """Start so many, and wait until every partition is open in one. At the end of the block all end in order, and after an error at once."""
        try:
            for _ in range(workers):
                self.join()
            self.wait_shared(partitions, within)
            yield
            for member in list(self.members):
                self.terminate(member)
        finally:
            self.end()

    def end(self) -> None:
        """Leave none behind."""
        for member in self.members:
            member.process.kill()
            member.process.wait()


def fleet_of_storm(
    folder: Path, server: NatsServer | NatsCluster, ttl: float, partitions: int, *more: str, module: str = WORKER
) -> Fleet:
    """Make the workers of a storm.

    Args:
        folder: for their files.
        server: running.
        ttl, partitions: of the workers.
        more: other arguments of each.
        module: what they run.
    """
    storm = ("--ttl", ttl, "--in-transit", OLDEST * ttl, "--partitions", partitions, "--replicas", server.replicas)
    return Fleet(folder, server.url, *map(str, storm), *more, module=module)
