"""The SIP endpoints of rooms: which are ready, and which session is on which.

An endpoint takes one caller at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._session import Session
from telstate.events import Event

__all__ = ["Endpoint", "Endpoints", "scope_of"]

Scope = tuple[str, str, str]
"""Where the name of an endpoint is unique: ("room", domain, room), else ("client", call client, "")."""


class Endpoint:
    """One SIP endpoint of a room. Do not change it."""

    __slots__ = ("ready", "scope", "sessions", "uri")

    uri: str
    """As it was first reported."""
    scope: tuple[str, str, str]
    """Where its name is unique: ("room", domain, room), else ("client", call client, "")."""
    ready: bool
    """True once its `dialin-ready` arrived: a client can dial it."""
    sessions: list[str]
    """The ids of the sessions on it. According to Daily there is never more than one."""

    def __init__(self, uri: str, scope: Scope, *, ready: bool = False, sessions: Iterable[str] = ()) -> None:
        self.uri = uri
        self.scope = scope
        self.ready = ready
        self.sessions = list(sessions)

    @property
    def session_id(self) -> str | None:
        """The id of the session on it, the latest if there are several; None if it is free."""
        return self.sessions[-1] if self.sessions else None

    @property
    def busy(self) -> bool:
        """True while a session is on it. Nobody else can dial it then."""
        return bool(self.sessions)

    def __repr__(self) -> str:
        return f"<Endpoint {self.uri} {f'busy with {self.session_id}' if self.busy else 'free'}>"


class Endpoints:
    """All endpoints. Free ones are forgotten after retention."""

    def __init__(self, ttl: float, limit: int) -> None:
        self._by_uri: dict[str, dict[Scope, Endpoint]] = {}
        self._place_of: dict[str, tuple[str, Scope]] = {}
        self.free: ExpiringDict[tuple[str, Scope], bool] = ExpiringDict(ttl, limit)

    def find(self, uri: str) -> Endpoint | None:
        """Find an endpoint, with or without `sip:` and query. Of several scopes, a busy one wins, then a ready one."""
        scopes = self._by_uri.get(plain_uri(uri), {}).values()
        # Not every observer receives the ready: an endpoint without it must not hide one that has it.
        return max(scopes, key=lambda endpoint: (endpoint.busy, endpoint.ready), default=None)

    def all(self) -> list[Endpoint]:
        """List all endpoints."""
        return [endpoint for scopes in self._by_uri.values() for endpoint in scopes.values()]

    def set_ready(self, uri: str, scope: Scope, now: float) -> None:
        """Note that an endpoint can be dialled."""
        plain = plain_uri(uri)
        endpoint = self._get(plain, scope, uri)
        endpoint.ready = True
        if not endpoint.sessions:
            self._set_free((plain, scope), now)

    def occupy(self, session: Session, uri: str, now: float) -> None:
        """Put a session that connected on its endpoint."""
        place = (plain_uri(uri), scope_of(session))
        before = self._place_of.get(session.session_id)
        if before is not None:
            if before[0] == place[0]:
                return  # reported again, perhaps by another observer, which knows the room
            self.vacate(session, now)
        self.free.pop(place, None)
        endpoint = self._get(*place, uri)
        endpoint.sessions.append(session.session_id)
        self._place_of[session.session_id] = place

    def vacate(self, session: Session, now: float) -> None:
        """Remove a session from its endpoint, which can be dialled again."""
        place = self._place_of.pop(session.session_id, None)
        if place is None:
            return
        endpoint = self._by_uri[place[0]][place[1]]
        endpoint.sessions.remove(session.session_id)
        if not endpoint.sessions:
            self._set_free(place, now)

    def close_room(self, room: str, domain_id: str | None) -> None:
        """Forget the free endpoints of a room whose meeting ended: they cannot be dialled any more."""
        for place in list(self.free):
            kind, domain, name = place[1]
            if (kind, name) == ("room", room) and (not domain or domain_id is None or domain == domain_id):
                self.free.pop(place)
                self._drop(*place)

    def expire(self, now: float) -> None:
        """Forget what is due."""
        for key, _ in self.free.due(now):
            self.free.pop(key)
            self._drop(*key)

    def __len__(self) -> int:
        return sum(len(scopes) for scopes in self._by_uri.values())

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "all": [
                [plain, list(endpoint.scope), endpoint.uri, endpoint.ready, list(endpoint.sessions)]
                for plain, scopes in self._by_uri.items()
                for endpoint in scopes.values()
            ],
            "free": [[plain, list(scope), due] for (plain, scope), due, _ in self.free.dump()],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned."""
        for plain, scope, uri, ready, sessions in dumped["all"]:
            endpoint = Endpoint(uri, _scope(scope), ready=ready, sessions=sessions)
            self._by_uri.setdefault(plain, {})[endpoint.scope] = endpoint
            self._place_of |= dict.fromkeys(sessions, (plain, endpoint.scope))
        self.free.load(((plain, _scope(scope)), due, True) for plain, scope, due in dumped["free"])

    def _get(self, plain: str, scope: Scope, uri: str) -> Endpoint:
        scopes = self._by_uri.get(plain)
        if scopes is None:
            scopes = self._by_uri[plain] = {}
        endpoint = scopes.get(scope)
        if endpoint is None:
            endpoint = scopes[scope] = Endpoint(uri, scope)
        return endpoint

    def _set_free(self, place: tuple[str, Scope], now: float) -> None:
        self.free.put(place, True, now)
        if self.free.limit is not None and len(self.free) > self.free.limit:
            for key in self.free.above_limit():
                self.free.pop(key)
                self._drop(*key)

    def _drop(self, plain: str, scope: Scope) -> None:
        scopes = self._by_uri[plain]
        del scopes[scope]
        if not scopes:
            del self._by_uri[plain]


def scope_of(subject: Event | Session) -> Scope:
    """Return where a name without a global id is unique: in its room if the dialect reports it, else in its call client."""
    if subject.room is not None:
        return ("room", subject.domain_id or "", subject.room)
    return ("client", subject.call_client_id or "", "")


def _scope(dumped: list[str]) -> Scope:
    return (dumped[0], dumped[1], dumped[2])
