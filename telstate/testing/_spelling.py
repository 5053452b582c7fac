"""Spells an event in each dialect: with the dialect's keys, and only the data that the dialect has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from telstate.events import Dialect
from telstate.testing._scripts import ScriptedEvent

__all__ = ["body_of", "spell"]

_CLIENT_ID = "17225364729060.9442072768918943"
_DOMAIN_ID = "04b89420-cf8b-4ea5-a428-02c40b0e2a59"

_DIALIN = ("sessionId", "sipFrom", "sipEndpoint", "sipCallId", "provider")
_DIALOUT = ("sessionId", "userId", "origin", "destination", "callerId", "sipCallId", "provider")
_ERROR = ("errorMsg", "sessionId", "sipCallId", "provider", "details", "type")
_DAILY_JS = {
    "dialin-ready": ("sipEndpoint", "provider"),
    "dialin-connected": _DIALIN,
    "dialin-stopped": _DIALIN,
    "dialin-warning": ("errorMsg", *_DIALIN),
    "dialin-error": _ERROR,
    "dialout-connected": _DIALOUT,
    "dialout-answered": _DIALOUT,
    "dialout-stopped": _DIALOUT,
    "dialout-warning": ("errorMsg", *_DIALOUT),
    "dialout-error": _ERROR,
    "dtmf-event": ("sessionId", "tone", "volume", "method"),
}

_WEBHOOK = {
    "ready": {"sipEndpoint": "sip_endpoint"},
    "dialin": {
        "sessionId": "session_id",
        "sipFrom": "sip_from",
        "sipHeaders": "sip_headers",
        "displayName": "display_name",
    },
    "dialout": {
        "sessionId": "session_id",
        "userId": "user_id",
        "destination": "destination",
        "origin": "origin",
        "phoneNumberId": "caller_id",
    },
    "error": {"sessionId": "session_id", "userId": "user_id", "errorMsg": "error_msg"},
    "calltransfer": {
        "sessionId": "session_id",
        "mtgSessionId": "mtg_session_id",
        "toEndpoint": "to_endpoint",
        "fromEndpoint": "from_endpoint",
        "isSipRefer": "is_sip_refer",
    },
}
_PARTICIPANT = {
    "userId": "user_id",
    "owner": "owner",
    "networkQualityState": "networkQualityState",
    "willEjectAt": "will_eject_at",
    "permissions": "permissions",
}
_WITH_TEXT = ("dialin-error", "dialout-error", "dialin-warning")
_IN_IDS = {
    "dialin": "dial-in",
    "dialout": "dial-out",
    "calltransfer": "call-transfer",
    "connected": "con",
    "stopped": "stop",
    "warning": "warn",
    "error": "err",
    "triggered": "trig",
    "initiated": "init",
}
"""The abbreviations in the ids of Daily's examples: `2868-dial-out-con-<session>`."""

_PYTHON = {
    "dialin-connected": {"sessionId": "sessionId", "displayName": "displayName", "sipFrom": "sipFrom"},
    "dialin-stopped": {"sessionId": "sessionId", "sipFrom": "sipFrom"},
    "dtmf-event": {"sessionId": "sessionId", "tone": "tone", "volume": "volume", "method": "method"},
}
_NOT_PYTHON = (
    "calltransfer-triggered",
    "calltransfer-initiated",
    "calltransfer-answered",
    "calltransfer-completed",
    "pinless-dialin",
)
_PYTHON_OTHER = {"sessionId": "sessionId", "errorMsg": "message"}


def spell(event: ScriptedEvent, room: str, dialect: Dialect, sent_at: float | None = None) -> dict[str, Any] | None:
    """Return the payload of an event in a dialect; None if the dialect does not have it.

    Args:
        event: the event.
        room: the room's name.
        dialect: `daily-js`, `webhook`, `daily-python`, or `journal` (around a daily-js payload).
        sent_at: when the webhook is sent, in Unix seconds; by default when it happens.
    """
    if dialect is Dialect.DAILY_JS:
        return _as_daily_js(event)
    if dialect is Dialect.WEBHOOK:
        return _as_webhook(event, room, event.at if sent_at is None else sent_at)
    if dialect is Dialect.DAILY_PYTHON:
        return _as_daily_python(event)
    inner = _as_daily_js(event)
    at = event.at if sent_at is None else sent_at
    return inner and {"v": 1, "seq": 0, "at": at, "dialect": "daily-js", "event": None, "payload": inner}


