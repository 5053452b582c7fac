"""What events do that are about no known session: about a room, an endpoint, a caller on hold, our own client, or this program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from telstate.calls._arrivals import note_ready
from telstate.calls._endings import client_left, meeting_ended
from telstate.calls._endpoints import scope_of
from telstate.calls._engine_state import EngineState
from telstate.calls._evidence import Evidence
from telstate.calls._interruptions import sessions_in_doubt
from telstate.calls._notes import add_notes
from telstate.calls._outcome import CallerOutcome, Outcome, OutcomeKind, SourceOutcome
from telstate.calls._recorder import bounded
from telstate.calls._settings import Settings
from telstate.calls._webhook_delivery import received_or_sent
from telstate.events import (
    ClientLeft,
    ConnectionChanged,
    DeadlinePassed,
    DialinReady,
    Event,
    ForwardRefused,
    MeetingEnded,
    PinlessForwarded,
    SessionAnnotated,
    SettingsChanged,
    SourceGap,
)
from telstate.events._base import Subject
from telstate.events._sessionless import WaitingCaller

__all__ = ["OTHER_EVENTS", "apply_to_no_session"]

NOTED, DUPLICATE, LATE = OutcomeKind.NOTED, OutcomeKind.DUPLICATE, OutcomeKind.LATE


def apply_to_no_session(state: EngineState, event: Event) -> Outcome | None:
    """Apply an event that names no session, though most of its type do; return None if it should have."""
    if isinstance(event, DeadlinePassed):
        return _on_limit(state, event)
    if isinstance(event, SessionAnnotated) and event.call_id is not None:
        return _annotate_caller(state, event, event.call_id)
    if isinstance(event, SessionAnnotated) and event.user_id is not None:
        return _annotate_start(state, event, event.user_id)
    return None


def _on_endpoint(state: EngineState, event: DialinReady, _: float | None) -> Outcome:
    state.endpoints.set_ready(event.sip_endpoint, scope_of(event), state.now)
    note_ready(state, event)
    return Outcome(NOTED, event, None)


def _on_caller(state: EngineState, event: Event, now: float | None) -> Outcome:
    lost = None
    at = now if event.occurred_at is None else event.occurred_at
    if isinstance(event, WaitingCaller):
        if not state.callers.hold(event, state.number, now, state.now):
            return Outcome(DUPLICATE, event, None)
    elif isinstance(event, PinlessForwarded):
        state.callers.forward(event, state.number, at, state.now)
    elif isinstance(event, ForwardRefused):
        caller = state.callers.refuse(event, state.number, at, state.now)
        lost = caller if state.callers.note_lost(caller) else None
    if len(state.callers.known) > state.settings.max_parked:
        state.departed += state.callers.trim()
    return CallerOutcome(NOTED, event, lost)


def _on_limit(state: EngineState, event: DeadlinePassed) -> Outcome:
    """Apply a limit of a caller on hold."""
    callers = state.callers
    caller = None if event.call_id is None else callers.pass_limit(event, event.call_id)
    if caller is None:
        return Outcome(LATE, event, None)
    return CallerOutcome(NOTED, event, caller if callers.note_lost(caller) else None)


def _annotate_caller(state: EngineState, event: SessionAnnotated, call_id: str) -> Outcome:
    """Keep notes about a caller on hold, within their bound."""
    outcome = Outcome(NOTED, event, None)
    try:
        caller = state.callers.annotate(call_id, event.notes)
        if caller is None:
            outcome.kind = LATE
        elif (session := state.registry.get(caller.session_id or "")) is not None:
            state.changed.append(session)
    except ValueError as error:
        outcome.anomalies += (bounded(f"{event.name}: {error}"),)
    return outcome


def _annotate_start(state: EngineState, event: SessionAnnotated, user_id: str) -> Outcome:
    """Keep notes about a call that is about to be started until its session is known, within their bound."""
    outcome, ahead = Outcome(NOTED, event, None), state.notes_ahead
    try:
        ahead.put(user_id, add_notes(ahead.find(user_id), event.notes), state.now)
    except ValueError as error:
        outcome.anomalies += (bounded(f"{event.name}: {error}"),)
    ahead.trim()
    return outcome


def _on_room(state: EngineState, event: MeetingEnded, now: float | None) -> Outcome:
    """End a meeting and its calls."""
    if event.room is not None:
        state.endpoints.close_room(event.room, event.domain_id)
    at = event.occurred_at
    meeting_ended(state, event, received_or_sent(now, event.sent_at) if at is None else at)
    return Outcome(NOTED, event, None)


def _on_client(state: EngineState, event: ClientLeft, now: float | None) -> Outcome:
    """Our own call client left its room."""
    client_left(state, event, now if event.occurred_at is None else event.occurred_at)
    state.interruptions.forget(event, state.told_by)
    return Outcome(NOTED, event, None)


def _on_source(state: EngineState, event: SourceGap | ConnectionChanged, _: float | None) -> Outcome:
    """Mark the sessions of which events may be missing: they are uncertain until the next event.

    That an answer may be among those is not forgotten by then. It may be on its way even if the call was stopped.
    """
    if not isinstance(event, SourceGap) and not state.interruptions.note(event, state.told_by, state.now):
        return Outcome(NOTED, event, None)
    doubtful = sessions_in_doubt(event, state.registry.live.values())
    for session in doubtful:
        vars(session)["_evidence"] |= Evidence.GAP
        if not session.uncertain:
            vars(session)["uncertain"] = True
            state.changed.append(session)
    return SourceOutcome(NOTED, event, doubtful)


def _on_action(state: EngineState, event: Event, _: float | None) -> Outcome:
    """Another partition asks for something, or the answer to that is known."""
    return Outcome(state.requests.apply(event, state.now), event, None)


def _on_intent(state: EngineState, event: Event, _: float | None) -> Outcome:
    """A dialer begins or ends something for an intent."""
    return Outcome(state.intents.apply(event, state.now), event, None)


def _on_settings(state: EngineState, event: SettingsChanged, _: float | None) -> Outcome:
    outcome = Outcome(NOTED, event, None)
    try:
        state.change(Settings.model_validate(event.settings))
    except ValidationError as error:
        outcome.anomalies = (f"invalid settings were ignored: {error.error_count()} errors",)
    return outcome


def _on_unknown(_: EngineState, event: Event, __: float | None) -> Outcome:
    return Outcome(NOTED, event, None)


OTHER_EVENTS: Mapping[int, Callable[[EngineState, Any, float | None], Outcome]] = {
    Subject.ENDPOINT: _on_endpoint,
    Subject.CALLER: _on_caller,
    Subject.ROOM: _on_room,
    Subject.CLIENT: _on_client,
    Subject.SOURCE: _on_source,
    Subject.SETTINGS: _on_settings,
    Subject.UNKNOWN: _on_unknown,
    Subject.ACTION: _on_action,
    Subject.INTENT: _on_intent,
}
"""The function that applies an event, by what it is about. Its last argument is the time of receipt, if that is known."""
