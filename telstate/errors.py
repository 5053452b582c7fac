"""Every exception telstate raises, flat under one root.

TelstateError
├── ParseError        what came in is no event: the sender's fault
├── DefinitionError   a table or a registration is wrong: the program's fault, told when it is built
├── Busy              more waits than the bound allows: try again later
├── CallEnded         a session ended before the state that was waited for
├── NotRunning            the dispatcher takes nothing in any more
├── JournalError      a journal could not keep something: nothing was taken in
│   └── RevisionConflict   somebody else saved a checkpoint meanwhile
├── NotSupported      the way to Daily that was chosen cannot carry this: take the other one, or leave it out
└── DailyError        Daily refused a request, or could not be asked
    ├── UnknownResult      a request got no answer and may have been carried out: look before you send it again
    ├── NotAllowed         the account, the room or the key may not do this: not without a change there
    ├── NotHosting         nobody is in the room, so it hosts no call
    ├── NoSuchSession      Daily knows no such session in that room, or no longer
    ├── DialoutInProgress  a dial-out is under way there already
    ├── RoomFull           the room has as many SIP and PSTN sessions as it may have
    ├── TemporarilyNotAvailable  Daily has no worker free, or too many requests: try again shortly
    └── ForwardingFailed   a waiting caller could not be connected to the endpoint

What is merely odd on the wire (late, repeated, unmatched, of unknown type) is never an exception: it is an outcome.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "Busy",
    "CallEnded",
    "DailyError",
    "DefinitionError",
    "DialoutInProgress",
    "ForwardingFailed",
    "JournalError",
    "NoSuchSession",
    "NotAllowed",
    "NotHosting",
    "NotRunning",
    "NotSupported",
    "ParseError",
    "RevisionConflict",
    "RoomFull",
    "TelstateError",
    "TemporarilyNotAvailable",
    "UnknownResult",
]

_SHOWN = 80


class TelstateError(Exception):
    """The root of all errors raised by telstate."""


class ParseError(TelstateError):
    """Raised when a payload names no event, or an event without the id it is about.

    Attributes:
        field: the key that is missing or wrong, in the dialect's own spelling; empty when it is no JSON object at all.
        expected: what should have stood there.
        got: what came, as text, cut short.
        dialect: the dialect it was read as, where one was found.
    """

    def __init__(self, field: str, expected: str, got: object, dialect: str | None = None) -> None:
        self.field = field
        self.expected = expected
        self.got = shorten(got)
        self.dialect = dialect
        where = f"{field}: " if field else ""
        tail = f" (read as {dialect})" if dialect else ""
        super().__init__(f"{where}expected {expected}, got {self.got}{tail}")


class DefinitionError(TelstateError):
    """Raised when a transition table or a registration contradicts itself; the message names the offender."""


class Busy(TelstateError):
    """Raised by `receive_nowait` when more handlers wait than the bound allows, and by `changes` when its reader lags."""


class NotRunning(TelstateError):
    """Raised when a dispatcher or a `DailyApi` is used outside its `async with`, or takes nothing in any more.

    Attributes:
        answers: the answers to the events of a batch that were received before, and stay so.
    """

    answers: tuple[Any, ...] = ()


class JournalError(TelstateError):
    """Raised when a journal could not keep an event. Nothing was taken in; the cause is the journal's own error.

    Attributes:
        answers: the answers to the events of a batch that were received before, and stay so.
    """

    answers: tuple[Any, ...] = ()


class RevisionConflict(JournalError):
    """Raised when somebody else saved a checkpoint since it was read: what this side knows is old."""


class DailyError(TelstateError):
    """Raised when Daily refused a request, could not be reached, or gave an answer that nobody can read.

    The message says what Daily said, cut short, and what to do. Neither it nor the attributes hold the API key.

    Attributes:
        status: the HTTP status; None where no answer came.
        error: Daily's name of the error, for example `invalid-request-error`. These names are stable.
        info: what Daily said about it, cut short; for people, and it may change. Source of both:
            docs.daily.co/docs/rest-api/errors.
        repeated: True if the request was sent before, and got no answer, or none that says what became of it. Then this may be
            said because that first one was carried out.
    """

    repeated: bool = False

    def __init__(
        self, message: str, *, status: int | None = None, error: str | None = None, info: str | None = None
    ) -> None:
        self.status = status
        self.error = error
        self.info = info
        super().__init__(message)


class UnknownResult(DailyError):
    """Raised when the answer to a request that changes something was lost: it may have been carried out, or not."""


class NotAllowed(DailyError):
    """Raised when the account, the room or the API key may not do what was asked. To ask again is of no use.

    Daily's `NOT_ALLOWED`, a key of another domain, a dial-out that is not enabled for the room, the domain or the country.
    """


class NotHosting(DailyError):
    """Raised when the room hosts no call: nobody is in it, or the last one has just left. Let somebody (the bot) join first."""


class NoSuchSession(DailyError):
    """Raised when Daily knows no such session in that room: it ended, it is in another room, or the id is of something else."""


class DialoutInProgress(DailyError):
    """Raised when Daily says that a dial-out is under way already."""


class RoomFull(DailyError):
    """Raised when the room has as many SIP and PSTN sessions as it may have: 5, unless Daily raised it for the domain."""


class TemporarilyNotAvailable(DailyError):
    """Raised when Daily has no worker free, or got too many requests. Nothing was done: try again, after a while.

    Attributes:
        retry_after: seconds that Daily asks to wait; 0 if it does not say.
    """

    retry_after: float = 0.0


class ForwardingFailed(DailyError):
    """Raised when a waiting caller could not be connected: he has hung up, or the endpoint was not ready or is in use."""


class NotSupported(TelstateError):
    """Raised before anything is sent: the way to Daily that was chosen (REST, a call client) cannot carry this."""


class CallEnded(TelstateError):
    """Raised by `wait_for` when the session ended before it came to the state, and by all that acts on one that has ended.

    Attributes:
        session: the session as it ended; its `cause` says why. Where only Daily knows of the end so far, it is still as before.
    """

    def __init__(self, session: Any, why: str = "has ended") -> None:
        self.session = session
        super().__init__(f"{session!r} {why}")


def shorten(value: object) -> str:
    """Show `value` in at most 80 characters, whatever its size: an error must not carry a 10 MB payload along."""
    if isinstance(value, (str, bytes)) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}… ({len(value)} long)"
    if isinstance(value, dict):
        keys = ", ".join(repr(str(key)[:20]) for key in list(value)[:5])
        return f"an object with {keys}{', …' if len(value) > 5 else ''}"[:_SHOWN] if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:_SHOWN]
