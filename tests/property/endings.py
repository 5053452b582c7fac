"""An independent model of how calls end, written from the design: whole histories in, what a perfect observer knows out.

It shares no code with telstate. Its records are facts, each with the payload in which an observer reports it. Two observers are
drawn: Daily's webhooks, with Daily's times, and call clients of daily-python, whose events have only the time of their receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

__all__ = ["START", "Fact", "Known", "facts", "model", "payload_of", "readies_of"]

START = 1_790_000_000.0
_LIFE = ("connected", "answered", "joined", "dtmf", "warning")
_WEBHOOK = "webhook"


@dataclass(frozen=True)
class Fact:
    """One report of one thing that happened."""

    kind: str
    """connected, answered, joined, dtmf, warning, left, stopped, error, of a session; meeting-ended; client-left."""
    at: float
    """Seconds after START, by Daily's clock where it is a webhook's, else by that of the receipt."""
    by: str
    """`webhook`, or the id of a call client."""
    session: str = ""
    direction: str = "dialin"
    room: str = ""
    since: float | None = None
    """Of a webhook about a participant who left: when they had joined. Of a meeting that ended: when it began, if that is reported."""

    @property
    def by_daily(self) -> bool:
        """Whether its time is Daily's."""
        return self.by == _WEBHOOK

    @property
    def received_at(self) -> float:
        """When it arrived."""
        return START + self.at + (0.5 if self.by_daily else 0.0)


@dataclass
class Known:
    """What is known of a session."""

    state: str
    cause: str | None = None
    source: str | None = None
    sign: str | None = None
    ended_at: float | None = None
    talk_s: float | None = None
    ring_s: float | None = None


@dataclass
class _Session:
    direction: str
    room: str
    facts: list[Fact] = field(default_factory=list)

    def has(self, *kinds: str) -> bool:
        return any(fact.kind in kinds for fact in self.facts)

    def time(self, *kinds: str) -> tuple[float, bool] | None:
        """The earliest of Daily's times, else the earliest of a receipt; and whether it is Daily's."""
        for by_daily in (True, False):
            times = [fact.at for fact in self.facts if fact.kind in kinds and fact.by_daily is by_daily]
            if times:
                return min(times), by_daily
        return None

    def alive(self, *, by_daily: bool) -> float | None:
        return max((f.at for f in self.facts if f.kind in _LIFE and f.by_daily is by_daily), default=None)

    @property
    def last(self) -> float | None:
        return max((fact.at for fact in self.facts if fact.kind in _LIFE), default=None)

    @property
    def stays(self) -> list[float]:
        """Since when their participant was there, by Daily's clock."""
        stays = [
            f.at if f.since is None else f.since for f in self.facts if f.kind in ("joined", "left") and f.by_daily
        ]
        return sorted(stays)

    @property
    def answered(self) -> tuple[float, bool] | None:
        """When media began to flow: that a participant of a dial-in left says so too, with since when they were there."""
        if self.direction == "dialout":
            return self.time("answered")
        return (self.stays[0], True) if self.stays else self.time("joined")

    @property
    def began(self) -> float:
        """The earliest time that is known."""
        return min([*(fact.at for fact in self.facts), *self.stays])


def model(known_facts: list[Fact], endpoints: dict[str, int]) -> dict[str, Known]:
    """Say what is known of every session once all facts arrived and every grace has passed.

    Args:
        known_facts: what was reported.
        endpoints: how many endpoints each room has.
    """
    sessions: dict[str, _Session] = {}
    for fact in known_facts:
        if fact.session and fact.kind in ("connected", "answered", "stopped", "error", "warning"):
            sessions.setdefault(fact.session, _Session(fact.direction, fact.room))
    for fact in known_facts:
        if fact.session in sessions:
            sessions[fact.session].facts.append(fact)
    rest = [fact for fact in known_facts if not fact.session]
    return {name: _known(name, sessions, rest, endpoints) for name, _ in sessions.items()}


