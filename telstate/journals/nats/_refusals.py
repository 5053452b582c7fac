"""What an error of JetStream means: a full stream and a missing leader look nearly the same, but only the second one passes by waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.errors import JournalError, RevisionConflict
from telstate.journals.nats._errors import NatsRefused, NatsUnavailable, StreamFull

__all__ = ["IN_BATCH_ALREADY", "NO_MESSAGE", "meaning_of"]

_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_NO_SPACE = frozenset({10023, 10028, 10047})
_STORE_FAILED = 10077
"""Mostly `maximum bytes exceeded`, with the code 503, which otherwise says that there is no leader."""
_BATCH_AGAIN = frozenset({10176, 10210})
"""A batch of which a message was lost on the way, and too many batches at once."""
NO_MESSAGE = 10037
IN_BATCH_ALREADY = 10201
"""A message of a batch is stored already: an earlier try has stored them all."""


def meaning_of(error: Mapping[str, Any], subject: str) -> JournalError:
    """Return what a refusal means. A `NatsUnavailable` may pass by waiting, nothing else does."""
    code, text = error.get("err_code", 0), error.get("description", "no reason given")
    if code in _WRONG_LAST_SEQUENCE:
        return RevisionConflict(f"{subject}: somebody else has written it since ({text})")
    if code in _NO_SPACE or code == _STORE_FAILED:
        hint = "raise max_bytes of the stream, or give the server more storage"
        return StreamFull(f"NATS has no room for {subject}: {text} ({code}); {hint}", code)
    if error.get("code") == 503 or code in _BATCH_AGAIN:
        return NatsUnavailable(f"NATS cannot store {subject} now: {text} ({code})")
    return NatsRefused(f"NATS refused {subject}: {text} ({code})", code)
