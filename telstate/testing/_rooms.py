"""A room of the fake: its properties, its SIP endpoints, and who is in it. Source: docs.daily.co/reference/rest-api/rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from telstate.testing._legs import Leg

__all__ = ["Bot", "Meeting", "SimulatedEndpoint", "SimulatedRoom"]

_SESSIONS = 5
"""`max_sip_pstn_sessions_per_room` where nothing else was said."""


@dataclass
class Bot:
    """A participant who is on no telephone."""

    room: str
    joined_at: float
    """By `time.monotonic`, and below."""
    left_at: float | None = None
    session_id: str = field(default_factory=lambda: str(uuid4()))
    user_id: str | None = None
    display_name: str = "bot"
    meeting_id: str = ""


@dataclass
class SimulatedEndpoint:
    """A SIP address of a room. One client at a time is on it."""

    uri: str
    ready: bool = False
    """Registered: it can be dialled."""
    leg: Leg | None = None


@dataclass
class Meeting:
    """What is held in a room while somebody hosts it."""

    bot: Bot
    started_at: float
    """Unix seconds."""
    meeting_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass
class SimulatedRoom:
    """A room, hosting a meeting or empty."""

    name: str
    created_at: str
    properties: dict[str, Any] = field(default_factory=dict)
    privacy: str = "public"
    room_id: str = field(default_factory=lambda: str(uuid4()))
    meeting: Meeting | None = None
    endpoints: list[SimulatedEndpoint] = field(default_factory=list)

    def set(self, properties: dict[str, Any]) -> None:
        """Change properties. Endpoints that stay keep who is on them."""
        self.properties.update(properties)
        sip = self.properties.get("sip")
        wanted = sip.get("num_endpoints", 1) if isinstance(sip, dict) else 0
        del self.endpoints[wanted:]
        for number in range(len(self.endpoints), wanted):
            self.endpoints.append(SimulatedEndpoint(f"sip:{self.name}.{number}@example.sip.daily.co"))

    @property
    def limit(self) -> int:
        """How many telephone sessions it may have at a time."""
        limit: int = self.properties.get("max_sip_pstn_sessions_per_room", _SESSIONS)
        return limit

    def told(self) -> dict[str, Any]:
        """The room as REST tells it."""
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
