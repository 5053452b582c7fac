"""What is done to the workers and the servers of a storm, one thing after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from tests.cluster.fleet import Fault, Fleet, Member
from tests.nats_server import NatsCluster, NatsServer

__all__ = ["APART", "FAULTS", "Torment"]

FAULTS = ("kill", "freeze", "term", "join", "outage", "pause")
APART = 3.0
"""Times to live between two faults of a script."""


class Torment:
    """Random faults.

    Args:
        rng: decides what is done.
        fleet: the workers.
        server: running.
        ttl: of the workers' leases.
        workers: how many there should be. Those that end are replaced.
        progress: called with a word about each fault.
    """

    def __init__(  # noqa: PLR0917
        self,
        rng: Random,
        fleet: Fleet,
        server: NatsServer | NatsCluster,
        ttl: float,
        workers: int,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rng, self._fleet, self._server = rng, fleet, server
        self._ttl, self._workers, self._progress = ttl, workers, progress
        self._is_script = False

    def rage(self, until: float, faults: tuple[str, ...] = FAULTS) -> None:
        """Do one thing after another, each when the last is over, until a time of the monotonic clock."""
        while time.monotonic() < until:
            self._do(self._rng.choice(faults))
            time.sleep(self._rng.uniform(0.2, 1.0) * self._ttl)

    def follow(self, script: tuple[str, ...]) -> None:
        """Do what a script says, with time to recover after each. Nothing is replaced."""
        self._is_script = True
        for kind in script:
            time.sleep(APART / 2 * self._ttl)
            self._do(kind)
            time.sleep(APART / 2 * self._ttl)

    def _do(self, kind: str) -> None:
        self._progress(kind)
        getattr(self, f"_{kind}")()

    def _some(self) -> Member:
        return self._rng.choice(self._fleet.members)

    def _kill(self) -> None:
        self._fleet.kill(self._some())
        self._replace()

    def _term(self) -> None:
        self._fleet.terminate(self._some())
        self._replace()

    def _freeze(self) -> None:
        self._fleet.freeze(self._some(), (2.5 if self._is_script else self._rng.uniform(0.3, 2.5)) * self._ttl)

    def _join(self) -> None:
        begin = time.monotonic()
        if len(self._fleet.members) <= self._workers:
            member = self._fleet.join()
            if self._is_script:
                member.wait_running()
                self._fleet.faults.append(Fault("join", member.pid, begin, time.monotonic()))
        else:
            self._fleet.terminate(self._some())

    def _replace(self) -> None:
        if len(self._fleet.members) < self._workers and not self._is_script:
            self._fleet.join()

    def _server_of(self) -> NatsServer:
        return self._rng.choice(self._server.servers) if isinstance(self._server, NatsCluster) else self._server

    def _outage(self) -> None:
        """Kill a server, and start it again."""
        server, begin = self._server_of(), time.monotonic()
        server.kill()
        time.sleep(self._rng.uniform(0.1, 0.8) * self._ttl)
        server.start()
        self._fleet.server_fault("outage", begin)

    def _pause(self) -> None:
        """Freeze a server: connections stay, and nothing answers."""
        server, begin = self._server_of(), time.monotonic()
        server.pause()
        time.sleep(self._rng.uniform(0.3, 1.5) * self._ttl)
        server.resume()
        self._fleet.server_fault("pause", begin)
