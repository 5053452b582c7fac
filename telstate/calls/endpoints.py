"""The SIP endpoints of rooms: which are ready, who is on which, and who is on the way to one.

An endpoint takes one caller at a time. Two things point at an endpoint before a session does: a caller on hold who was
forwarded to it, and a call that is being transferred to it. Whoever connects there next is that caller, or that call's
far leg.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from telstate.calls.session import Session, plain_uri
from telstate.calls.shelf import Shelf
from telstate.events import Event, PinlessDialin

__all__ = ["Arrival", "Endpoint", "Endpoints"]

Scope = tuple[str, str, str]
"""Where an endpoint's name holds: ("room", domain, room), else ("client", call client, "")."""


class Endpoint:
    """One SIP endpoint of a room. Read-only for users."""

    __slots__ = ("ready", "scope", "session_id", "uri")

    def __init__(self, uri: str, scope: Scope, *, ready: bool = False, session_id: str | None = None) -> None:
        self.uri = uri
        """As it was first told."""
        self.scope = scope
        self.ready = ready
        """True once its `dialin-ready` was told: a client may dial it."""
        self.session_id = session_id
        """The session that is on it; None when it is free."""

    @property
    def busy(self) -> bool:
        """True while a session is on it; nobody else can dial it then."""
        return self.session_id is not None

    def __repr__(self) -> str:
        return f"<Endpoint {self.uri} {f'busy with {self.session_id}' if self.busy else 'free'}>"


class Arrival(NamedTuple):
    """What is known when a session connects at an endpoint."""

    busy_with: str | None
    """The session that was still on it: an anomaly."""
    caller: dict[str, str | None] | None
    """The waiting caller who was forwarded to it."""
    transferred_from: str | None
    """The session whose transfer named it as target."""


