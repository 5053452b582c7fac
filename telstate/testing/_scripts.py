"""Scripts of simulated calls: what happens in them, and how they end.

A script plays one call with a seeded random generator. Delays and shares are invented to look like a working day; the order of
events is that of Daily's documentation, the rest is what users report (busy and no answer: only a `stopped`). Phone numbers are
from the range reserved for fiction (+1 202 555 01xx).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from telstate.calls._evidence import Cause
from telstate.calls._table import State
from telstate.events import Direction

__all__ = ["SCRIPTS", "Script", "ScriptedEvent", "SimulatedCall"]


class ScriptedEvent(NamedTuple):
    """One event of a call, before it is spelled in a dialect."""

    at: float
    """Unix seconds."""
    name: str
    """Daily's name of the event."""
    facts: Mapping[str, Any]
    """All its data, under the keys of daily-js; each dialect has only some of it."""


@dataclass
class SimulatedCall:
    """One session: all its events, and its true outcome."""

    session_id: str
    direction: Direction
    room: str
    facts: dict[str, Any]
    state: State = State.IDLE
    cause: Cause | None = None
    events: list[ScriptedEvent] = field(default_factory=list)

    def add(self, at: float, name: str, **facts: Any) -> None:
        """Add an event."""
        self.events.append(ScriptedEvent(at, name, {**self.facts, **facts}))

    def end(self, state: State, cause: Cause) -> None:
        """Set the true outcome."""
        self.state, self.cause = state, cause


Script = Callable[[Random, float, str], SimulatedCall]
"""Plays one call: gets the random generator, the start (Unix seconds) and the room."""


def new_id(rng: Random) -> str:
    """Make an id in Daily's format."""
    return str(UUID(int=rng.getrandbits(128), version=4))


def _number(rng: Random) -> str:
    return f"+120255501{rng.randrange(100):02}"


def _dialin(rng: Random, room: str) -> SimulatedCall:
    session_id = new_id(rng)
    facts = {
        "sessionId": session_id,
        "sipCallId": f"{rng.getrandbits(64):016x}@sip.daily.example",
        "sipFrom": f"sip:{_number(rng)}@carrier.example",
        "sipEndpoint": f"sip:{rng.randrange(10**8, 10**9)}@{room}.sip.daily.example",
        "displayName": rng.choice(("Ana", "Bo", "Chidi", "Dee", "sip-user")),
        "provider": "daily",
    }
    return SimulatedCall(session_id, Direction.DIALIN, room, facts)


def _dialout(rng: Random, room: str) -> SimulatedCall:
    session_id = new_id(rng)
    destination = _number(rng) if rng.random() < 0.8 else f"sip:agent{rng.randrange(40)}@pbx.example"
    facts = {
        "sessionId": session_id,
        "sipCallId": f"{rng.getrandbits(64):016x}@sip.daily.example",
        "destination": destination,
        "origin": _number(rng),
        "callerId": _number(rng),
        "userId": f"user-{rng.randrange(900)}",
        "provider": "daily",
    }
    return SimulatedCall(session_id, Direction.DIALOUT, room, facts)


def _talk(rng: Random, call: SimulatedCall, at: float) -> float:
    """Let the parties talk, and sometimes press keys; return when they stop."""
    if rng.random() < 0.15:
        for _ in range(rng.randrange(1, 5)):
            at += rng.uniform(0.5, 6)
            call.add(at, "dtmf-event", tone=rng.choice("0123456789*#"), volume=-10, method="telephone-event")
    return at + rng.expovariate(1 / 150)


def _hang_up(call: SimulatedCall, at: float, cause: Cause) -> SimulatedCall:
    call.add(at - 0.2, "participant-left", reason="hidden")
    call.add(at, f"{call.direction}-stopped")
    call.end(State.STOPPED, cause)
    return call


def _connect(rng: Random, call: SimulatedCall, at: float) -> float:
    """Make the endpoint ready and connect the caller, sometimes after a while on hold; return when."""
    if rng.random() < 0.3:
        number = _number(rng)
        on_hold = {"From": number, "To": _number(rng), "callId": new_id(rng), "callDomain": "daily.example"}
        call.add(at, "pinless-dialin", **on_hold)
        call.facts["sipFrom"] = f"sip:{number}@carrier.example"  # by which the dial-in is known to be them
        at += rng.uniform(1, 4)
    call.add(at, "dialin-ready")
    at += rng.uniform(0.3, 2)
    call.add(at, "dialin-connected")
    return at


