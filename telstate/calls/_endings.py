"""What follows from the signs of an end: doubt while the session lives, the grace, and other facts of an end that is inferred."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from telstate.calls._engine_state import EngineState
from telstate.calls._evidence import Cause, EndedBy, EndSource, Evidence
from telstate.calls._session import Session, inferred_end, may_concern, signs_of
from telstate.calls._shared_signs import client_key, room_key
from telstate.calls._signs import CLOCKS_DIFFER, Sign, add_sign, learned_at, meeting_of
from telstate.calls._table import EndSign
from telstate.events import ClientLeft, MeetingEnded

__all__ = [
    "Ending",
    "client_left",
    "conclude",
    "ending_of",
    "forget_told",
    "give_shared_signs",
    "holds_sign",
    "meeting_ended",
    "note_amended",
    "note_sign",
    "note_untold",
    "review_end",
]

_CLIENT_LEFT = EndSign.CLIENT_LEFT


class Ending(NamedTuple):
    """What is known of an end: a change of it amends the session."""

    cause: Cause | None
    ended_by: EndedBy | None
    source: EndSource | None
    at: float | None


def ending_of(session: Session) -> Ending | None:
    """Return what is known of the end of a session whose end may still be another; None if it lives, or Daily reported the end."""
    if not session.ended or (session._evidence & Evidence.TOLD and not session._signs):
        return None
    return Ending(session.cause, session.ended_by, session.end_source, session.ended_at)


def note_amended(state: EngineState, session: Session, before: Ending) -> None:
    """Note that what is known of an end has changed since `before`."""
    if (session.cause, session.ended_by, session.end_source, session.ended_at) != before:
        vars(session)["amended"] = True
        state.changed.append(session)
    if session.session_id in state.untold:
        note_untold(state, session)


def note_untold(state: EngineState, session: Session) -> None:
    """Remember a session whose end Daily did not report, and by when it had ended: only an earlier sign says more of it."""
    end = inferred_end(session)
    state.untold[session.session_id] = None if end is None else end.by


def note_sign(session: Session, sign: Sign) -> None:
    """Add a sign to a session. Once Daily has reported the end, only our own leaving says more: who ended it."""
    if sign.kind != _CLIENT_LEFT and session._evidence & Evidence.TOLD:
        return
    if may_concern(session, sign):
        vars(session)["_signs"] = add_sign(session._signs, sign, session)


def forget_told(session: Session) -> None:
    """Daily reported the end: forget the signs of it."""
    session.__dict__["_signs"] = tuple([sign for sign in session._signs if sign.kind == _CLIENT_LEFT])


def holds_sign(session: Session) -> bool:
    """Return whether there is a sign of the end that holds."""
    return bool(session._signs) and learned_at(signs_of(session), session) is not None


def review_end(state: EngineState, session: Session) -> None:
    """Something may be new of a live session with signs: it is uncertain, and its grace runs, while one of them holds."""
    if session.ended:
        return
    learned = learned_at(signs_of(session), session)
    if learned is not None:
        state.timers.expect_end(session, learned)
        doubtful = True
    else:
        doubtful = not state.timers.expect_no_end(session) and session.uncertain
    if doubtful is not session.uncertain:
        session.__dict__["uncertain"] = doubtful
        state.changed.append(session)


def conclude(state: EngineState, session: Session, before: Ending | None) -> None:
    """Draw the conclusions of a sign that came or went by an event that is not the session's own."""
    review_end(state, session)
    if before is not None:
        note_amended(state, session, before)
    if session.session_id in state.far_legs.concerned:
        state.far_legs.review(session)


def give_shared_signs(state: EngineState, session: Session) -> None:
    """Give a session the signs of its room and client: either may have become known only now."""
    for sign in state.shared_signs.of(session):
        note_sign(session, sign._replace(learned=state.now))


def meeting_ended(state: EngineState, event: MeetingEnded, at: float | None) -> None:
    """A meeting ended, and all its calls: this is a sign of the end of each session that was in it."""
    if event.room is not None:
        of = (event.domain_id, event.started_at)
        sign = Sign(EndSign.MEETING_ENDED, at, event.occurred_at is not None, state.now, of)
        _share(state, room_key(event.room), sign, event.room)


def client_left(state: EngineState, event: ClientLeft, at: float | None) -> None:
    """Our call client left: a sign of the end of each session that nobody else reports."""
    dialect, client_id = state.told_by, event.call_client_id
    sign = Sign(_CLIENT_LEFT, at, event.occurred_at is not None, state.now, (dialect, client_id, event.room))
    _share(state, client_key(dialect, client_id, event.room), sign)


def _share(state: EngineState, key: str, sign: Sign, room: str | None = None) -> None:
    """Keep a sign for later sessions, and give it to all known ones whose end it may be: of one room, if it is given."""
    state.shared_signs.keep(key, sign, state.now)
    for session in [*state.registry.live.values(), *_ended_later(state, sign), *_ended_lately(state, sign)]:
        if (room is None or session.room == room) and may_concern(session, sign):
            before = ending_of(session)
            note_sign(session, sign)
            conclude(state, session, before)


def _ended_later(state: EngineState, sign: Sign) -> Iterator[Session]:
    """Iterate over the sessions whose end was not reported and may have been before a sign."""
    start = meeting_of(sign)[1] if sign.kind == EndSign.MEETING_ENDED else None
    earliest = sign.at if start is None else start
    for session_id, ended_by in state.untold.items():
        if earliest is None or ended_by is None or earliest < ended_by:
            session = state.registry.get(session_id)
            if session is not None:
                yield session


def _ended_lately(state: EngineState, sign: Sign) -> Iterator[Session]:
    """Iterate over the sessions whose end was reported after our own leaving, which may be what ended them."""
    if sign.kind != _CLIENT_LEFT:
        return
    ended, since = state.registry.ended, min(state.now, state.now if sign.at is None else sign.at) - CLOCKS_DIFFER
    for due, session in reversed(ended.values()):
        if due - ended.ttl < since:
            break
        if session.session_id not in state.untold:
            yield session