class Endpoints:
    """All endpoints; the free ones are forgotten after retention."""

    def __init__(self, ttl: float, limit: int) -> None:
        self._by_uri: dict[str, dict[Scope, Endpoint]] = {}
        self._place_of: dict[str, tuple[str, Scope]] = {}
        self.free: Shelf[tuple[str, Scope], bool] = Shelf(ttl, limit)
        self.callers: Shelf[str, dict[str, str | None]] = Shelf(ttl, limit)
        """Waiting callers by their pinless call id."""
        self.forwarded: Shelf[str, str] = Shelf(ttl, limit)
        """To which endpoint a waiting caller was forwarded."""
        self.transfers: Shelf[str, str] = Shelf(ttl, limit)
        """To which endpoint a session is being transferred."""

    def find(self, uri: str) -> Endpoint | None:
        """Find an endpoint, with or without `sip:`, whatever its query; of several scopes' the busy one first."""
        known = self._by_uri.get(plain_uri(uri), {}).values()
        return next((endpoint for endpoint in known if endpoint.busy), next(iter(known), None))

    def set_ready(self, uri: str, scope: Scope, now: float) -> None:
        """An endpoint can be dialled."""
        endpoint = self._get(uri, scope)
        endpoint.ready = True
        if not endpoint.busy:
            self._set_free(endpoint, now)

    def take(self, session: Session, uri: str, now: float) -> Arrival:
        """A session connected at an endpoint."""
        plain = plain_uri(uri)
        endpoint = self._get(uri, scope_of(session))
        other = endpoint.session_id
        self.leave(session, now)
        endpoint.session_id = session.session_id
        self._place_of[session.session_id] = (plain, endpoint.scope)
        self.free.pop((plain, endpoint.scope))
        call_id = self.forwarded.pop(plain)
        caller = self.callers.pop(call_id) if call_id is not None else None
        return Arrival(other if other != session.session_id else None, caller, self.transfers.pop(plain))

    def leave(self, session: Session, now: float) -> None:
        """A session is on no endpoint any more; the same endpoint can be dialled again."""
        place = self._place_of.pop(session.session_id, None)
        if place is None:
            return
        endpoint = self._by_uri[place[0]][place[1]]
        if endpoint.session_id == session.session_id:
            endpoint.session_id = None
            self._set_free(endpoint, now)

    def close_room(self, scope: Scope) -> None:
        """A room's meeting ended: its free endpoints cannot be dialled any more."""
        for plain, of in [key for key in self.free if key[1] == scope]:
            self.free.pop((plain, of))
            self._drop(plain, of)

    def wait(self, event: PinlessDialin, now: float) -> None:
        """A caller is on hold."""
        if event.call_id is not None:
            caller = {"from": event.from_, "to": event.to, "call_id": event.call_id}
            self.callers.put(event.call_id, caller, now)
            self.callers.trim()

    def forward(self, call_id: str, uri: str, now: float) -> None:
        """A waiting caller is on the way to an endpoint."""
        if call_id in self.callers:
            self.forwarded.put(plain_uri(uri), call_id, now)
            self.forwarded.trim()

    def transfer(self, session_id: str, uri: str, now: float, *, arrived: bool) -> str | None:
        """A session is being transferred to `uri`; tell the far leg if it has `arrived` there, else wait for it."""
        plain = plain_uri(uri)
        endpoint = self.find(uri)
        if arrived and endpoint is not None and endpoint.session_id not in (None, session_id):
            self.transfers.pop(plain)
            return endpoint.session_id
        if not arrived:
            self.transfers.put(plain, session_id, now)
            self.transfers.trim()
        return None

    def expire(self, now: float) -> None:
        """Forget what is due."""
        for key, _ in self.free.due(now):
            self.free.pop(key)
            self._drop(*key)
        for shelf in (self.callers, self.forwarded, self.transfers):
            shelf.expire(now)

    def shelves(self) -> list[Shelf[Any, Any]]:
        """All that is due at some time."""
        return [self.free, self.callers, self.forwarded, self.transfers]

    def __len__(self) -> int:
        return sum(len(scopes) for scopes in self._by_uri.values())

    def dump(self) -> dict[str, Any]:
        """Write it down as JSON values."""
        return {
            "all": [
                [plain, list(endpoint.scope), endpoint.uri, endpoint.ready, endpoint.session_id]
                for plain, scopes in self._by_uri.items()
                for endpoint in scopes.values()
            ],
            "free": [[plain, list(scope), due] for (plain, scope), due, _ in self.free.dump()],
            "callers": self.callers.dump(),
            "forwarded": self.forwarded.dump(),
            "transfers": self.transfers.dump(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Read what `dump` wrote."""
        for plain, scope, uri, ready, session_id in dumped["all"]:
            endpoint = Endpoint(uri, _scope(scope), ready=ready, session_id=session_id)
            self._by_uri.setdefault(plain, {})[endpoint.scope] = endpoint
            if session_id is not None:
                self._place_of[session_id] = (plain, endpoint.scope)
        self.free.load(((plain, _scope(scope)), due, True) for plain, scope, due in dumped["free"])
        for name in ("callers", "forwarded", "transfers"):
            getattr(self, name).load(dumped[name])

    def _get(self, uri: str, scope: Scope) -> Endpoint:
        scopes = self._by_uri.setdefault(plain_uri(uri), {})
        return scopes.get(scope) or scopes.setdefault(scope, Endpoint(uri, scope))

    def _set_free(self, endpoint: Endpoint, now: float) -> None:
        self.free.put((plain_uri(endpoint.uri), endpoint.scope), True, now)
        for key in self.free.above_limit():
            self.free.pop(key)
            self._drop(*key)

    def _drop(self, plain: str, scope: Scope) -> None:
        scopes = self._by_uri[plain]
        del scopes[scope]
        if not scopes:
            del self._by_uri[plain]


def scope_of(told: Event | Session) -> Scope:
    """Where what has no global id holds: in its room where the dialect tells it, else with its call client."""
    if told.room is not None:
        return ("room", told.domain_id or "", told.room)
    return ("client", told.call_client_id or "", "")


def _scope(dumped: list[str]) -> Scope:
    return (dumped[0], dumped[1], dumped[2])
