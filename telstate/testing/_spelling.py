"""Tell a happening as each dialect would: with its keys, and without what it does not tell."""

from __future__ import annotations

import json
from typing import Any

from telstate.events import Dialect
from telstate.testing._scripts import ScriptedEvent

__all__ = ["spell"]

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
"""How the ids of the examples abbreviate: `2868-dial-out-con-<session>`."""

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


def spell(happening: ScriptedEvent, room: str, dialect: Dialect, sent_at: float | None = None) -> dict[str, Any] | None:
    """Spell one happening; None where the dialect does not tell of it.

    Args:
        happening: what happened.
        room: in which room.
        dialect: `daily-js`, `webhook`, `daily-python`, or `journal` (around a daily-js payload).
        sent_at: when the webhook is sent, in Unix seconds; by default at once.
    """
    if dialect is Dialect.DAILY_JS:
        return _as_daily_js(happening)
    if dialect is Dialect.WEBHOOK:
        return _as_webhook(happening, room, happening.at if sent_at is None else sent_at)
    if dialect is Dialect.DAILY_PYTHON:
        return _as_daily_python(happening)
    inner = _as_daily_js(happening)
    at = happening.at if sent_at is None else sent_at
    return inner and {"v": 1, "seq": 0, "at": at, "dialect": "daily-js", "event": None, "payload": inner}


def _as_daily_js(happening: ScriptedEvent) -> dict[str, Any] | None:
    name, facts = happening.name, happening.facts
    head = {"action": name, "callClientId": _CLIENT_ID}
    if name in ("participant-joined", "participant-left"):
        who = {
            "session_id": facts["sessionId"],
            "user_name": facts.get("displayName", ""),
            "local": False,
            "owner": False,
        }
        return {**head, "participant": who}
    keys = _DAILY_JS.get(name)
    return None if keys is None else head | {key: facts[key] for key in keys if key in facts}


def _as_webhook(happening: ScriptedEvent, room: str, sent_at: float) -> dict[str, Any] | None:
    """Source of fields and ids: docs.daily.co/reference/rest-api/webhooks/events and the pages below it."""
    name, facts = happening.name, happening.facts
    family, _, what = name.partition("-")
    if name == "pinless-dialin":  # a webhook without an envelope
        return {key: facts[key] for key in ("To", "From", "callId", "callDomain", "sipHeaders") if key in facts}
    place = {"domain_id": facts.get("domainId", _DOMAIN_ID), "room": room}
    if family == "participant":
        event_id, payload = _participant_of_webhook(happening, what)
    elif family == "meeting":
        event_id = f"mtg-{what}-{facts['meetingId']}"
        payload = {"start_ts": facts["startedAt"], "end_ts": happening.at, "meeting_id": facts["meetingId"]}
    elif family in ("dialin", "dialout", "calltransfer"):
        keys = _WEBHOOK[what if what == "ready" else "error" if name in _WITH_TEXT else family]
        payload = {"timestamp": str(int(happening.at))}
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
            event_id = f"3602-dial-in-ready-{int(happening.at)}"
        if family == "calltransfer":
            event_id += str(int(happening.at))
    else:
        return None  # key presses are told to clients only
    return {
        "version": "1.0.0",
        "type": f"{family}.{what}",
        "id": event_id,
        "payload": place | payload,
        "event_ts": round(sent_at, 3),
    }


def _participant_of_webhook(happening: ScriptedEvent, what: str) -> tuple[str, dict[str, Any]]:
    facts = happening.facts
    payload = {
        "session_id": facts["sessionId"],
        "joined_at": facts.get("joinedAt", happening.at),
        "user_name": facts.get("displayName"),
    }
    payload |= {key: facts[fact] for fact, key in _PARTICIPANT.items() if fact in facts}
    if what == "left":
        payload["duration"] = happening.at - payload["joined_at"]
    return f"ptcpt-{'join' if what == 'joined' else what}-{facts['sessionId']}-{int(happening.at * 1000)}", payload


def _as_daily_python(happening: ScriptedEvent) -> dict[str, Any] | None:
    name, facts = happening.name, happening.facts
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


def as_line(payload: dict[str, Any]) -> bytes:
    """One line of a log."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
