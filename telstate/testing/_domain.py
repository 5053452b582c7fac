"""The simulated domain: rooms, meetings and telephone sessions, without HTTP. SIMULATED after Daily's documents.

It runs in one thread, on one event loop; other threads use `FakeDaily`. It reports what happens at once, as a `DomainEvent`, and
does not know how that is delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote
from uuid import NAMESPACE_URL, uuid4, uuid5

from telstate.calls._address import plain_uri
from telstate.calls._table import State
from telstate.events import Direction
from telstate.testing._phone_lines import PhoneLine, PhoneLines
from telstate.testing._presence import presence
from telstate.testing._refusals import NOT_ENABLED_FOR_ROOM, NOT_HOSTING, TOO_MANY_SESSIONS, Refusal, RequestRefused
from telstate.testing._rooms import Bot, EndedAs, Leg, Meeting, SimulatedEndpoint, SimulatedRoom
from telstate.testing._scripts import ScriptedEvent

__all__ = ["DOMAIN_ID", "CallRejected", "DomainEvent", "HeldCaller", "SimulatedDomain"]

DOMAIN_ID = "04b89420-cf8b-4ea5-a428-02c40b0e2a59"
"""The one in the examples of Daily's documents."""
_OWN_NUMBER = "+12025550199"
_SOON = 0.05
"""Seconds until a busy line is reported, and between the steps of a transfer."""


class CallRejected(Exception):
    """Raised when a call gets nowhere: the endpoint, trunk or PIN is unknown, not ready or busy, or the room is full. The message says
    which."""


class Timer(Protocol):
    """A planned call of a function."""

    def cancel(self) -> None:
        """Cancel it."""


class DomainEvent(NamedTuple):
    """Something that happened, to be sent as a webhook."""

    event: ScriptedEvent
    room: str
    after: tuple[str, ...]
    """The sessions whose earlier webhooks are delivered first."""
    line: PhoneLine
    """Says what is lost, late or sent twice."""


class HeldCaller(NamedTuple):
    """A caller on hold."""

    call_id: str
    to: str
    from_: str
    sip_headers: dict[str, str] | None
    talks: float | None
    media: float | None = 0.0


