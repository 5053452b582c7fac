"""Partitions are shared fairly, move only where somebody has too few, and have one owner at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
import structlog

from telstate.journals.nats import Names, NatsConnection, StreamSettings, _ownership, declare
from telstate.journals.nats._errors import NatsUnavailable
from telstate.journals.nats._lease import JOINING, LEAVING, SHARING, Lease
from telstate.journals.nats._ownership import Ownership, _Owner, _Worker
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
TTL = 3.0
"""Seconds, in which a machine may stand still for a moment."""


class Member:
    """A worker that opens and closes partitions at once, and what happened to it."""

    def __init__(self, connection: NatsConnection, names: Names, partitions: int, ttl: float = TTL) -> None:
        self.connection = connection
        self.lease = Lease(connection.another, names, ttl, self._killed)
        self.ownership = Ownership(
            connection,
            names,
            partitions,
            self.lease,
            taken=self._taken,
            surplus=self._surplus,
            lost=self._lost,
        )
        self.taken, self.lost, self.given = list[int](), list[int](), list[int]()
        self.killed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def _killed(self) -> None:
        self.killed = True

    def _taken(self, partition: int) -> None:
        self.taken.append(partition)

    def _lost(self, partition: int) -> None:
        self.lost.append(partition)

    def _surplus(self, partition: int) -> None:
        self.given.append(partition)
        self._start(self.ownership.release(partition))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.ensure_future(work))

    @property
    def owned(self) -> frozenset[int]:
        """Its partitions."""
        return self.ownership.owned

    async def join(self) -> None:
        """Begin."""
        await self.lease.begin()
        self._start(self.ownership.watch())
        self._start(self.ownership.run())

    async def freeze(self) -> None:
        """Do nothing more, and renew nothing, as a process that is stopped."""
        for task in self._tasks:
            task.cancel()

        async def renew_no_more(connection: NatsConnection) -> NatsConnection:
            await self.lease._sleep(3600)
            return connection

        self.lease._stay_alive = renew_no_more  # type: ignore[method-assign]

    async def leave(self) -> None:
        """End in order."""
        self.ownership.leave()
        for partition in self.owned:
            await self.ownership.release(partition)
        await self.end()

    async def end(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.lease.end()


class Fleet:
    """Members on one set of streams."""

    def __init__(self, server: NatsServer, names: Names, partitions: int, stack: AsyncExitStack) -> None:
        self._server, self._names, self._partitions, self._stack = server, names, partitions, stack
        self.members: list[Member] = []

    async def join(self, ttl: float = TTL) -> Member:
        """Add a member."""
        connection = await self._stack.enter_async_context(NatsConnection(self._server.url))
        await declare(connection, self._names, StreamSettings(partitions=self._partitions, max_bytes=1 << 24))
        while True:  # as the worker does, if the server does not answer within a quarter of the time to live
            member = Member(connection, self._names, self._partitions, ttl)
            with suppress(NatsUnavailable):
                await member.join()
                break
        self.members.append(member)
        self._stack.push_async_callback(member.end)
        return member

    @property
    def sizes(self) -> list[int]:
        """How many partitions each has."""
        return [len(member.owned) for member in self.members]

    async def until_shared(self, *sizes: int) -> None:
        """Wait until each has so many, and nobody has the same."""
        await until(lambda: self.sizes == list(sizes))
        owned = Counter(partition for member in self.members for partition in member.owned)
        assert set(owned.values()) <= {1}


@asynccontextmanager
async def fleet(server: NatsServer, names: Names, partitions: int) -> AsyncIterator[Fleet]:
    """No member yet."""
    with structlog.testing.capture_logs():
        async with AsyncExitStack() as stack:
            yield Fleet(server, names, partitions, stack)


async def test_the_first_has_everything_and_gives_a_fair_share_to_each_that_joins(
    shared_nats: NatsServer, names: Names
) -> None:
    """Nobody has fewer than the floor then, and hardly a partition has moved more often than it had to."""
    async with fleet(shared_nats, names, 16) as all_of_them:
        one = await all_of_them.join()
        await all_of_them.until_shared(16)
        await all_of_them.join()
        await all_of_them.until_shared(8, 8)
        await all_of_them.join()
        await until(lambda: sorted(all_of_them.sizes) == [5, 5, 6])
        assert len(one.given) <= 16 - 5 + 1  # two may give the same one that is missing
        assert not any(member.lost for member in all_of_them.members)


async def test_who_leaves_in_order_hands_over_at_once(shared_nats: NatsServer, names: Names) -> None:
    """Long before its lease would expire."""
    async with fleet(shared_nats, names, 8) as all_of_them:
        one, other = await all_of_them.join(10), await all_of_them.join(10)
        with anyio.fail_after(20):
            await all_of_them.until_shared(4, 4)
        with anyio.fail_after(8):
            await one.leave()
            await until(lambda: len(other.owned) == 8)


@pytest.mark.long
async def test_who_renews_no_more_is_declared_dead_after_its_own_time_to_live(
    shared_nats: NatsServer, names: Names
) -> None:
    """Not after that of who looks, which may be shorter: it believes in its lease for as long as it knows."""
    async with fleet(shared_nats, names, 8) as all_of_them:
        one, other = await all_of_them.join(6.0), await all_of_them.join(2.0)
        await all_of_them.until_shared(4, 4)
        await one.freeze()
        began = anyio.current_time()
        await until(lambda: len(other.owned) == 8)
        assert anyio.current_time() - began > 4.0


@pytest.mark.long
async def test_a_server_that_is_away_kills_nobody(nats_server: NatsServer, names: Names) -> None:
    """However long, and however it is away."""
    async with fleet(nats_server, names, 8) as all_of_them:
        for _ in range(3):
            await all_of_them.join(1.0)
        await until(lambda: sum(all_of_them.sizes) == 8 and min(all_of_them.sizes) >= 2)
        before = [member.owned for member in all_of_them.members]
        nats_server.kill()
        await anyio.sleep(2.5)
        nats_server.start()
        await anyio.sleep(3)
        for pause in (2.0, 1.3, 1.1):
            nats_server.pause()
            await anyio.sleep(pause)
            nats_server.resume()
            await anyio.sleep(2.5)
        assert [member.owned for member in all_of_them.members] == before
        assert not any(member.killed or member.lost for member in all_of_them.members)
        await until(lambda: all(member.lease.is_valid() for member in all_of_them.members))


async def test_an_owner_drops_what_somebody_else_has_written(shared_nats: NatsServer, names: Names) -> None:
    """It was declared dead without its knowing, or an operator moved it."""
    async with fleet(shared_nats, names, 4) as all_of_them:
        one = await all_of_them.join()
        await all_of_them.until_shared(4)
        other = await all_of_them.join()
        await all_of_them.until_shared(2, 2)
        partition = min(one.owned)
        await one.connection.publish(names.owner(partition), b'{"worker": "%s"}' % other.lease.id.encode())
        await until(lambda: one.lost == [partition])
        assert partition not in one.owned


async def test_a_key_that_nobody_can_read_hinders_nobody(shared_nats: NatsServer, names: Names) -> None:
    """Its partition is taken as a free one."""
    async with NatsConnection(shared_nats.url) as connection:
        await declare(connection, names, StreamSettings(partitions=4, max_bytes=1 << 24))
        for subject in (names.owner(1), names.owner("x"), names.worker("w"), names.worker("v")):
            await connection.publish(subject, b"[]" if subject.endswith("v") else b"{")
        async with fleet(shared_nats, names, 4) as all_of_them:
            await all_of_them.join()
            await all_of_them.until_shared(4)


async def test_a_key_whose_answer_was_lost_is_owned_all_the_same(shared_nats: NatsServer, names: Names) -> None:
    """Else nobody would run that partition: for all others its owner lives."""
    async with fleet(shared_nats, names, 4) as all_of_them:
        one = await all_of_them.join()
        await all_of_them.until_shared(4)
        del one.ownership._owned[2]
        await until(lambda: one.taken.count(2) == 2)
        assert len(one.owned) == 4


async def test_the_keys_of_workers_that_died_long_ago_are_removed(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that restarts every minute would leave half a million in a year."""
    async with fleet(shared_nats, names, 2) as all_of_them:
        one, other = await all_of_them.join(), await all_of_them.join()
        await all_of_them.until_shared(1, 1)
        key = names.worker(one.lease.id)
        await one.leave()
        await all_of_them.until_shared(0, 2)
        await anyio.sleep(0.3)
        assert await other.connection.last(names.owners, key) is not None
        monkeypatch.setattr(_ownership, "_REMEMBER_DEAD", 0.1)
        with anyio.fail_after(30):
            while await other.connection.last(names.owners, key) is not None:  # noqa: ASYNC110 - the server tells nobody
                await anyio.sleep(0.05)


