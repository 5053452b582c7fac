"""What one type of event changes besides the state of its session. One function per kind of event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from telstate.calls._arrivals import place
from telstate.calls._endings import note_sign
from telstate.calls._engine_state import EngineState
from telstate.calls._evidence import Evidence
from telstate.calls._notes import add_notes
from telstate.calls._recorder import (
    LEGS_NOTED,
    bounded,
    link_elsewhere,
    note_anomaly,
    note_life,
    note_warning,
    set_rare,
)
from telstate.calls._registry import destination_of
from telstate.calls._session import Session, rare
from telstate.calls._signs import Sign, add_sign
from telstate.calls._table import EndSign, State
from telstate.calls._transfers import latest_times
from telstate.events import (
    DeadlinePassed,
    DialinConnected,
    DialinError,
    DialinStopped,
    DialinWarning,
    DialoutError,
    DialoutRefused,
    DialoutStopped,
    DialoutWarning,
    Direction,
    DtmfReceived,
    Event,
    ParticipantJoined,
    ParticipantLeft,
    Presence,
    PresenceChecked,
    SessionAnnotated,
    SessionsLinked,
    StopRequested,
    TransferAnswered,
    TransferCompleted,
    TransferEvent,
    TransferFailed,
    TransferInitiated,
    TransferRequested,
    TransferTriggered,
)

__all__ = ["UPDATES", "take_notes_ahead"]

PARTICIPANT_LEFT, GONE = EndSign.PARTICIPANT_LEFT, EndSign.GONE


def _joined(state: EngineState, session: Session, event: ParticipantJoined) -> None:
    """Keep since when the latest stay lasts: an earlier one that ended is no sign of the session's end."""
    name, at = "_joined", event.joined_at
    if at is None:
        name, at = "_joined_by_receipt", state.event_at
    fields = session.__dict__
    if at is not None and ((known := fields[name]) is None or at > known):
        fields[name] = at


def _left(state: EngineState, session: Session, event: ParticipantLeft) -> None:
    """Keep that the session's own participant left."""
    joined_at = event.joined_at
    if joined_at is not None and (session._joined is None or joined_at > session._joined):
        session.__dict__["_joined"] = joined_at
    if not session._evidence & Evidence.TOLD:
        sign = Sign(PARTICIPANT_LEFT, state.event_at, event.occurred_at is not None, state.now, joined_at)
        session.__dict__["_signs"] = add_sign(session._signs, sign, session)


def _connected(state: EngineState, session: Session, event: DialinConnected) -> None:
    place(state, session)
    if event.sip_to is not None and rare(session, "sip_to") is None:
        set_rare(session, "sip_to", bounded(event.sip_to))


def _transferred(
    state: EngineState, session: Session, event: TransferEvent | TransferRequested | TransferFailed
) -> None:
    """Keep the target and the step."""
    state.far_legs.transfer(session, event.to_endpoint, event.name.rpartition("-")[2], state.event_at)


def _linked(state: EngineState, session: Session, event: SessionsLinked) -> None:
    """Link two sessions once both are known. Until then the event is parked for the missing one.

    One of another partition never comes here, but its id stands in the record. A log of all partitions has both.
    """
    other = event.other_session_id
    if event.derived:
        _show_elsewhere(state, session, event)
        return
    if event.elsewhere and state.registry.get(other) is None:
        known = rare(session, "legs") or ()
        if other not in known:
            set_rare(session, "legs", [*known, other][:LEGS_NOTED])
    for session_id in (event.session_id, event.other_session_id):
        if state.registry.get(session_id) is None:
            state.early.park(state.number, event, session_id, state.clock, state.now, 0)
            return
    state.registry.link(event.session_id, event.other_session_id)


def _show_elsewhere(state: EngineState, session: Session, event: SessionsLinked) -> None:
    """Take in what another partition shows of a leg: that it is one, or what the transfer to it needs to know."""
    if event.other_endpoint is None:
        link_elsewhere(session, event.other_session_id, linked=not event.withdrawn)
    else:
        state.far_legs.show_elsewhere(session, event.other_endpoint, event)


def _annotated(state: EngineState, session: Session, event: SessionAnnotated) -> None:
    _keep_notes(state, session, event.notes)


def _keep_notes(state: EngineState, session: Session, notes: Mapping[str, Any]) -> None:
    """Keep notes, within their bound: the dispatcher refuses longer ones, but a journal may have any."""
    known = rare(session, "notes")
    try:
        add_notes(session.notes, notes)
        merged = add_notes(known, notes)
    except ValueError as error:
        note_anomaly(session, bounded(f"session-annotated: {error}"))
        return
    if merged != known:
        set_rare(session, "notes", merged)
        state.changed.append(session)


