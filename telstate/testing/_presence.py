"""Who is in a room, as the fake's `/rooms/:name/presence` says it. Source: docs.daily.co/reference/rest-api/presence."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from telstate.testing._rooms import Bot, Leg

__all__ = ["presence"]


def presence(people: Iterable[Bot | Leg], then: float, unix: float) -> list[dict[str, Any]]:
    """Return those who were there at a time.

    Args:
        people: everybody who was ever in the room.
        then: the time, by `time.monotonic`.
        unix: what to add to such a time for Unix seconds.
    """
    return [_person(one, unix) for one in people if _was_there(one, then)]


def _person(one: Bot | Leg, unix: float) -> dict[str, Any]:
    joined = one.joined_at or 0.0
    return {
        "room": one.room,
        "id": one.session_id,
        "userId": one.user_id,
        "userName": one.display_name,
        "mtgSessionId": one.meeting_id,
        "joinTime": datetime.fromtimestamp(unix + joined, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "duration": int(time.monotonic() - joined),
    }


def _was_there(one: Bot | Leg, then: float) -> bool:
    return one.joined_at is not None and one.joined_at <= then and (one.left_at is None or one.left_at > then)
