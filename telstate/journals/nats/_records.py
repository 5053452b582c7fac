"""How an event stands in the stream: its payload as it came, and what is known beside it in the headers."""

from __future__ import annotations

import math

from telstate.journals.nats._connection import Message, Stored
from telstate.routing._ports import Entry, Record

__all__ = ["message_of", "record_of"]

_AT = "Telstate-At"
_DIALECT = "Telstate-Dialect"
_BY = "Telstate-By"
_MESSAGE_ID = "Nats-Msg-Id"
_RECEIVED = ".in"


def message_of(subject: str, entry: Entry, message_id: str, by: str) -> Message:
    """Make the message that publishes an entry.

    Args:
        subject: where.
        entry: the event.
        message_id: its own; the same one whenever it is sent again.
        by: who publishes it, for people who look.
    """
    headers = {_MESSAGE_ID: message_id, _DIALECT: str(entry.dialect), _BY: by}
    if entry.at is not None:
        headers[_AT] = repr(entry.at)
    return Message(subject, entry.payload, headers)


def record_of(stored: Stored, *, done: bool = False) -> Record:
    """Read what stands in the stream.

    The time is the lesser of the receiver's and the server's: a receiver's clock that is ahead must not make limits pass. A
    message without our headers, from somebody else's publisher, counts as a webhook.
    """
    headers = stored.headers
    dialect = headers.get(_DIALECT, "webhook")
    return Record(
        stored.seq, _time(headers.get(_AT), stored.at), dialect, stored.data, done, stored.subject.endswith(_RECEIVED)
    )


def _time(said: str | None, stored_at: float) -> float:
    if said is None:
        return stored_at
    try:
        at = float(said)
    except ValueError:
        return stored_at
    return at if math.isfinite(at) and 0 <= at < stored_at else stored_at
