"""A worker runs every partition that it owns, and nothing that a server or a handler does ends it for good."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import structlog
from prometheus_client import CollectorRegistry

from telstate import DefinitionError, Event, Presence, Router, Session
from telstate.journals.nats import Names, NatsConnection, Publisher, StreamSettings, Worker, _partition, _worker
from telstate.journals.nats._partition import Partition
from telstate.journals.nats._worker import PartitionStatus, _problem
from telstate.views import PrometheusMetrics
from tests.calls import js
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
PARTITIONS = 4


class Service:
    """A worker that runs, a publisher, and what its handlers have seen."""

    def __init__(self, server: NatsServer, names: Names, **options: Any) -> None:
        self.seen: list[tuple[str, str]] = []
        self.router = Router()
        self.wait: dict[str, anyio.Event] = {}

        @self.router.on(Event)
        async def note(event: Event, session: Session) -> None:
            if session.session_id in self.wait:
                await self.wait[session.session_id].wait()
            if session.session_id == "interrupts":
                raise KeyboardInterrupt
            self.seen.append((event.action, session.session_id))

        streams = StreamSettings(partitions=PARTITIONS, max_bytes=1 << 24)
        options = {"ttl": 2.0, "drain": 2.0, **options}
        self.worker = Worker(self.router, NatsConnection(server.url), names=names, streams=streams, **options)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(PrometheusMetrics(self.worker))
        self.publisher = Publisher(NatsConnection(server.url), names)
        self.running: asyncio.Task[None] | None = None
        self.interrupted = False

    def metric(self, name: str, **labels: str) -> float | None:
        """What its metrics say now."""
        return self.registry.get_sample_value(name, labels)

    async def run(self) -> None:
        """Run. A KeyboardInterrupt that leaves a task would end the test's loop."""
        try:
            await self.worker.run()
        except KeyboardInterrupt:
            self.interrupted = True

    async def publish(self, *payloads: dict[str, Any]) -> None:
        """Publish events, each in the partition of its session."""
        for payload in payloads:
            await self.publisher.receive(payload, scope=payload["sessionId"])

    async def until_open(self, partitions: int = PARTITIONS) -> None:
        """Wait until it owns so many partitions and all are open."""
        await until(lambda: [one.is_open for one in self.worker.partitions()] == [True] * partitions, 15)

    async def until_seen(self, *expected: tuple[str, str]) -> None:
        """Wait until handlers have seen exactly these events."""
        await until(lambda: sorted(self.seen) == sorted(expected), 15)

    @property
    def parts(self) -> list[Partition]:
        """What runs its partitions."""
        assert self.worker._session is not None
        return self.worker._session.partitions


@asynccontextmanager
async def service(server: NatsServer, names: Names, **options: Any) -> AsyncIterator[Service]:
    """A service that has opened all partitions."""
    one = Service(server, names, **options)
    one.running = asyncio.ensure_future(one.run())
    try:
        await one.until_open()
        async with one.publisher:
            yield one
    finally:
        one.worker.shut_down()
        one.worker.shut_down()
        with anyio.fail_after(20):
            await one.running


async def test_it_runs_the_events_of_all_rooms_and_says_where_it_stands(shared_nats: NatsServer, names: Names) -> None:
    """Each in its own partition; and it hands over what it has when it is stopped."""
    async with service(shared_nats, names) as one:
        await until(lambda: one.worker.not_ready is None)  # a lease lapses where the machine is busy
        sessions = [f"s{number}" for number in range(12)]
        await one.publish(*(js("dialout-connected", name) for name in sessions))
        await one.until_seen(*(("dialout-connected", name) for name in sessions))
        assert [(part.partition, part.behind, part.problem) for part in one.worker.partitions()] == [
            (number, 0, None) for number in range(PARTITIONS)
        ]
        assert sum(bool(part.stepped) for part in one.parts) > 1
        one.worker.shut_down()
        assert one.worker.is_stopping
        assert "others take its partitions" in str(one.worker.not_ready)
        assert one.running is not None
        await one.running
    assert one.worker.partitions() == []
    assert one.worker.not_ready == "it is not running"
    async with service(shared_nats, names) as other:
        await other.publish(js("dialout-stopped", "s0"))
        await other.until_seen(("dialout-stopped", "s0"))


def test_a_partition_that_is_behind_is_a_reason_not_to_be_ready() -> None:
    """After some seconds; a problem that it has itself comes first."""
    status = PartitionStatus(3, is_open=True, behind=40, seconds_behind=10.0, pending=0, problem=None)
    assert _problem(status) is None
    assert _problem(status._replace(seconds_behind=16.2)) == "it is 16 seconds behind, with 40 events to read"
    assert _problem(status._replace(seconds_behind=16.2, problem="no leader")) == "no leader"


