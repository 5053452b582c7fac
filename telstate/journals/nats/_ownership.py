"""Who owns which partition: a key for each, which changes hands by a write that expects the revision that was seen.

Every worker computes its own share from what all keys say; nobody leads. A worker takes what is free up to its share, and gives
partitions back only while another has less than everybody should have: each hand-over stops some sessions' handlers for a moment.

That moment is short because a few partitions are handed over at a time, also by a worker that ends: the others go on meanwhile. All at
once would take no longer in all, but each of them would stand still for all of that time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple
from zlib import crc32

from telstate.errors import JournalError, RevisionConflict
from telstate.journals.nats._connection import NatsConnection, Stored
from telstate.journals.nats._errors import NatsUnavailable
from telstate.journals.nats._lease import LEAVING, SHARING, Lease
from telstate.journals.nats._names import Names
from telstate.journals.nats._tail import Tail
from telstate.routing._log import Log, text_of

__all__ = ["Ownership", "Shares"]

_TAKE_AT_ONCE = 16
_GIVE_AT_ONCE = 8
_SLOW = 0.2
"""Seconds after which a partition that is handed over counts no more: it waits for its handlers, and the next need not."""
_LOOKS = 8
"""Looks in one time to live."""
_REMEMBER_DEAD = 3600.0
_GATHER = 10
"""The part of the time to live for which a new worker waits for others that start with it."""


class _Worker(NamedTuple):
    """A worker that lives, as far as its key says."""

    revision: int
    ttl: float
    state: str
    since: float
    """When this revision was seen first."""


class _Owner(NamedTuple):
    """Who owns a partition."""

    worker: str
    revision: int


class Shares(NamedTuple):
    """What a worker should take and give back."""

    take: list[int]
    give: list[int]


class Ownership:
    """The partitions of one worker, for as long as its lease lasts.

    Args:
        connection: open.
        names: say where the keys are.
        partitions: how many there are.
        lease: this worker's, which has begun.
        taken: called with a partition that is this worker's from now on.
        surplus: called with a partition that another worker should have. `release` gives it back.
        lost: called with a partition that another worker has taken.
    """

    def __init__(
        self,
        connection: NatsConnection,
        names: Names,
        partitions: int,
        lease: Lease,
        *,
        taken: Callable[[int], None],
        surplus: Callable[[int], None],
        lost: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._names = names
        self._partitions = partitions
        self._lease = lease
        self._taken, self._surplus, self._lost = taken, surplus, lost
        self._owned: dict[int, int] = {}
        """By partition, the revision of its key."""
        self._leaving: dict[int, float] = {}
        """Partitions that are handed over, until their key says so, and since when."""
        self._is_leaving = False
        self._workers: dict[str, _Worker] = {}
        self._owners: dict[int, _Owner] = {}
        self._dead: dict[str, float] = {}
        """Workers that died, and when, by the server's clock."""
        self._latest = 0.0
        """The time of the latest key, by the server's clock."""
        interval = max(0.1, min(1.0, lease.ttl / _LOOKS))  # the shortest heartbeat that the server takes
        self._tail = Tail(connection, names.owners, names.ownership, None, heartbeat=interval)
        self._interval = interval
        self._doubts = (0, 0)
        self._changed = asyncio.Event()
        self._synced = asyncio.Event()
        self._log = Log(burst=5, every=10.0)

    @property
    def owned(self) -> frozenset[int]:
        """The partitions of this worker."""
        return frozenset(self._owned)

    @property
    def workers(self) -> int:
        """How many workers live, this one included."""
        return len(self._living())

    # --- watching -------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Follow all keys, until cancelled.

        Raises:
            JournalError: if that can never work.
        """
        try:
            self._synced_if(await self._tail.begin() == 0)
            while True:
                for found in await self._tail.next(self._interval):
                    self._see(found)
                self._synced_if(self._tail.pending == 0)
                if self._tail.pending == 0:
                    await self._forget_dead()
        finally:
            with suppress(JournalError):
                await self._tail.aclose()

    def _synced_if(self, everything: bool) -> None:
        if everything:
            self._synced.set()

    def _see(self, found: Stored) -> None:
        """Take note of what a key says."""
        kind, _, name = found.subject.removeprefix(f"{self._names.prefix}.own.").partition(".")
        self._latest = max(self._latest, found.at)
        try:
            value: dict[str, Any] = json.loads(found.data)
            if kind == "w":
                self._see_worker(name, value, found.seq)
                if not value["alive"]:
                    self._dead[name] = found.at
            else:
                self._see_owner(int(name), _Owner(value["worker"], found.seq))
        except (ValueError, KeyError, TypeError) as error:  # somebody else wrote it
            hint = "nobody wrote it who shares the partitions: remove it"
            self._log.error("owners.unreadable_key", subject=found.subject, error=text_of(error), hint=hint)
            if kind == "p" and name.isdecimal():
                self._see_owner(int(name), _Owner("", found.seq))

    def _see_worker(self, name: str, value: dict[str, Any], revision: int) -> None:
        known, state = self._workers.pop(name, None), str(value.get("state", SHARING)) if value["alive"] else None
        if state is not None:
            self._workers[name] = _Worker(revision, float(value["ttl"]), state, monotonic())
        if (known and known.state) != state:  # it came, went, or wants something else
            self._changed.set()

    async def _forget_dead(self) -> None:
        """Remove the keys of workers that died long ago. One that comes back all the same finds none, and begins anew."""
        old = [name for name, at in self._dead.items() if at < self._latest - _REMEMBER_DEAD]
        for name in old:
            del self._dead[name]
            purge = f"STREAM.PURGE.{self._names.owners}"
            try:
                await self._connection.ask(purge, {"filter": self._names.worker(name)}, within=0, answer_within=1.0)
            except JournalError as error:  # this user may not, or the server is away: it is only tidying up
                self._dead.clear()
                self._log.info("worker.key_not_removed", worker=name, error=str(error))
                return

    def _see_owner(self, partition: int, owner: _Owner) -> None:
        if partition in self._owners and self._owners[partition].revision > owner.revision:
            return  # an own write that the tail has not brought yet
        self._owners[partition] = owner
        self._changed.set()
        if partition in self._owned and owner.worker == self._lease.id:
            self._owned[partition] = owner.revision
        elif partition in self._owned:
            del self._owned[partition]
            if partition not in self._leaving:
                self._log.warning("partition.lost", partition=partition, to=owner.worker)
                self._lost(partition)

    # --- deciding -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take and give back partitions, and declare dead whose lease was not renewed, until cancelled.

        Raises:
            JournalError: if the server refuses.
        """
        await self._synced.wait()
        await self._gather()
        while True:
            self._changed.clear()
            await self._bury()
            if self._is_leaving:
                self._give(self._kept())
            elif self._lease.is_valid():
                await self._balance()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):  # `wait_for` can swallow a cancellation
                    await self._changed.wait()

    async def _gather(self) -> None:
        """Wait for others that start at the same time. Only after that others give partitions to this worker, which would not be taken."""
        give_up = monotonic() + self._lease.ttl / _GATHER
        while not self._is_leaving and monotonic() < give_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(give_up - monotonic()):
                    await self._changed.wait()
            self._changed.clear()
        if not self._is_leaving:
            self._lease.say(SHARING)

    async def _bury(self) -> None:
        """Declare dead whose key has not changed for its time to live, while it could be seen to change."""
        now = monotonic()
        doubts = (self._tail.begun, self._lease.lapses)
        if doubts != self._doubts or not self._lease.is_valid() or not self._tail.is_reading:
            self._doubts = doubts
            self._workers = {name: worker._replace(since=now) for name, worker in self._workers.items()}
            return
        for name, worker in list(self._workers.items()):
            if name != self._lease.id and now - worker.since > worker.ttl and self._lease.is_valid():
                await self._declare_dead(name, worker)

    async def _declare_dead(self, name: str, worker: _Worker) -> None:
        value = {"alive": False, "by": self._lease.id}
        if await self._write(self._names.worker(name), value, worker.revision) is not None:
            self._log.warning("worker.declared_dead", worker=name, after=worker.ttl)
            self._workers.pop(name, None)
            self._changed.set()

    def _living(self) -> set[str]:
        """The workers that share the partitions, without those that leave."""
        others = {name for name, worker in self._workers.items() if worker.state != LEAVING and name != self._lease.id}
        return others if self._is_leaving else others | {self._lease.id}

    def _kept(self) -> list[int]:
        """The partitions of this worker that are not handed over yet."""
        return [one for one in sorted(self._owned) if one not in self._leaving]

    def shares(self) -> Shares:
        """Compute what this worker should take and give back now."""
        living = self._living()
        holds, free, unknown = dict.fromkeys(living, 0), [], []
        for partition in range(self._partitions):
            owner = self._owners.get(partition, _Owner("", 0)).worker
            if owner not in living:
                if owner not in self._workers:  # else its owner has not given it yet
                    free.append(partition)
            elif owner == self._lease.id and partition not in self._owned and partition not in self._leaving:
                unknown.append(partition)  # the answer was lost when its key was written
            else:
                holds[owner] += 1
        ceiling, floor = -(-self._partitions // len(living)), self._partitions // len(living)
        # What others need for the floor is theirs, or a worker would take back what it has just given them.
        others_have_enough = all(count >= floor for name, count in holds.items() if name != self._lease.id)
        room = max(0, (ceiling if others_have_enough else floor) - len(self._owned))
        wanting = {name for name in living if name == self._lease.id or self._workers[name].state == SHARING}
        surplus = _surplus_of(self._lease.id, {name: holds[name] for name in wanting}, floor) if not free else 0
        kept = self._kept()
        return Shares([*unknown, *self._in_own_order(free)[:room]], kept[: max(0, min(surplus, len(kept) - floor))])

    def _in_own_order(self, partitions: Iterable[int]) -> list[int]:
        """Sort differently in each worker, so that those that start together do not all try to take the same ones."""
        return sorted(partitions, key=lambda one: crc32(f"{self._lease.id} {one}".encode()))

    async def _balance(self) -> None:
        take, give = self.shares()
        for first in range(0, len(take), _TAKE_AT_ONCE):
            if not self._lease.is_valid() or self._is_leaving:
                return
            await asyncio.gather(*map(self._take, take[first : first + _TAKE_AT_ONCE]))
        self._give(give)

    def _give(self, partitions: Sequence[int]) -> None:
        """Hand over some of these partitions: the rest when these are released."""
        now = monotonic()
        under_way = sum(now - since < _SLOW for since in self._leaving.values())
        for partition in partitions[: max(0, _GIVE_AT_ONCE - under_way)]:
            self._leaving[partition] = now
            self._surplus(partition)

    async def _take(self, partition: int) -> None:
        if partition in self._owned or partition in self._leaving:
            return
        before = self._owners.get(partition, _Owner("", 0))
        revision = await self._write(self._names.owner(partition), {"worker": self._lease.id}, before.revision)
        if revision is None:
            return
        if self._owners.get(partition, before).revision > revision:
            return  # it was taken away before the answer came
        self._owners[partition] = _Owner(self._lease.id, revision)
        self._owned[partition] = revision
        self._taken(partition)

    async def _write(self, subject: str, value: dict[str, Any], revision: int) -> int | None:
        """Write a key over a revision; return the new one, or None if that did not succeed, as far as is known.

        Raises:
            JournalError: if the server refuses.
        """
        try:
            # Once: without an answer it is decided anew at the next look.
            return await self._connection.publish(subject, json.dumps(value).encode(), expect_last=revision, within=0)
        except (RevisionConflict, NatsUnavailable):
            return None

    # --- giving back ----------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Take nothing more, and give everything back: this worker is about to end."""
        self._is_leaving = True
        self._lease.say(LEAVING)
        self._changed.set()

    async def release(self, partition: int) -> None:
        """Give a partition back, whose journal is closed: anybody may take it. If that fails, it is taken again."""
        revision = self._owned.pop(partition, None)
        if revision is None:
            return
        self._leaving.setdefault(partition, monotonic())
        try:
            data = json.dumps({"worker": ""}).encode()
            revision = await self._connection.publish(
                self._names.owner(partition), data, expect_last=revision, within=self._lease.ttl
            )
            self._owners[partition] = _Owner("", revision)
        except RevisionConflict:  # another worker has it
            pass
        except JournalError as error:
            self._log.warning("partition.not_released", partition=partition, error=str(error))
        finally:
            self._leaving.pop(partition, None)
            self._changed.set()


def _surplus_of(name: str, holds: dict[str, int], floor: int) -> int:
    """Return how many partitions a worker gives to those that have fewer than the floor.

    Everybody takes the next one from the worker that has most, in their minds: so all together give what is missing, and no more.
    """
    missing = sum(max(0, floor - count) for count in holds.values())
    counts = {other: count for other, count in holds.items() if count > floor}
    given = 0
    while missing and counts:
        most = max(counts, key=lambda other: (counts[other], other))
        counts[most] -= 1
        missing -= 1
        given += most == name
        if counts[most] == floor:
            del counts[most]
    return given
