"""daily-python and pipecat: the name of a handler and the dict it was called with.

The dicts name no event, so a recorder adds the handler: `{"handler": "on_dialout_answered", "data": {…}}`. For a handler
with two arguments, `data` is the list of both; a recorder of all handlers may write such a list for one argument, too.
Source: the serialiser and the type list of daily-python 0.36; pipecat passes the same dicts on.
"""

from __future__ import annotations

from typing import Any

from telstate.events._base import BY_NAME

__all__ = ["KEYS", "PARTICIPANTS", "UNUSUAL_KEYS", "arguments_of", "matches", "participant_of", "translate"]

KEYS = {"message": "errorMsg"}
_OLD_KEYS = {**KEYS, "participantId": "sessionId"}
"""Before daily-python 0.14."""
_STOPPED = ("dialin-stopped", "dialout-stopped")
"""Of these pipecat's SIPTransport gives a `reason`."""
PARTICIPANTS = ("participant-joined", "participant-left")
UNUSUAL_KEYS = frozenset({*_OLD_KEYS, "reason"})
"""Translated in some events only."""
_OTHER_NAMES = {"on_left": "left-meeting", "on_network_connection_status_updated": "network-connection"}
"""The handlers whose names are not daily-js's."""
_CONNECTION = {"connection": "type", "status": "event"}
"""The keys of a connection's status. Source: pipecat 1.14, which documents `connection` and `event`."""
_STATE = "on_call_state_updated"
"""Has the state of the call client. Of its values only `left` is an event of telstate's."""
_INFO = {"userId": "user_id", "userName": "user_name", "isLocal": "local", "isOwner": "owner"}


def matches(payload: dict[str, Any]) -> bool:
    """Only daily-python has a `handler`."""
    return "handler" in payload


def translate(payload: dict[str, Any]) -> dict[str, Any]:
    """Translate the handler's name and its dict to daily-js; other keys that the recorder added are kept."""
    handler = payload.get("handler")
    data = payload.get("data")
    action = _action(handler, data)
    data, reason = arguments_of(data)
    if reason is not None:
        payload = {"reason": reason, **payload}
    event: dict[str, Any] = {key: value for key, value in payload.items() if key not in ("handler", "data")}
    if action == "dialin-ready" and isinstance(data, str):
        event["sipEndpoint"] = data  # the only handler that gets a plain string
    elif action in PARTICIPANTS:
        event["participant"] = participant_of(data)
    elif action == "network-connection" and isinstance(data, str):
        event.update(type="signaling", event=data)
    elif action == "left-meeting":
        pass
    elif action == "network-connection" and isinstance(data, dict):
        event.update(_rename(data, _CONNECTION))
    elif isinstance(data, dict):
        event.update(data if action is None else _respell(data))
        if action in _STOPPED and "errorMsg" not in event and "reason" in event:
            event["errorMsg"] = event.pop("reason")
    elif data is not None:
        event["data"] = data
    event["action"] = handler if action is None else action
    return event


def _respell(fields: dict[str, Any]) -> dict[str, Any]:
    keys = _OLD_KEYS if "participantId" in fields and not fields.get("sessionId") else KEYS
    if keys is _OLD_KEYS:
        fields = {key: value for key, value in fields.items() if key != "sessionId"}  # an empty one
    return _rename(fields, keys)


def _rename(fields: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    return {keys.get(key, key): value for key, value in fields.items()}


def _action(handler: Any, data: Any) -> str | None:
    """`on_dialout_answered` is `dialout-answered`; None for a handler that is not an event of a call."""
    if not isinstance(handler, str) or not handler.startswith("on_"):
        return None
    if handler == _STATE and data in ("left", ["left"]):
        return _OTHER_NAMES["on_left"]
    action = _OTHER_NAMES.get(handler) or handler.removeprefix("on_").replace("_", "-")
    known = BY_NAME.get(action)
    return action if known is not None and not known.local else None


def arguments_of(data: Any) -> tuple[Any, str | None]:
    """Take apart the arguments of a handler, if the recorder kept them as a list: the two of `on_participant_left`, or the only one."""
    if isinstance(data, list) and len(data) == 2 and isinstance(data[1], str):
        return data[0], data[1]
    if isinstance(data, list) and len(data) == 1:
        return data[0], None
    return data, None


def participant_of(data: Any) -> Any:
    """daily-python writes `id` and an `info` in camelCase where daily-js writes flat snake_case."""
    if not isinstance(data, dict) or "id" not in data:
        return data
    participant = data.copy()
    session_id = participant.pop("id")
    info = data.get("info")
    if isinstance(info, dict):
        for theirs, ours in _INFO.items():
            if theirs in info:
                participant[ours] = info[theirs]
    participant["session_id"] = session_id
    return participant
