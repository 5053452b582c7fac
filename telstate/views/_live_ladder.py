"""The ladder of one call of a running dispatcher, built when somebody asks for it.

The events of the call are stepped again by an engine of their own, which says what each did at that moment; what is known of the call by now
comes from the dispatcher.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._ports import Journal, KeptLetter
from telstate.views._call_events import CallTape, KeptEvent, events_in_journal
from telstate.views._call_groups import CallIds
from telstate.views._call_traces import CallTraces
from telstate.views._ladder import Ladder
from telstate.views._ladder_building import HandlerWork, build_ladder
from telstate.views._live_messages import session_record

__all__ = ["LiveLadder", "live_ladder"]

_BEFORE = 2_000
"""So many events before the first one of the call are looked at: its endpoint was ready before."""
_MOST_LETTERS = 5_000
"""Dead letters that are looked at for one call."""


class LiveLadder:
    """A ladder, and what it lacks.

    Args:
        ladder: of the call.
        lacks: why its beginning is not there, in words; None if it is.
    """

    def __init__(self, ladder: Ladder, lacks: str | None) -> None:
        self.ladder = ladder
        self.lacks = lacks


async def live_ladder(calls: Dispatcher, one: str, tape: CallTape | None, *, numbers: bool) -> LiveLadder | None:
    """Build the ladder of a call; return None if no call is known by that id.

    Args:
        calls: the dispatcher.
        one: a session id, a SIP Call-ID, or the id of a caller on hold.
        tape: has the events of a dispatcher without a journal.
        numbers: show phone numbers, SIP users and names in full.

    Raises:
        JournalError: if the journal cannot be read.
        NotRunning: outside the dispatcher's block.
    """
    sessions, callers = _parts_of(calls, one)
    if not sessions and not callers:
        return None
    ids = CallIds([session.session_id for session in sessions], [caller.call_id for caller in callers])
    first = min([*(session.opened for session in sessions), *(caller._number for caller in callers)])
    names = _names_of(sessions, callers)
    journal = calls.journal
    if journal is None:
        found = [] if tape is None else await tape.events(names)
        begin = None if tape is None else tape.first
        lacks = _NOT_ON_TAPE if begin is None or begin > first else None
    else:
        found = await events_in_journal(journal, max(0, first - 1 - _BEFORE), names)
        lacks = None if any(event.seq == first for event in found) else _NOT_IN_JOURNAL
    settings = None if journal is None or journal.settings is None else Settings.model_validate(journal.settings)
    traces = _traced(found, ids, settings)
    (trace,) = traces.traces
    for session in sessions:
        traces.depart(session, session_record(calls, session))
        trace.sessions[session.session_id] = session  # as it is by now
    trace.callers.update({caller.call_id: caller for caller in callers})
    work = HandlerWork() if journal is None else await _work_of(journal, [seen.key for seen in trace.seen])
    ladder = build_ladder(trace, work, numbers=numbers)
    return LiveLadder(replace(ladder, call=ids.name), lacks)


_NOT_ON_TAPE = "The events before are not kept: the service has no journal, and nobody looked at the board yet when the call began."
_NOT_IN_JOURNAL = "The first events of this call are not in the journal any more."


def _parts_of(calls: Dispatcher, one: str) -> tuple[list[Session], list[Caller]]:
    """Return the legs of a call that are in memory, and the callers on hold who are or were among them."""
    sessions = calls.legs(one)
    asked = calls.caller(one)
    if not sessions and asked is not None and asked.session_id is not None:
        sessions = calls.legs(asked.session_id)
    waited = [calls.caller(session.pinless_call_id) for session in sessions if session.pinless_call_id is not None]
    callers = [caller for caller in [asked, *waited] if caller is not None]
    return sessions, list(dict.fromkeys(callers))


def _names_of(sessions: list[Session], callers: list[Caller]) -> list[str]:
    """Return the ids by which events of the call are found."""
    names: dict[str | None, None] = {}
    for session in sessions:
        names.update(
            dict.fromkeys(
                [
                    session.session_id,
                    session.sip_call_id,
                    session.user_id,
                    session.room,
                    session.call_client_id,
                    session.sip_endpoint,
                ]
            )
        )
    for caller in callers:
        names.update(dict.fromkeys([caller.call_id, caller.room]))
    return [name for name in names if name]


def _traced(events: list[KeptEvent], ids: CallIds, settings: Settings | None) -> CallTraces:
    engine = Engine(settings)
    traces = CallTraces([ids], lambda: engine)
    for seq, at, dialect, event in events:
        outcome = engine.receive(event, at, seq, dialect)
        if traces.wants(outcome):
            traces.see(outcome, at, dialect, seq)
    return traces


async def _work_of(journal: Journal, seqs: list[Any]) -> HandlerWork:
    """Ask the journal about the handlers of the call's events."""
    known = sorted({seq for seq in seqs if isinstance(seq, int)})
    if not known:
        return HandlerWork()
    done = await journal.finished(known)
    letters: dict[Any, list[KeptLetter]] = {}
    looked_at = 0
    async for kept in journal.dead_letters():
        looked_at += 1
        if abs(kept.letter.seq) in known:  # below zero: the retirement of the session that this event opened
            letters.setdefault(abs(kept.letter.seq), []).append(kept)
        if looked_at >= _MOST_LETTERS:
            break
    return HandlerWork(set(known) - done, letters)