async def test_the_metrics_of_a_worker_are_those_of_all_its_partitions(shared_nats: NatsServer, names: Names) -> None:
    """Together; what a partition counted stays counted when another worker takes it."""
    async with service(shared_nats, names) as one:
        await one.publish(*(js("dialout-connected", f"s{number}") for number in range(12)))
        await one.until_seen(*(("dialout-connected", f"s{number}") for number in range(12)))
        assert one.metric("telstate_partitions_open") == PARTITIONS
        assert one.metric("telstate_sessions_live", direction="dialout", state="connected") == 12
        assert one.metric("telstate_ready") == 1
        with pytest.raises(DefinitionError, match="before"):
            PrometheusMetrics(one.worker)
    assert one.metric("telstate_sessions_live", direction="dialout", state="connected") == 0
    assert one.metric("telstate_sessions_started_total", direction="dialout") == 12
    assert one.metric("telstate_ready") == 0


async def test_what_runs_may_finish_and_a_second_request_cuts_it_off(shared_nats: NatsServer, names: Names) -> None:
    """All that is not finished then runs in the next owner's process."""
    async with service(shared_nats, names, drain=30) as one:
        one.wait = {"short": anyio.Event(), "long": anyio.Event()}
        await one.publish(js("dialout-connected", "short"), js("dialout-connected", "long"))
        await until(lambda: sum(part.pending for part in one.worker.partitions()) == 2)
        one.worker.shut_down()
        await anyio.sleep(0.1)
        one.wait["short"].set()
        await one.until_seen(("dialout-connected", "short"))
        with structlog.testing.capture_logs() as logs:
            one.worker.shut_down()
            assert one.running is not None
            with anyio.fail_after(20):
                await one.running
    assert "dispatcher.left_unfinished" in {log["event"] for log in logs}
    async with service(shared_nats, names) as other:
        await other.until_seen(("dialout-connected", "long"))


@pytest.mark.long
async def test_a_server_that_is_away_holds_handlers_back_and_cuts_none_off(
    nats_server: NatsServer, names: Names
) -> None:
    """What runs goes on, and nothing moves to another worker or runs again."""
    async with service(nats_server, names) as one:
        one.wait = {"a": anyio.Event()}
        await one.publish(js("dialout-connected", "a"))
        await until(lambda: sum(part.pending for part in one.worker.partitions()) == 1)
        with structlog.testing.capture_logs() as logs:
            nats_server.kill()
            await until(lambda: one.worker.not_ready)
            assert "no lease" in str(one.worker.not_ready)
            await anyio.sleep(3)
            one.wait["a"].set()
            await one.until_seen(("dialout-connected", "a"))
            nats_server.start()
            await until(lambda: one.worker.not_ready is None, 15)
            await one.publish(js("dialout-stopped", "a"))
            await one.until_seen(("dialout-connected", "a"), ("dialout-stopped", "a"))
        assert not {"worker.session_failed", "partition.failed", "lease.lost"} & {log["event"] for log in logs}


