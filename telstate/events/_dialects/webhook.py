"""Daily's webhooks: snake_case fields in an envelope. Source: the pages under docs.daily.co/reference/rest-api/webhooks.

The pinless dial-in webhook (`room_creation_api`) has no envelope. It is detected by `To` and `From`, or `callId` and
`callDomain`, and has no key that names a type: JSON of other vendors may have a `callId` too. pipecat's runner passes it on to
a bot as `dialin_settings`.

A SIP trunk's webhook has a type. Daily's page about its fields is known only in part, so they are read inside an envelope and at the
top level, in each spelling that Daily uses for pinless dial-in.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from telstate.events._base import BY_NAME, seconds_of
from telstate.events._json import is_empty, is_unknown

__all__ = ["KEYS", "NO_WEBHOOKS", "PARTICIPANTS", "ROOM_KEYS", "is_pinless", "matches", "participant_time", "translate"]

KEYS = {
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
_CALLER_KEYS = {"call_id": "callId", "call_domain": "callDomain", "sip_headers": "sipHeaders"}
"""In pipecat's `dialin_settings`."""
_TYPE_KEYS = frozenset({"type", "event", "action"})
"""The keys by which others name what happened. A waiting caller has none of them."""
ROOM_KEYS = ("room", "domain_id")
_TRUNK = "sip_trunk."
"""The types of a SIP trunk's webhook begin with it."""
_TYPES = {"sip_trunk.incoming": "sip-trunk-incoming"}
"""The types that have an underscore in Daily's webhooks."""


def matches(payload: dict[str, Any]) -> bool:
    """Only webhooks have an envelope of `type` and `payload`. A trunk's may have no `payload`."""
    if "type" not in payload:
        return False
    kind = payload["type"]
    return "payload" in payload or (isinstance(kind, str) and kind.startswith(_TRUNK))


def is_pinless(payload: dict[str, Any]) -> bool:
    """Return True for a waiting caller. The evidence is weak, so this is tried after all other dialects."""
    if not _TYPE_KEYS.isdisjoint(payload):
        return False
    settings = payload.get("dialin_settings")
    if isinstance(settings, dict):
        return _names_caller(_respell_caller(settings))
    return _names_caller(payload)


def _names_caller(fields: dict[str, Any]) -> bool:
    if "To" in fields and "From" in fields:
        return True
    call_id, domain = fields.get("callId"), fields.get("callDomain")
    return isinstance(call_id, str) and isinstance(domain, str) and bool(call_id.strip() and domain.strip())


def translate(payload: dict[str, Any]) -> dict[str, Any]:
    """Take the event out of its envelope and translate its keys to daily-js; unknown keys keep their spelling."""
    if "type" not in payload and is_pinless(payload):
        return _caller(payload)
    inner = payload.get("payload")
    fields = inner if isinstance(inner, dict) else {}
    kind = payload.get("type")
    action = _action(kind)
    if action == "sip-trunk-incoming":
        return _trunk_caller(payload)
    event: dict[str, Any] = _participant(action, fields) if action in PARTICIPANTS else _respell(fields)
    for key, value in payload.items():
        if key not in ("type", "payload"):
            event[_ENVELOPE.get(key, key)] = value
    event["action"] = kind if action is None else action
    return event


def _caller(payload: dict[str, Any]) -> dict[str, Any]:
    """Translate a waiting caller: the webhook's body, or what pipecat's runner makes of it, which has it nested."""
    settings = payload.get("dialin_settings")
    if isinstance(settings, dict):
        payload = {key: value for key, value in payload.items() if key != "dialin_settings"}
    event = _with_titles({**payload, **_respell_caller(settings if isinstance(settings, dict) else payload)})
    # A waiting caller has one call id, so the call id identifies a redelivery.
    return {"webhookId": event.get("callId"), **event, "action": "pinless-dialin"}


def _respell_caller(fields: dict[str, Any]) -> dict[str, Any]:
    return {_CALLER_KEYS.get(key, key): value for key, value in fields.items()}


def _with_titles(event: dict[str, Any]) -> dict[str, Any]:
    """Write `to` and `from` as Daily's pinless webhook does, unless both spellings have a value."""
    for key in ("to", "from"):
        if key in event and is_unknown(event.get(key.title())):
            event[key.title()] = event.pop(key)
    return event


