"""Scopes: what makes the session ids of a transport unique that counts its calls anew in every process.

Daily's ids are global. pipecat's SIPTransport numbers its calls 2, 16777218, …, the same in every process, so the first call of every
process would be taken for one that ended long ago. Its source puts a scope before each id that it reports, and whoever acts on a call
through the transport takes it away again. Both find it here, by the transport.
"""

from __future__ import annotations

import weakref
from uuid import uuid4

from telstate.events._base import Event

__all__ = ["IdScope", "attach_to", "scope_of"]


class IdScope:
    """What stands before the ids of one transport.

    Args:
        name: a text that no other transport has, in no process. Empty: the ids stay as they are.

    Raises:
        ValueError: if the name cannot be a part of an id.
    """

    def __init__(self, name: str) -> None:
        if name:
            Event(action="", call_client_id=name)  # refuses what is no id
        self.name = name
        self._prefix = f"{name}-" if name else ""

    @classmethod
    def new(cls, transport: object) -> IdScope:
        """Make a scope that nobody else has."""
        return cls(f"{type(transport).__name__[:64]}-{uuid4().hex[:16]}")

    def session_id(self, transport_id: str) -> str:
        """Return the id by which a dispatcher knows a session that a transport knows by this one."""
        return self._prefix + transport_id

    def transport_id(self, session_id: str) -> str | None:
        """Return the id by which the transport knows a session; None if it is not one of this transport's."""
        return session_id.removeprefix(self._prefix) if session_id.startswith(self._prefix) else None


_NOTHING = IdScope("")
_SCOPES: dict[int, IdScope] = {}
"""The scope of each transport that ever had a source, by the identity of the transport, as long as it lives."""


def attach_to(transport: object, name: str | None) -> IdScope:
    """Return the scope of a transport, and keep it: a transport that gets a source again has the same ids as before.

    Args:
        transport: whatever reports sessions.
        name: the name of the scope; None for a new one, unless the transport has one.

    Raises:
        ValueError: if the name cannot be a part of an id, or the transport has another one already.
    """
    known = _SCOPES.get(id(transport))
    if known is not None:
        if name is not None and name != known.name:
            kind = type(transport).__name__
            raise ValueError(
                f"scope={name!r}: this {kind} has the scope {known.name!r}, and sessions with such ids exist"
            )
        return known
    scope = IdScope.new(transport) if name is None else IdScope(name)
    weakref.finalize(transport, _SCOPES.pop, id(transport), None).atexit = False
    _SCOPES[id(transport)] = scope
    return scope


def scope_of(transport: object) -> IdScope:
    """Return the scope of a transport; one that changes nothing if it has none."""
    return _SCOPES.get(id(transport), _NOTHING)
