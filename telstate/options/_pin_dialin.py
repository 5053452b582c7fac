"""A room that can be called with a PIN. Source: docs.daily.co/docs/guides/features/dial-in-dial-out/pstn-pin-dialin."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from telstate.options._base import Options
from telstate.options._fields import Flag, PhoneNumber, Text

__all__ = ["PinDialin", "RoomNumber"]


class RoomNumber(Options):
    """A phone number that leads to a room.

    Raises:
        pydantic.ValidationError: if it is not in E.164.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=None)

    phone_number: PhoneNumber
    """A number that you bought."""


class PinDialin(Options):
    """A room's property `dialin`: people call a number and enter the room's PIN, which Daily makes. The room needs an `exp`.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=None)

    display_name: Text
    """The name of callers in the room."""
    wait_for_meeting_start: Flag | None = None
    """Whether a caller hears music until somebody is in the room; if not, the call ends at once when nobody is."""
    room_numbers: tuple[RoomNumber, ...] | None = None
    """The numbers that lead to this room. Without them it is the oldest that you bought."""
