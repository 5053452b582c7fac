"""What all events share: how they are spelled, what they are about, and which of their fields came odd.

An event is a fact in the past, frozen. Its Python names are snake_case; its JSON names are those of daily-js, the
richest dialect, so every event, from whichever dialect, can be written and read back as daily-js.
This module does no I/O and knows no clock.
"""

from __future__ import annotations

import math
from enum import IntEnum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from telstate.errors import shorten

__all__ = ["YEAR_2100", "Direction", "Event", "Id", "Seconds", "Subject", "event_types", "is_time"]

Id = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""An id as Daily sends it. An empty one is no id; no known id comes near 1024 characters, and ids are kept in memory."""

YEAR_2100 = 4_102_444_800
"""In Unix seconds: later times are none of ours, and milliseconds are all later."""

Seconds = Annotated[float, Field(ge=0, lt=YEAR_2100, allow_inf_nan=False)]
"""Unix seconds up to the year 2100. Webhooks send them as string, integer or float; milliseconds do not pass."""


class Direction(StrEnum):
    """Who called whom, seen from the room."""

    DIALIN = "dialin"
    """Somebody called into the room."""
    DIALOUT = "dialout"
    """The room called somebody."""


class Subject(IntEnum):
    """What an event is about; it decides how the engine looks for a session."""

    SESSION = 0
    """One telephone session, from its first sign to its end. Opens the session if it is not known yet."""
    ATTACHED = 1
    """Something that befell a session, but that opens none: a key press, a transfer, a request of ours."""
    PARTICIPANT = 2
    """A participant of the room: most are no callers, so it matters only if a session of its id exists."""
    ENDPOINT = 3
    """A SIP endpoint of a room."""
    CALLER = 4
    """A caller on hold, not yet in any room (pinless dial-in)."""
    ROOM = 5
    """A whole room."""
    SOURCE = 6
    """The source of the events itself."""
    SETTINGS = 7
    """How long and how much is remembered."""
    UNKNOWN = 8
    """A type that this version of telstate does not know."""


_BY_NAME: dict[str, type[Event]] = {}


class Event(BaseModel):
    """One thing that happened, in Daily's own words.

    Unknown keys are kept in `model_extra`. A known but optional key whose value makes no sense is kept there too, its
    field is None, and `anomalies` names it: an odd field must not cost anyone a hang-up.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        ser_json_inf_nan="strings",
    )

    name: ClassVar[str] = ""
    """Daily's name of the event, with a dash: `dialout-answered`."""
    direction: ClassVar[Direction | None] = None
    """The direction of the session that this event speaks of, where its type tells."""
    subject: ClassVar[Subject] = Subject.UNKNOWN
    local: ClassVar[bool] = False
    """True for what only this side knows; Daily's dialects never carry these."""
    open_fields: ClassVar[tuple[str, ...]] = ()
    """The fields that may hold any JSON somewhere."""

    action: str
    """Daily's name of the event as it came; the only one that differs from `name` is that of an UnknownEvent."""
    call_client_id: Id | None = None
    """The call client that told of it (daily-js)."""
    domain_id: Id | None = None
    """The Daily domain (webhooks)."""
    room: Id | None = None
    """The room's name (webhooks)."""
    occurred_at: Seconds | None = None
    """When it happened, in Unix seconds, where the dialect says so (webhooks: whole seconds)."""
    sent_at: Seconds | None = None
    """When it was sent, in Unix seconds (webhooks: `event_ts`)."""
    webhook_id: Id | None = None
    """The id of the webhook event (`id` in its envelope). Daily keeps it on a redelivery, and reuses it for others."""

    if TYPE_CHECKING:

        @property
        def session_id(self) -> str | None:
            """The session this event names, or None."""

        @property
        def sip_call_id(self) -> str | None:
            """The SIP Call-ID this event names, or None."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the finished class into the list of events under its name."""
        super().__pydantic_init_subclass__(**kwargs)
        action = cls.model_fields["action"].default
        if isinstance(action, str):
            cls.name = action
            cls.open_fields = tuple(
                name for name in ("sip_headers", "details", "settings", "participant") if name in cls.model_fields
            )
            _BY_NAME[action] = cls

    @property
    def anomalies(self) -> tuple[str, ...]:
        """One sentence for each known optional field whose value made no sense."""
        extras = self.__pydantic_extra__
        return _odd_fields(type(self), extras) if extras else ()

    def to_json(self) -> bytes:
        """Write the event as daily-js would, so that `parse` gives an equal event back."""
        fields = self.model_dump(by_alias=True, exclude_unset=True)
        return to_json({"action": self.action, **fields}, inf_nan_mode="strings")


def event_types() -> dict[str, type[Event]]:
    """Every known event type by Daily's name."""
    return dict(_BY_NAME)


def _odd_fields(cls: type[BaseModel], extras: dict[str, Any]) -> tuple[str, ...]:
    """Find known keys among the extras: they are there only because their value was refused."""
    known = _known_keys(cls)
    if known.isdisjoint(extras):
        return ()
    return tuple(f"{key} came as {shorten(value)}" for key, value in extras.items() if key in known)


@cache
def _known_keys(cls: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in cls.model_fields.items())


def is_time(value: Any) -> TypeGuard[float]:
    """Tell a number that can be a time in Unix seconds, and can be added to another without harm."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < YEAR_2100


def has_non_finite(value: Any) -> bool:
    """Tell whether a NaN or an infinity hides in `value`: no JSON, though JavaScript and Python both write them."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    for item in value:  # noqa: SIM110 - a generator costs more than all the texts, which nearly all of them are
        if type(item) in _CAN_HIDE and has_non_finite(item):
            return True
    return False


_CAN_HIDE = frozenset({float, dict, list})
