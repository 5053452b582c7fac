"""Which lines of a log are about the calls that somebody asked for: their events, and what else bears on them.

What is known of a call is forgotten when it leaves memory, so a log may be of any length; what remains is the numbers of the wanted lines.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._endings import holds_sign
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.events._base import Subject
from telstate.views._call import CallGrouping, WholeCall
from telstate.views._waiting_lines import KINDS, Key, WaitingLines, ids_of, keys_of_event, waiting_keys

__all__ = ["CallLines"]

_BEFORE = ("session", "sip", "user", "endpoint")
"""The keys by which a session finds lines that came before it."""
_LAST = {"room": "ended", "client": "left"}
"""Those of the lines that are signs of its end."""


class CallLines:
    """Follows a replay, and hands on the lines of the calls that are wanted. The sessions of one call are wanted together.

    Args:
        admits: whether a record of a session, or of a caller on hold, is wanted.
        keep: called with the number of each line that is about a wanted call, when that call has left memory; also more than once.
    """

    def __init__(self, admits: Callable[[dict[str, Any]], bool], keep: Callable[[int], None]) -> None:
        self._admits = admits
        self._keep = keep
        self._grouping = CallGrouping()
        self._waiting = WaitingLines()
        self._lines: dict[Session, array[int]] = {}
        self._ids: dict[Session, tuple[str | None, ...]] = {}
        """By what lines were found to be about a session so far."""
        self._live: dict[Key, dict[Session, None]] = {}
        """The sessions that events without a session may concern."""
        self._continued: set[Session] = set()
        """Sessions that were known before the log's first event."""
        self.calls = 0
        """How many wanted calls have left memory."""
        self.needs_base = False
        """True if one of them began before the log was pruned."""

    def see(self, line: int, outcome: Outcome, engine: Engine) -> None:
        """Take in an event.

        Args:
            line: the number of its line.
            outcome: what it was to its session.
            engine: of the replay.
        """
        event, session = outcome.event, outcome.session
        concerned = dict.fromkeys([*outcome.changed, *outcome.doubtful])
        if session is not None:
            concerned[session] = None
        elif type(event)._subject is Subject.SETTINGS:
            self._keep(line)
        else:
            for key in keys_of_event(event):
                concerned |= dict.fromkeys(one for one in self._live.get(key, ()) if not one.ended)
            for key, what in waiting_keys(event, engine):
                self._waiting.add(key, line, what)
        for one in concerned:
            if one not in self._lines:
                self._lines[one] = array("Q")
                if not outcome.opened or one is not session:
                    self._continued.add(one)
            self._lines[one].append(line)
            self._learn(one)

    def leave(self, gone: Session | Caller, record: dict[str, Any]) -> None:
        """Take in a session or a caller on hold that left memory."""
        if isinstance(gone, Caller):
            self._decide(WholeCall(caller=(gone, record)))
        elif (call := self._grouping.add(gone, record)) is not None:
            self._decide(call)

    def end(self) -> None:
        """Take in the end of the log."""
        for call in self._grouping.rest():
            self._decide(call)

    def _learn(self, session: Session) -> None:
        """Find the earlier lines about a session by what is new of it, and let later ones find it."""
        known, ids = self._ids.get(session, (None,) * len(KINDS)), ids_of(session)
        if ids != known:
            self._ids[session] = ids
            for kind, before, one in zip(KINDS, known, ids, strict=True):
                if one is not None and one != before:
                    self._live.setdefault((kind, one), {})[session] = None
                    self._pull(session, kind, one)
        if session.ended:
            self._be_found_no_more(session)

    def _pull(self, session: Session, kind: str, one: str) -> None:
        lines = self._lines[session]
        if kind in _BEFORE:
            lines.extend(self._waiting.find((kind, one)))
        elif kind == "room":
            lines.extend(self._waiting.find(("ready", one)))
        if kind in _LAST and holds_sign(
            session
        ):  # it is only now known to have been in that meeting, or of that client
            lines.extend(self._waiting.find((_LAST[kind], one)))

    def _be_found_no_more(self, session: Session) -> None:
        for key in zip(KINDS, self._ids.get(session, ()), strict=False):
            found = self._live.get(key, {})  # type: ignore[arg-type]
            found.pop(session, None)
            if not found:
                self._live.pop(key, None)  # type: ignore[arg-type]

    def _decide(self, call: WholeCall) -> None:
        """Keep the lines of a call that is whole, or forget them."""
        records = call.records()
        wanted = any(map(self._admits, records))
        self.calls += wanted
        self.needs_base |= wanted and any(
            session in self._continued or session not in self._lines for session, _ in call.legs
        )
        for session, _ in call.legs:
            self._be_found_no_more(session)
            self._ids.pop(session, None)
            self._continued.discard(session)
            self._keep_if(wanted, self._lines.pop(session, ()))
        for record in records:
            caller = ("caller", record.get("pinless_call_id") or record.get("call_id") or "")
            self._keep_if(wanted, self._waiting.find(caller))
            self._waiting.forget(caller)

    def _keep_if(self, wanted: bool, lines: Iterable[int]) -> None:
        if wanted:
            for line in lines:
                self._keep(line)