def _known(name: str, sessions: dict[str, _Session], rest: list[Fact], endpoints: dict[str, int]) -> Known:
    session = sessions[name]
    answered, connected = session.answered, session.time("connected")
    told = session.time("stopped", "error")
    signs = [] if told else _signs(name, sessions, rest, endpoints)
    took_place = answered is not None or (session.direction == "dialin" and connected is not None)
    if told:
        state = "error" if session.has("error") else "stopped"
        cause = "failed" if session.has("error") else "completed" if took_place else "unanswered"
        found = Known(state, cause, "told", None, told[0])
    elif signs:
        by, _, kind = min(signs, key=lambda sign: (sign[0], sign[0] != sign[1], sign[2]))
        at = next(at for one, at, sign in signs if (one, sign) == (by, kind))
        found = Known("stopped", "completed" if took_place else "unanswered", "inferred", kind, at)
    else:
        state = "answered" if answered else "connected" if connected else "idle"
        found = Known(state)
    if answered and found.ended_at is not None:
        found.talk_s = max(0.0, found.ended_at - answered[0])
    until = answered[0] if answered else found.ended_at
    if session.direction == "dialout" and connected and until is not None:
        found.ring_s = max(0.0, until - connected[0])
    return found


def _signs(
    name: str, sessions: dict[str, _Session], rest: list[Fact], endpoints: dict[str, int]
) -> list[tuple[float, float, str]]:
    """The signs that hold, each with the time by which the call had ended, and the time of the end that it tells."""
    session = sessions[name]
    found: list[tuple[float, float, str]] = []
    for fact in session.facts:
        if fact.kind != "left":
            continue
        if fact.by_daily:
            rejoined = any(f.kind == "joined" and not f.by_daily and f.at > fact.at + 5 for f in session.facts)
            holds = not rejoined and session.stays[-1] <= (fact.since or 0.0)
        else:
            holds = not _lives_after(session, fact.at, by_daily=False)
        if holds:
            found.append((fact.at, fact.at, "participant-left"))
    for fact in rest:
        was_in_it = fact.kind == "meeting-ended" and fact.room == session.room and session.began <= fact.at
        if was_in_it and not _lives_after(session, fact.at, by_daily=True):
            found.append((*_end_with_meeting(session, fact), "meeting-ended"))
        is_only_observer = {one.by for one in session.facts} == {fact.by}
        if fact.kind == "client-left" and is_only_observer and not _lives_after(session, fact.at, by_daily=False):
            found.append((fact.at, fact.at, "client-left"))
    following = _next_caller(name, sessions, endpoints)
    if following is not None and not _lives_after(session, following[0], by_daily=following[1]):
        found.append((following[0], _before(session, following[0]), "next-caller"))
    return found


def _before(session: _Session, following: float) -> float:
    """When a call ended that had ended by the time of what follows: then, unless nothing was heard of it for long."""
    return following if session.last is None or following <= session.last + 600 else session.last


def _end_with_meeting(session: _Session, ended: Fact) -> tuple[float, float]:
    """By when a call had ended, and when it ended: with the meeting, or before that began."""
    if ended.since is None or session.last is None or ended.since <= session.last + 60:
        return ended.at, ended.at
    return ended.since, _before(session, ended.since)


def _lives_after(session: _Session, at: float, *, by_daily: bool) -> bool:
    same, other = session.alive(by_daily=by_daily), session.alive(by_daily=not by_daily)
    return (same is not None and same > at) or (other is not None and other > at + 5)


def _next_caller(name: str, sessions: dict[str, _Session], endpoints: dict[str, int]) -> tuple[float, bool] | None:
    """When the next dial-in connected on the endpoint, where the room has only one."""
    session = sessions[name]
    mine = session.time("connected")
    if session.direction != "dialin" or mine is None or endpoints[session.room] != 1:
        return None
    others = [
        time
        for other in sessions.values()
        if other.direction == "dialin" and other.room == session.room and (time := other.time("connected")) is not None
    ]
    return min((time for time in others if time[0] > mine[0]), default=None)


# --- drawing --------------------------------------------------------------------------------------------------------


@st.composite
def facts(draw: st.DrawFn) -> tuple[list[Fact], dict[str, int]]:
    """Draw the facts of a few sessions in two rooms, with what ends rooms and clients, and how many endpoints the rooms have."""
    endpoints = {"r": draw(st.integers(0, 2)), "s": 1}
    drawn: list[Fact] = []
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)):
        drawn += draw(_facts_of(name))
    for _ in range(draw(st.integers(0, 2))):
        at, lasted = draw(_TIMES), draw(st.none() | st.integers(0, 1000))
        since = None if lasted is None else max(at - lasted, 0.0)
        drawn.append(Fact("meeting-ended", at, _WEBHOOK, room=draw(_ROOMS), since=since))
    for client in ("k", "l"):
        drawn += [Fact("client-left", draw(_TIMES) + 0.25, client) for _ in range(draw(st.integers(0, 2)))]
    return drawn, endpoints


