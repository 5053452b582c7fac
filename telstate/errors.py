"""Every exception that telstate raises.

TelstateError
├── ParseError        the payload is not an event: the sender's fault
├── DefinitionError   a table, a registration or an argument is wrong: the program's fault
├── Busy              a reader of `changes` has fallen too far behind
├── CallEnded         a session ended before it reached the awaited state, or before it could be acted on
├── NotRunning        the dispatcher or the API client is not open
├── JournalError      the journal could not keep an event: nothing was accepted
│   ├── EventTooLarge      the journal takes no event of that size: retrying does not help
│   └── RevisionConflict   another process saved a checkpoint in the meantime
├── HandlerTimeout    a handler took longer than its `timeout=`, and was cancelled
├── NotSupported      the chosen way to Daily cannot carry this: use another one, or leave it out
└── DailyError        Daily refused a request, or could not be reached
    ├── UnknownResult      a request got no answer and may have been carried out: check before you send it again
    ├── NotAllowed         the account, the room or the key lacks the permission: retrying does not help
    ├── InvalidRequest     Daily does not accept a value or an id: retrying does not help
    ├── NotHosting         nobody is in the room, so it hosts no call
    ├── NoSuchSession      Daily does not know the session in that room, or no longer
    ├── DialoutInProgress  a dial-out is already in progress
    ├── RoomFull           the room has its maximum of SIP and PSTN sessions
    ├── TemporarilyNotAvailable  Daily has no free worker, or got too many requests: retry after a while
    └── ForwardingFailed   a waiting caller could not be connected to the endpoint

Unusual events (late, duplicate, unmatched, of unknown type) are never exceptions: they are outcomes.
"""

from __future__ import annotations

import re
from typing import Any, overload