def test_shares_are_fair_for_any_number_of_workers(names: Names) -> None:
    """Step by step, all at once: it ends, everybody has the floor at least, and nobody gives more than the share of others needs."""
    for partitions, workers in ((256, 3), (256, 5), (64, 7), (5, 3), (3, 5), (1, 2)):
        owned: dict[str, set[int]] = {"w0": set(range(partitions))}
        for joined in range(1, workers + 1):
            ids = [f"w{number}" for number in range(joined)]
            for _ in range(20):
                if not _one_round(names, partitions, ids, owned):
                    break
            else:
                raise AssertionError(f"{partitions} partitions keep moving between {joined} workers")
            counts = [len(owned.get(one, ())) for one in ids]
            assert sum(counts) == partitions
            assert max(counts) <= -(-partitions // joined)
            assert min(counts) >= partitions // joined


def _one_round(names: Names, partitions: int, ids: list[str], owned: dict[str, set[int]]) -> bool:
    """Let each compute its share and act on it; return True if anything moved."""
    moved = False
    for one in ids:
        mine = owned.setdefault(one, set())
        take, give = ownership_of(names, partitions, one, dict.fromkeys(ids, SHARING), owned).shares()
        mine |= set(take)
        mine -= set(give)
        moved = moved or bool(take or give)
    return moved


def ownership_of(
    names: Names, partitions: int, own: str, states: dict[str, str], owned: dict[str, set[int]]
) -> Ownership:
    """What one worker knows."""
    ownership = Ownership.__new__(Ownership)
    ownership._lease = Lease(lambda: NatsConnection("nats://localhost"), names, 1.0, lambda: None)
    ownership._lease.id = own
    ownership._partitions = partitions
    ownership._owned, ownership._leaving = dict.fromkeys(owned.get(own, ()), 1), {}
    ownership._is_leaving = states[own] == LEAVING
    ownership._workers = {one: _Worker(1, 1.0, state, 0.0) for one, state in states.items()}
    ownership._owners = {partition: _Owner(one, 1) for one, some in owned.items() for partition in some}
    return ownership


def test_a_worker_that_joins_is_given_nothing_before_it_takes(names: Names) -> None:
    """What it is given too early would stand still until then."""
    owned = {"a": {0, 1, 2, 3}}
    assert ownership_of(names, 4, "a", {"a": SHARING, "b": JOINING}, owned).shares() == ([], [])
    assert ownership_of(names, 4, "a", {"a": SHARING, "b": SHARING}, owned).shares() == ([], [0, 1])


def test_what_a_worker_leaves_is_taken_once_it_gives_it(names: Names) -> None:
    """Not before, and not only after it has given everything."""
    states = {"a": LEAVING, "b": SHARING}
    assert ownership_of(names, 4, "b", states, {"a": {0, 1}, "b": {2, 3}}).shares() == ([], [])
    assert ownership_of(names, 4, "b", states, {"a": {1}, "b": {2, 3}}).shares() == ([0], [])
    assert ownership_of(names, 4, "b", {"b": SHARING}, {"a": {0, 1}, "b": {2, 3}}).shares()[0] in ([0, 1], [1, 0])


async def test_few_partitions_are_handed_over_at_a_time(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes on meanwhile; those that take long hold up nobody."""
    monkeypatch.setattr(_ownership, "_SLOW", 3600.0)
    async with fleet(shared_nats, names, 40) as all_of_them:
        one = await all_of_them.join()
        await all_of_them.until_shared(40)
        given = one.given
        one.ownership._surplus = given.append
        one.ownership.leave()
        await until(lambda: len(given) == 8)
        await anyio.sleep(0.05)
        assert len(given) == 8
        await one.ownership.release(given[0])
        await until(lambda: len(given) == 9)
        monkeypatch.setattr(_ownership, "_SLOW", 0.0)
        await until(lambda: len(given) == 40, 20)
