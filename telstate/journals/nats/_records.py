"""How an event stands in the stream: its payload as it came, and what is known beside it in the headers."""

from __future__ import annotations

from telstate.journals.nats._connection import Message, Stored
from telstate.routing._ports import Entry, Record

__all__ = ["UNREADABLE", "is_unreadable", "message_of", "record_of"]

_HEADER = "Telstate"
"""The time of receipt, the dialect and who published it, in one header: nats-py reads headers slowly."""
UNREADABLE = "unreadable"
"""Who published a payload that could not be read: whoever steps it makes it a dead letter, and no log has it."""
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
    at = "-" if entry.at is None else repr(entry.at)
    return Message(subject, entry.payload, {_MESSAGE_ID: message_id, _HEADER: f"{at} {entry.dialect} {by}"})


def is_unreadable(stored: Stored) -> bool:
    """Return True if whoever published it could not read it."""
    return stored.headers.get(_HEADER, "").endswith(f" {UNREADABLE}")


def record_of(stored: Stored, *, done: bool = False) -> Record:
    """Read what stands in the stream.

    The time is the lesser of the receiver's and the server's: a receiver's clock that is ahead must not make limits pass. A
    message without our header, from somebody else's publisher, counts as a webhook.
    """
    at, dialect = stored.at, "webhook"
    if (header := stored.headers.get(_HEADER)) is not None:
        said, _, rest = header.partition(" ")
        dialect = rest.partition(" ")[0]
        try:
            received_at = float(said)
        except ValueError:
            pass
        else:
            if 0 <= received_at < at:  # never true for what is not a number
                at = received_at
    return Record(stored.seq, at, dialect, stored.data, done, stored.subject.endswith(_RECEIVED))
