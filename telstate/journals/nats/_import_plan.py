"""Where the events of a journal belong in the streams: a first reading finds out what only later events say.

A partition has all events of its rooms, and most events of a program name no room: a request to stop names its session, a caller on
hold has a call id. Which room that is follows from a replay, at its end at the latest.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.errors import JournalError, ParseError
from telstate.events import Event, SettingsChanged, SourceGap
from telstate.events._dialects.journal import unwrap
from telstate.events._parse import parse_line
from telstate.journals._export import parse_dead_letter
from telstate.journals.nats._settings import settings_of_one
from telstate.routing._ports import Base, Entry, KeptLetter

__all__ = ["EVERYWHERE", "ImportPlan", "Imported"]

EVERYWHERE = ("*",)
"""The place of an event that concerns every partition."""
_NO_JOURNAL = (
    "import takes a service's journal, or an export of one, so that it can tell what was imported before: this begins with"
    " no header. `telstate export LOG` of a plain log has none either; feed it to a `Dispatcher` with a SqliteJournal first"
)


class Imported(NamedTuple):
    """An event to import."""

    seq: int
    """Its number in the journal that it comes from."""
    entry: Entry
    places: tuple[str, ...]
    """The rooms, or what stands for them, in whose partitions it is wanted. `EVERYWHERE`, or none to leave it out."""
    of: str | None
    """The session, or the caller on hold, that it is about: they stay where an earlier import has put them, when less was known."""


class ImportPlan:
    """Learns from all lines of a journal; then it says of each event where it belongs.

    Args:
        base: of a journal that was pruned, if its lines do not begin with it, but with all events that are left.
    """

    def __init__(self, base: Base | None = None) -> None:
        self._base_seq, self._known = (0, frozenset[int]()) if base is None else (base.seq, base.known)
        self.journal: str = ""
        """The name of the journal, made once."""
        self.settings: dict[str, Any] = {}
        self.done: set[int] = set()
        """Numbers of finished work."""
        self.letters: list[KeptLetter] = []
        self.last: int = 0
        """The number of the last event."""
        self.unreadable: int = 0
        """Lines that could not be read, and are left out."""
        self.left_out: int = 0
        """Events of sessions that began before what is left of a pruned journal."""
        self._replay = Replay()
        self._before: set[str] = set()
        """The sessions of a pruned journal whose first events are gone."""
        self._rooms: dict[str, str] = {}
        """By session."""
        self._sessions: dict[str, str] = {}
        """By the call id of a caller on hold, or by a call client, the session of it."""
        self._clients: dict[str, str] = {}
        """By session, its call client. What the client knows concerns all of its sessions, so those without a room are together."""
        self._concerned: dict[int, tuple[str, ...]] = {}
        """The sessions that an event concerns which names no room."""

    # --- the first reading ----------------------------------------------------------------------------------------

    def learn(self, line: bytes) -> None:
        """Take in one line.

        Raises:
            JournalError: if this is not one journal.
        """
        if line.startswith((b'{"v":1,"done":', b'{"v":1,"dead":', b'{"v":1,"journal":')):
            self._learn_bookkeeping(line)
            return
        if not self.journal:
            raise JournalError(_NO_JOURNAL)
        try:
            outcome = self._replay.feed(line)
        except ParseError:
            self.unreadable += 1
            return
        engine = self._replay.engine
        if outcome is None:
            if line.startswith(b'{"v":1,"base":'):
                self._before = {session.session_id for session in engine.sessions()}
            return
        seq = _seq_of(line)
        if seq <= self.last:
            raise JournalError(f"event {seq} comes after event {self.last}: import one journal at a time, as it is")
        self.last = seq
        event, session = outcome.event, outcome.session
        if session is not None:
            if outcome.opened and seq <= self._base_seq and seq not in self._known:
                self._before.add(session.session_id)
            self._learn_session(session)
        if isinstance(event, SourceGap):
            self._concerned[seq] = tuple(one.session_id for one in outcome.doubtful)
        elif session is not None and (event.room is None or session.session_id in self._before):
            self._concerned[seq] = (session.session_id,)

    def _learn_bookkeeping(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:  # the end of an export that was cut off
            self.unreadable += 1
            return
        if "done" in record:
            self.done.add(record["done"])
        elif "dead" in record:
            self.letters.append(parse_dead_letter("the log", line))
        elif self.journal:
            raise JournalError("a second header: import one journal at a time")
        else:
            self.journal, self.settings = record["journal"], settings_of_one(record)
            self._replay.feed(line)

    def _learn_session(self, session: Session) -> None:
        if session.room is not None:
            self._rooms[session.session_id] = session.room
        if session.call_client_id is not None:
            self._clients[session.session_id] = session.call_client_id
        for of in (session.pinless_call_id, session.call_client_id):
            if of is not None:
                self._sessions[of] = session.session_id

    @property
    def live(self) -> list[str]:
        """The rooms, or what stands for them, of the sessions that are live at the end."""
        return [
            self._place_of(one.session_id) for one in self._replay.engine.live() if one.session_id not in self._before
        ]

    @property
    def lost(self) -> list[str]:
        """The sessions that are live at the end, and cannot be moved: their first events were pruned."""
        return [one.session_id for one in self._replay.engine.live() if one.session_id in self._before]

    # --- the second reading ---------------------------------------------------------------------------------------

    def place(self, line: bytes) -> Imported | None:
        """Read an event again, and say where it belongs; None for every other line."""
        if line.startswith((b'{"v":1,"done":', b'{"v":1,"dead":', b'{"v":1,"journal":', b'{"v":1,"base":')):
            return None
        entry = _entry_of(line)
        if entry is None:
            return None
        seq = _seq_of(line)
        concerned = self._concerned.get(seq)
        if concerned is not None and not self._before.isdisjoint(concerned):
            concerned = tuple(one for one in concerned if one not in self._before)
            if not concerned and not isinstance(entry.event, SourceGap):
                self.left_out += 1
        of = concerned[0] if concerned else entry.event.session_id or getattr(entry.event, "call_id", None)
        return Imported(seq, entry, self._places(entry.event, concerned), of)

    def _places(self, event: Event, concerned: tuple[str, ...] | None) -> tuple[str, ...]:
        if isinstance(event, SettingsChanged):
            return EVERYWHERE
        if concerned is not None:
            return tuple(dict.fromkeys(map(self._place_of, concerned)))
        return (event.room or self._place_without_room(event),)

    def _place_of(self, session_id: str) -> str:
        return self._rooms.get(session_id) or self._clients.get(session_id) or session_id

    def _place_without_room(self, event: Event) -> str:
        """As a publisher does, but for what is known by now."""
        if event.session_id in self._rooms or event.session_id in self._clients:
            return self._place_of(event.session_id)
        for of in (getattr(event, "call_id", None), event.call_client_id):
            if of is not None:
                return self._place_of(self._sessions[of]) if of in self._sessions else of
        return event.session_id or event.sip_call_id or event.domain_id or "unscoped"


def _seq_of(line: bytes) -> int:
    record = unwrap(line)
    seq = json.loads(line).get("seq") if record is None else record.seq
    if not isinstance(seq, int):
        raise JournalError(_NO_JOURNAL)
    return seq


def _entry_of(line: bytes) -> Entry | None:
    """Return the event of a record with its time, its dialect and its own bytes; None if it cannot be read."""
    try:
        event, at, dialect, *_ = parse_line(line)
    except ParseError:
        return None
    if event is None:
        return None
    record = unwrap(line)
    return Entry(at, "daily-js" if record is None else dialect, None if record is None else record.payload, event)
