"""Where a dial-in arrived: by which endpoint it came, and what follows from that: for its caller on hold, and for the caller before.

An event may say it (daily-js), or the room of the session does (`_room_endpoints.py`). A derived endpoint stands in the same field of the
session, gives way to one that an event reports, is withdrawn when it turns out to be a guess, and is never a reason for an anomaly.
"""

from __future__ import annotations

from telstate.calls._address import plain_uri
from telstate.calls._endings import conclude, ending_of, note_sign
from telstate.calls._engine_state import EngineState
from telstate.calls._evidence import Evidence
from telstate.calls._session import Session
from telstate.calls._signs import Sign, without
from telstate.calls._table import EndSign
from telstate.events import DialinReady

__all__ = ["note_ready", "place", "replace_endpoint"]

_ON_ENDPOINT = Evidence.CONNECTED | Evidence.STOPPED | Evidence.ERROR
"""Of these, a session that is on its endpoint has only the first."""


def place(state: EngineState, session: Session) -> None:
    """Find the endpoint of a dial-in after something new is known of it, and its caller on hold. Repeating it changes nothing."""
    if session.room is not None:
        _place_in_room(state, session, session.room)
    _occupy_and_see(state, session)


def replace_endpoint(state: EngineState, session: Session, uri: str | None) -> None:
    """Forget the derived endpoint of a session as its address, before an event that names another one is recorded."""
    if uri is not None and session.sip_endpoint is not None and plain_uri(uri) != plain_uri(session.sip_endpoint):
        _line_up(state, state.lineup.withdraw(session))
        state.far_legs.withdraw(session)


def note_ready(state: EngineState, event: DialinReady) -> None:
    """Note an endpoint of a room, for the dial-ins of that room."""
    if event.room is not None:
        _add_endpoint(state, event.room, event.domain_id, event.sip_endpoint)


def _place_in_room(state: EngineState, session: Session, room: str) -> None:
    state.rooms.enter(room, session.session_id, state.now)
    uri = session.sip_endpoint
    if uri is not None and _is_reported(session):
        _add_endpoint(state, room, session.domain_id, uri)
    else:
        _derive(state, session, room)


def _add_endpoint(state: EngineState, room: str, domain_id: str | None, uri: str) -> None:
    for session_id in state.rooms.add_endpoint(room, domain_id, uri, state.now):
        session = state.registry.get(session_id)
        if session is None or _is_reported(session):
            continue
        if _derive(state, session, room):
            _occupy_and_see(state, session)
            if session_id in state.far_legs.concerned:
                state.far_legs.review(session)


def _derive(state: EngineState, session: Session, room: str) -> bool:
    """Set the endpoint of a session to the only one of its room, or withdraw it; return whether that changed anything."""
    uri, evidence = state.rooms.endpoint_of(room, session.domain_id), session._evidence
    left: list[Session] = []
    if uri == session.sip_endpoint:
        return False
    if session.sip_endpoint is not None:
        state.endpoints.vacate(session, state.now)
        left = state.lineup.withdraw(session)
        state.far_legs.withdraw(session)
    vars(session)["sip_endpoint"] = uri
    vars(session)["_evidence"] = (
        (evidence | Evidence.ENDPOINT_DERIVED) if uri is not None else (evidence & ~Evidence.ENDPOINT_DERIVED)
    )
    if session.ended:
        state.changed.append(session)
    state.far_legs.arrive(session)
    _line_up(state, left)
    return True


def _occupy_and_see(state: EngineState, session: Session) -> None:
    """Put a caller on their endpoint, and find who on hold they were."""
    _occupy(state, session)
    changed = state.lineup.enter(session)
    if changed or session._signs:
        _line_up(state, [*changed, session])
    if state.callers.known:
        state.callers.links.see(session, state.now)


def _occupy(state: EngineState, session: Session) -> None:
    """Put a connected caller on their endpoint, unless they have left already."""
    uri = session.sip_endpoint
    if uri is None or session.ended or session._evidence & _ON_ENDPOINT != Evidence.CONNECTED:
        return
    state.endpoints.occupy(session, uri, state.now)


def _line_up(state: EngineState, sessions: list[Session]) -> None:
    """Tell sessions who came on their endpoint after them."""
    for session in sessions:
        before = ending_of(session)
        sign = state.lineup.sign_of(session, state.now)
        known = next((one for one in session._signs if one.kind == EndSign.NEXT_CALLER), None)
        if known is not None and state.registry.get(known.of) is None and (sign is None or _is_later(sign, known)):
            continue  # the next caller has left memory
        if sign == known or (sign is not None and known is not None and sign[:3] == known[:3]):
            continue
        vars(session)["_signs"] = without(session._signs, EndSign.NEXT_CALLER)
        if sign is not None:
            note_sign(session, sign)
        conclude(state, session, before)


def _is_later(sign: Sign, other: Sign) -> bool:
    return sign.at is not None and other.at is not None and sign.at >= other.at


def _is_reported(session: Session) -> bool:
    """Return whether an event named the session's endpoint."""
    return session.sip_endpoint is not None and not session._evidence & Evidence.ENDPOINT_DERIVED
