"""Far legs: which session is the other end of a transfer.

The far leg of a transfer is the earliest of these sessions whose first time is not before the acceptance, and not long after it:

- a dial-out of the same room (or call client) to the address of the target
- a dial-in that came by that address, if the target is an endpoint of ours

Such a dial-in may be in another partition. Then what the rule needs to know of it comes as an event (`_legs_elsewhere.py`).

Events may arrive in any order, so all known sessions are indexed by their address, also ended ones, while any session with a
transfer is in memory; most programs never transfer a call. What a target needs of its far leg is kept with the target (`leg`,
see `_transfers.py`) and renewed with each event of either session. The links between such legs are derived: if an earlier
session becomes known, it takes the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._caller_numbers import agree, may_agree
from telstate.calls._far_leg import (
    FarLeg,
    Window,
    can_be_leg,
    is_within,
    known_leg,
    leg_of,
    order_of,
    plain_address,
    window_of,
)
from telstate.calls._recorder import bounded, link_elsewhere, set_rare
from telstate.calls._registry import Registry
from telstate.calls._session import Session, rare
from telstate.calls._transfers import TransferRecord, add_step, targets_of
from telstate.events import Direction, SessionsLinked

__all__ = ["FarLegs"]


class _Place:
    """An address to which sessions were transferred."""

    __slots__ = ("legs", "windows")

    def __init__(self, legs: dict[str, FarLeg]) -> None:
        self.legs = legs
        """The sessions at the address."""
        self.windows: dict[str, Window] = {}
        """The sessions that were transferred to it."""


class FarLegs:
    """All sessions by their address, and the transfers to these addresses.

    Args:
        registry: all sessions.
        amended: where to report the sessions that were amended.
        see: called with a session that may have become a far leg, or may be one no more.
    """

    def __init__(self, registry: Registry, amended: list[Session], see: Callable[[Session], None]) -> None:
        self._registry = registry
        self._see = see
        self._amended = amended
        self._transferred: set[str] = set()
        """All sessions that were transferred. Without any, nothing is indexed."""
        self._at: dict[str, str] = {}
        """The first session of each address. It holds only texts, so the garbage collector does not track it."""
        self._also_at: dict[str, dict[str, None]] = {}
        """The other sessions of an address that has several."""
        self._places: dict[str, _Place] = {}
        self.concerned: dict[str, tuple[bool, tuple[TransferRecord, ...]] | None] = {}
        """The sessions whose events may change the outcome of a transfer: `review` each of them after its events.

        For a transferred session whether it has ended, and its outcomes as they were then. None for one that may be a far leg.
        """

        self.relinked: dict[str, None] = {}
        """The transferred sessions of which another session is the far leg since somebody asked, if anybody does."""

    def __len__(self) -> int:
        return len(self._at)

    def is_transferred(self, session: Session) -> bool | None:
        """Return True if a session is the far leg of a transferred caller with the same number: they have called before.

        None if it is the far leg of one whose number is unknown: they may be the same.
        """
        linked = self._registry.linked(session.session_id)
        if not linked:  # as most
            return False
        nears = [near for one in linked if (near := self._registry.get(one)) is not None]
        numbers = [
            near.sip_from if near.direction is Direction.DIALIN else near.destination
            for near in nears
            if session.session_id in _leg_ids(near)
        ]
        if any(agree(number, session.sip_from) for number in numbers):
            return True
        return None if any(may_agree(number, session.sip_from) for number in numbers) else False

    def arrive(self, session: Session) -> None:
        """Index a session by its address. Call it when the address, the room or the call client becomes known."""
        if not self._transferred:
            return
        session_id = session.session_id
        for key in _keys_of_leg(session):
            if self._at.setdefault(key, session_id) != session_id:
                self._also_at.setdefault(key, {})[session_id] = None
            if key in self._places:
                self.concerned.setdefault(session_id, None)

    def leave(self, session: Session) -> None:
        """Forget the address of a session."""
        session_id = session.session_id
        for key in _keys_of_leg(session):
            others = self._also_at.get(key, {})
            if self._at.get(key) != session_id:
                others.pop(session_id, None)
            elif others:
                self._at[key] = next(iter(others))
                del others[self._at[key]]
            else:
                del self._at[key]
            if not others:
                self._also_at.pop(key, None)
            place = self._places.get(key)
            if place is not None:
                place.legs.pop(session_id, None)

    def withdraw(self, session: Session) -> None:
        """Stop taking a session for one at its address. Call it before a derived address changes, then `arrive` and `review`."""
        if not self._transferred:
            return
        session_id = session.session_id
        places = [self._places[key] for key in _keys_of_leg(session) if key in self._places]
        self.leave(session)
        if self.concerned.get(session_id, ()) is None:
            del self.concerned[session_id]
        for near_id in {near_id: None for place in places for near_id in place.windows}:
            near = self._registry.get(near_id)
            if near is not None:
                self._choose(near)
                self._settle(near)

    def forget(self, session: Session) -> None:
        """Forget a session that leaves memory. A target keeps what is known of its far leg."""
        if not self._transferred:
            return
        self._transferred.discard(session.session_id)
        if not self._transferred:
            for index in (self._at, self._also_at, self._places, self.concerned, self.relinked):
                index.clear()
            return
        self.leave(session)
        for plain in rare(session, "transfers") or ():
            self._forget_target(session, plain)
        self.concerned.pop(session.session_id, None)
        self.relinked.pop(session.session_id, None)

    def transfer(self, session: Session, to: str | None, step: str, at: float | None) -> None:
        """Record a step of a transfer of a session. `review` the session afterwards."""
        before = rare(session, "transfers") or {}
        transfers, replaced = add_step(before, bounded(to), step, at)
        set_rare(session, "transfers", transfers)
        self._add(session)
        if replaced is not None:
            if leg := before.get(replaced, {}).get("leg"):
                self._unlink(session, leg[0])
            self._forget_target(session, replaced)
        self.concerned.setdefault(session.session_id, None)

    def review(self, session: Session) -> None:
        """Draw the conclusions of an event of a session, for its own transfers and for those whose far leg it may be."""
        if rare(session, "transfers"):
            self._renew_windows(session)
            self._choose(session)
            self._settle(session)
        for key in _keys_of_leg(session):
            place = self._places.get(key)
            if place is None:
                continue
            leg, before = leg_of(session), place.legs.get(session.session_id)
            if leg == before:
                continue
            place.legs[session.session_id] = leg
            nears = [
                near
                for near, window in place.windows.items()
                if is_within(window, leg.first) or (before is not None and is_within(window, before.first))
            ]
            for near in nears:
                self._consider(near, plain_address(session) or "", leg)

    def show_elsewhere(self, near: Session, endpoint: str, shown: SessionsLinked) -> None:
        """Take in what another partition shows of a dial-in at the target of a transfer. A log of all partitions has it itself."""
        plain, session_id = plain_uri(endpoint), shown.other_session_id
        target = targets_of(rare(near, "transfers")).get(plain)
        if target is None or self._registry.get(session_id) is not None:
            return
        known = known_leg(target)
        absent = [] if known is None else [known]
        if known is not None and known.session_id == session_id and shown.withdrawn:
            absent = []
        elif not shown.withdrawn:
            picked_up, ended = bool(shown.other_picked_up), bool(shown.other_ended)
            leg = FarLeg(session_id, shown.other_started_at, picked_up, ended, None)
            if known is not None and known.session_id == session_id:
                absent = [known.with_more(leg)]
            else:
                absent.append(leg)
        self._choose_for(near, plain, target, absent)

    def load(self, sessions: Iterable[Session]) -> None:
        """Index all sessions of a registry that was restored. All of this follows from the sessions, so no snapshot has it."""
        for session in sessions:
            transfers = rare(session, "transfers")
            if transfers:
                self._add(session)
                self._renew_windows(session)
                self.concerned[session.session_id] = (session.ended, session.transfers)
                for target in transfers.values():
                    if (leg := target.get("leg")) and self._registry.get(leg[0]) is not None:
                        self._registry.derive_link(session.session_id, leg[0])

    def _add(self, session: Session) -> None:
        """Note that a session was transferred. The first one is the reason to index all others."""
        is_first = not self._transferred
        self._transferred.add(session.session_id)
        if is_first:
            for known in self._registry.all():
                self.arrive(known)

    def _renew_windows(self, session: Session) -> None:
        """Let a session be found by the addresses of its targets, and watch the sessions there."""
        for plain, target in targets_of(rare(session, "transfers")).items():
            window = window_of(session, target)
            for key in _keys_of_target(session, plain):
                place = self._places.get(key)
                if place is None:
                    place = self._places[key] = _Place(self._legs_at(key))
                    for leg in place.legs:
                        self.concerned.setdefault(leg, None)
                place.windows[session.session_id] = window

    def _forget_target(self, session: Session, plain: str) -> None:
        for key in _keys_of_target(session, plain):
            place = self._places.get(key)
            if place is None:
                continue
            place.windows.pop(session.session_id, None)
            if place.windows:
                continue
            del self._places[key]
            for leg in place.legs:
                if self.concerned.get(leg, ()) is None and not self._is_watched(leg):
                    del self.concerned[leg]

    def _is_watched(self, session_id: str) -> bool:
        session = self._registry.get(session_id)
        return session is not None and any(key in self._places for key in _keys_of_leg(session))

    def _legs_at(self, key: str) -> dict[str, FarLeg]:
        first = self._at.get(key)
        ids = () if first is None else (first, *self._also_at.get(key, ()))
        return {leg: leg_of(far) for leg in ids if (far := self._registry.get(leg)) is not None}

    # --- which session is the far leg -----------------------------------------------------------------------------

    def _choose(self, near: Session) -> None:
        """Choose the far leg of each target of a session."""
        for plain, target in targets_of(rare(near, "transfers")).items():
            known = known_leg(target)
            self._choose_for(near, plain, target, [] if known is None else [known])

    def _choose_for(self, near: Session, plain: str, target: dict[str, Any], absent: list[FarLeg]) -> None:
        """Choose the far leg of one target, also among those that have left memory or are elsewhere."""
        window = window_of(near, target)
        found = [leg for key in _keys_of_target(near, plain) for leg in self._places[key].legs.values()]
        found += [leg for leg in absent if self._registry.get(leg.session_id) is None]
        fitting = [leg for leg in found if is_within(window, leg.first) and can_be_leg(near, leg)]
        self._set_leg(near, plain, min(fitting, key=order_of, default=None))

    def _consider(self, near_id: str, plain: str, leg: FarLeg) -> None:
        """Consider one session as far leg of another's transfer, after an event of it."""
        near = self._registry.get(near_id)
        target = targets_of(rare(near, "transfers")).get(plain) if near is not None else None
        if near is None or target is None:
            return
        known = known_leg(target)
        is_known = known is not None and known.session_id == leg.session_id
        if not is_known and known is not None and order_of(leg) > order_of(known):
            return
        fits = is_within(window_of(near, target), leg.first) and can_be_leg(near, leg)
        if fits and (known is None or order_of(leg) <= order_of(known)):
            self._set_leg(near, plain, leg)
        elif is_known:
            self._choose(near)
        else:
            return
        self._settle(near)

    def _set_leg(self, near: Session, plain: str, leg: FarLeg | None) -> None:
        """Keep what is known of a far leg, and link it."""
        transfers = rare(near, "transfers")
        known = transfers[plain].get("leg")
        kept = None if leg is None else list(leg[:-1])
        if kept == known:
            return
        target = {name: value for name, value in transfers[plain].items() if name != "leg"}
        if kept is not None:
            target["leg"] = kept
        set_rare(near, "transfers", {**transfers, plain: target})
        if (known and known[0]) != (kept and kept[0]):
            self.relinked[near.session_id] = None
        if known and (leg is None or leg.session_id != known[0]):
            self._unlink(near, known[0])
            self._see_again(known[0])
        if leg is None:
            return
        if self._registry.get(leg.session_id) is not None:
            self._registry.derive_link(near.session_id, leg.session_id)
        elif leg.session_id not in (rare(near, "legs") or ()):  # it has not left memory: it is elsewhere
            link_elsewhere(near, leg.session_id, linked=True)

    def _unlink(self, near: Session, leg_id: str) -> None:
        """Withdraw the link to a session that is a far leg no more, unless another transfer of either makes the same link."""
        far = self._registry.get(leg_id)
        is_linked_back = far is not None and near.session_id in _leg_ids(far)
        if not is_linked_back and leg_id not in _leg_ids(near):
            self._registry.withdraw_link(near.session_id, leg_id)
            link_elsewhere(near, leg_id, linked=False)

    def _see_again(self, leg_id: str) -> None:
        leg = self._registry.get(leg_id)
        if leg is not None:
            self._see(leg)

    def _settle(self, session: Session) -> None:
        """Note whether the outcomes changed after the end, and let its far legs be seen."""
        for leg_id in _leg_ids(session):
            self._see_again(leg_id)
        before, records = self.concerned.get(session.session_id), session.transfers
        if session.ended and (before is None or (before[0] and before[1] != records)):
            vars(session)["amended"] = True
            self._amended.append(session)
        self.concerned[session.session_id] = (session.ended, records)


def _keys_of_leg(session: Session) -> tuple[str, ...]:
    """Return the keys of a session as a possible far leg."""
    plain = plain_address(session)
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


def _leg_ids(session: Session) -> set[str]:
    """Return the ids of the far legs of a session's transfers."""
    return {leg[0] for target in (rare(session, "transfers") or {}).values() if (leg := target.get("leg"))}
