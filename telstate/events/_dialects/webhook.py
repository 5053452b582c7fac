"""Daily's webhooks: snake_case fields in an envelope. Source: the pages under docs.daily.co/reference/rest-api/webhooks.

The pinless dial-in webhook (`room_creation_api`) has no envelope and is told by its `To` and `From`, or its `callId`.
"""

from __future__ import annotations

from typing import Any

from telstate.events._base import BY_NAME, is_time

__all__ = ["is_pinless", "matches", "translate"]

_KEYS = {
    "timestamp": "occurredAt",  # when it happened, whole seconds
    "session_id": "sessionId",
    "user_id": "userId",
    "domain_id": "domainId",
    "error_msg": "errorMsg",
    "sip_from": "sipFrom",
    "sip_headers": "sipHeaders",
    "sip_endpoint": "sipEndpoint",
    "display_name": "displayName",
    "caller_id": "phoneNumberId",  # a UUID here; daily-js's callerId is a number
    "mtg_session_id": "mtgSessionId",
    "to_endpoint": "toEndpoint",
    "from_endpoint": "fromEndpoint",
    "is_sip_refer": "isSipRefer",
    "meeting_id": "meetingId",
    "end_ts": "occurredAt",  # meeting.ended has this instead of a timestamp
}
_ENVELOPE = {"event_ts": "sentAt", "id": "webhookId"}
_OF_THE_ROOM = ("room", "domain_id")


def matches(payload: dict[str, Any]) -> bool:
    """An envelope."""
    return "type" in payload and "payload" in payload


def is_pinless(payload: dict[str, Any]) -> bool:
    """A waiting caller. `callId` alone is a weak sign, so this is tried after all other dialects."""
    return ("To" in payload and "From" in payload) or "callId" in payload


def translate(payload: dict[str, Any]) -> dict[str, Any]:
    """Take the event out of its envelope and spell its keys as daily-js does; unknown keys keep their spelling."""
    if "type" not in payload and is_pinless(payload):
        # It has no envelope; one caller on hold has one call id, so that tells a redelivery.
        return {"webhookId": payload.get("callId"), **payload, "action": "pinless-dialin"}
    inner = payload.get("payload")
    fields = inner if isinstance(inner, dict) else {}
    kind = payload.get("type")
    action = _action(kind)
    event: dict[str, Any] = _participant(fields) if action in _PARTICIPANTS else _respell(fields)
    for key, value in payload.items():
        if key not in ("type", "payload"):
            event[_ENVELOPE.get(key, key)] = value
    event["action"] = kind if action is None else action
    return event


_PARTICIPANTS = ("participant-joined", "participant-left")


def _respell(fields: dict[str, Any]) -> dict[str, Any]:
    return {_KEYS.get(key, key): value for key, value in fields.items()}


def _action(kind: Any) -> str | None:
    """`dialout.answered` is `dialout-answered`; None for a type that Daily's webhooks do not have as far as we know."""
    if not isinstance(kind, str):
        return None
    action = kind.replace(".", "-")
    known = BY_NAME.get(action)
    return action if known is not None and not known.local and "." in kind else None


def _participant(fields: dict[str, Any]) -> dict[str, Any]:
    """daily-js nests what it says of a participant; it has no time, webhooks have that of joining and a duration."""
    event: dict[str, Any] = {_KEYS[key]: fields[key] for key in ("domain_id",) if key in fields}
    if "room" in fields:
        event["room"] = fields["room"]
    event["participant"] = {key: value for key, value in fields.items() if key not in _OF_THE_ROOM}
    joined, stayed = fields.get("joined_at"), fields.get("duration")
    if is_time(joined):  # what is odd stays with the participant as it came
        event["occurredAt"] = joined + stayed if is_time(stayed) else joined
    return event
