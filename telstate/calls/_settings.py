"""How long and how much an engine remembers, and its deadlines. A journal's header keeps the settings for replay."""

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

__all__ = ["Settings"]

Duration = Annotated[float, Field(ge=0.01, le=31_536_000)]
"""Seconds, from a hundredth of a second up to a year."""
Count = Annotated[int, Field(gt=0)]

_HOUR = 3600.0


class Settings(BaseModel):
    """The settings of an engine. All durations are in seconds.

    `Settings(ring_deadline=30)` sends handlers a `DeadlinePassed` when a dial-out has rung for 30 seconds; `setup_deadline`
    and `media_deadline` work the same way. The silence limits end a session that sends no more events.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    key_ttl: Duration = 2 * _HOUR
    """How long the id of a webhook is remembered to detect a redelivery. Daily retries for minutes, at most an hour."""
    retention: Duration = 2 * _HOUR
    """How long an ended session stays known, so that late events still find it. Never less than `key_ttl`."""
    parked_ttl: Duration = 2 * _HOUR
    """How long an event waits for the session it names. As long as `retention`, so that order does not matter."""
    max_keys: Count = 500_000
    """How many webhook ids are remembered at most. The oldest are forgotten first."""
    max_ended: Count = 100_000
    """How many ended sessions stay known at most. The oldest are forgotten first."""
    max_parked: Count = 20_000
    """How many events wait for their session at most. The oldest are forgotten first."""
    retain_untimed: Count = 10_000
    """How many ended sessions stay known if the events carry no time, as in a plain log of daily-js."""

    intent_ttl: Duration = 7 * 24 * _HOUR
    """How long an intent of a dialer is remembered after its last event: `dial(…, intent=…)`. After it, it would be dialled again."""
    max_intents: Count = 100_000
    """How many intents are remembered at most. The oldest are forgotten first."""

    silence_before_answer: Duration = 600.0
    """Silence limit while a session is idle, and while a dial-out rings."""
    silence_before_media: Duration = 600.0
    """Silence limit while a dial-in is connected and its participant has not joined, so no media flows."""
    silence_in_call: Duration = 24 * _HOUR
    """Silence limit while a session is answered: a long call sends no events."""
    end_grace: Duration = 60.0
    """How long a sign of the end (`EndSign`) must hold until it ends the session: Daily may still report the end, or more life."""
    presence_retry: Duration = 60.0
    """How long to wait for the answer to a presence check before the check is repeated."""

    setup_deadline: Duration | None = None
    """Seconds from idle to connected, after which handlers get a `DeadlinePassed`. None for no deadline."""
    ring_deadline: Duration | None = None
    """Seconds for which a dial-out may ring, after which handlers get a `DeadlinePassed`. None for no deadline."""
    media_deadline: Duration | None = None
    """Seconds from connected to answered of a dial-in, after which handlers get a `DeadlinePassed`. None for no deadline."""
    talk_deadline: Duration | None = None
    """Seconds for which a session may be answered, after which handlers get a `DeadlinePassed`. None for no deadline."""
    hold_deadline: Duration | None = None
    """Seconds a caller may be on hold before the first forward, after which handlers get a `DeadlinePassed`. None for no deadline."""
    hold_limit: Duration = 600.0
    """Seconds a caller on hold can wait for a session, from the last forward on. After it they are lost (`on_caller_lost`)."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the fields."""
        schema = handler(core_schema)
        for name, about in _about_fields().items():
            schema["properties"][name]["description"] = about
        return schema

    @model_validator(mode="before")
    @classmethod
    def _of_old_journal(cls, settings: Any) -> Any:
        """Read the header of a journal of before: its meaning was that a connected dial-in is in a call."""
        if not isinstance(settings, Mapping) or "silence_after_meeting" not in settings:
            return settings
        kept = {name: value for name, value in settings.items() if name != "silence_after_meeting"}
        of_old = {"end_grace": settings["silence_after_meeting"]}
        if "silence_in_call" in settings:
            of_old["silence_before_media"] = settings["silence_in_call"]
        return {**of_old, **kept}

    @model_validator(mode="after")
    def _retention_covers_keys(self) -> Self:
        if self.retention < self.key_ttl:
            raise ValueError("retention must not be less than key_ttl, or a redelivery would reopen an ended session")
        return self


@cache
def _about_fields() -> dict[str, str]:
    """Read the text below each field from this file. pydantic would do so at import, which takes longer than all the rest of it."""
    (tree,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - it is the source of a class
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


class _DocWithFields:
    """The class's text for `help`, with its fields and their units, made when somebody asks for it."""

    def __init__(self, doc: str) -> None:
        self._doc = doc

    def __get__(self, one: object, owner: type) -> str:
        lines = [inspect.cleandoc(self._doc), "", "Attributes:"]
        about = _about_fields()
        for name, field in Settings.model_fields.items():
            unit = "" if isinstance(field.default, int) else " s"
            default = "" if field.default is None else f" Default: {field.default:g}{unit}."
            lines.append(f"    {name}: {' '.join(about.get(name, '').split())}{default}")
        return "\n".join(lines)


Settings.__doc__ = _DocWithFields(Settings.__doc__ or "")  # type: ignore[assignment]
