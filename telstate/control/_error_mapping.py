"""What Daily's refusals mean: from its texts to errors of telstate's, so that nobody has to compare texts.

Daily documents no codes for these, only texts, and they differ by where they are told: daily-js has names (`NOT_ALLOWED`), the
REST pages sentences, daily-python sentences of its own. A text that is not known here stays a plain `DailyError`.
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
)

__all__ = ["ADVICE", "error_type_of", "is_permanent", "one_line"]

_SHOWN = 500
"""Characters of what Daily says that an error shows."""

_MEANINGS: tuple[tuple[type[DailyError], str], ...] = (
    # daily-python 0.36, whose refusals show the names of its native errors: sent, but the answer was lost or has no id
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
    # No page tells this text, only the property's name and that its default is 5. The gaps have bounds: without them a long text
    # of somebody's would take minutes.
    (RoomFull, r"max_sip_pstn_sessions|(maximum|limit|too many)[^.]{0,40}\b(sip|pstn)\b[^.]{0,40}sessions?"),
    # stopDialOut, Errors; dialOut/stop, sendDTMF, sipCallTransfer, sipRefer, 404
    (NoSuchSession, r"NOT_FOUND|no dialout to stop|no session running|invalid sessionId"),
    # every page below rooms/:name that speaks to a call, 404; 400 where the call ended meanwhile; daily-python 0.36, whose
    # client is in no call
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
_KNOWN = tuple((kind, re.compile(text, re.IGNORECASE)) for kind, text in _MEANINGS)

ADVICE: dict[type[DailyError], str] = {
    UnknownResult: "It may have been done: look before you send it again.",
    TemporarilyNotAvailable: "Nothing was done: try again shortly.",
    DialoutInProgress: "Wait for its end, or stop it first.",
    RoomFull: "Wait until a session of the room ends, or have Daily raise max_sip_pstn_sessions_per_room.",
    NoSuchSession: "It has ended, or the session id or the room is of another call.",
    NotHosting: "Somebody has to be in the room: let the bot join first.",
    ForwardingFailed: "The caller has hung up, or the endpoint was not ready (wait for dialin-ready) or is in use.",
    NotAllowed: "See that Daily has opened this for the account, and that the room has it enabled (enable_dialout); the token of"
    " a call client must be an owner's.",
}
"""What to do about each."""

_LASTING = (NotAllowed, DialoutInProgress)
"""Not `NotHosting`: the bot may be about to join, and nobody's phone rings for asking again."""


def error_type_of(text: str) -> type[DailyError]:
    """Say what a refusal means, by what Daily said, in whatever words; `DailyError` itself if they are not known."""
    return next((kind for kind, known in _KNOWN if known.search(text)), DailyError)


def is_permanent(error: DailyError) -> bool:
    """True if the same request would be refused in a moment too: something must change first.

    What was refused in words that nobody knows is taken for lasting if Daily answered with a status of 400 to 499: it says that
    the request is at fault.
    """
    if isinstance(error, _LASTING):
        return True
    return type(error) is DailyError and error.status is not None and 400 <= error.status < 500


def one_line(text: str) -> str:
    """What Daily said, as an error shows it: on one line, without what cannot be printed, cut short."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