def _trunk_caller(payload: dict[str, Any]) -> dict[str, Any]:
    """Translate a call on a SIP trunk. What stands in the `payload` outweighs what stands beside it."""
    inner = payload.get("payload")
    event = {_ENVELOPE.get(key, key): value for key, value in payload.items() if key != "type"}
    if inner is None or isinstance(inner, dict):
        event.pop("payload", None)
    if isinstance(inner, dict):
        event.update((key, value) for key, value in inner.items() if key not in event or not is_unknown(value))
    event = _with_titles(_respell_caller(_respell(event)))
    event = {"roomUrl" if key == "room_url" else key: value for key, value in event.items()}
    event.update(_room(event.pop("room", None), event.pop("roomUrl", None)))
    if is_unknown(event.get("webhookId")) and (own := _own_id(event)) is not None:
        event["webhookId"] = own
    return {**event, "action": "sip-trunk-incoming"}


def _room(room: Any, url: Any) -> dict[str, Any]:
    """Return a room's name and address. It comes as an object with `url` and perhaps `name`; what else that has is kept."""
    rest: dict[str, Any] = {}
    name = room
    if isinstance(room, dict):
        name, own_url = room.get("name"), room.get("url")
        url = url if is_unknown(own_url) else own_url
        rest = {key: value for key, value in room.items() if key not in ("name", "url")}
        if not isinstance(name, str) and not is_unknown(name):
            rest["name"], name = name, None
    elif isinstance(room, str) and "/" in room:
        name, url = None, room
    if is_unknown(name):
        name = _last_segment(url)
    found = {"room": name, "roomUrl": url, "roomDetails": rest}
    return {key: value for key, value in found.items() if not is_unknown(value)}


def _last_segment(url: Any) -> str | None:
    """Return the name of the room at an address."""
    try:
        return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]) if isinstance(url, str) else None
    except ValueError:  # not a URL
        return None


def _own_id(event: dict[str, Any]) -> str | None:
    """Return what identifies a redelivery where the envelope has no id: the call's id, else its room and time."""
    call_id, room, at = event.get("callId"), event.get("room"), event.get("occurredAt")
    if isinstance(call_id, str) and call_id.strip():
        return call_id
    return f"{room} {at}" if isinstance(room, str) and isinstance(at, (str, int, float)) and not is_empty(at) else None


NO_WEBHOOKS = frozenset({"left-meeting", "network-connection"})
"""What only a call client knows."""
PARTICIPANTS = ("participant-joined", "participant-left")


def _respell(fields: dict[str, Any]) -> dict[str, Any]:
    event = {KEYS.get(key, key): value for key, value in fields.items()}
    if "end_ts" in fields and "timestamp" in fields:  # whichever comes last
        event["occurredAt"] = fields["timestamp"] if is_unknown(fields["end_ts"]) else fields["end_ts"]
    return event


def _action(kind: Any) -> str | None:
    """`dialout.answered` is `dialout-answered`; None for a type that is not known from Daily's webhooks."""
    if not isinstance(kind, str):
        return None
    action = _TYPES.get(kind) or kind.replace(".", "-")
    known = BY_NAME.get(action)
    is_type = known is not None and not known.local and "." in kind and action not in NO_WEBHOOKS
    return action if is_type else None


def _participant(action: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Nest the participant as daily-js does. The time comes from `joined_at` and `duration`, which only webhooks have."""
    event: dict[str, Any] = {KEYS[key]: fields[key] for key in ("domain_id",) if key in fields}
    if "room" in fields:
        event["room"] = fields["room"]
    event["participant"] = {key: value for key, value in fields.items() if key not in ROOM_KEYS}
    at = participant_time(action, fields)
    if at is not None:
        event["occurredAt"] = at
    return event


def participant_time(action: str, fields: dict[str, Any]) -> float | None:
    """Return when a participant joined or left. Invalid times stay with the participant as they came."""
    joined, stayed = seconds_of(fields.get("joined_at")), seconds_of(fields.get("duration"))
    if joined is None:
        return None
    if stayed is not None:
        return joined + stayed
    return joined if action == "participant-joined" else None
