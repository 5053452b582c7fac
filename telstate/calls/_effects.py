"""What one type of event does to what is known, beside moving its session. Each function is one type's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from telstate.calls._engine_state import EngineState
from telstate.calls._evidence import Evidence
from telstate.calls._registry import destination_of
from telstate.calls._session import Session, bounded
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
    DtmfReceived,
    Event,
    Presence,
    PresenceChecked,
    SessionsLinked,
    StopRequested,
    TransferAnswered,
    TransferCompleted,
    TransferEvent,
    TransferInitiated,
    TransferRequested,
    TransferTriggered,
)

__all__ = ["EFFECTS"]


def _connected(known: EngineState, session: Session, _: Event) -> None:
    """A caller is on an endpoint now, unless it has left already."""
    if session.ended or session.sip_endpoint is None:
        return
    arrival = known.endpoints.take(session, session.sip_endpoint, known.now)
    if arrival.busy_with is not None:
        session.note_anomaly(f"second caller on {session.sip_endpoint}: {arrival.busy_with} is still on it")
    if arrival.caller is not None:
        session.caller = arrival.caller["from"]
        session.pinless_call_id = arrival.caller["call_id"]
    if arrival.transferred_from is not None and known.registry.get(arrival.transferred_from) is not None:
        known.registry.link(arrival.transferred_from, session.session_id)


def _stop_requested(_: EngineState, session: Session, __: Event) -> None:
    session.see(Evidence.STOP_REQUESTED)


def _transferred(known: EngineState, session: Session, event: TransferEvent | TransferRequested) -> None:
    """It is handed on; if the target is an endpoint of ours, the session there is its far leg."""
    bit = Evidence.TRANSFER_REQUESTED if isinstance(event, TransferRequested) else Evidence.TRANSFER
    session.see(bit)
    if event.to_endpoint is None:
        return
    session.transferred_to = session.transferred_to or bounded(event.to_endpoint)
    arrived = isinstance(event, (TransferAnswered, TransferCompleted))
    far = known.endpoints.transfer(session.session_id, event.to_endpoint, known.now, arrived=arrived)
    if far is not None:
        known.registry.link(session.session_id, far)


def _linked(known: EngineState, _: Session, event: SessionsLinked) -> None:
    """Link two sessions once both are known; until then wait for the one that is missing."""
    for session_id in (event.session_id, event.other_session_id):
        if known.registry.get(session_id) is None:
            known.early.park(known.number, event, session_id, known.clock, known.now)
            return
    known.registry.link(event.session_id, event.other_session_id)


def _pressed(_: EngineState, session: Session, __: Event) -> None:
    session.dtmf += 1


def _limit_told(known: EngineState, session: Session, event: DeadlinePassed) -> None:
    if not session.ended:
        known.patience.told(event, session, known.now)


def _presence(known: EngineState, session: Session, event: PresenceChecked) -> None:
    """Alive is as good as news; asked is the beginning of another patience. Gone is judged, not done here."""
    if session.ended:
        return
    if event.presence is Presence.ALIVE:
        session.uncertain = False
        session.alive_at = known.clock
        known.patience.heard(session, known.now)
    elif event.presence is Presence.UNKNOWN:
        session.uncertain = True
        known.patience.asked(session, known.now)


def _warned(_: EngineState, session: Session, event: DialinWarning | DialoutWarning) -> None:
    session.note_warning(event.error_msg or "a warning without text")


def _stopped(_: EngineState, session: Session, event: DialinStopped | DialoutStopped) -> None:
    if session.error_msg is None and event.error_msg is not None:
        session.error_msg = bounded(event.error_msg)


def _refused(_: EngineState, session: Session, event: DialoutRefused) -> None:
    if event.error_msg is not None and not session.seen & Evidence.ERROR:
        session.error_msg = bounded(event.error_msg)


def _failed(_: EngineState, session: Session, event: DialinError | DialoutError) -> None:
    """An error's text outweighs any other; its details may name whom it was about."""
    if event.error_msg is not None:
        session.error_msg = bounded(event.error_msg)
    if session.destination is None and isinstance(event, DialoutError):
        session.destination = bounded(destination_of(event))


EFFECTS: Mapping[type[Event], Callable[[EngineState, Session, Any], None]] = {
    DialinConnected: _connected,
    StopRequested: _stop_requested,
    TransferRequested: _transferred,
    TransferTriggered: _transferred,
    TransferInitiated: _transferred,
    TransferAnswered: _transferred,
    TransferCompleted: _transferred,
    SessionsLinked: _linked,
    DtmfReceived: _pressed,
    DeadlinePassed: _limit_told,
    PresenceChecked: _presence,
    DialinWarning: _warned,
    DialoutWarning: _warned,
    DialinStopped: _stopped,
    DialoutStopped: _stopped,
    DialoutRefused: _refused,
    DialinError: _failed,
    DialoutError: _failed,
}
