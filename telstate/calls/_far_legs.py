"""Far legs: which session is the other end of a transfer.

The far leg of a transfer is the earliest of these sessions whose first time is not before the acceptance:

- a dial-out of the same room (or call client) to the address of the target
- a dial-in that came by that address, if the target is an endpoint of ours

Events may arrive in any order, so all known sessions are indexed by their address, also ended ones. What a target needs of
its far leg is kept with the target (`leg`, see `_transfers.py`) and renewed with each event of either session. The links
between such legs are derived: if an earlier session becomes known, it takes the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._evidence import Evidence
from telstate.calls._recorder import bounded, set_rare
from telstate.calls._registry import Registry
from telstate.calls._session import Session, rare
from telstate.calls._transfers import HANDED_OVER_WITHIN, TransferRecord, accepted_at, add_step, targets_of
from telstate.events import Direction

__all__ = ["FarLegs"]

_EARLIER = 1.0
"""Seconds by which a far leg may seem to begin before the acceptance: webhooks round to whole seconds."""

_Leg = list[Any]
"""A far leg as its target keeps it: session id, first time, answered, ended."""


class FarLegs:
    """All sessions by their address, and the transfers to these addresses."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._legs: dict[str, str] = {}
        """The first session of each address. It holds only texts, so the garbage collector does not track it."""
        self._further_legs: dict[str, dict[str, None]] = {}
        """The other sessions of an address that has several."""
        self._transfers: dict[str, dict[str, None]] = {}
        """The sessions that were transferred to an address."""
        self.concerned: dict[str, tuple[bool, tuple[TransferRecord, ...]] | None] = {}
        """The sessions whose events may change the outcome of a transfer: `review` each of them after its events.

        For a transferred session whether it has ended, and its outcomes as they were then. None for one that may be a far leg.
        """

    def __len__(self) -> int:
        return len(self._legs)

    def arrive(self, session: Session) -> None:
        """Index a session by its address. Call it when the address, the room or the call client becomes known."""
        session_id = session.session_id
        for key in _keys_of_leg(session):
            if self._legs.setdefault(key, session_id) != session_id:
                self._further_legs.setdefault(key, {})[session_id] = None
            if key in self._transfers:
                self.concerned.setdefault(session_id, None)

    def leave(self, session: Session) -> None:
        """Forget the address of a session. Call it before the address changes, then `arrive` and `review`."""
        session_id = session.session_id
        for key in _keys_of_leg(session):
            further = self._further_legs.get(key)
            if self._legs.get(key) == session_id:
                if further:
                    self._legs[key] = next(iter(further))
                    del further[self._legs[key]]
                else:
                    del self._legs[key]
            elif further:
                further.pop(session_id, None)
            if further is not None and not further:
                del self._further_legs[key]

    def forget(self, session: Session) -> None:
        """Forget a session that leaves memory. A target keeps what is known of its far leg."""
        self.leave(session)
        for plain in rare(session, "transfers") or ():
            self._forget_target(session, plain)
        self.concerned.pop(session.session_id, None)

    def transfer(self, session: Session, to: str | None, step: str, at: float | None) -> None:
        """Record a step of a transfer of a session. `review` the session afterwards."""
        before = rare(session, "transfers") or {}
        transfers, replaced = add_step(before, bounded(to), step, at)
        set_rare(session, "transfers", transfers)
        if replaced is not None:
            if leg := before.get(replaced, {}).get("leg"):
                self._registry.withdraw_link(session.session_id, leg[0])
            self._forget_target(session, replaced)
        self.concerned.setdefault(session.session_id, None)

    def review(self, session: Session) -> None:
        """Draw the conclusions of an event of a session, for its own transfers and for those whose far leg it may be."""
        if rare(session, "transfers"):
            self._index_transfers(session)
            self._choose(session)
            self._settle(session)
        plain = _plain_address(session)
        if plain is None:
            return
        nears = {near: None for key in _keys_of_leg(session) for near in self._transfers.get(key, ())}
        for session_id in nears:
            near = self._registry.get(session_id)
            if near is not None and near is not session:
                self._consider(near, plain, session)

    def load(self) -> None:
        """Index all sessions of a registry that was restored. All of this follows from the sessions, so no snapshot has it."""
        sessions = list(self._registry.all())
        for session in sessions:
            self.arrive(session)
        for session in sessions:
            transfers = rare(session, "transfers")
            if transfers:
                self._index_transfers(session)
                self.concerned[session.session_id] = (session.ended, session.transfers)
                for target in transfers.values():
                    if (leg := target.get("leg")) and self._registry.get(leg[0]) is not None:
                        self._registry.derive_link(session.session_id, leg[0])

    def _index_transfers(self, session: Session) -> None:
        """Let a session be found by the addresses of its targets, and watch the sessions there."""
        for plain in rare(session, "transfers"):
            for key in _keys_of_target(session, plain):
                nears = self._transfers.setdefault(key, {})
                if not nears:
                    for leg in self._at(key):
                        self.concerned.setdefault(leg, None)
                nears[session.session_id] = None

    def _forget_target(self, session: Session, plain: str) -> None:
        for key in _keys_of_target(session, plain):
            nears = self._transfers.get(key, {})
            nears.pop(session.session_id, None)
            if nears or key not in self._transfers:
                continue
            del self._transfers[key]
            for leg in self._at(key):
                if self.concerned.get(leg, ()) is None and not self._is_watched(leg):
                    del self.concerned[leg]

    def _is_watched(self, session_id: str) -> bool:
        session = self._registry.get(session_id)
        return session is not None and any(key in self._transfers for key in _keys_of_leg(session))

    def _at(self, key: str) -> Iterator[str]:
        first = self._legs.get(key)
        if first is not None:
            yield first
            yield from self._further_legs.get(key, ())

    # --- which session is the far leg -----------------------------------------------------------------------------

    def _choose(self, near: Session) -> None:
        """Choose the far leg of each target of a session."""
        for plain, target in targets_of(rare(near, "transfers")).items():
            legs = {leg: None for key in _keys_of_target(near, plain) for leg in self._at(key)}
            sessions = (self._registry.get(leg) for leg in legs)
            found = [_leg_of(far) for far in sessions if far is not None and _fits(near, target, far)]
            known = target.get("leg")
            if known and self._registry.get(known[0]) is None and _fits_in_time(near, target, known[1]):
                found.append(known)  # it has left memory
            self._set_leg(near, plain, min(found, key=_place, default=None))

    def _consider(self, near: Session, plain: str, far: Session) -> None:
        """Consider one session as far leg of another's transfer, after an event of it."""
        target = targets_of(rare(near, "transfers")).get(plain)
        if target is None:
            return
        leg, known = _leg_of(far), target.get("leg")
        fits = _fits(near, target, far)
        if known and known[0] == leg[0]:
            if not fits or _place(leg) > _place(known):
                self._choose(near)
            else:
                self._set_leg(near, plain, leg)
        elif fits and (not known or _place(leg) < _place(known)):
            self._set_leg(near, plain, leg)
        self._settle(near)

    def _set_leg(self, near: Session, plain: str, leg: _Leg | None) -> None:
        """Keep what is known of a far leg, and link it."""
        transfers = rare(near, "transfers")
        known = transfers[plain].get("leg")
        if leg == known:
            return
        target = {name: value for name, value in transfers[plain].items() if name != "leg"}
        if leg is not None:
            target["leg"] = leg
        set_rare(near, "transfers", {**transfers, plain: target})
        if known and (leg is None or leg[0] != known[0]):
            self._registry.withdraw_link(near.session_id, known[0])
        if leg is not None and self._registry.get(leg[0]) is not None:
            self._registry.derive_link(near.session_id, leg[0])

    def _settle(self, session: Session) -> None:
        """Note whether the outcomes changed after the end."""
        before, records = self.concerned.get(session.session_id), session.transfers
        if session.ended and (before is None or (before[0] and before[1] != records)):
            vars(session)["amended"] = True
        self.concerned[session.session_id] = (session.ended, records)


