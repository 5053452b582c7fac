"""A storm: worker processes, a publisher, and random faults; then everything is healed, drained and compared."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from telstate import parse
from telstate.journals.nats import NatsConnection, find
from telstate.routing._ports import Entry
from tests.cluster.check import Report, check, fold_of, runs_in
from tests.cluster.fleet import OLDEST, fleet_of_storm
from tests.cluster.publishing import publish_until_stored
from tests.cluster.torment import APART, FAULTS, Torment
from tests.cluster.worker import NAMES, SETTINGS
from tests.nats_server import NatsCluster, NatsServer

__all__ = ["Storm", "calls_of"]

_TWICE = 0.1
_RINGS_LONG = 0.3
_DRAIN_WITHIN = 90.0
_PUBLISHERS = 8


def calls_of(rng: Random, name: str) -> Iterator[dict[str, Any]]:
    """Yield the events of one call: mostly in order, some twice, some late."""
    out = rng.random() < 0.5
    kind = "dialout" if out else "dialin"
    actions = [f"{kind}-connected", *([f"{kind}-answered"] if out and rng.random() < 0.8 else [])]
    actions += [f"{kind}-warning"] * rng.randrange(4) + [f"{kind}-stopped" if rng.random() < 0.9 else f"{kind}-error"]
    if rng.random() < 0.1:
        rng.shuffle(actions)
    for number, action in enumerate(actions):
        yield {"action": action, "sessionId": name, **({"errorMsg": f"n{number}"} if "warning" in action else {})}


class Storm:
    """One storm.

    Args:
        folder: an empty one.
        seed: decides what is sent and which faults there are; not how far everything is then.
        server: running.
        ttl, partitions, workers, sessions, seconds: of the workers, and how long it lasts.
        faults: the kinds of faults, of which some are chosen at random.
        retires: wait until all sessions have left memory, which takes some times to live.
        script: in place of that, one fault after another, each with time to recover. Nothing is replaced, and `gaps` says what each cost.
        progress: called with a word about each fault.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        server: NatsServer | NatsCluster,
        *,
        ttl: float = 3.0,
        partitions: int = 16,
        workers: int = 3,
        sessions: int = 300,
        seconds: float = 20.0,
        faults: tuple[str, ...] = FAULTS,
        retires: bool = True,
        script: tuple[str, ...] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder, self._rng, self._server = folder, Random(seed), server
        self._ttl, self._partitions, self._workers = ttl, partitions, workers
        self._sessions, self._seconds, self._faults = sessions, seconds, faults
        self._script, self._retires = script, retires
        self._progress = progress
        if script:
            self._seconds = (len(script) + 1) * APART * ttl
        self.fleet = fleet_of_storm(folder, server, ttl, partitions)
        self.sent: Counter[bytes] = Counter()
        """What was acknowledged, by payload."""
        self.published: dict[int, float] = {}
        """By number, when it was first sent."""
        self.report = Report(seed)

    def run(self) -> Report:
        """Let it rage, heal everything, and compare."""
        with self.fleet.running(self._workers, self._partitions):
            asyncio.run(self._rage())
            self._drain()
        asyncio.run(check(self._server.url, self._folder, self.sent, self.fleet.faults, self.report))
        self.report.facts["worst start"] = round(self.worst_start(), 2)
        self.report.facts["gaps"] = self.gaps()
        return self.report

    # --- publishing -----------------------------------------------------------------------------------------------

    async def _rage(self) -> None:
        async with NatsConnection(self._server.url, name="publisher") as connection:
            await self._publish_all(connection)

    async def _publish_all(self, connection: NatsConnection) -> None:
        calls = [self._call(number) for number in range(self._sessions)]
        begin = time.monotonic()
        torment = Torment(self._rng, self.fleet, self._server, self._ttl, self._workers, self._progress)
        work = (torment.follow, self._script) if self._script else (torment.rage, begin + self._seconds, self._faults)
        faults = asyncio.create_task(asyncio.to_thread(*work))
        limit = asyncio.Semaphore(_PUBLISHERS * 8)

        async def publish(number: int) -> None:
            await asyncio.sleep(self._rng.random() * self._seconds * 0.9)
            async with limit:
                await self._publish(connection, *calls[number])

        await asyncio.gather(*(publish(number) for number in range(self._sessions)), faults)

    def _call(self, number: int) -> tuple[str, list[dict[str, Any]]]:
        rng = Random(f"{self.report.seed} {number}")
        return f"room{rng.randrange(self._partitions * 4)}", list(calls_of(rng, f"s{number}"))

    async def _publish(self, connection: NatsConnection, room: str, payloads: list[dict[str, Any]]) -> None:
        """Publish the events of a call, one in ten twice: half of those as a retry of ours, half as a repetition of Daily's."""
        for payload in payloads:
            data = json.dumps(payload).encode()
            message_id = uuid4().hex
            sent = time.monotonic()
            entry = Entry(time.time(), "daily-js", data, parse(payload))
            seq = await publish_until_stored(connection, room, entry, message_id)
            self.sent[data] += 1
            self.published[seq] = sent
            if self._rng.random() < _TWICE:
                again = self._rng.random() < 0.5
                stored = await publish_until_stored(connection, room, entry, message_id if again else None)
                if again and stored != seq:
                    self.report.broken.append(f"a publish that was tried again was stored twice: {seq} and {stored}")
                self.sent[data] += not again
                self.published.setdefault(stored, sent)
            rings = payload["action"] == "dialout-connected" and self._rng.random() < _RINGS_LONG
            await asyncio.sleep(
                2 * SETTINGS.ring_deadline if rings and SETTINGS.ring_deadline else self._rng.random() * 0.5
            )

    def _drain(self) -> None:
        """Wait until everything that is due has finished, and for the retirements."""
        give_up = time.monotonic() + _DRAIN_WITHIN
        while missing := asyncio.run(self._missing()):
            if time.monotonic() > give_up:
                self.report.broken.append(f"{len(missing)} handlers never ran, such as {sorted(missing)[:3]}")
                break
            time.sleep(1.0)
        if self._retires:
            time.sleep(SETTINGS.retention + OLDEST * self._ttl + 1.0)

    async def _missing(self) -> set[tuple[int, str]]:
        async with NatsConnection(self._server.url) as connection:
            fold = await fold_of(connection, await find(connection, NAMES))
        return fold.due - {run.work for run in runs_in(self._folder) if run.end is not None}

    # --- how long it took -----------------------------------------------------------------------------------------

    def gaps(self) -> list[tuple[str, float]]:
        """What each fault of a script cost: the worst start of the events that were published around it."""
        if not self._script:
            return []
        margin = APART / 2 * self._ttl
        return [
            (fault.kind, round(self.worst_start(fault.begin - margin, fault.end + margin), 2))
            for fault in self.fleet.faults
        ]

    def worst_start(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """The longest time from an event's first publish to the start of its first handler, of those published in a time."""
        started: dict[int, float] = {}
        for run in runs_in(self._folder):
            started.setdefault(run.work[0], run.start)
        waits = [started[seq] - at for seq, at in self.published.items() if seq in started and begin <= at <= end]
        return max(waits, default=0.0)
