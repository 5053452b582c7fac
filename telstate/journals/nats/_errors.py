"""What NATS refuses, by meaning. All are `JournalError`s: whoever only wants to know whether an event was kept needs no other."""

from __future__ import annotations

from telstate.errors import EventTooLarge, JournalError

__all__ = ["MessageTooLarge", "NatsNotPermitted", "NatsRefused", "NatsUnavailable", "StreamFull"]


class NatsUnavailable(JournalError):
    """Raised when no answer came in time: there is no connection, no leader, or no such stream. What was sent may be stored."""


class NatsRefused(JournalError):
    """Raised when the server said no. Nothing was stored.

    Attributes:
        code: JetStream's `err_code`; 0 if it gave none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class MessageTooLarge(NatsRefused, EventTooLarge):
    """Raised at once when a message is larger than the server's `max_payload`. It was not sent."""


class StreamFull(NatsRefused):
    """Raised at once when a stream or the server's storage has no room."""


class NatsNotPermitted(NatsRefused):
    """Raised when the user of this connection may not publish or subscribe there."""
