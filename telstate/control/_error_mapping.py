"""Maps Daily's error texts to exception types, so that programs need not compare texts.

Daily documents no error codes for telephony, only texts, and each of its interfaces has its own: names in daily-js (`NOT_ALLOWED`),
sentences in the REST API, other sentences and names in daily-python. They come bare, in JSON, or behind a prefix such as `Error handling
startDialout:`. A text that is not known here is a plain `DailyError`.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from telstate.errors import (
    DailyError,
    DialoutInProgress,
    ForwardingFailed,
    InvalidRequest,
    NoSuchSession,
    NotAllowed,
    NotHosting,
    NotSupported,
    RoomFull,
    TemporarilyNotAvailable,
    UnknownResult,
    cut_text,
)

__all__ = ["ADVICE", "Meaning", "error_type_of", "is_about_setup", "is_permanent", "meaning_of", "one_line"]

_SHOWN = 500
"""How many characters of Daily's text an error shows."""

_ErrorType: TypeAlias = type[DailyError] | type[NotSupported]

ADVICE: dict[_ErrorType, str] = {
    UnknownResult: "It may have been done: check before you send it again.",
    TemporarilyNotAvailable: "Nothing was done: try again shortly.",
    DialoutInProgress: "Wait until it ends, or stop it first.",
    RoomFull: "Wait until a session of the room ends, or ask Daily to raise max_sip_pstn_sessions_per_room.",
    NoSuchSession: "It has ended, or the session id or the room belongs to another call.",
    NotHosting: "Somebody has to be in the room: let the bot join first. Check the room's name, too.",
    ForwardingFailed: "The caller has hung up, or the endpoint was not ready (wait for dialin-ready) or is in use.",
    NotAllowed: "Check that Daily has enabled this for the account, and that the room has it enabled (enable_dialout); a call"
    " client needs an owner's token.",
    InvalidRequest: "The same request would be refused again: correct the value that is named, or leave the option out.",
    NotSupported: "Nothing was done: use another control for this, for example RestControl(api).",
}
"""What to do about each."""

_UNKNOWN_CLIENT_ERROR = (
    "daily-python does not say why. Likely causes: dial-out is not enabled for the room (enable_dialout) or for the domain (ask Daily);"
    " the bot has not joined the room yet; its token is not an owner's (is_owner). Check these in this order."
)
"""Source: pipecat#2418, where dial-out was not enabled."""
_NOT_TRANSFERRED = "The transfer was not done: check that the session is connected, and that the target is a SIP URI or a number that the domain may call."
_NO_SFU = "The meeting does not run on Daily's SFU (yet), which phone calls need: try again shortly."
_FAILED = "The call failed on its way: it can be tried again."
_NO_CODEC = "The two ends have no codec in common: name codecs that the far end takes, for a phone PCMU and PCMA."

_DIALOUT = r"dial[- _]?outs?"
_ARE = r"(is|are|was|were)"
_NOT = rf"( {_ARE})? not( yet)?|( {_ARE})?n.t"
_ENABLED = "(enabled|allowed|permitted|supported|implemented)"

