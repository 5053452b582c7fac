"""The rooms among the views: the sessions of a room, and who wants to hear of them."""

from __future__ import annotations

from collections.abc import Callable

from telstate.journals.nats._view import SessionFacts, View

__all__ = ["RoomViews"]

Watch = Callable[[View], None]


class RoomViews:
    """The sessions of rooms, for as long as they are shown."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, None]] = {}
        """By room, the ids of its sessions."""
        self._room_of: dict[str, str] = {}
        self._watchers: dict[str, dict[Watch, None]] = {}

    def put(self, session_id: str, facts: SessionFacts) -> None:
        """Take note of a session."""
        self.forget(session_id)
        if facts.room is not None:
            self._sessions.setdefault(facts.room, {})[session_id] = None
            self._room_of[session_id] = facts.room

    def forget(self, session_id: str) -> None:
        """A session is shown no longer, or otherwise."""
        if (room := self._room_of.pop(session_id, None)) is None:
            return
        sessions = self._sessions[room]
        del sessions[session_id]
        if not sessions:
            del self._sessions[room]

    def sessions(self, room: str) -> list[str]:
        """List the ids of the sessions of a room."""
        return list(self._sessions.get(room, ()))

    def tell(self, room: str | None, view: View) -> None:
        """Tell those who watch a room of a session."""
        if room is not None:
            for watch in list(self._watchers.get(room, ())):
                watch(view)

    def watch(self, room: str, changed: Watch) -> Callable[[], None]:
        """Call a function with each new view of a session of a room. Returns a function that ends it."""
        self._watchers.setdefault(room, {})[changed] = None
        return lambda: self._unwatch(room, changed)

    def _unwatch(self, room: str, changed: Watch) -> None:
        watchers = self._watchers.get(room, {})
        watchers.pop(changed, None)
        if not watchers:
            self._watchers.pop(room, None)