_TIMES = st.integers(0, 60).map(float) | st.integers(0, 1500).map(float)
_ROOMS = st.sampled_from("rs")


@st.composite
def _facts_of(draw: st.DrawFn, name: str) -> list[Fact]:
    direction, room = draw(st.sampled_from(["dialin", "dialout"])), draw(_ROOMS)
    observers = draw(st.sampled_from([(_WEBHOOK,), ("k",), ("l",), (_WEBHOOK, "k"), ("k", "l")]))
    kinds = ["connected", "joined", "joined", "dtmf", "warning", "left", "left"]
    kinds += ["answered"] if direction == "dialout" else []
    kinds += draw(st.sampled_from([[], [], [], ["stopped"], ["error"]]))
    found = [Fact("connected", draw(_TIMES), observers[0], name, direction, room)]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=7)):
        for by in draw(st.lists(st.sampled_from(observers), min_size=1, max_size=2)):
            at = draw(_TIMES) + (0.0 if by == _WEBHOOK else 0.25)
            since = at - draw(st.integers(0, 30)) if kind == "left" and by == _WEBHOOK else None
            if kind == "dtmf" and by == _WEBHOOK:
                continue  # no webhook reports key presses
            found.append(Fact(kind, at, by, name, direction, room, since))
    once = {("connected", by) for by in observers} | {
        (kind, by) for kind in ("answered", "stopped", "error") for by in observers
    }
    seen: set[tuple[str, str]] = set()
    kept = []
    for fact in found:
        key = (fact.kind, fact.by)
        if key not in once or key not in seen:
            kept.append(fact)
        seen.add(key)
    return kept


# --- payloads -------------------------------------------------------------------------------------------------------


def readies_of(endpoints: dict[str, int]) -> list[dict[str, Any]]:
    """The readies of the rooms, which precede everything else."""
    return [
        {
            "type": "dialin.ready",
            "id": f"{room}{number}",
            "payload": {"room": room, "sip_endpoint": f"sip:{room}.{number}@x.daily.co", "timestamp": str(int(START))},
        }
        for room, count in endpoints.items()
        for number in range(count)
    ]


def payload_of(fact: Fact) -> dict[str, Any]:
    """The payload in which the observer reports the fact."""
    return _webhook(fact) if fact.by_daily else _callback(fact)


def _webhook(fact: Fact) -> dict[str, Any]:
    key = f"{fact.kind}-{fact.session}-{fact.at}-{fact.since}-{fact.room}"
    if fact.kind == "meeting-ended":
        start = {} if fact.since is None else {"start_ts": START + fact.since}
        return {"type": "meeting.ended", "id": key, "payload": {"room": fact.room, "end_ts": START + fact.at, **start}}
    fields: dict[str, Any] = {"session_id": fact.session, "room": fact.room}
    if fact.kind in ("joined", "left"):
        since = fact.at if fact.since is None else fact.since
        fields |= {"joined_at": START + since}
        if fact.kind == "left":
            fields["duration"] = fact.at - since
        return {"type": f"participant.{fact.kind}", "id": key, "payload": fields}
    fields |= {"timestamp": str(int(START + fact.at)), "error_msg": "x"}
    return {"type": f"{fact.direction}.{fact.kind}", "id": key, "payload": fields}


def _callback(fact: Fact) -> dict[str, Any]:
    scope = {"callClientId": fact.by}
    if fact.kind == "client-left":
        return {"handler": "on_left", "data": None, **scope}
    scope["room"] = fact.room
    if fact.kind in ("joined", "left"):
        return {"handler": f"on_participant_{fact.kind}", "data": {"id": fact.session, "info": {}}, **scope}
    handler = "on_dtmf_event" if fact.kind == "dtmf" else f"on_{fact.direction}_{fact.kind}"
    return {"handler": handler, "data": {"sessionId": fact.session, "message": "x"}, **scope}
