"""By which endpoint the dial-ins of a room came, where events do not say it.

Webhooks and daily-python never name the endpoint of a dial-in. `dialin-ready` names an endpoint and its room, so where exactly
one endpoint of a room is known, busy or not, the room's dial-ins came by that one. With a second one nothing is known any more.
The endpoints of a room are forgotten together: forgetting one of two would turn "unknown" into a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._expiring_dict import ExpiringDict

__all__ = ["RoomEndpoints"]


class _Room:
    """The rooms of one name: mostly one, but each domain may have one."""

    __slots__ = ("places", "sessions")

    def __init__(self) -> None:
        self.places: tuple[tuple[str, str], ...] = ()
        """Known endpoints as (domain, URI), the domain empty if unknown. Of each domain two at most: a third changes nothing."""
        self.sessions: dict[str, None] = {}
        """The dial-ins in these rooms, also ended ones."""


class RoomEndpoints:
    """The endpoints and dial-ins of all rooms, by the room's name.

    Args:
        ttl: seconds for which a room is remembered without a live dial-in.
        limit: how many rooms without a live dial-in are remembered.
        is_live: returns whether the session of an id is live.
    """

    def __init__(self, ttl: float, limit: int, is_live: Callable[[str], bool]) -> None:
        self._rooms: dict[str, _Room] = {}
        self.free: ExpiringDict[str, bool] = ExpiringDict(ttl, limit)
        self._is_live = is_live

    def add_endpoint(self, room: str, domain_id: str | None, uri: str, now: float) -> list[str]:
        """Note an endpoint of a room; return the dial-ins about which it may change what is known."""
        known, domain = self._touch(room, now), domain_id or ""
        plain = plain_uri(uri)
        of_domain = [plain_uri(other) for owner, other in known.places if owner == domain]
        if len(of_domain) >= 2 or plain in of_domain:
            return []
        known.places += ((domain, uri),)
        return list(known.sessions)

    def enter(self, room: str, session_id: str, now: float) -> None:
        """Note a dial-in of a room."""
        self._touch(room, now).sessions[session_id] = None

    def dialins_of(self, room: str) -> list[str]:
        """List the dial-ins of a room, also of ended ones."""
        known = self._rooms.get(room)
        return [] if known is None else list(known.sessions)

    def endpoint_of(self, room: str, domain_id: str | None) -> str | None:
        """Return the only known endpoint of a room; None if there is none, or several. An unknown domain can be any."""
        known = self._rooms.get(room)
        if known is None or not known.places:
            return None
        of_domain = {
            plain_uri(uri): uri
            for domain, uri in known.places
            if not domain or domain_id is None or domain == domain_id
        }
        return next(iter(of_domain.values())) if len(of_domain) == 1 else None

    def end(self, room: str, now: float) -> None:
        """A dial-in of the room ended: the room is remembered from now on."""
        if room in self._rooms:
            self.free.put(room, True, now)

    def leave(self, room: str, session_id: str) -> None:
        """A dial-in of the room left memory."""
        if (known := self._rooms.get(room)) is not None:
            known.sessions.pop(session_id, None)

    def expire(self, now: float) -> None:
        """Forget the rooms that are due, with all their endpoints."""
        while due := self.free.due(now):
            for room, at in due:  # renewed from when it was due: the result must not depend on when somebody looks
                self._forget(room, at)

    def __len__(self) -> int:
        return len(self._rooms)

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        rooms = [
            [name, [list(place) for place in room.places], list(room.sessions)] for name, room in self._rooms.items()
        ]
        return {"rooms": rooms, "free": self.free.dump()}

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned."""
        for name, places, sessions in dumped["rooms"]:
            room = self._rooms[name] = _Room()
            room.places = tuple((domain, uri) for domain, uri in places)
            room.sessions = dict.fromkeys(sessions)
        self.free.load(dumped["free"])

    def _touch(self, room: str, now: float) -> _Room:
        known = self._rooms.get(room)
        if known is None:
            known = self._rooms[room] = _Room()
        free = self.free
        free.put(room, True, now)
        if free.limit is not None and len(free) > free.limit:
            for oldest in list(islice(free, 2)):  # a few at a time: a live one is kept, and looked at again last
                if oldest != room:
                    self._forget(oldest, now)
        return known

    def _forget(self, room: str, now: float) -> None:
        if self._has_live(self._rooms[room].sessions):
            self.free.put(room, True, now)
        else:
            self.free.pop(room)
            del self._rooms[room]

    def _has_live(self, sessions: Iterable[str]) -> bool:
        return any(self._is_live(session_id) for session_id in sessions)