def dialin_answered(rng: Random, at: float, room: str) -> SimulatedCall:
    """A caller connects, media flows, one side hangs up."""
    call = _dialin(rng, room)
    at = _connect(rng, call, at) + rng.uniform(0.3, 2.5)
    call.add(at, "participant-joined")
    if rng.random() < 0.1:
        call.add(at + 0.1, "dialin-warning", errorMsg="Requested codec unavailable, using fallback")
    return _hang_up(call, _talk(rng, call, at), Cause.COMPLETED)


def dialin_gave_up(rng: Random, at: float, room: str) -> SimulatedCall:
    """A caller hangs up while media is still being negotiated."""
    call = _dialin(rng, room)
    at = _connect(rng, call, at)
    call.add(at + rng.uniform(0.5, 4), "dialin-stopped")
    call.end(State.STOPPED, Cause.COMPLETED)  # connected is the only sign of success that Daily sends for a dial-in
    return call


def dialin_failed(rng: Random, at: float, room: str) -> SimulatedCall:
    """Media cannot be negotiated."""
    call = _dialin(rng, room)
    at = _connect(rng, call, at)
    at += rng.uniform(0.5, 3)
    call.add(at, "dialin-error", errorMsg="SDP negotiation failed", type="start-failed")
    if rng.random() < 0.5:  # nothing documents whether a stopped follows
        call.add(at + 0.4, "dialin-stopped")
    call.end(State.ERROR, Cause.FAILED)
    return call


def dialin_transferred(rng: Random, at: float, room: str) -> SimulatedCall:
    """A caller is transferred to an external SIP URI."""
    call = _dialin(rng, room)
    at = _connect(rng, call, at)
    at += rng.uniform(0.3, 2.5)
    call.add(at, "participant-joined")
    at = _talk(rng, call, at)
    route = {"toEndpoint": f"sip:desk{rng.randrange(9)}@pbx.example", "fromEndpoint": call.facts["sipFrom"]}
    call.add(at, "calltransfer-triggered", **route, isSipRefer=False)
    call.add(at + 0.4, "calltransfer-initiated", **route, isSipRefer=False)
    _hang_up(call, at + 1.5, Cause.TRANSFERRED)
    call.add(at + 4, "calltransfer-answered", **route)
    call.add(at + 5, "calltransfer-completed", **route)
    return call


def dialout_answered(rng: Random, at: float, room: str) -> SimulatedCall:
    """It rings, is answered, and the parties talk."""
    call = _dialout(rng, room)
    call.add(at, "dialout-connected")
    at += rng.uniform(2, 25)
    call.add(at, "dialout-answered")
    call.add(at + 0.3, "participant-joined")
    if rng.random() < 0.1:
        call.add(at + 0.4, "dialout-warning", errorMsg="Requested codec unavailable, using fallback")
    return _hang_up(call, _talk(rng, call, at), Cause.COMPLETED)


def dialout_unanswered(rng: Random, at: float, room: str) -> SimulatedCall:
    """It rings until it stops."""
    call = _dialout(rng, room)
    call.add(at, "dialout-connected")
    call.add(at + rng.uniform(25, 60), "dialout-stopped")
    call.end(State.STOPPED, Cause.UNANSWERED)
    return call


def dialout_busy(rng: Random, at: float, room: str) -> SimulatedCall:
    """Busy or declined: a quick stopped, and often nothing before it."""
    call = _dialout(rng, room)
    if rng.random() < 0.5:
        call.add(at, "dialout-connected")
    call.add(at + rng.uniform(0.5, 3), "dialout-stopped")
    call.end(State.STOPPED, Cause.UNANSWERED)
    return call


def dialout_failed(rng: Random, at: float, room: str) -> SimulatedCall:
    """The start was accepted, and seconds later it fails after all."""
    call = _dialout(rng, room)
    if rng.random() < 0.4:
        call.add(at, "dialout-connected")
    call.add(
        at + rng.uniform(5, 60),
        "dialout-error",
        errorMsg="DialOut failed with error: process error, Channel closed",
        details={"destination": call.facts["destination"]},
    )
    call.end(State.ERROR, Cause.FAILED)
    return call


SCRIPTS: Mapping[Script, float] = {
    dialin_answered: 34,
    dialin_gave_up: 5,
    dialin_failed: 3,
    dialin_transferred: 4,
    dialout_answered: 32,
    dialout_unanswered: 11,
    dialout_busy: 7,
    dialout_failed: 4,
}
"""The kinds of calls, with their share in percent."""