__all__ = [
    "Busy",
    "CallEnded",
    "DailyError",
    "DefinitionError",
    "DialoutInProgress",
    "EventTooLarge",
    "ForwardingFailed",
    "HandlerTimeout",
    "InvalidRequest",
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

_MAX_SHOWN = 80


class TelstateError(Exception):
    """The base of all errors raised by telstate."""


class ParseError(TelstateError):
    """Raised when a payload is not an event, or lacks an id that the event needs.

    Attributes:
        field: the key that is missing or invalid, in the dialect's own spelling; empty if the payload is not a JSON object.
        expected: what was expected there.
        got: what came, as text, shortened.
        dialect: the dialect it was read as, or None if it is not known.
    """

    field: str
    expected: str
    got: str
    dialect: str | None

    def __init__(self, field: str, expected: str, got: object, dialect: str | None = None) -> None:
        self.field = field
        self.expected = expected
        self.got = shorten(got)
        self.dialect = dialect
        where = f"{field}: " if field else ""
        tail = f" (read as {dialect})" if dialect else ""
        super().__init__(f"{where}expected {expected}, got {self.got}{tail}")


class DefinitionError(TelstateError):
    """Raised when a transition table, a handler registration or an argument is wrong. The message names the mistake."""


class Busy(TelstateError):
    """Raised by `changes` when its reader falls too far behind: changes were dropped."""


class NotRunning(TelstateError):
    """Raised when a dispatcher or a `DailyApi` is used outside its `async with`.

    Attributes:
        answers: the answers to the events of a batch that were received before, and stay so.
    """

    answers: tuple[Any, ...] = ()


class JournalError(TelstateError):
    """Raised when a journal could not keep an event. The event is not accepted; the cause is the journal's own error.

    Attributes:
        answers: the answers to the events of a batch that were received before, and stay so.
    """

    answers: tuple[Any, ...] = ()


class EventTooLarge(JournalError):
    """Raised when the journal takes no event of that size. Retrying does not help: the message says which limit is too low."""


class RevisionConflict(JournalError):
    """Raised when another process saved a checkpoint since it was read: the state of this process is outdated."""


class DailyError(TelstateError):
    """Raised when Daily refused a request, could not be reached, or gave an unreadable answer.

    The message has Daily's answer, shortened, and what to do. Neither it nor the attributes contain the API key.

    Attributes:
        status: the HTTP status; None if there was no answer.
        error: Daily's name of the error, for example `invalid-request-error`. These names are stable.
        info: Daily's explanation, shortened, for people; it can change. Source of both: docs.daily.co/docs/rest-api/errors.
        repeated: True if the request was sent before without a conclusive answer. The first one may have been carried out,
            and may be the reason of this error.
    """

    repeated: bool = False
    status: int | None
    error: str | None
    info: str | None

    def __init__(
        self, message: str, *, status: int | None = None, error: str | None = None, info: str | None = None
    ) -> None:
        self.status = status
        self.error = error
        self.info = info
        super().__init__(message)


class UnknownResult(DailyError):
    """Raised when the answer to a request that changes something was lost: it may or may not have been carried out."""


class NotAllowed(DailyError):
    """Raised when the account, the room or the API key lacks the permission. Retrying does not help.

    Daily's `NOT_ALLOWED`, a key of another domain, or a dial-out that is not enabled for the room, the domain or the country.
    """


class InvalidRequest(DailyError):
    """Raised when Daily, or the package in between, does not accept a value or an id of the request, and did nothing. The same request
    would be refused again.

    Options are checked before they are sent; this is for what only the other side knows, for example that an installed daily-python has
    no such codec, or that a session id is none of Daily's.
    """


class NotHosting(DailyError):
    """Raised when the room hosts no call: nobody is in it, or the last participant has just left. Join it first, for
    example with the bot."""


class NoSuchSession(DailyError):
    """Raised when Daily does not know the session in that room: it ended, is in another room, or the id is something else."""


class DialoutInProgress(DailyError):
    """Raised when Daily says that a dial-out is already in progress."""


class RoomFull(DailyError):
    """Raised when the room has its maximum of SIP and PSTN sessions: 5, unless Daily raised it for the domain."""


class TemporarilyNotAvailable(DailyError):
    """Raised when Daily has no free worker, or got too many requests. Nothing was done: retry after a while.

    Attributes:
        retry_after: seconds that Daily asks to wait; 0 if it does not say.
    """

    retry_after: float = 0.0


class ForwardingFailed(DailyError):
    """Raised when a waiting caller could not be connected: they hung up, or the endpoint was not ready or is in use."""


class HandlerTimeout(TelstateError, TimeoutError):
    """Raised in place of a handler that took longer than its `timeout=`: it was cancelled. Handlers of errors see it.

    Attributes:
        handler: the handler's name.
        seconds: its timeout.
    """

    handler: str
    seconds: float

    def __init__(self, handler: str, seconds: float) -> None:
        self.handler = handler
        self.seconds = seconds
        super().__init__(f"{handler} was cancelled: it took longer than its timeout of {seconds:g} seconds")


class NotSupported(TelstateError):
    """Raised when the chosen way to Daily (REST, a call client) cannot carry this, and nothing was done: in nearly all cases before
    anything is sent, else because the transport says so itself."""


class CallEnded(TelstateError):
    """Raised by `wait_for` when the session ended before it reached the state, and by actions on an ended session.

    Attributes:
        session: the session as it ended; its `cause` says why. If only Daily knows of the end so far, it still has its
            last live state.
    """

    session: Any

    def __init__(self, session: Any, why: str = "has ended") -> None:
        self.session = session
        super().__init__(f"{session!r} {why}")


_SECRET = re.compile(
    r"\\*[\"']?daily_api_(?:key|url)\\*[\"']?\s*[:=]\s*(?:\\*[\"'][^\"']*[\"']?|[^\s,}\]\"'&]*)\s*,?\s*"
)
"""A key of Daily's API in a text: in any kind of quotes, cut off anywhere."""


@overload
def hide_secrets(text: str) -> str: ...
@overload
def hide_secrets(text: bytes) -> bytes: ...
@overload
def hide_secrets(text: str | bytes) -> str | bytes: ...
def hide_secrets(text: str | bytes) -> str | bytes:
    """Remove the key of Daily's API from a text that may contain JSON."""
    if isinstance(text, bytes):
        if b"daily_api_" not in text:
            return text
        return hide_secrets(text.decode("latin-1")).encode("latin-1")  # it keeps every byte as it is
    return _SECRET.sub("", text) if "daily_api_" in text else text


def shorten(value: object) -> str:
    """Show `value` in about 80 characters: an error must not carry a payload of 10 MB."""
    if isinstance(value, (str, bytes)):
        value = hide_secrets(value)
    if isinstance(value, (str, bytes)) and len(value) > _MAX_SHOWN:
        if isinstance(value, str):
            return f"{_whole_words(value[:_MAX_SHOWN])!r}… ({len(value)} long)"
        return f"{_whole_words(value[:_MAX_SHOWN].decode('latin-1')).encode('latin-1')!r}… ({len(value)} long)"
    if isinstance(value, dict):
        keys = ", ".join(repr(str(key)[:20]) for key in list(value)[:5])
        return f"an object with {keys}{', …' if len(value) > 5 else ''}"[:_MAX_SHOWN] if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return cut_text(repr(value), _MAX_SHOWN + 3)  # 3: the quotes


def cut_text(text: str, limit: int, *, end: bool = False) -> str:
    """The first characters of a text, or the last, with `…` for the rest. A word that the cut would halve is left out: nobody could tell
    any more whether it is a user or a name, and has to be masked."""
    if len(text) <= limit:
        return text
    if end:
        part = text[-limit:]
        word = _WORD_AT_START.match(part)
        return f"…{part[word.end() if word else 0 :]}"
    return f"{_whole_words(text[:limit])}…"


def _whole_words(part: str) -> str:
    """The beginning of a text without the word that the cut may have halved, unless it has only that one."""
    word = _WORD_AT_END.search(part, max(0, len(part) - _LONGEST_WORD - 1))
    return part if word is None else part[: word.start()]


_LONGEST_WORD = 256
_WORD_AT_START = re.compile(rf"[^\s<>\"]{{1,{_LONGEST_WORD}}}(?=[\s<>\"])")
_WORD_AT_END = re.compile(rf"(?<=[\s<>\"])[^\s<>\"]{{1,{_LONGEST_WORD}}}\Z")
"""None in a text of one long word."""


def printable(text: str) -> str:
    """Replace what would move the cursor, ring the bell or pass for a line of its own: texts from outside are untrusted."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, such as a traceback: its line ends stay."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))
