"""How long and how much an engine remembers, and when it loses patience. A journal's header keeps them for replay."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Settings"]

Duration = Annotated[float, Field(ge=0.01, le=31_536_000)]
"""Seconds, from a hundredth up to a year."""
Count = Annotated[int, Field(gt=0)]

_HOUR = 3600.0


class Settings(BaseModel):
    """The settings of an engine. All durations are in seconds.

    `Settings(ring_deadline=30)` tells the handlers when a dial-out has rung for half a minute; so do `setup_deadline` and
    `media_deadline` for theirs. The silence limits end a session of which nothing is heard. `help` of the fields:
    `Settings.model_fields["ring_deadline"].description`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_ttl: Duration = Field(
        2 * _HOUR,
        description="How long a webhook's id is remembered, so that a redelivery is known as one. Daily tries for minutes to an hour.",
    )
    retention: Duration = Field(
        2 * _HOUR,
        description="How long an ended session stays known, so that what is late still finds it. Never less than `key_ttl`.",
    )
    parked_ttl: Duration = Field(
        2 * _HOUR,
        description="How long an event waits for the session it speaks of. As long as retention, so that order does not matter.",
    )
    max_keys: Count = Field(
        500_000,
        description="How many ids of webhooks are remembered at most, the oldest forgotten first.",
    )
    max_ended: Count = Field(
        100_000,
        description="How many ended sessions stay known at most, the oldest forgotten first.",
    )
    max_parked: Count = Field(20_000, description="How many events wait at most, the oldest forgotten first.")
    retain_untimed: Count = Field(
        10_000,
        description="How many ended sessions stay known where events come without any time, as in a bare log of daily-js.",
    )

    silence_before_answer: Duration = Field(600.0, description="Silence limit while idle, and while a dial-out rings.")
    silence_in_call: Duration = Field(
        24 * _HOUR,
        description="Silence limit while a dial-in is connected, and while any session is answered: a long call says nothing.",
    )
    silence_after_meeting: Duration = Field(
        60.0,
        description="Silence limit once the room's meeting has ended, and with it, by Daily's word, all its SIP connections.",
    )
    presence_retry: Duration = Field(
        60.0,
        description="How long to wait for word of a session whose presence was asked for, before it is asked for again.",
    )

    setup_deadline: Duration | None = Field(
        None,
        description="Time from idle to connected, after which a DeadlinePassed tells the handlers; None for no deadline.",
    )
    ring_deadline: Duration | None = Field(None, description="The same for a dial-out from connected to answered.")
    media_deadline: Duration | None = Field(None, description="The same for a dial-in from connected to answered.")

    @model_validator(mode="after")
    def _retention_covers_keys(self) -> Self:
        if self.retention < self.key_ttl:
            raise ValueError("retention must not be less than key_ttl, or a redelivery would reopen an ended session")
        return self