def _as_daily_js(event: ScriptedEvent) -> dict[str, Any] | None:
    name, facts = event.name, event.facts
    head = {"action": name, "callClientId": _CLIENT_ID}
    if name in ("participant-joined", "participant-left"):
        person = {"session_id": facts["sessionId"], "user_name": facts.get("displayName", "")}
        return {**head, "participant": {**person, "local": False, "owner": False}}
    keys = _DAILY_JS.get(name)
    return None if keys is None else head | {key: facts[key] for key in keys if key in facts}


def _as_webhook(event: ScriptedEvent, room: str, sent_at: float) -> dict[str, Any] | None:
    """Source of fields and ids: docs.daily.co/reference/rest-api/webhooks/events and the pages below it."""
    name, facts = event.name, event.facts
    family, _, what = name.partition("-")
    if name == "pinless-dialin":  # a webhook without an envelope
        return {key: facts[key] for key in ("To", "From", "callId", "callDomain", "sipHeaders") if key in facts}
    location = {"domain_id": facts.get("domainId", _DOMAIN_ID), "room": room}
    if family == "participant":
        event_id, payload = _participant_of_webhook(event, what)
    elif family == "meeting":
        event_id = f"mtg-{what}-{facts['meetingId']}"
        payload = {"start_ts": facts["startedAt"], "end_ts": event.at, "meeting_id": facts["meetingId"]}
    elif family in ("dialin", "dialout", "calltransfer"):
        keys = _WEBHOOK[what if what == "ready" else "error" if name in _WITH_TEXT else family]
        payload = {"timestamp": str(int(event.at))}
        payload |= {key: facts[fact] for fact, key in keys.items() if fact in facts}
        if name == "dialout-warning":  # the page's example lacks it
            payload.pop("origin", None)
        if name in ("calltransfer-answered", "calltransfer-completed"):
            payload.pop("is_sip_refer", None)
        event_id = (
            f"{_IN_IDS[family]}-{'ans' if what == 'answered' and family == 'dialout' else _IN_IDS.get(what, what)}"
        )
        event_id = f"2868-{event_id}-{facts.get('sessionId')}"
        if what == "ready":
            event_id = f"3602-dial-in-ready-{int(event.at)}"
        if family == "calltransfer":
            event_id += str(int(event.at))
    else:
        return None  # only clients receive key presses
    return {
        "version": "1.0.0",
        "type": f"{family}.{what}",
        "id": event_id,
        "payload": location | payload,
        "event_ts": round(sent_at, 3),
    }


def _participant_of_webhook(event: ScriptedEvent, what: str) -> tuple[str, dict[str, Any]]:
    facts = event.facts
    payload = {
        "session_id": facts["sessionId"],
        "joined_at": facts.get("joinedAt", event.at),
        "user_name": facts.get("displayName"),
    }
    payload |= {key: facts[fact] for fact, key in _PARTICIPANT.items() if fact in facts}
    if what == "left":
        payload["duration"] = event.at - payload["joined_at"]
    return f"ptcpt-{'join' if what == 'joined' else what}-{facts['sessionId']}-{int(event.at * 1000)}", payload


def _as_daily_python(event: ScriptedEvent) -> dict[str, Any] | None:
    name, facts = event.name, event.facts
    if name in _NOT_PYTHON:
        return None
    handler = f"on_{name.replace('-', '_')}"
    if name == "dialin-ready":
        return {"handler": handler, "data": facts["sipEndpoint"]}
    if name.startswith("participant"):
        info = {"userName": facts.get("displayName", ""), "isLocal": False, "isOwner": False}
        return {"handler": handler, "data": {"id": facts["sessionId"], "info": info}}
    keys = _PYTHON.get(name, _PYTHON_OTHER)
    return {"handler": handler, "data": {key: facts[fact] for fact, key in keys.items() if fact in facts}}


def body_of(payload: Mapping[str, Any]) -> bytes:
    """Return the bytes that JavaScript's `JSON.stringify` would write."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
