"""A telephone session of the fake: what was truly done with it, to be compared with what a program made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from telstate.calls._table import State
from telstate.events import Direction
from telstate.testing._phone_lines import PhoneLine

__all__ = ["EndedAs", "Leg"]

EndedAs = Literal["remote", "busy", "gives up", "fails", "stop", "eject", "transfer", "refer", "meeting"]
"""What ended a session. By the far side: it hung up (`remote`), was busy, gave up ringing, or failed. By a request: `stop`, `eject`,
`transfer` and `refer`. `meeting`: the room's meeting ended, and all in it."""


@dataclass
class Leg:
    """One session, dialled out or in. Times are those of `time.monotonic`; None: it did not happen.

    The fake writes it in a thread of its own; read it at any time, write nothing.
    """

    session_id: str
    room: str
    direction: Direction
    started_at: float
    """When it was dialled, or connected if it came in."""
    destination: str | None = None
    """Of a dial-out: the number or SIP URI as it was given."""
    sip_from: str | None = None
    """Of a dial-in, and below where it came in."""
    sip_endpoint: str | None = None
    sip_headers: dict[str, str] | None = None
    call_id: str | None = None
    """Of a caller who was on hold: the pinless `callId`."""
    user_id: str | None = None
    display_name: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    """What was asked for in the request that dialled it."""
    line: PhoneLine = field(default_factory=PhoneLine, repr=False)
    """What the far side does."""
    origin: str | None = None
    phone_number_id: str | None = None
    meeting_id: str = ""
    state: State = State.IDLE
    ringing_at: float | None = None
    answered_at: float | None = None
    """Of a dial-in: when media flowed."""
    joined_at: float | None = None
    left_at: float | None = None
    ended_at: float | None = None
    ended_by: EndedAs | None = None
    tones: list[str] = field(default_factory=list)
    """What sendDTMF sent, one item a request."""
    transferred_to: str | None = None

    @property
    def live(self) -> bool:
        """True until it ended."""
        return self.ended_at is None