_PATTERNS: tuple[tuple[_ErrorType, str], ...] = (
    # daily-python 0.36, whose refusals name its native errors: it was sent, but the answer was lost or has no id
    (UnknownResult, r"SessionIdNotReturned|session ?Ids? (was|were|is) not returned"),
    (UnknownResult, r"Response(Receive(Failed|Timeout)|DeserializationFailed)|response cancell?ed"),
    (UnknownResult, r"timed out waiting for( a)? response|timeout occurred for message"),
    # pipecat, whose on_error has the failures of its own forwards
    (UnknownResult, r"timeout handling dial-?in-?ready"),
    # docs.daily.co: startDialOut (daily-js), Errors
    (TemporarilyNotAvailable, r"TEMPORARILY[_ ](NOT[_ ]|UN)AVAILABLE"),
    (TemporarilyNotAvailable, rf"no (free )?workers? ({_ARE} )?(currently )?(available|free)"),
    # startDialOut, Errors; rooms/:name/dialOut/start, 400; daily-python 0.36
    (DialoutInProgress, r"DIALOUT_IN_PROGRESS|dialoutAlready(Started|Exists)"),
    (DialoutInProgress, rf"{_DIALOUT} ({_ARE} )?already (been )?(started|exists?|in progress|running)"),
    # pipecat's SIPTransport, which takes one call at a time
    (DialoutInProgress, r"already( (has|have))?( an?)? active calls?"),
    # No page documents this text, only the property's name and its default, 5. The gaps are bounded: without that a long text
    # would take minutes to search.
    (RoomFull, r"max_sip_pstn_sessions|(maximum|limit|too many)[^.]{0,40}\b(sip|pstn)\b[^.]{0,40}sessions?"),
    # daily-python 0.36 and pipecat, before anything is sent
    (InvalidRequest, rf"settings?(({_NOT}) valid|( {_ARE})? invalid)|JsonApiError"),
    (InvalidRequest, r"invalid (dial-?out|(send )?dtmf|sip (call )?(transfer|refer)) settings?"),
    (InvalidRequest, r"failed to parse( the)?( remote)? participant[ _]?ids?"),
    (InvalidRequest, r"can.t (send dtmf|transfer sip call|perform sip refer) if .?sessionId.? is not set"),
    # stopDialOut, Errors; dialOut/stop, sendDTMF, sipCallTransfer, sipRefer, 404
    (
        NoSuchSession,
        rf"NOT_FOUND|no {_DIALOUT}( session)? to stop|no (active )?sessions? running|invalid session_? ?ids?",
    ),
    # daily-python 0.36; pipecat's SIPTransport
    (NoSuchSession, r"no sip calls? ((is|are) )?in progress|NoSipCallInProgress|no such sessions?\b"),
    # every page below rooms/:name that acts on a call, 404; 400 if the call ended meanwhile; daily-python 0.36, if the client
    # is in no call
    (NotHosting, r"not (currently )?hosting (a|any) calls?|NotInACall|not in a call"),
    (NotHosting, r"calls? closed before (the )?commands? could be delivered"),
    # dialin/pinlessCallUpdate, 404; pipecat's on_error
    (ForwardingFailed, r"call forwarding failed|(unable to handle|error handling) dial-?in-?ready"),
    # startDialOut, Errors; texts that users have published; daily-python 0.36
    (NotAllowed, rf"NOT_ALLOWED|(({_NOT}) {_ENABLED}|disabled) for (the |this |your )?(rooms?|domains?|account)"),
    (NotAllowed, r"contact sales|contact support to enable|with your (current )?plan"),
    (NotAllowed, rf"is {_DIALOUT} enabled\?|international {_DIALOUT}({_NOT}) {_ENABLED}"),
    (NotAllowed, r"UserMustBe(Admin|Owner)|must be (a |the )?(room )?owner|InvalidMeetingToken"),
    # pipecat's SIPTransport
    (
        NotSupported,
        rf"(start_?dial_?out|stop_?dial_?out|send_?dtmf|sip_?call_?transfer|sip_?refer)({_NOT})( yet)? {_ENABLED}\b",
    ),
)
_COMPILED = tuple((kind, re.compile(text, re.IGNORECASE)) for kind, text in _PATTERNS)

_UNTYPED = (
    (r"UnknownCallClientError", _UNKNOWN_CLIENT_ERROR),
    (r"unable to transfer (the )?sip calls?|UnableToTransfer", _NOT_TRANSFERRED),
    (r"switch(ing)? to soup failed|could not initiate dial[- ]?out|not in SFU mode", _NO_SFU),
    (rf"{_DIALOUT} failed with error", _FAILED),
    (r"SDP negotiation failed", _NO_CODEC),
)
"""Texts that are known, and say neither that a retry helps nor that it does not; with what to do."""
_COMPILED_UNTYPED = tuple((re.compile(text, re.IGNORECASE), advice) for text, advice in _UNTYPED)

_PERMANENT = (NotAllowed, DialoutInProgress, InvalidRequest, NotSupported)
"""Without `NotHosting`: the bot may be about to join, and trying again rings nobody's phone."""
_SETUP = (NotAllowed, NotHosting, DialoutInProgress)
_SETUP_STATUSES = frozenset({401, 402, 403, 404})
"""Of a text that is not known: the key, the account and its payment, the room. Source: docs.daily.co/docs/rest-api/errors."""
_ABROAD = re.compile(r"\binternational\b", re.IGNORECASE)
"""The domain may not call that country: other numbers may be called."""


class Meaning(NamedTuple):
    """What a text of Daily's means."""

    kind: _ErrorType
    """`DailyError` itself if the text says no more."""
    advice: str
    """What to do; empty if the text is not known."""


def meaning_of(text: str) -> Meaning:
    """Return what a text of Daily's means."""
    text = text.replace("\\", "")  # JSON in a text of JSON
    for kind, pattern in _COMPILED:
        if pattern.search(text):
            return Meaning(kind, ADVICE[kind])
    advice = next((advice for pattern, advice in _COMPILED_UNTYPED if pattern.search(text)), "")
    return Meaning(DailyError, advice)


def error_type_of(text: str) -> _ErrorType:
    """Return the exception type for a text of Daily's; `DailyError` itself if the text says no more."""
    return meaning_of(text).kind


def is_permanent(error: DailyError | NotSupported) -> bool:
    """Return whether the same request would be refused again: something must change first.

    A refusal with an unknown text counts as permanent if its status is 400 to 499, which says that the request is at fault.
    """
    if isinstance(error, _PERMANENT):
        return True
    return type(error) is DailyError and error.status is not None and 400 <= error.status < 500


def is_about_setup(error: DailyError | NotSupported) -> bool:
    """Return whether the key, the account or the room is at fault, and not the number: any other number would be refused as well."""
    if isinstance(error, _SETUP):
        return not _ABROAD.search(str(error))
    return type(error) is DailyError and error.status in _SETUP_STATUSES


def one_line(text: str) -> str:
    """Return a text of Daily's as an error shows it: on one line, printable, cut short."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return cut_text(text, _SHOWN)