def _plain_address(session: Session) -> str | None:
    """Return the address at which a session is: the endpoint of a dial-in, the destination of a dial-out."""
    address = session.sip_endpoint if session.direction is Direction.DIALIN else session.destination
    return plain_uri(address) if address else None


def _keys_of_leg(session: Session) -> tuple[str, ...]:
    """Return the keys of a session as a possible far leg."""
    plain = _plain_address(session)
    if plain is None:
        return ()
    if session.direction is Direction.DIALIN:
        return (f"endpoint {plain}",)
    return _keys_in_place(session, plain)


def _keys_of_target(session: Session, plain: str) -> tuple[str, ...]:
    """Return the keys under which the far leg of a transfer may be found."""
    return (f"endpoint {plain}", *_keys_in_place(session, plain)) if plain else ()


def _keys_in_place(session: Session, plain: str) -> tuple[str, ...]:
    """Return the keys of an address in the room and in the call client of a session."""
    if session.room is None:
        return () if session.call_client_id is None else (f"client {session.call_client_id} {plain}",)
    if session.call_client_id is None:
        return (f"room {session.room} {plain}",)
    return (f"room {session.room} {plain}", f"client {session.call_client_id} {plain}")


def _fits(near: Session, target: dict[str, Any], far: Session) -> bool:
    """Return whether a session at the address of a target can be its far leg."""
    return (
        far is not near
        and (
            far.direction is Direction.DIALIN
            or None in (near.domain_id, far.domain_id)
            or near.domain_id == far.domain_id
        )
        and _fits_in_time(near, target, far.started_at)
    )


def _fits_in_time(near: Session, target: dict[str, Any], first: float | None) -> bool:
    """Return whether a far leg may begin at that time. A session that begins long after the end is another call's."""
    accepted = accepted_at(target)
    if first is None:
        return True
    if near.ended and near.ended_at is not None and first > near.ended_at + HANDED_OVER_WITHIN:
        return False
    return accepted is None or first >= accepted - _EARLIER


def _leg_of(far: Session) -> _Leg:
    picked_up = (
        far.was_answered
        if far.direction is Direction.DIALOUT
        else bool(far._evidence & (Evidence.CONNECTED | Evidence.JOINED))
    )
    return [far.session_id, far.started_at, picked_up, far.ended]


def _place(leg: _Leg) -> tuple[float, str]:
    """Sort far legs by their first time."""
    return (float("inf") if leg[1] is None else leg[1], leg[0])
