"""Calls to a number with the PIN of a room. Source: docs.daily.co/docs/guides/features/dial-in-dial-out/pstn-pin-dialin.

SIMULATED: that the phone has no SIP endpoint of the room, and the name under which events report the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from telstate.testing._domain import CallRejected, SimulatedDomain
from telstate.testing._phone_lines import PhoneLine
from telstate.testing._requests import invalid
from telstate.testing._rooms import SimulatedRoom

__all__ = ["PinCalls", "check_pin_dialin"]

_YEAR = 365 * 86400


class PinCalls:
    """Calls to a number with a PIN.

    Args:
        domain: the domain.
    """

    def __init__(self, domain: SimulatedDomain) -> None:
        self._domain = domain
        self._waiting: set[str] = set()

    def place(self, number: str, pin: str, from_: str, *, media: float | None, line: PhoneLine) -> str:
        """Call, and enter a PIN; return the call's id. Where nobody is in the room, the caller waits, if the room has them wait.

        Raises:
            CallRejected: if no room has the PIN at this number, or nobody is in it and it has nobody wait, or it is full.
        """
        room = next((one for one in self._domain.rooms.values() if _leads_to(number, pin, one)), None)
        if room is None:
            raise CallRejected(f"no room has the PIN {pin} at {number}")
        call_id = str(uuid4())
        dialin = room.properties["dialin"]

        def enter() -> None:
            self._domain.admit(
                room,
                f"sip:{from_}@carrier.example",
                media=media,
                line=line,
                call_id=call_id,
                display_name=dialin["display_name"],
            )

        if room.meeting is not None:
            enter()
        elif dialin.get("wait_for_meeting_start"):
            self._waiting.add(call_id)
            self._domain.when_hosted(room, lambda: self._let_in(call_id, enter))
        else:
            raise CallRejected(f"nobody is in {room.name}, and wait_for_meeting_start is not set")
        return call_id

    def hang_up(self, call_id: str) -> bool:
        """Let a caller who waits hang up; nobody is told. Return False if they do not wait."""
        waits = call_id in self._waiting
        self._waiting.discard(call_id)
        return waits

    def _let_in(self, call_id: str, enter: Any) -> None:
        if self.hang_up(call_id):
            try:
                enter()
            except CallRejected:
                return  # the room is full: the caller is disconnected, and no event says so


def _leads_to(number: str, pin: str, room: SimulatedRoom) -> bool:
    dialin = room.properties.get("dialin")
    if not isinstance(dialin, dict) or room.properties.get("dialin_code") != pin:
        return False
    numbers = [one["phone_number"] for one in dialin.get("room_numbers", ())]
    return not numbers or number in numbers


def check_pin_dialin(properties: Mapping[str, Any], now: float) -> None:
    """Refuse a room whose PIN dial-in Daily would refuse.

    Raises:
        RequestRefused: if it has no expiry, or one that is too far away, or the property has the wrong form.
    """
    dialin, exp = properties.get("dialin"), properties.get("exp")
    if dialin is None:
        return
    if not isinstance(dialin, dict) or not isinstance(dialin.get("display_name"), str):
        info = "dialin must be an object with a display_name, or null"
    elif not isinstance(dialin.get("room_numbers", []), list):
        info = "dialin.room_numbers must be a list"
    elif not isinstance(exp, int | float) or not now < exp < now + _YEAR:
        info = "a room with dialin must have an exp of less than 365 days"
    else:
        return
    raise invalid(info)
