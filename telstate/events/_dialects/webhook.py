"""Daily's webhooks: snake_case fields in an envelope. Source: the pages under docs.daily.co/reference/rest-api/webhooks.

The pinless dial-in webhook (`room_creation_api`) has no envelope and is detected by `To` and `From`, or `callId`.
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
    "end_ts": "occurredAt",  # meeting.ended has no timestamp
}
_ENVELOPE = {"event_ts": "sentAt", "id": "webhookId"}
_ROOM_KEYS = ("room", "domain_id")


def matches(payload: dict[str, Any]) -> bool:
    """Only webhooks have an envelope of `type` and `payload`."""
    return "type" in payload and "payload" in payload


def is_pinless(payload: dict[str, Any]) -> bool:
    """Return True for a waiting caller. `callId` alone is weak evidence, so this is tried after all other dialects."""
    return ("To" in payload and "From" in payload) or "callId" in payload


def translate(payload: dict[str, Any]) -> dict[str, Any]:
    """Take the event out of its envelope and translate its keys to daily-js; unknown keys keep their spelling."""
    if "type" not in payload and is_pinless(payload):
        # It has no envelope. A waiting caller has one call id, so the call id identifies a redelivery.
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
    """`dialout.answered` is `dialout-answered`; None for a type that is not known from Daily's webhooks."""
    if not isinstance(kind, str):
        return None
    action = kind.replace(".", "-")
    known = BY_NAME.get(action)
    return action if known is not None and not known.local and "." in kind else None


def _participant(fields: dict[str, Any]) -> dict[str, Any]:
    """Nest the participant as daily-js does. The time comes from `joined_at` and `duration`, which only webhooks have."""
    event: dict[str, Any] = {_KEYS[key]: fields[key] for key in ("domain_id",) if key in fields}
    if "room" in fields:
        event["room"] = fields["room"]
    event["participant"] = {key: value for key, value in fields.items() if key not in _ROOM_KEYS}
    joined, stayed = fields.get("joined_at"), fields.get("duration")
    if is_time(joined):  # invalid times stay with the participant as they came
        event["occurredAt"] = joined + stayed if is_time(stayed) else joined
    return event
