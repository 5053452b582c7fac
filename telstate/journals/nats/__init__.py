"""A journal in NATS JetStream, which many processes on several machines share. `telstate[nats]` installs what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports

if TYPE_CHECKING:
    from telstate.journals.nats._connection import NatsConnection
    from telstate.journals.nats._journal import NatsJournal
    from telstate.journals.nats._names import Names
    from telstate.journals.nats._publisher import Published, Publisher
    from telstate.journals.nats._streams import Streams, StreamSettings, declare, find
    from telstate.journals.nats._worker import PartitionStatus, Worker
else:
    __getattr__ = _lazy_exports(
        __name__,
        {
            "Names": "_names",
            "NatsConnection": ("_connection", "nats"),
            "NatsJournal": ("_journal", "nats"),
            "PartitionStatus": ("_worker", "nats"),
            "Published": ("_publisher", "nats"),
            "Publisher": ("_publisher", "nats"),
            "StreamSettings": ("_streams", "nats"),
            "Streams": ("_streams", "nats"),
            "Worker": ("_worker", "nats"),
            "declare": ("_streams", "nats"),
            "find": ("_streams", "nats"),
        },
    )

__all__ = [
    "Names",
    "NatsConnection",
    "NatsJournal",
    "PartitionStatus",
    "Published",
    "Publisher",
    "StreamSettings",
    "Streams",
    "Worker",
    "declare",
    "find",
]
