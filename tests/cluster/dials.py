"""A storm of dials: workers that dial for intents are killed, frozen and replaced, and a fake Daily knows every call that was started."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from telstate.journals.nats import NatsConnection, Publisher
from telstate.routing._ports import Entry
from telstate.sources import serve_webhooks
from telstate.testing import FakeDaily
from telstate.testing import faults as network_faults
from tests.cluster.check import Report
from tests.cluster.dialing import ROOMS
from tests.cluster.fleet import fleet_of_storm
from tests.cluster.publishing import publish_until_stored
from tests.cluster.torment import Torment
from tests.cluster.worker import NAMES
from tests.control.dial_plans import Plan, broken_promises, plan_of
from tests.crash.child import lines_of
from tests.nats_server import NatsCluster, NatsServer

__all__ = ["OF_WORKERS", "storm_of_dials"]

OF_WORKERS = ("kill", "freeze", "term", "join")
SECRET = "c2VjcmV0"
_DRAIN_WITHIN = 90.0


def storm_of_dials(
    folder: Path,
    seed: int,
    server: NatsServer | NatsCluster,
    *,
    ttl: float = 2.0,
    partitions: int = 6,
    workers: int = 3,
    intents: int = 40,
    seconds: float = 15.0,
    faults: tuple[str, ...] = OF_WORKERS,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Let it rage, heal everything, ask once more for each intent, and compare what was said with what the fake Daily saw.

    With an odd seed presence tells nothing.
    """
    plans = [plan_of(seed, number, ROOMS) for number in range(intents)]
    listening = socket.create_server(("127.0.0.1", 0))
    webhook = f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks"
    with FakeDaily(webhook, SECRET, pauses=[0.1, 0.3, 1, 2, 2, 2, 2, 2]) as daily:
        storm = _Storm(folder, seed, plans, daily, server.url)
        for room in ROOMS:
            daily.host(room, max_sip_pstn_sessions_per_room=1000)
        for plan in plans:
            daily.lines.update(plan.lines)
        if seed % 2:
            daily.rules["/rooms/*/presence"] = network_faults.instead(500)
        more = ("--daily", daily.url, "--seed", str(seed))
        fleet = fleet_of_storm(folder, server, ttl, partitions, *more, module="tests.cluster.dialing")
        with fleet.running(workers, partitions, within=90.0):
            torment = Torment(Random(seed), fleet, server, ttl, workers, progress)
            asyncio.run(storm.run(listening, seconds, lambda: torment.rage(time.monotonic() + seconds, faults)))
        storm.check()
    storm.report.facts["faults"] = dict(Counter(fault.kind for fault in fleet.faults))
    return storm.report


class _Storm:
    """What is asked for, and what came of it."""

    def __init__(self, folder: Path, seed: int, plans: list[Plan], daily: FakeDaily, url: str) -> None:
        self._folder, self._plans, self._daily, self._url = folder, plans, daily, url
        self._random = Random(seed)
        self.report = Report(seed)
        self._asks: dict[str, str] = {}
        """The intent of each."""
        self._calm = 0.0

    async def run(self, listening: socket.socket, seconds: float, rage: Callable[[], None]) -> None:
        """Ask for all intents, some twice, while faults happen; then once more for each."""
        async with (
            NatsConnection(self._url, name="asks") as connection,
            Publisher(NatsConnection(self._url), NAMES) as publisher,
            serve_webhooks(publisher, secrets=[SECRET], listening=listening),
        ):
            torment = asyncio.create_task(asyncio.to_thread(rage))
            asks = [(number, which) for number in range(len(self._plans)) for which in ("a", "b")]

            async def ask_some_time(number: int, which: str) -> None:
                at = Random(f"{number}").random() * seconds * 0.7  # both at once, or with some time between
                await asyncio.sleep(at + (self._random.random() * 3 if which == "b" and number % 2 else 0))
                await self._ask(connection, number, which)

            await asyncio.gather(*(ask_some_time(*one) for one in asks), torment)
            await self._answered()
            self._calm = time.monotonic()
            for number in range(len(self._plans)):
                await self._ask(connection, number, "last")
            await self._answered()

    async def _ask(self, connection: NatsConnection, number: int, which: str) -> None:
        room = f"asker{self._random.randrange(30)}"
        name = f"ask {number} {which}"
        self._asks[name] = self._plans[number].intent
        payload = json.dumps({"action": "dialin-connected", "sessionId": name}).encode()
        entry = Entry(time.time(), "daily-js", payload)
        await publish_until_stored(connection, room, entry)

    async def _answered(self) -> None:
        give_up = time.monotonic() + _DRAIN_WITHIN
        while missing := self._asks.keys() - {one["ask"] for one in self._said() if "outcome" in one}:
            if time.monotonic() > give_up:
                self.report.broken.append(f"{len(missing)} asks got no result, such as {sorted(missing)[:5]}")
                return
            await asyncio.sleep(0.5)

    def _said(self) -> list[dict[str, Any]]:
        lines = [line for path in self._folder.glob("said-*.jsonl") for line in lines_of(path)]
        return sorted(lines, key=lambda said: float(said["at"]))

    def check(self) -> None:
        """Compare what was said with what the fake Daily saw."""
        said = [one for one in self._said() if "outcome" in one]
        for promise, violations in broken_promises(self._daily, self._plans, said, self._calm).items():
            self.report.expect_none(promise, violations)
        numbers = {number for plan in self._plans for number in plan.lines}
        self.report.facts |= {
            "intents": len(self._plans),
            "starts": sum(leg.destination in numbers for leg in self._daily.sessions),
            "outcomes": dict(Counter({one["intent"]: one["outcome"] for one in said}.values())),
            "cut off": dict(Counter(one["raised"] for one in self._said() if "raised" in one)),
            "results": len(said),
        }
