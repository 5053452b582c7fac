"""What can be known of streams without adding anything to them: how full they are, who works, and what this user may publish."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from telstate.errors import JournalError
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsNotPermitted, NatsRefused
from telstate.journals.nats._names import Names
from telstate.journals.nats._streams import Streams
from telstate.journals.nats._tail import Tail

__all__ = ["StreamFacts", "WorkFacts", "not_permitted", "stream_facts", "subjects_of_a_worker", "work_facts"]

_ANOTHER_STREAM = {"Nats-Expected-Stream": "telstate-doctor"}
"""The server refuses a message with this header in every stream of another name, after it has looked at permissions."""
_WRONG_STREAM = 10060
_READ_WITHIN = 3.0


class StreamFacts(NamedTuple):
    """The stream of the events as it is now."""

    size: int
    max_bytes: int
    """-1 for no limit."""
    at: float
    """The server's clock, in Unix seconds."""


class WorkFacts(NamedTuple):
    """Who works."""

    workers: int
    """Those that have renewed their lease in time."""
    owned: int
    """Partitions of these workers."""


async def stream_facts(connection: NatsConnection, names: Names) -> StreamFacts:
    """Ask how full the stream of the events is.

    Raises:
        JournalError: if the server does not answer, or refuses.
    """
    info = await connection.ask(f"STREAM.INFO.{names.events}", within=_READ_WITHIN)
    return StreamFacts(
        info["state"]["bytes"], info["config"]["max_bytes"], datetime.fromisoformat(info["ts"]).timestamp()
    )


async def work_facts(connection: NatsConnection, streams: Streams) -> WorkFacts:
    """Read the keys of workers and owners.

    Raises:
        JournalError: if the server does not answer, or refuses.
    """
    names = streams.names
    workers: dict[str, tuple[float, float]] = {}
    owners: dict[str, str] = {}
    tail = Tail(connection, names.owners, names.ownership, None)
    try:
        left = await tail.begin()
        while left > 0 and (found := await tail.next(_READ_WITHIN)):
            left -= len(found)
            for key in found:
                kind, _, name = key.subject.removeprefix(f"{names.prefix}.own.").partition(".")
                try:
                    value = json.loads(key.data)
                    if kind == "p":
                        owners[name] = str(value["worker"])
                    elif value["alive"]:
                        workers[name] = key.at, float(value["ttl"])
                except (ValueError, KeyError, TypeError):  # somebody else wrote it
                    continue
    finally:
        await tail.aclose()
    now = (await stream_facts(connection, names)).at
    living = {name for name, (at, ttl) in workers.items() if now - at <= ttl}
    return WorkFacts(len(living), sum(owner in living for owner in owners.values()))


def subjects_of_a_worker(names: Names) -> list[str]:
    """Subjects to which a worker publishes, one of each kind."""
    return [
        names.events_own(0),
        names.done(0),
        names.again(0),
        names.letters(0),
        names.pointer(0),
        names.worker("doctor"),
        names.view(0, "session", "doctor"),
    ]


async def not_permitted(connection: NatsConnection, subjects: Iterable[str]) -> list[str]:
    """Return to which subjects this user may not publish. Nothing is stored: each message expects a stream that is not there.

    Raises:
        JournalError: if the server does not answer.
    """
    refused = []
    for subject in subjects:
        try:
            await connection.publish(subject, b"", _ANOTHER_STREAM, within=0)
        except NatsNotPermitted:
            refused.append(subject)
        except NatsRefused as error:
            if error.code != _WRONG_STREAM:
                raise
        else:
            raise JournalError(f"NATS stored a message in {subject} that expects another stream: it is no NATS of 2.12")
    return refused
