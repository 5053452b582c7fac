"""A webhook may be delivered several times, and late: the key by which it is known again, and the time for which it counts."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from telstate.events import DialinReady, DialinWarning, DialoutWarning, Event, MeetingEnded

__all__ = ["key_of", "received_or_sent"]

_LONG_KEY = 200
"""Keys are kept for hours, so longer ones are replaced by their digest."""


def received_or_sent(received_at: float | None, sent_at: float | None) -> float | None:
    """Return the time of an event that has none of its own. A webhook that is delivered again arrives long after it was sent first."""
    if sent_at is None or (received_at is not None and received_at <= sent_at):
        return received_at
    return sent_at


def key_of(event: Event, fields: Mapping[str, Any]) -> str:
    """Return the key by which webhooks are deduplicated. Daily reuses some ids, so more than the id must agree for those.

    Nearly all ids contain the session; one that does not may be used again for another session.
    """
    further, webhook_id, participant = _FURTHER_KEYS.get(type(event)), fields["webhook_id"], fields.get("participant")
    session_id = fields.get("session_id") if participant is None else participant.__dict__["session_id"]
    key = f"{fields['action']} {webhook_id}"
    if session_id is not None and session_id not in webhook_id:
        key = f"{key} {session_id}"
    if participant is not None:  # one of the same id may join again
        key = f"{key} {(participant.__pydantic_extra__ or {}).get('joined_at')}"
    elif further is not None:
        key = " ".join([key, *(str(fields[name]) for name in further)])
    return key if len(key) < _LONG_KEY else blake2b(key.encode("utf-8", "replace")).hexdigest()


_FURTHER_KEYS: Mapping[type[Event], tuple[str, ...]] = {
    MeetingEnded: ("room", "meeting_id"),
    DialinReady: ("sip_endpoint",),  # the id has only the second: two endpoints that are ready in one second share it
    # All warnings of a session share one id.
    **dict.fromkeys((DialinWarning, DialoutWarning), ("occurred_at", "error_msg")),
}
"""What else is in the key of some events, besides their type and id."""
