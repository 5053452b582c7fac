"""What a program asks of a campaign."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Container, Iterable
from typing import NamedTuple, TypeAlias

from telstate.control._contacts import Contact, InvalidContact
from telstate.control._opening_hours import OpeningHours
from telstate.control._results import Confirm
from telstate.control._retry_plan import RetryPlan

__all__ = ["CampaignPlan", "Contacts", "DoNotCall", "RoomOf"]

Contacts: TypeAlias = "Iterable[str | Contact | InvalidContact] | AsyncIterable[str | Contact | InvalidContact]"
"""Whom to call: numbers, SIP URIs and contacts, from anywhere."""
DoNotCall: TypeAlias = Container[str] | Callable[[str], "bool | Awaitable[bool]"]
"""Numbers that must not be called; or a function, sync or async, that says whether one of them must not."""
RoomOf: TypeAlias = "str | Callable[[Contact], str | Awaitable[str]] | None"
"""The room that dials; or a function, sync or async, that gives each call of a contact its own, for example a new one with a bot."""


class CampaignPlan(NamedTuple):
    """What a program asked for: see `Campaign`."""

    name: str
    at_once: int
    per_caller_id: int | None
    starts_per_second: float | None
    retry: RetryPlan
    ring_timeout: float
    hours: OpeningHours | None
    until: float | None
    do_not_call: DoNotCall
    confirm: Confirm | None
    room: RoomOf
    late_events: float
