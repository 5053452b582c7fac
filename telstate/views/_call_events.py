"""The events of one call of a running dispatcher: from its journal, or, where there is none, from a tape of the latest ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import anyio

from telstate.calls._outcome import Outcome
from telstate.errors import ParseError
from telstate.events import Event, SourceGap
from telstate.routing._payload import read_record
from telstate.routing._ports import Journal

__all__ = ["CallTape", "KeptEvent", "events_in_journal"]

_MOST_ON_TAPE = 100_000
_MOST_READ = 500_000
"""Records of a journal that are looked at for one call."""
_MOST_OF_CALL = 5_000
"""Events that are kept of one call and its rooms."""
_AT_ONCE = 1_000
"""Events that are looked at before others get a turn."""
_GAP = b'"source-gap"'


class KeptEvent(NamedTuple):
    """An event as it was received."""

    seq: int
    at: float | None
    dialect: str | None
    event: Event


class CallTape:
    """Keeps the latest events, for a dispatcher without a journal."""

    def __init__(self) -> None:
        self._events: deque[KeptEvent] = deque(maxlen=_MOST_ON_TAPE)

    def add(self, outcome: Outcome, at: float | None) -> None:
        """Keep the event of an outcome."""
        self._events.append(KeptEvent(outcome.seq, at, None, outcome.event))

    @property
    def first(self) -> int | None:
        """The number of the oldest event that it has."""
        return self._events[0].seq if self._events else None

    async def events(self, ids: Collection[str]) -> list[KeptEvent]:
        """Return the events that name one of these ids, in order."""
        wanted, found = set(ids), list[KeptEvent]()
        for place, one in enumerate(list(self._events)):
            if not wanted.isdisjoint(_ids_in(one.event)) or isinstance(one.event, SourceGap):
                found.append(one)
            if place % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        return found[-_MOST_OF_CALL:]


async def events_in_journal(journal: Journal, after: int, ids: Collection[str]) -> list[KeptEvent]:
    """Return the events that name one of these ids, in order. What cannot be read is left out.

    Args:
        journal: of the dispatcher.
        after: the number of the event before the first one.
        ids: of sessions, rooms and so on.

    Raises:
        JournalError: if it cannot be read.
    """
    found: list[KeptEvent] = []
    read = 0
    texts = [*(one.encode() for one in ids), _GAP]
    async for record in journal.read(after):
        read += 1
        if read > _MOST_READ or len(found) >= _MOST_OF_CALL:
            break
        if read % _AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        if any(text in record.payload for text in texts):  # JSON writes ids as they are
            try:
                event = read_record(record)
            except ParseError:
                continue
            found.append(KeptEvent(record.seq, record.at, record.dialect, event))
    return found


def _ids_in(event: Event) -> set[str | None]:
    names = ("call_id", "other_session_id", "sip_endpoint", "user_id")
    own = {event.session_id, event.sip_call_id, event.room, event.call_client_id}
    return own | {getattr(event, name, None) for name in names}