@pytest.mark.long
async def test_streams_that_are_gone_are_declared_again(
    nats_server: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a developer's machine, where a server has lost its store: the worker goes on with what comes now."""
    monkeypatch.setattr(_worker, "_LOOK_EVERY", 0.2)
    async with service(nats_server, names) as one:
        await one.publish(js("dialout-connected", "a"))
        await one.until_seen(("dialout-connected", "a"))
        with structlog.testing.capture_logs():
            nats_server.kill()
            shutil.rmtree(nats_server.folder / "store")
            nats_server.start()
            await until(lambda: one.worker.not_ready, 10)
            await until(lambda: one.worker.not_ready is None, 60)
            await one.until_open()
            await one.publish(js("dialout-connected", "b"))
            await one.until_seen(("dialout-connected", "a"), ("dialout-connected", "b"))


@pytest.mark.long
async def test_who_was_declared_dead_begins_a_new_session(shared_nats: NatsServer, names: Names) -> None:
    """What ran is cut off, as another worker may run it; here it runs again in the same process."""
    async with service(shared_nats, names) as one:
        one.wait = {"a": anyio.Event()}
        await one.publish(js("dialout-connected", "a"))
        await until(lambda: sum(part.pending for part in one.worker.partitions()) == 1)
        assert one.worker._session is not None
        first = one.worker._session._lease.id
        with structlog.testing.capture_logs():
            async with NatsConnection(shared_nats.url) as other:
                await other.publish(names.worker(first), b'{"alive": false}')
            await until(lambda: one.worker._session is not None and one.worker._session._lease.id != first, 10)
        one.wait.clear()
        await one.until_open()
        await one.until_seen(("dialout-connected", "a"))
        await until(lambda: one.worker.not_ready is None)


async def test_a_partition_that_fails_is_opened_again(shared_nats: NatsServer, names: Names) -> None:
    """Alone: the others go on."""
    async with service(shared_nats, names) as one:
        before = [part.calls for part in one.parts]
        broken = one.parts[2]
        with structlog.testing.capture_logs() as logs:
            assert broken.calls is not None
            assert broken.calls._run._group is not None
            broken.calls._run._group.start_soon(failing)
            await until(lambda: broken.calls is not None and broken.calls is not before[2])
        assert [log["partition"] for log in logs if log["event"] == "partition.failed"] == [2]
        assert [part.calls is calls for part, calls in zip(one.parts, before, strict=True)] == [True, True, False, True]
        await one.publish(*(js("dialout-connected", f"s{number}") for number in range(8)))
        await until(lambda: len(one.seen) == 8)


async def failing() -> None:
    """A bug."""
    raise RuntimeError("a part of the dispatcher")


async def test_a_partition_that_stands_still_is_opened_again(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its lease is healthy, and the connection too: the server knows that there are events."""
    monkeypatch.setattr(_partition, "_STILL_AFTER", 0.3)
    monkeypatch.setattr(_worker, "_LOOK_EVERY", 0.1)
    async with service(shared_nats, names) as one:
        for part in one.parts:
            reader = part._journal._following  # type: ignore[union-attr]
            reader.next = hanging  # type: ignore[union-attr,method-assign]
        await one.publish(js("dialout-connected", "a"))
        await one.until_seen(("dialout-connected", "a"))
        with structlog.testing.capture_logs() as logs:
            async with (
                anyio.create_task_group() as group
            ):  # looking begins first: the partition may go on before the publisher hears
                group.start_soon(until, lambda: max(part.seconds_behind for part in one.worker.partitions()) > 0)
                await one.publish(js("dialout-stopped", "a"))
            await one.until_seen(("dialout-connected", "a"), ("dialout-stopped", "a"))
        assert "partition.stands_still" in {log["event"] for log in logs}


async def hanging(within: float | None = None) -> list[Any]:
    """Nothing comes any more."""
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_keyboard_interrupt_of_a_handler_ends_it_in_order(shared_nats: NatsServer, names: Names) -> None:
    """As a dispatcher: the program ends as on Ctrl-C."""
    async with service(shared_nats, names) as one:
        with structlog.testing.capture_logs():
            await one.publish(js("dialout-connected", "interrupts"))
            assert one.running is not None
            with anyio.fail_after(10):
                await one.running
        assert one.interrupted


async def test_all_partitions_share_one_limit_of_questions(shared_nats: NatsServer, names: Names) -> None:
    """Daily's API has one rate limit."""
    asking = most = 0

    async def reconcile(session: Session) -> Presence:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await anyio.sleep(0.01)
        asking -= 1
        return Presence.ALIVE

    async with service(shared_nats, names, reconcile=reconcile) as one:
        await one.publish(*(js("dialout-connected", f"s{number}") for number in range(60)))
        await until(lambda: len(one.seen) == 60)
        for name in {f"s{number}" for number in range(60)}:
            await one.publisher.receive({"action": "dialout-connected", "sessionId": name}, scope=name)
        sessions = [session for part in one.parts if part.calls for session in part.calls.live()]
        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(one.worker._ask, session)
        assert len(sessions) == 60
        assert 1 < most <= 16


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"ttl": 0.5}, ValueError, "ttl= takes seconds from 1 on"),
        ({"reconcile": lambda _: Presence.ALIVE}, DefinitionError, "reconcile= takes an async function"),
        ({"streams": StreamSettings(replicas=2)}, DefinitionError, "replicas: expected 1, 3 or 5"),
        ({"max_deliveries": 1}, ValueError, "max_deliveries="),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], error: type[Exception], said: str) -> None:
    """Not when it runs."""
    with pytest.raises(error, match=said):
        Worker(Router(), NatsConnection("nats://localhost"), **options)


async def test_it_can_be_cancelled(shared_nats: NatsServer, names: Names) -> None:
    """Nothing is left behind, and others need not wait for its lease to expire."""
    one = Service(shared_nats, names, ttl=30)
    one.wait = {"a": anyio.Event()}
    async with anyio.create_task_group() as group, one.publisher:
        group.start_soon(one.run)
        with structlog.testing.capture_logs():
            await one.until_open()
            await one.publish(js("dialout-connected", "a"))
            await until(lambda: sum(part.pending for part in one.worker.partitions()) == 1)
            with anyio.fail_after(10):
                group.cancel_scope.cancel()
                await anyio.sleep_forever()
    async with service(shared_nats, names, ttl=30) as other:
        await other.until_seen(("dialout-connected", "a"))


async def test_it_waits_for_a_server(nats_server: NatsServer, names: Names) -> None:
    """And can be stopped meanwhile."""
    nats_server.kill()
    with structlog.testing.capture_logs():
        worker = Worker(Router(), NatsConnection(nats_server.url), names=names)
        running = asyncio.ensure_future(worker.run())
        await anyio.sleep(0.2)
        assert worker.not_ready == "it has no lease, so no handler starts: the server does not answer"
        began = time.monotonic()
        worker.shut_down()
        await running
        assert time.monotonic() - began < 20
