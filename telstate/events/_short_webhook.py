"""The short way of webhooks: the payload is the event, and the envelope adds its id and time."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core.core_schema import str_schema

from telstate.events._base import YEAR_2100, Event, event_types
from telstate.events._dialects import webhook
from telstate.events._participants import Participant, ParticipantEvent
from telstate.events._sessionless import WaitingCaller
from telstate.events._short_way import (
    DAILY_JS_KEYS,
    MODELS,
    envelope,
    inner,
    is_clean,
    respelled,
    validator_of,
)

__all__ = ["read_webhook"]


def _schemas() -> dict[str, Any]:
    """Return the schema of each type. Callers who wait have no envelope, or are spelled in many ways."""
    return {
        name.replace("-", "."): _participant(name) if name in webhook.PARTICIPANTS else _envelope(name)
        for name, cls in event_types().items()
        if not cls.local and not issubclass(cls, WaitingCaller) and name not in webhook.NO_WEBHOOKS
    }


def _envelope(name: str) -> Any:
    """The payload is the event."""
    known = MODELS[name]["schema"]["fields"]
    keys = {ours: theirs for theirs, ours in webhook.KEYS.items()}
    keys["occurredAt"] = "end_ts" if name == "meeting-ended" else "timestamp"
    head = {
        "version": str_schema(),
        "type": str_schema(),
        "id": inner(known["webhook_id"]),
        "event_ts": inner(known["sent_at"]),
    }
    return envelope({**head, "payload": respelled(MODELS[name], keys)}, {})


def _participant(name: str) -> Any:
    """The envelope is the event, and the payload its participant, beside whose keys are those of the room."""
    of_room = {"room": ["payload", "room"], "domainId": ["payload", "domain_id"]}
    return respelled(MODELS[name], {"webhookId": "id", "sentAt": "event_ts", "participant": "payload", **of_room})


_validate_json = validator_of(_schemas(), "type").validate_json
_UNUSUAL = DAILY_JS_KEYS.union(webhook.KEYS)
"""The long way would translate them, or take them for fields."""
_OF_ENVELOPE = ("action", "version", "webhook_id", "sent_at")


def read_webhook(data: bytes) -> Event | None:
    """Make an event of a webhook with the envelope that Daily documents."""
    try:
        told: Any = _validate_json(data, by_alias=True, by_name=False)
    except ValidationError:
        return None
    if type(told) is not dict:
        return _of_participant(told, told.__pydantic_extra__, told.participant)
    event: Event = told["payload"]
    extras: Any = event.__pydantic_extra__
    if (extras and not _UNUSUAL.isdisjoint(extras)) or not is_clean(event, extras):
        return None
    fields = event.__dict__
    fields["webhook_id"], fields["sent_at"], extras["version"] = told["id"], told["event_ts"], told["version"]
    event.__pydantic_fields_set__.update(_OF_ENVELOPE)
    return event


_KEPT_IN_ENVELOPE = {"version", "type"}


def _of_participant(event: ParticipantEvent, kept: dict[str, Any], participant: Participant) -> Event | None:
    """Take out of the participant what is about the room, and out of the envelope what is not about the event."""
    given = event.__pydantic_fields_set__
    if kept.keys() != _KEPT_IN_ENVELOPE or "occurred_at" in given or not is_clean(event, kept):
        return None
    del kept["type"]
    given.remove("type")
    given.add("action")
    extras: Any = participant.__pydantic_extra__
    for key in webhook.ROOM_KEYS:
        if key in extras:
            del extras[key]
            participant.__pydantic_fields_set__.remove(key)
    at = webhook.participant_time(event.name, extras)
    if at is not None:
        if at >= YEAR_2100:
            return None
        event.__dict__["occurred_at"] = float(at)
        given.add("occurred_at")
    return event
