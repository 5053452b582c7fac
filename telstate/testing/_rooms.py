"""The state of the fake: its rooms, their SIP endpoints, and the sessions in them. Source: docs.daily.co/reference/rest-api/rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from telstate.calls._table import State
from telstate.events import Direction
from telstate.testing._phone_lines import Answerer, PhoneLine

__all__ = ["Bot", "EndedAs", "Leg", "Meeting", "SimulatedEndpoint", "SimulatedRoom"]

_MAX_SESSIONS = 5
"""The default of `max_sip_pstn_sessions_per_room`."""

EndedAs = Literal["remote", "busy", "gives up", "fails", "stop", "eject", "transfer", "refer", "meeting"]
"""What ended a session. The far side: it hung up (`remote`), was busy, gave up ringing, or failed. A request: `stop`, `eject`,
`transfer` and `refer`. `meeting`: the room's meeting ended."""


@dataclass
class Leg:
    """A telephone session of the fake: what really happened in it, to compare with what a program made of it.

    Times are those of `time.monotonic`; None: it did not happen. The fake writes it in its own thread: read it at any time, and
    change nothing.
    """

    session_id: str
    room: str
    direction: Direction
    started_at: float
    """When it was dialled; for a dial-in, when it connected."""
    destination: str | None = None
    """For a dial-out, the number or SIP URI that was dialled."""
    sip_from: str | None = None
    """For a dial-in, as is `sip_endpoint`."""
    sip_endpoint: str | None = None
    sip_headers: dict[str, str] | None = None
    call_id: str | None = None
    """The id of the call before it was a session: the pinless `callId` of a caller who was on hold, a trunk's, or that of a call by PIN."""
    user_id: str | None = None
    display_name: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    """The body of the request that dialled it."""
    line: PhoneLine = field(default_factory=PhoneLine, repr=False)
    """What the far side does."""
    origin: str | None = None
    phone_number_id: str | None = None
    meeting_id: str = ""
    state: State = State.IDLE
    ringing_at: float | None = None
    answered_at: float | None = None
    """For a dial-in, when media flowed."""
    answered_by: Answerer | None = None
    """For a dial-out, who or what is on the line since it was answered. SIMULATED: Daily tells it nobody."""
    joined_at: float | None = None
    left_at: float | None = None
    ended_at: float | None = None
    ended_by: EndedAs | None = None
    tones: list[str] = field(default_factory=list)
    """What sendDTMF sent, one item a request."""
    transferred_to: str | None = None

    @property
    def live(self) -> bool:
        """True until it ends."""
        return self.ended_at is None


@dataclass
class Bot:
    """A participant that is not on a phone."""

    room: str
    joined_at: float
    """By `time.monotonic`, as is `left_at`."""
    left_at: float | None = None
    session_id: str = field(default_factory=lambda: str(uuid4()))
    user_id: str | None = None
    display_name: str = "bot"
    meeting_id: str = ""


@dataclass
class SimulatedEndpoint:
    """A SIP address of a room. One client at a time can use it."""

    uri: str
    ready: bool = False
    """True once it is registered and can be dialled."""
    leg: Leg | None = None


@dataclass
class Meeting:
    """A meeting in a room, while the bot is there."""

    bot: Bot
    started_at: float
    """Unix seconds."""
    meeting_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass
class SimulatedRoom:
    """A room, with or without a meeting."""

    name: str
    created_at: str
    properties: dict[str, Any] = field(default_factory=dict)
    privacy: str = "public"
    room_id: str = field(default_factory=lambda: str(uuid4()))
    meeting: Meeting | None = None
    endpoints: list[SimulatedEndpoint] = field(default_factory=list)

    def set(self, properties: dict[str, Any]) -> None:
        """Change properties. Endpoints that stay keep their session."""
        self.properties.update(properties)
        if self.properties.get("dialin") is None:
            self.properties.pop("dialin_code", None)
        elif "dialin_code" not in self.properties:
            self.properties["dialin_code"] = str(uuid4().int)[:11]
        sip = self.properties.get("sip")
        wanted = sip.get("num_endpoints", 1) if isinstance(sip, dict) else 0
        del self.endpoints[wanted:]
        for number in range(len(self.endpoints), wanted):
            self.endpoints.append(SimulatedEndpoint(f"sip:{self.name}.{number}@example.sip.daily.co"))

    @property
    def limit(self) -> int:
        """How many telephone sessions it may have at a time."""
        limit: int = self.properties.get("max_sip_pstn_sessions_per_room", _MAX_SESSIONS)
        return limit

    def to_json(self) -> dict[str, Any]:
        """Return the room as REST does."""
        config = {key: value for key, value in self.properties.items() if value is not None}
        if self.endpoints:
            first, *more = (endpoint.uri for endpoint in self.endpoints)
            config["sip_uri"] = {"endpoint": first, **({"extra_endpoints": more} if more else {})}
        return {
            "id": self.room_id,
            "name": self.name,
            "api_created": True,
            "privacy": self.privacy,
            "url": f"https://example.daily.co/{self.name}",
            "created_at": self.created_at,
            "config": config,
        }
