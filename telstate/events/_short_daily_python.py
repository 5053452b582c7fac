"""The short way of daily-python and pipecat: the handler is the type, and its dict is the event."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core.core_schema import any_schema, str_schema

from telstate.events._base import Event, event_types
from telstate.events._dialects import daily_python
from telstate.events._sessionless import SessionlessEvent
from telstate.events._short_way import DAILY_JS_KEYS, MODELS, envelope, is_clean, make_event, respelled, validator_of

__all__ = ["read_daily_python"]

_OF_RECORDER = {"call_client_id": "callClientId", "room": "room"}
"""What the recorder of the callbacks adds to them."""


def _envelopes() -> dict[str, Any]:
    """Return the schema of each handler. Those that are about no session are rare."""
    return {
        f"on_{name.replace('-', '_')}": envelope({"handler": str_schema(), "data": _data(name)}, _OF_RECORDER)
        for name, cls in event_types().items()
        if not cls.local and not issubclass(cls, SessionlessEvent)
    }


def _data(name: str) -> Any:
    if name == "dialin-ready":
        return MODELS[name]["schema"]["fields"]["sip_endpoint"]["schema"]
    if name in daily_python.PARTICIPANTS:
        return any_schema()
    return respelled(MODELS[name], {ours: theirs for theirs, ours in daily_python.KEYS.items()})


_validate_json = validator_of(_envelopes(), "handler").validate_json
_UNUSUAL = DAILY_JS_KEYS | daily_python.UNUSUAL_KEYS
"""The long way would translate them, or take them for fields."""


def read_daily_python(data: bytes) -> Event | None:
    """Make an event of a callback about a session, a participant or an endpoint."""
    try:
        told: dict[str, Any] = _validate_json(data, by_alias=True, by_name=False)
    except ValidationError:
        return None
    action = _NESTED.get(told.pop("handler"))
    if action is not None:
        return _of_nested(action, told.pop("data"), told)
    event: Event = told.pop("data")
    extras, given = event.__pydantic_extra__, event.__pydantic_fields_set__
    if (extras and not _UNUSUAL.isdisjoint(extras)) or not is_clean(event, extras):
        return None
    if told:
        if not given.isdisjoint(told):
            return None
        event.__dict__.update(told)
        given.update(told)
    given.add("action")
    return event


_NESTED = {
    "on_dialin_ready": "dialin-ready",
    "on_participant_joined": "participant-joined",
    "on_participant_left": "participant-left",
}
"""Their data are no object, or one that is nested in another way than the event."""


def _of_nested(action: str, data: Any, told: dict[str, Any]) -> Event | None:
    """Make an event of an endpoint or a participant."""
    if action == "dialin-ready":
        return make_event({"action": action, "sip_endpoint": data, **told})
    data, reason = daily_python.arguments_of(data)
    if reason is not None:
        told["reason"] = reason
    return make_event({"action": action, "participant": daily_python.participant_of(data), **told})