class SimulatedDomain:
    """One domain.

    Args:
        lines: what numbers do.
        report: receives what happens.
        later: calls a function after so many seconds.
        joins: when a dialled party joins the room: at the `answer`, or when it `ring`s. Nothing documents it.
        registers: seconds until the endpoints of a hosted room are ready.
    """

    def __init__(
        self,
        lines: PhoneLines,
        *,
        report: Callable[[DomainEvent], None],
        later: Callable[[float, Callable[[], None]], Timer],
        joins: Literal["answer", "ring"] = "answer",
        registers: float = 0.0,
    ) -> None:
        self._lines = lines
        self._report = report
        self._later = later
        self._joins = joins
        self._registers = registers
        self._unix = time.time() - time.monotonic()
        self._timers: dict[str, list[Timer]] = {}
        self._live: dict[str, Leg] = {}
        self._when_hosted: dict[str, list[Callable[[], None]]] = {}
        self.rooms: dict[str, SimulatedRoom] = {}
        self.bots: list[Bot] = []
        self.legs: list[Leg] = []
        """All sessions, ended ones too, in the order in which they began."""
        self.waiting: dict[str, HeldCaller] = {}

    # --- rooms and meetings -----------------------------------------------------------------------------------------

    def make(self, name: str, properties: Mapping[str, Any], privacy: str = "public") -> SimulatedRoom:
        """Make a room.

        Raises:
            RequestRefused: if the name is taken.
        """
        if name in self.rooms:
            raise RequestRefused(Refusal(400, "invalid-request-error", f"a room named {name} already exists"))
        room = self.rooms[name] = SimulatedRoom(name, datetime.now(UTC).isoformat(), privacy=privacy)
        room.set(dict(properties))
        return room

    def room(self, name: str) -> SimulatedRoom:
        """Return a room.

        Raises:
            RequestRefused: if it does not exist.
        """
        if (room := self.rooms.get(name)) is None:
            raise RequestRefused(Refusal(404, "not-found", f"room {name} not found"))
        return room

    def change(self, name: str, properties: Mapping[str, Any]) -> SimulatedRoom:
        """Change a room's properties; new endpoints register if it is hosted.

        Raises:
            RequestRefused: if it does not exist.
        """
        room = self.room(name)
        room.set(dict(properties))
        if room.meeting is not None:
            self._register(room)
        return room

    def drop(self, name: str) -> None:
        """Delete a room, and end its meeting.

        Raises:
            RequestRefused: if it does not exist.
        """
        self.end_meeting(self.room(name))
        for leg in self.live_in(name):  # a trunk's caller whom no bot has joined
            self.end(leg, "meeting")
        self._when_hosted.pop(name, None)
        del self.rooms[name]

    def host(self, room: SimulatedRoom) -> None:
        """Put a bot into a room; the room's endpoints register, and callers who are there already hear it."""
        if room.meeting is None:
            bot = Bot(room.name, time.monotonic())
            room.meeting = Meeting(bot, time.time())
            bot.meeting_id = room.meeting.meeting_id
            self.bots.append(bot)
            self._participant(bot, "joined")
        self._register(room)
        for do in self._when_hosted.pop(room.name, ()):
            do()

    def when_hosted(self, room: SimulatedRoom, do: Callable[[], None]) -> None:
        """Call a function once a bot is in a room; at once if one is."""
        if room.meeting is not None:
            do()
        else:
            self._when_hosted.setdefault(room.name, []).append(do)

    def end_meeting(self, room: SimulatedRoom, line: PhoneLine | None = None) -> None:
        """Let the bot leave: the meeting and all telephone sessions end. The line says what happens to the events."""
        if (meeting := room.meeting) is None:
            return
        room.meeting = None
        legs = self.live_in(room.name)
        for leg in legs:
            if line is not None:
                leg.line = _with_faults(leg.line, line)
            self.end(leg, "meeting")
        for endpoint in room.endpoints:
            endpoint.ready = False
        meeting.bot.left_at = time.monotonic()
        self._participant(meeting.bot, "left", line)
        about = {"meetingId": meeting.meeting_id, "startedAt": meeting.started_at, "sessionId": meeting.bot.session_id}
        participants = (meeting.bot.session_id, *(leg.session_id for leg in self.legs if leg.room == room.name))
        self._publish("meeting-ended", room.name, about, line=line, after=participants)

    def hosted(self, name: str) -> tuple[SimulatedRoom, Meeting]:
        """Return a room and its meeting.

        Raises:
            RequestRefused: if it has no meeting, or does not exist: the answer is the same.
        """
        room = self.rooms.get(name)
        if room is None or room.meeting is None:
            raise RequestRefused(NOT_HOSTING)
        return room, room.meeting

    def _register(self, room: SimulatedRoom) -> None:
        for endpoint in room.endpoints:
            if not endpoint.ready:
                self._after(self._registers, lambda endpoint=endpoint: self._ready(room, endpoint))  # type: ignore[misc]

    def _ready(self, room: SimulatedRoom, endpoint: SimulatedEndpoint) -> None:
        if room.meeting is not None and not endpoint.ready and endpoint in room.endpoints:
            endpoint.ready = True
            self._publish("dialin-ready", room.name, {"sipEndpoint": endpoint.uri})

    # --- sessions ---------------------------------------------------------------------------------------------------

    def leg(self, session_id: object, room: str | None = None) -> Leg | None:
        """Return a live session, in that room if one is given."""
        leg = self._live.get(session_id) if isinstance(session_id, str) else None
        return leg if leg is not None and room in (None, leg.room) else None

    def live_in(self, room: str) -> list[Leg]:
        """Return the live sessions of a room."""
        return [leg for leg in self._live.values() if leg.room == room]

    def dial(self, name: str, body: dict[str, Any], line: PhoneLine) -> Leg:
        """Dial out; the request was validated before.

        Raises:
            RequestRefused: if the room or the line does not allow it.
        """
        room, meeting = self.hosted(name)
        if not room.properties.get("enable_dialout"):
            raise RequestRefused(NOT_ENABLED_FOR_ROOM)
        if line.refuses is not None:
            raise RequestRefused(line.refuses)
        if len(self.live_in(name)) >= room.limit:
            raise RequestRefused(TOO_MANY_SESSIONS)
        leg = self._dialled(room, meeting, body, line)
        self._begin(leg)
        self._play(leg)
        return leg

    def _dialled(self, room: SimulatedRoom, meeting: Meeting, body: dict[str, Any], line: PhoneLine) -> Leg:
        destination = body.get("sipUri") or body["phoneNumber"]
        number = body.get("callerId") or _OWN_NUMBER
        user = destination.removeprefix("sip:").partition("@")[0]
        return Leg(
            str(uuid4()),
            room.name,
            Direction.DIALOUT,
            time.monotonic(),
            destination=destination,
            user_id=body.get("userId"),
            display_name=body.get("displayName") or user,
            body=body,
            line=line,
            origin=number if "phoneNumber" in body else f"sip:{room.name}.0@example.sip.daily.co",
            phone_number_id=str(uuid5(NAMESPACE_URL, number)),  # the id of a purchased number, not of the called one
            meeting_id=meeting.meeting_id,
        )

    def _play(self, leg: Leg) -> None:
        """Plan what the line does. Each step checks that the session is still live."""
        line = leg.line
        if line.rings is not None:
            self._plan(leg, line.rings, lambda: self._ring(leg))
        if line.warns is not None:
            self._plan(leg, line.warns, lambda: self._send(leg, "warning"))
        if line.busy:
            self._plan(leg, (line.rings or 0.0) + _SOON, lambda: self.end(leg, "busy"))
        if line.gives_up is not None:
            self._plan(leg, line.gives_up, lambda: self.end(leg, "gives up"))
        if line.fails is not None:
            self._plan(leg, line.fails, lambda: self.end(leg, "fails"))
        if line.is_answered and line.answers is not None:
            self._plan(leg, line.answers, lambda: self._answer(leg))

    def _ring(self, leg: Leg) -> None:
        if leg.ringing_at is None:
            leg.ringing_at, leg.state = time.monotonic(), State.CONNECTED
            self._send(leg, "connected")
            if self._joins == "ring":
                self._join(leg)

    def _answer(self, leg: Leg) -> None:
        if leg.line.rings is not None:
            self._ring(leg)  # due at the same moment, it comes first
        leg.answered_at, leg.state, leg.answered_by = time.monotonic(), State.ANSWERED, leg.line.answered_by
        self._send(leg, "answered")
        self._join(leg)
        if leg.line.put_through is not None:
            self._plan(leg, leg.line.put_through, lambda: setattr(leg, "answered_by", "person"))
        if leg.line.talks is not None:
            self._plan(leg, leg.line.talks, lambda: self.end(leg, "remote"))

    def _join(self, leg: Leg) -> None:
        if leg.joined_at is None:
            leg.joined_at = time.monotonic()
            self._participant(leg, "joined")

    def dial_in(
        self,
        uri: str,
        sip_from: str,
        *,
        media: float | None = 0.0,
        line: PhoneLine | None = None,
        sip_headers: dict[str, str] | None = None,
        call_id: str | None = None,
    ) -> Leg:
        """Connect a SIP client to an endpoint; media flows, and it joins, after `media` seconds.

        Raises:
            CallRejected: if it is unknown, not ready, busy, or its room is full.
        """
        room, endpoint = self._free(uri)
        name = _name_in(uri)
        facts: dict[str, Any] = {"sip_headers": sip_headers, "call_id": call_id, "display_name": name}
        return self.admit(room, sip_from, endpoint=endpoint, media=media, line=line, **facts)

    def admit(
        self,
        room: SimulatedRoom,
        sip_from: str,
        *,
        endpoint: SimulatedEndpoint | None = None,
        media: float | None = 0.0,
        line: PhoneLine | None = None,
        sip_headers: dict[str, str] | None = None,
        call_id: str | None = None,
        display_name: str | None = None,
    ) -> Leg:
        """Connect a caller to a room, by one of its endpoints or as a phone; media flows `media` seconds after that, once a bot is there.

        Raises:
            CallRejected: if the room is full.
        """
        if len(self.live_in(room.name)) >= room.limit:
            raise CallRejected(f"{room.name} already has {room.limit} telephone sessions, and may not have more")
        sip = room.properties.get("sip") or {}
        leg = Leg(
            str(uuid4()),
            room.name,
            Direction.DIALIN,
            time.monotonic(),
            sip_from=sip_from,
            sip_endpoint=endpoint.uri if endpoint is not None else None,
            sip_headers=sip_headers,
            call_id=call_id,
            display_name=display_name or sip.get("display_name"),
            line=line or PhoneLine(),
            state=State.CONNECTED,
        )
        if endpoint is not None:
            endpoint.leg = leg
            if not endpoint.ready:  # a trunk's caller is connected as soon as the SIP worker is up
                endpoint.ready = True
                self._publish("dialin-ready", room.name, {"sipEndpoint": endpoint.uri})
        self._begin(leg)
        self._send(leg, "connected")
        self.when_hosted(room, lambda: self._hear(leg, room, media))
        if leg.line.warns is not None:
            self._plan(leg, leg.line.warns, lambda: self._send(leg, "warning", errorMsg=leg.line.error))
        if leg.line.fails is not None:
            self._plan(leg, leg.line.fails, lambda: self.end(leg, "fails"))
        return leg

    def _hear(self, leg: Leg, room: SimulatedRoom, media: float | None) -> None:
        """A bot is in the room: media will flow."""
        if room.meeting is not None and leg.live:
            leg.meeting_id = room.meeting.meeting_id
            if media is not None:
                self._plan(leg, media, lambda: self._flow(leg))

    def _flow(self, leg: Leg) -> None:
        leg.answered_at, leg.state = time.monotonic(), State.ANSWERED
        self._join(leg)
        if leg.line.talks is not None:
            self._plan(leg, leg.line.talks, lambda: self.end(leg, "remote"))

    def _free(self, uri: str) -> tuple[SimulatedRoom, SimulatedEndpoint]:
        found = self._endpoint(uri)
        if found is None:
            raise CallRejected(f"{uri}: no room has such an endpoint")
        room, endpoint = found
        if room.meeting is None or not endpoint.ready:
            raise CallRejected(f"{uri} is not ready: {room.name} is not hosted, or the endpoint has not registered yet")
        if endpoint.leg is not None:
            raise CallRejected(f"{uri} is busy: one client at a time can use it")
        return room, endpoint

    def _endpoint(self, uri: str) -> tuple[SimulatedRoom, SimulatedEndpoint] | None:
        wanted = plain_uri(uri)
        each = ((room, endpoint) for room in self.rooms.values() for endpoint in room.endpoints)
        return next(((room, endpoint) for room, endpoint in each if plain_uri(endpoint.uri) == wanted), None)

    def hold(self, caller: HeldCaller, waits: float | None) -> None:
        """Put a caller on hold, who hangs up after `waits` seconds unless they are forwarded before."""
        self.waiting[caller.call_id] = caller
        if waits is not None:
            self._later(waits, lambda: self.waiting.pop(caller.call_id, None) and None)

    def forward(self, call_id: str, uri: str) -> Leg:
        """Connect a caller on hold to an endpoint.

        Raises:
            CallRejected: if there is no such caller, or as for `dial_in`. If the endpoint was not ready, Daily drops the caller, as
                users report. SIMULATED: if the endpoint is busy, the caller stays on hold.
        """
        if (caller := self.waiting.get(call_id)) is None:
            raise CallRejected(f"{call_id}: no such caller is on hold")
        found = self._endpoint(uri)
        if found is None or not found[1].ready:
            del self.waiting[call_id]
        sip_from = f"sip:{caller.from_}@carrier.example"
        line = PhoneLine(talks=caller.talks)
        facts: dict[str, Any] = {"sip_headers": caller.sip_headers, "call_id": call_id}
        leg = self.dial_in(uri, sip_from, media=caller.media, line=line, **facts)
        del self.waiting[call_id]
        return leg

    def end(self, leg: Leg, ended_by: EndedAs) -> bool:
        """End a session; return False if it had ended before."""
        if not leg.live:
            return False
        failed = ended_by == "fails"
        for timer in self._timers.pop(leg.session_id, ()):
            timer.cancel()
        del self._live[leg.session_id]
        for room in self.rooms.values():
            for endpoint in room.endpoints:
                if endpoint.leg is leg:
                    endpoint.leg = None
        leg.state, leg.ended_by = (State.ERROR if failed else State.STOPPED), ended_by
        leg.ended_at = time.monotonic()  # last: another thread that sees it sees the others too
        if leg.joined_at is not None:
            leg.left_at = leg.ended_at
            self._participant(leg, "left")
        if failed:
            self._send(leg, "error", errorMsg=leg.line.error)
        else:
            self._send(leg, "stopped")
        return True

    # --- transfers --------------------------------------------------------------------------------------------------

    def transfer(self, leg: Leg, to: str, *, refer: bool = False) -> None:
        """Transfer a session. Its own end is sent first, then the steps of the transfer: this is the order in
        docs.daily.co/reference/daily-js/instance-methods/sip-call-transfer, which does not promise it. The outcome of a refer is
        never sent, as the pages of the webhooks say."""
        leg.transferred_to = to
        line = None if self._endpoint(to) is not None or refer else self._lines.dial(to)
        stays = line is not None and line.keeps_caller
        if not stays:
            self.end(leg, "refer" if refer else "transfer")
        for step in ("triggered", "initiated"):
            self._step(leg, step, to, isSipRefer=refer)
        if self._endpoint(to) is not None:
            self._after(_SOON, lambda: self._arrive(leg, to, refer=refer))
        elif line is not None and line.refuses is None and line.is_answered and line.answers is not None:
            self._after(line.answers, lambda: self._picked_up(leg, to) if stays else self._arrived(leg, to))

    def _arrive(self, leg: Leg, to: str, *, refer: bool) -> None:
        try:
            self.dial_in(to, leg.sip_from or leg.destination or "")
        except CallRejected:
            return  # no event says that a transfer failed
        if not refer:
            self._arrived(leg, to)

    def _picked_up(self, leg: Leg, to: str) -> None:
        """The target answers a caller who stayed in their room until then, unless they have gone."""
        if self.end(leg, "transfer"):
            self._arrived(leg, to)

    def _arrived(self, leg: Leg, to: str) -> None:
        self._step(leg, "answered", to)
        self._step(leg, "completed", to)

    def _step(self, leg: Leg, step: str, to: str, **more: Any) -> None:
        way = {"toEndpoint": to, "fromEndpoint": leg.sip_from or leg.destination}
        facts = {"sessionId": leg.session_id, "mtgSessionId": leg.meeting_id, **way, **more}
        self._publish(f"calltransfer-{step}", leg.room, facts, line=leg.line)

    def present(self, room: str, lag: float) -> list[dict[str, Any]]:
        """Return who was in a room `lag` seconds ago."""
        people: list[Bot | Leg] = [*self.bots, *self.legs]
        there = [one for one in people if one.room == room]
        return presence(there, time.monotonic() - lag, self._unix)

    def unix(self, at: float) -> float:
        """Return Unix seconds for a time by `time.monotonic`."""
        return self._unix + at

    # --- reporting --------------------------------------------------------------------------------------------------

    def _begin(self, leg: Leg) -> None:
        self._live[leg.session_id] = leg
        self.legs.append(leg)

    def _plan(self, leg: Leg, seconds: float, do: Callable[[], object]) -> None:
        def now() -> None:
            if leg.live:
                do()

        self._timers.setdefault(leg.session_id, []).append(self._later(seconds, now))

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        if seconds > 0:
            self._later(seconds, do)
        else:
            do()

    def _send(self, leg: Leg, what: str, **more: Any) -> None:
        facts = {
            "sessionId": leg.session_id,
            "userId": leg.user_id,
            "destination": leg.destination,
            "origin": leg.origin,
            "phoneNumberId": leg.phone_number_id,
            "sipFrom": leg.sip_from,
            "displayName": leg.display_name,
            "sipHeaders": leg.sip_headers or ({} if leg.direction is Direction.DIALIN else None),
            **more,
        }
        known = {key: value for key, value in facts.items() if value is not None}
        self._publish(f"{leg.direction}-{what}", leg.room, known, line=leg.line)

    def _participant(self, who: Bot | Leg, what: str, line: PhoneLine | None = None) -> None:
        owner = isinstance(who, Bot)
        facts = {
            "sessionId": who.session_id,
            "joinedAt": self._unix + (who.joined_at or 0.0),
            "userId": who.user_id,
            "displayName": who.display_name,
            "owner": owner,
            "networkQualityState": "unknown",
            "willEjectAt": 0,
            "permissions": {
                "hasPresence": True,
                "canSend": True,
                "canReceive": {"base": True},
                "canAdmin": owner,
            },
        }
        self._publish(f"participant-{what}", who.room, facts, line=who.line if isinstance(who, Leg) else line)

    def _publish(
        self, name: str, room: str, facts: dict[str, Any], *, line: PhoneLine | None = None, after: tuple[str, ...] = ()
    ) -> None:
        session = facts.get("sessionId")
        event = ScriptedEvent(time.time(), name, {**facts, "domainId": DOMAIN_ID})
        self._report(
            DomainEvent(event, room, after or ((session,) if session is not None else ()), line or PhoneLine())
        )


def _with_faults(line: PhoneLine, other: PhoneLine) -> PhoneLine:
    """Return a line to whose events happens what another says, too."""
    return replace(
        line,
        loses={*line.loses, *other.loses},
        twice={*line.twice, *other.twice},
        delays={**line.delays, **other.delays},
    )


def _name_in(uri: str) -> str | None:
    """Return the name that a caller passes: docs.daily.co/docs/guides/features/dial-in-dial-out/sip, "Dynamic display names"."""
    pairs = (pair.partition("=") for pair in uri.partition("?")[2].split("&"))
    parameters = {key: value for key, _, value in pairs}
    return unquote(parameters.get("x-daily_display_name", "")) or None
