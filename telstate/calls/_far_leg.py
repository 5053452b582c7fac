"""One far leg: what a transfer needs to know of the session at its target, and whether that fits."""

from __future__ import annotations

from typing import Any, NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._evidence import Evidence
from telstate.calls._session import Session
from telstate.calls._signs import CLOCKS_DIFFER
from telstate.calls._transfers import HANDED_OVER_WITHIN, ROUNDING, accepted_at, begins_from, picked_up_at
from telstate.events import Direction

__all__ = [
    "FarLeg",
    "Window",
    "can_be_leg",
    "is_within",
    "known_leg",
    "leg_of",
    "order_of",
    "plain_address",
    "window_of",
]

_LATEST = 600.0
"""Seconds after the acceptance within which it begins. What is much later is a call of its own: the caller talked on."""

Window = tuple[float, float]
"""When the far leg of a transfer may begin: its earliest and its latest time."""


class FarLeg(NamedTuple):
    """A session that may be a far leg. A target keeps all but the domain."""

    session_id: str
    first: float | None
    """The time of its first event."""
    picked_up: bool
    ended: bool
    domain_id: str | None

    def with_more(self, other: FarLeg) -> FarLeg:
        """Return the leg with what is known of it from elsewhere: its first time only falls, and the rest only becomes true."""
        times = [time for time in (self.first, other.first) if time is not None]
        return self._replace(
            first=min(times, default=None),
            picked_up=self.picked_up or other.picked_up,
            ended=self.ended or other.ended,
        )


def leg_of(far: Session) -> FarLeg:
    """Return what a transfer needs to know of a session."""
    if far.direction is Direction.DIALOUT:
        return FarLeg(far.session_id, far.started_at, far.was_answered, far.ended, far.domain_id)
    picked_up = bool(far._evidence & (Evidence.CONNECTED | Evidence.JOINED))
    return FarLeg(far.session_id, far.started_at, picked_up, far.ended, None)  # our endpoints are unique


def known_leg(target: dict[str, Any]) -> FarLeg | None:
    """Return what a target keeps of its far leg."""
    leg = target.get("leg")
    return None if leg is None else FarLeg(leg[0], leg[1], leg[2], leg[3], None)


def plain_address(session: Session) -> str | None:
    """Return the address at which a session is: the endpoint of a dial-in, the destination of a dial-out."""
    address = session.sip_endpoint if session.direction is Direction.DIALIN else session.destination
    return plain_uri(address) if address else None


def window_of(near: Session, target: dict[str, Any]) -> Window:
    """Return when the far leg may begin. A session that begins long after the end, or the acceptance, is another call's."""
    accepted, begins = accepted_at(target), begins_from(target)
    if accepted is not None and begins is not None:
        earliest, latest = begins, accepted + _LATEST
    else:
        earliest, latest = _window_of_unknown(near, target)
    if near.ended and near.ended_at is not None:
        latest = min(latest, near.ended_at + HANDED_OVER_WITHIN)
    return earliest, latest


def _window_of_unknown(near: Session, target: dict[str, Any]) -> Window:
    """Return when the far leg may begin if no event says when the transfer was accepted: during the session, before the target picked up."""
    begun = [time for time in (near.requested_at, near.connected_at, near.answered_at) if time is not None]
    picked_up = picked_up_at(target)
    earliest, latest = float("-inf"), float("inf") if picked_up is None else picked_up + CLOCKS_DIFFER
    if begun:
        earliest = min(begun) - ROUNDING
    elif near.started_at is not None:
        earliest = near.started_at - _LATEST
    return earliest, latest


def is_within(window: Window, first: float | None) -> bool:
    """Return whether a leg may be one by the time of its first event, if that is known."""
    return first is None or window[0] <= first <= window[1]


def can_be_leg(near: Session, leg: FarLeg) -> bool:
    """Return whether a session at the address of a target can be its far leg, if the time fits."""
    return leg.session_id != near.session_id and (
        near.domain_id == leg.domain_id or near.domain_id is None or leg.domain_id is None
    )


def order_of(leg: FarLeg) -> tuple[float, str]:
    """Sort far legs by their first time."""
    return (float("inf") if leg.first is None else leg.first, leg.session_id)
