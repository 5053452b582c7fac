"""What `telstate doctor` finds in NATS, without adding anything to the streams."""

from __future__ import annotations

import time

import anyio

from telstate.calls._signs import CLOCKS_DIFFER
from telstate.cli._checkup import Observation, fault, fine, unchecked, unknown_host, warning
from telstate.cli._doctor_service import ClockOffset, clock_of
from telstate.cli._nats import NatsAddress
from telstate.errors import DefinitionError, JournalError
from telstate.journals.nats import NatsConnection, Streams, find
from telstate.journals.nats._errors import NatsNotPermitted
from telstate.journals.nats._inspection import not_permitted, stream_facts, subjects_of_a_worker, work_facts
from telstate.views._findings import count, spoken

__all__ = ["check_nats"]

_OPEN_WITHIN = 5.0
_CLOSE_WITHIN = 1.0
_NEARLY_FULL = 0.8
_WAITS = "events wait in the stream, and no handler runs for them"


async def check_nats(address: NatsAddress, connection: NatsConnection) -> list[Observation]:
    """Whether the server answers, the streams are right, this user may do its work, and somebody works."""
    problems = [await unknown_host(server) for server in address.servers]
    if all(problems):
        do = "check the address (--nats, TELSTATE_NATS)"
        return [fault(str(problems[0]), "receivers cannot publish events, and workers get none", do)]
    try:
        await connection.open(_OPEN_WITHIN)
    except JournalError as error:
        do = "start the server, check its address, and the credentials in TELSTATE_NATS_…"
        return [fault(str(error), "receivers cannot publish events, and workers get none", do)]
    try:
        return await _looked_at(address, connection)
    finally:
        with anyio.move_on_after(_CLOSE_WITHIN, shield=True):
            await connection.aclose()


async def _looked_at(address: NatsAddress, connection: NatsConnection) -> list[Observation]:
    version = ".".join(map(str, connection.server_version))
    found = [fine(f"NATS {version} at {connection.where} lets this user in")]
    try:
        try:
            streams = await find(connection, address.names)
        except NatsNotPermitted:  # a reader may not look at all of them
            streams = await find(connection, address.names, complete=False)
    except NatsNotPermitted:
        return [*found, *await _as_receiver(address, connection)]
    except DefinitionError as error:
        return [*found, fault(str(error), _WAITS, "do what it says, and run telstate doctor again")]
    name, partitions = f"{streams.names.prefix}-*", streams.partitions
    found.append(fine(f"the streams {name} are declared as telstate needs them, with {partitions} partitions"))
    found += await _level_and_clock(connection, streams)
    found.append(await _rights(connection, streams))
    try:
        found.append(await _work(connection, streams))
    except NatsNotPermitted:
        found.append(unchecked("who owns the partitions: this user may not read that; use the credentials of a worker"))
    return found


async def _as_receiver(address: NatsAddress, connection: NatsConnection) -> list[Observation]:
    """A receiver may publish, and read nothing."""
    if await not_permitted(connection, [address.names.received("doctor")]):
        why = "neither a receiver nor a worker can do its work with it"
        do = "check app and environment, or give the user its permissions: see the README of telstate.journals"
        return [fault(f"this user may not publish events for {address.names.prefix}", why, do)]
    return [
        fine("this user may publish events, as a receiver does"),
        unchecked(
            "streams, partitions and the server's clock: a receiver may not read them; use the credentials of a worker"
        ),
    ]


async def _level_and_clock(connection: NatsConnection, streams: Streams) -> list[Observation]:
    began = time.time()
    size, max_bytes, at = await stream_facts(connection, streams.names)
    found = [_clock(clock_of(at - 0.5, began))]
    if max_bytes <= 0:
        return [*found, fine("the stream of the events has no limit of its own")]
    part = size / max_bytes
    text = f"the stream of the events has {part:.0%} of its {max_bytes:,} bytes"
    if part < _NEARLY_FULL:
        return [*found, fine(text)]
    why = "a full stream takes no events: webhooks are answered with 503"
    return [*found, warning(text, why, f"start workers, or raise it: nats stream edit {streams.names.events}")]


def _clock(clock: ClockOffset | None) -> Observation:
    if clock is None or clock.agrees:
        return fine(f"the server's clock agrees with this machine's to within {spoken(CLOCKS_DIFFER)}")
    text = clock.said_of("the server's clock", "this machine's")
    return warning(text, "events get the times of the server's clock", "let chrony or another NTP client set both")


async def _rights(connection: NatsConnection, streams: Streams) -> Observation:
    """What this user may publish, by messages that the server refuses to store."""
    worker = subjects_of_a_worker(streams.names)
    refused = await not_permitted(connection, [streams.names.received("doctor"), *worker])
    if not refused:
        return fine("this user may publish all that a receiver and a worker publish")
    if len(refused) == len(worker) + 1:
        return fine("this user may read and not publish: enough for telstate tail and replay, not for serve and work")
    why = "a worker with it cannot do its work"
    do = "give it the permissions of a worker: see the README of telstate.journals"
    return warning(f"this user may not publish to {', '.join(refused)}", why, do)


async def _work(connection: NatsConnection, streams: Streams) -> Observation:
    workers, owned = await work_facts(connection, streams)
    do = "start workers: telstate work MODULE:ROUTER --nats URL"
    if not workers:
        return fault("no worker is there", _WAITS, do)
    text = f"{count(workers, 'worker')} {'owns' if workers == 1 else 'own'} {owned} of {streams.partitions} partitions"
    if owned < streams.partitions:
        return fault(
            text, f"of all others, {_WAITS}", f"wait for a minute, if workers have just come or gone; else {do}"
        )
    return fine(text)