def take_notes_ahead(state: EngineState, session: Session) -> None:
    """Give a dial-out the notes that the program wrote before its start was sent. What it wrote about the session since counts more."""
    if session.direction is Direction.DIALOUT and session.user_id is not None:
        notes = state.notes_ahead.take(session.user_id)
        if notes is not None:
            _keep_notes(state, session, {**notes, **(rare(session, "notes") or {})})


def _stop_requested(state: EngineState, session: Session, event: StopRequested) -> None:
    """Keep why this program ended the call, and when: a transfer that was accepted before did not end it then."""
    set_rare(session, "stopped_at", latest_times(rare(session, "stopped_at") or (), state.event_at))
    if event.by_dialer:
        vars(session)["_evidence"] |= Evidence.GIVEN_UP
    if event.reason:
        _keep_notes(state, session, {"reason": event.reason})


def _key_pressed(_: EngineState, session: Session, __: Event) -> None:
    vars(session)["dtmf"] += 1


def _deadline_passed(state: EngineState, session: Session, event: DeadlinePassed) -> None:
    if not session.ended:
        state.timers.acknowledge(event, session, state.now)


def _presence_checked(state: EngineState, session: Session, event: PresenceChecked) -> None:
    """Alive is a sign of life. Unknown starts the limit for an answer. Gone is a sign of the end."""
    if session.ended:
        return
    if session.uncertain is not (event.presence is Presence.UNKNOWN) and event.presence is not Presence.GONE:
        state.changed.append(session)
    if event.presence is Presence.ALIVE:
        vars(session)["uncertain"] = False
        if state.event_at is not None:
            note_life(session, state.event_at, False)
        state.timers.restart_silence(session, state.now)
    elif event.presence is Presence.UNKNOWN:
        vars(session)["uncertain"] = True
        state.timers.start_presence(session, state.now)
    elif state.timers.awaits_presence(session):
        note_sign(session, Sign(GONE, state.event_at, False, state.now))


def _warned(_: EngineState, session: Session, event: DialinWarning | DialoutWarning) -> None:
    note_warning(session, event.error_msg)


def _stopped(_: EngineState, session: Session, event: DialinStopped | DialoutStopped) -> None:
    if session.error_msg is None and event.error_msg is not None:
        vars(session)["error_msg"] = bounded(event.error_msg)


def _refused(_: EngineState, session: Session, event: DialoutRefused) -> None:
    if event.error_msg is not None and not session._evidence & Evidence.ERROR_TEXT:
        vars(session)["error_msg"] = bounded(event.error_msg)


def _failed(state: EngineState, session: Session, event: DialinError | DialoutError) -> None:
    """The first text of an error outweighs any other. Its details may name the destination."""
    if event.error_msg is not None and not session._evidence & Evidence.ERROR_TEXT:
        vars(session)["error_msg"] = bounded(event.error_msg)
        vars(session)["_evidence"] |= Evidence.ERROR_TEXT
    if isinstance(event, DialoutError) and event.error is not None and event.is_unanswered:
        failed_before = session.state is State.ERROR and not session._evidence & (
            Evidence.NOT_PICKED_UP | Evidence.REFUSED
        )
        vars(session)["_evidence"] |= Evidence.NOT_PICKED_UP | (Evidence.FAILURE if failed_before else 0)
    elif session._evidence & Evidence.NOT_PICKED_UP:
        vars(session)["_evidence"] |= Evidence.FAILURE
    if session.destination is None and isinstance(event, DialoutError):
        vars(session)["destination"] = bounded(destination_of(event))
        state.far_legs.arrive(session)


UPDATES: Mapping[type[Event], Callable[[EngineState, Session, Any], None]] = {
    DialinConnected: _connected,
    ParticipantJoined: _joined,
    ParticipantLeft: _left,
    TransferRequested: _transferred,
    TransferFailed: _transferred,
    TransferTriggered: _transferred,
    TransferInitiated: _transferred,
    TransferAnswered: _transferred,
    TransferCompleted: _transferred,
    SessionsLinked: _linked,
    SessionAnnotated: _annotated,
    StopRequested: _stop_requested,
    DtmfReceived: _key_pressed,
    DeadlinePassed: _deadline_passed,
    PresenceChecked: _presence_checked,
    DialinWarning: _warned,
    DialoutWarning: _warned,
    DialinStopped: _stopped,
    DialoutStopped: _stopped,
    DialoutRefused: _refused,
    DialinError: _failed,
    DialoutError: _failed,
}
