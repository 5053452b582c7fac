"""The base of all events: how they are spelled, what they are about, and which of their fields were invalid.

An event is a fact in the past, and frozen. Its Python names are snake_case; its JSON names are those of daily-js, the
dialect with the most fields, so every event can be written as daily-js and read back, from any dialect.
This module does no I/O and has no clock.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeGuard, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from telstate.errors import shorten
from telstate.events._secrets import without_secrets

__all__ = [
    "YEAR_2100",
    "Direction",
    "Event",
    "Id",
    "Seconds",
    "Subject",
    "Text",
    "event_types",
    "invalid_fields",
    "is_time",
    "known_keys",
    "seconds_of",
]

Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1024)]
"""An id as Daily sends it, without blanks around it. Ids are kept in memory, hence the limit; all known ids are far shorter."""

Text = Annotated[str, StringConstraints(strip_whitespace=True)]
"""A text, without blanks around it. An empty one is unknown: what `parse` returns has None there."""

YEAR_2100 = 4_102_444_800
"""In Unix seconds. Later times are invalid, so milliseconds are never taken for seconds."""

Seconds = Annotated[float, Field(ge=0, lt=YEAR_2100, allow_inf_nan=False)]
"""Unix seconds up to the year 2100. Webhooks send them as string, integer or float."""


class Direction(StrEnum):
    """The direction of a call, seen from the room."""

    DIALIN = "dialin"
    """Somebody called into the room."""
    DIALOUT = "dialout"
    """The room called somebody."""


class Subject(IntEnum):
    """What an event is about. It determines how the engine finds the session."""

    SESSION = 0
    """One telephone session. The event opens the session if it is not known yet."""
    ATTACHED = 1
    """Something within a session: a key press, a transfer, a request of this program. It opens no session."""
    PARTICIPANT = 2
    """A participant of the room. Most are not callers, so it matters only if a session has the same id."""
    ENDPOINT = 3
    """A SIP endpoint of a room."""
    CALLER = 4
    """A caller who waits: on hold (pinless dial-in), or in ringback (SIP trunk)."""
    ROOM = 5
    """A whole room."""
    CLIENT = 6
    """Our own call client in a room."""
    SOURCE = 7
    """The source of the events."""
    SETTINGS = 8
    """The settings of the engine."""
    UNKNOWN = 9
    """A type that this version of telstate does not know."""
    ACTION = 10
    """Something that another partition asked for."""
    INTENT = 11
    """An intent that a dialer was given, and its starts."""


BY_NAME: dict[str, type[Event]] = {}
"""Every known event type by Daily's name."""


class Event(BaseModel):
    """One thing that happened, in Daily's own words.

    Unknown keys are kept in `model_extra`. A known optional key with an invalid value is kept there too; its field is
    None, and `anomalies` reports it: an invalid field must not cost anyone a hang-up.
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
    """The direction of the session, if the event type determines it."""
    local: ClassVar[bool] = False
    """True for events that only this program can know. Daily's dialects never contain them."""
    _subject: ClassVar[Subject] = Subject.UNKNOWN
    _texts: ClassVar[tuple[str, ...]] = ()
    """The optional fields of texts. An id is never empty, other texts are until `_forget_empty`."""
    _open_fields: ClassVar[tuple[str, ...]] = ()
    """The fields that can hold arbitrary JSON."""

    action: str
    """Daily's name of the event as it was received. Differs from `name` only for an `UnknownEvent`."""
    call_client_id: Id | None = None
    """The call client that reported the event (daily-js)."""
    domain_id: Id | None = None
    """The Daily domain (webhooks)."""
    room: Id | None = None
    """The room's name (webhooks)."""
    occurred_at: Seconds | None = None
    """When it happened, in Unix seconds, if the dialect has it (webhooks: whole seconds)."""
    sent_at: Seconds | None = None
    """When it was sent, in Unix seconds (webhooks: `event_ts`)."""
    webhook_id: Id | None = None
    """The id of the webhook event (`id` in its envelope). A redelivery has the same id, but so can other events."""

    if TYPE_CHECKING:

        @property
        def session_id(self) -> str | None:
            """The session that the event names, or None."""

        @property
        def sip_call_id(self) -> str | None:
            """The SIP Call-ID that the event names, or None."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the finished class under its name."""
        super().__pydantic_init_subclass__(**kwargs)
        action = cls.model_fields["action"].default
        if isinstance(action, str):
            cls.name = action
            cls._open_fields = tuple(
                name
                for name in (
                    "sip_headers",
                    "details",
                    "settings",
                    "notes",
                    "participant",
                    "trunk",
                    "held",
                    "argument",
                    "failure",
                )
                if name in cls.model_fields
            )
            cls._texts = tuple(name for name, field in cls.model_fields.items() if Text in get_args(field.annotation))
            BY_NAME[action] = cls

    @property
    def anomalies(self) -> tuple[str, ...]:
        """One sentence for each known optional field with an invalid value."""
        extras = self.__pydantic_extra__
        return invalid_fields(type(self), extras) if extras else ()

    def _forget_empty(self) -> None:
        """Make every optional text and object None that is empty. For `parse` alone, which has just made the event."""
        fields = self.__dict__
        for name in self._texts:
            if fields[name] == "":
                fields[name] = None
        for name in self._open_fields:
            value = fields[name]
            if value is not None and not value and not type(self).model_fields[name].is_required():
                fields[name] = None

    def to_json(self) -> bytes:
        """Write the event as daily-js. `parse` reads an equal event back."""
        fields = self.model_dump(by_alias=True, exclude_unset=True)
        if self.__pydantic_extra__:
            fields = without_secrets(fields)
        return to_json({"action": self.action, **fields}, inf_nan_mode="strings")


def event_types() -> dict[str, type[Event]]:
    """Return every known event type by Daily's name, for example `dialout-answered`."""
    return dict(BY_NAME)


def invalid_fields(cls: type[BaseModel], extras: dict[str, Any]) -> tuple[str, ...]:
    """Report known keys among the extras: they are there only because their values are invalid."""
    known = known_keys(cls)
    if known.isdisjoint(extras):
        return ()
    return tuple(f"{key} came as {shorten(value)}" for key, value in extras.items() if key in known)


@cache
def known_keys(cls: type[BaseModel]) -> frozenset[str]:
    """Return the keys of all fields of a model."""
    return frozenset(field.alias or name for name, field in cls.model_fields.items())


def seconds_of(value: Any) -> float | None:
    """Return Unix seconds, or a duration, that came as a number or as the text of one, as webhooks have them; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if type(value) in _NUMBERS and 0 <= value < YEAR_2100 else None


def is_time(value: Any) -> TypeGuard[float]:
    """Return True for a number that is valid as Unix seconds."""
    return type(value) in _NUMBERS and 0 <= value < YEAR_2100


_NUMBERS = (float, int)  # no bool, which is an int
