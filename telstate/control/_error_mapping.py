"""Maps Daily's error texts to exception types, so that programs need not compare texts.

Daily documents no error codes for telephony, only texts, and each of its interfaces has its own: names in daily-js (`NOT_ALLOWED`),
sentences in the REST API, other sentences in daily-python. A text that is not known here is a plain `DailyError`.
"""

from __future__ import annotations

import re

from telstate.errors import (
    DailyError,
    DialoutInProgress,
    ForwardingFailed,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    RoomFull,
    TemporarilyNotAvailable,
    UnknownResult,
    cut_text,
)

__all__ = ["ADVICE", "error_type_of", "is_permanent", "one_line"]

_SHOWN = 500
"""How many characters of Daily's text an error shows."""

_PATTERNS: tuple[tuple[type[DailyError], str], ...] = (
    # daily-python 0.36, whose refusals name its native errors: it was sent, but the answer was lost or has no id
    (
        UnknownResult,
        r"SessionIdNotReturned|sessionId was not returned|ResponseReceive(Failed|Timeout)|ResponseDeserializationFailed",
    ),
    (UnknownResult, r"timed out waiting for response|response canceled"),
    # docs.daily.co: startDialOut (daily-js), Errors
    (TemporarilyNotAvailable, r"TEMPORARILY_NOT_AVAILABLE|no workers? (is |are )?available"),
    # startDialOut, Errors; rooms/:name/dialOut/start, 400; daily-python 0.36
    (
        DialoutInProgress,
        r"DIALOUT_IN_PROGRESS|dial-?out (is )?already (started|exists|in progress)|dialoutAlready(Started|Exists)",
    ),
    # No page documents this text, only the property's name and its default, 5. The gaps are bounded: without that a long text
    # would take minutes to search.
    (RoomFull, r"max_sip_pstn_sessions|(maximum|limit|too many)[^.]{0,40}\b(sip|pstn)\b[^.]{0,40}sessions?"),
    # stopDialOut, Errors; dialOut/stop, sendDTMF, sipCallTransfer, sipRefer, 404
    (NoSuchSession, r"NOT_FOUND|no dialout to stop|no session running|invalid sessionId"),
    # every page below rooms/:name that acts on a call, 404; 400 if the call ended meanwhile; daily-python 0.36, if the client
    # is in no call
    (NotHosting, r"not hosting a call|call closed before command could be delivered|NotInACall"),
    # dialin/pinlessCallUpdate, 404
    (ForwardingFailed, r"call forwarding failed"),
    # startDialOut, Errors; texts that users have published; daily-python 0.36
    (
        NotAllowed,
        r"NOT_ALLOWED|not enabled for (the )?(room|domain)|Contact sales|with your current plan|is dialout enabled\?",
    ),
    (NotAllowed, r"UserMustBeAdmin|must be a room owner"),
)
_COMPILED = tuple((kind, re.compile(text, re.IGNORECASE)) for kind, text in _PATTERNS)

ADVICE: dict[type[DailyError], str] = {
    UnknownResult: "It may have been done: check before you send it again.",
    TemporarilyNotAvailable: "Nothing was done: try again shortly.",
    DialoutInProgress: "Wait until it ends, or stop it first.",
    RoomFull: "Wait until a session of the room ends, or ask Daily to raise max_sip_pstn_sessions_per_room.",
    NoSuchSession: "It has ended, or the session id or the room belongs to another call.",
    NotHosting: "Somebody has to be in the room: let the bot join first.",
    ForwardingFailed: "The caller has hung up, or the endpoint was not ready (wait for dialin-ready) or is in use.",
    NotAllowed: "Check that Daily has enabled this for the account, and that the room has it enabled (enable_dialout); a call"
    " client needs an owner's token.",
}
"""What to do about each."""

_PERMANENT = (NotAllowed, DialoutInProgress)
"""Without `NotHosting`: the bot may be about to join, and trying again rings nobody's phone."""


def error_type_of(text: str) -> type[DailyError]:
    """Return the exception type for a text of Daily's; `DailyError` itself if the text is not known."""
    return next((kind for kind, pattern in _COMPILED if pattern.search(text)), DailyError)


def is_permanent(error: DailyError) -> bool:
    """Return whether the same request would be refused again: something must change first.

    A refusal with an unknown text counts as permanent if its status is 400 to 499, which says that the request is at fault.
    """
    if isinstance(error, _PERMANENT):
        return True
    return type(error) is DailyError and error.status is not None and 400 <= error.status < 500


def one_line(text: str) -> str:
    """Return a text of Daily's as an error shows it: on one line, printable, cut short."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return cut_text(text, _SHOWN)
