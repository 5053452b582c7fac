"""Builds the ladder of a call from its events."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.calls._table import EndSign
from telstate.calls._transfers import TransferOutcome
from telstate.events import Direction
from telstate.events._known_names import names_in
from telstate.views._call_trace import CallTrace, KnownEnd, Seen
from telstate.views._ladder import Ladder, LadderLane, LadderLeg, LadderStep, LaneKind
from telstate.views._ladder_notes import NoteWriter, end_in_words
from telstate.views._ladder_words import FAILURES, label_of, way_of
from telstate.views._shown import Shown
from telstate.views._text import utc_time
from telstate.views._words import TRANSFERS, duration

if TYPE_CHECKING:
    from telstate.routing._ports import KeptLetter

__all__ = ["HandlerWork", "build_ladder"]


class HandlerWork(NamedTuple):
    """What a journal tells of the handlers of a call's events."""

    unfinished: Collection[Any] = ()
    """The keys (`Seen.key`) of the events whose handlers have not finished."""
    letters: Mapping[Any, Iterable[KeptLetter]] = {}
    """The dead letters by the key of their event."""


def build_ladder(trace: CallTrace, work: HandlerWork | None = None, *, numbers: bool = False) -> Ladder:
    """Build the ladder of a call.

    Args:
        trace: the events of the call.
        work: what a journal tells of its handlers.
        numbers: show phone numbers, SIP users and names in full.
    """
    return _Builder(trace, work or HandlerWork(), numbers=numbers).build()


class _Builder:
    def __init__(self, trace: CallTrace, work: HandlerWork, *, numbers: bool) -> None:
        self._trace = trace
        self._work = work
        self._seen = sorted(trace.seen, key=lambda seen: seen.number)
        trace.seen[:] = self._seen
        self._shown = Shown(numbers=numbers, names=_names(trace))
        order = sorted(trace.sessions.values(), key=lambda session: session.opened)
        self._sessions = order
        several = len(order) > 1
        self._tags = {session.session_id: _tag(at) if several else "" for at, session in enumerate(order)}
        self._lanes: list[tuple[LaneKind, str]] = []
        """Each lane by its kind and by whose it is."""

    def build(self) -> Ladder:
        notes = NoteWriter(self._trace, self._shown, self._called)
        raw = [self._step(seen, notes.notes(seen)) for seen in self._seen]
        raw = self._with_letters(raw)
        used = {lane for source, target, _ in raw for lane in (source, target)} | {(LaneKind.DAILY, "")}
        lanes = sorted(used, key=self._place)
        steps = [step._replace(source=lanes.index(source), target=lanes.index(target)) for source, target, step in raw]
        return Ladder(
            call=self._trace.ids.name,
            legs=(*self._callers(), *(self._leg(session) for session in self._sessions)),
            lanes=tuple(self._lane(kind, of, lanes) for kind, of in lanes),
            steps=tuple(_with_deltas(_merged(steps))),
        )

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _place(self, lane: tuple[LaneKind, str]) -> tuple[int, int, str]:
        """Return where a lane stands: callers, callees, Daily, rooms, the program."""
        kind, of = lane
        session = self._trace.sessions.get(of)
        first = 0 if session is None else session.opened
        if kind is LaneKind.ROOM:
            rooms = list(self._trace.rooms)
            first = rooms.index(of) if of in rooms else len(rooms)
        return list(LaneKind).index(kind), first, of

    def _lane(self, kind: LaneKind, of: str, lanes: list[tuple[LaneKind, str]]) -> LadderLane:
        several = sum(other is kind for other, _ in lanes) > 1
        if kind is LaneKind.PHONE:
            session, tag = self._trace.sessions.get(of), self._tags.get(of, "")
            name = "callee" if session is not None and session.direction is Direction.DIALOUT else "caller"
            return LadderLane(kind, f"phone {tag}".rstrip() if tag else name, self._who(of))
        if kind is LaneKind.ROOM:
            place = [lane for lane in lanes if lane[0] is kind].index((kind, of)) + 1
            return LadderLane(kind, f"room {place}" if several else "room" if of else "client", self._shown.id(of))
        return LadderLane(kind, "Daily" if kind is LaneKind.DAILY else "program")

    def _who(self, of: str) -> str:
        """Return whose phone it is."""
        session = self._trace.sessions.get(of)
        if session is None:
            caller = next(iter(self._trace.callers.values()), None)
            return "" if caller is None else self._shown.address(caller.from_)
        if session.direction is Direction.DIALOUT:
            return self._shown.address(session.destination)
        address = session.caller or session.sip_from
        return self._shown.address(address) if address else self._shown.name(session.display_name)

    def _lane_of(self, kind: LaneKind, seen: Seen) -> tuple[LaneKind, str]:
        session = self._trace.sessions.get(seen.session_id or "")
        if kind is LaneKind.PHONE:
            phone = self._phone(seen) if session is None else session.session_id
            return (LaneKind.DAILY, "") if phone is None else (kind, phone)
        if kind is LaneKind.ROOM:
            room = seen.event.room or (None if session is None else session.room)
            return kind, room or next(iter(self._trace.rooms), "")
        return kind, ""

    def _phone(self, seen: Seen) -> str | None:
        """Return whose phone an event without a session is about: a caller on hold became a dial-in, or has a lane of their own."""
        call_id, sip_call_id = getattr(seen.event, "call_id", None), seen.event.sip_call_id
        for session in self._sessions:
            if (call_id is not None and session.pinless_call_id == call_id) or (
                sip_call_id is not None and session.sip_call_id == sip_call_id
            ):
                return session.session_id
        return call_id

    def _called(self, session_id: str) -> str:
        """Return how notes call a session."""
        tag = self._tags.get(session_id)
        if tag is None:
            return f"session {self._shown.id(session_id)}"
        return f"leg {tag}" if tag else "the call"

    # --- steps ----------------------------------------------------------------------------------------------------

    def _step(self, seen: Seen, notes: list[str]) -> tuple[tuple[LaneKind, str], tuple[LaneKind, str], LadderStep]:
        source, target, arrow = way_of(seen, own=seen.session_id in self._trace.sessions)
        if seen.key in self._work.unfinished and seen.key not in self._work.letters:
            notes.append("its handlers have not finished")
        moves = seen.moves
        step = LadderStep(
            at=seen.at,
            delta=None,
            source=0,
            target=0,
            arrow=arrow,
            label=label_of(seen, self._shown, self._called),
            leg=self._tags.get(seen.session_id or "", ""),
            states=() if not moves else (str(moves[0].source), *(str(move.target) for move in moves)),
            outcome=seen.kind,
            notes=tuple(notes),
            session_id=seen.session_id,
            failed=seen.event.name in FAILURES,
        )
        return self._lane_of(source, seen), self._lane_of(target, seen), step

    def _with_letters(self, raw: list[Any]) -> list[Any]:
        """Add the handlers that were given up, at their time and after their event."""
        steps = list(zip(raw, (seen.key for seen in self._seen), strict=True))
        for place, key in [(place, key) for place, (_, key) in enumerate(steps) if key in self._work.letters][::-1]:
            for kept in self._work.letters[key]:
                at = place + 1
                while at < len(steps) and (steps[at][0][2].at or 0.0) <= kept.letter.at:
                    at += 1
                lane = (LaneKind.PROGRAM, "")
                steps.insert(at, ((lane, lane, self._letter(kept, raw[place][2])), None))
        return [step for step, _ in steps]

    def _letter(self, kept: KeptLetter, of: LadderStep) -> LadderStep:
        letter = kept.letter
        handler = self._shown.text(letter.handler) if letter.handler else "all handlers"
        detail = f": {self._shown.text(letter.detail)}" if letter.detail else ""
        retry = ", retry requested" if kept.retry_requested else ""
        notes = (f"given up on {of.label}: dead letter {kept.number}{retry}",)
        label = f"{handler} failed: {self._shown.text(letter.reason)}{detail}"
        return LadderStep(
            letter.at, None, 0, 0, True, label, of.leg, notes=notes, session_id=of.session_id, failed=True
        )

    # --- legs -----------------------------------------------------------------------------------------------------

    def _leg(self, session: Session) -> LadderLeg:
        record = self._trace.records.get(session.session_id) or session.to_dict()
        return LadderLeg(
            self._tags[session.session_id], tuple(self._facts(session, record)), self._shown.record(record)
        )

    def _facts(self, session: Session, record: dict[str, Any]) -> Iterable[str]:
        who = self._who(session.session_id)
        preposition = "from" if session.direction is Direction.DIALIN else "to"
        kind = "dial-in" if session.direction is Direction.DIALIN else "dial-out"
        room = f", room {self._shown.id(session.room)}" if session.room is not None else ""
        yield f"{kind} {self._shown.id(session.session_id)}{f' {preposition} {who}' if who else ''}{room}"
        if session.ended:
            sign = record["end_sign"]
            end = KnownEnd(
                record["cause"],
                record["ended_by"],
                record["end_source"],
                None if sign is None else EndSign(sign),
                record["ended_at"],
            )
            yield end_in_words(end)
        else:
            yield f"still {session.state}: no end was reported"
        yield from self._times(record)
        for to, outcome in record["transfers"]:
            target = self._shown.address(to) if to else "an unknown target"
            yield f"transfer to {target}: {TRANSFERS[TransferOutcome(outcome)]}"
        if record["uncertain"]:
            yield "uncertain: events may have been missed since the last one"
        if record["notes"]:
            yield f"notes: {self._shown.values(record['notes'])}"

    def _times(self, record: dict[str, Any]) -> Iterable[str]:
        began, ended = utc_time(record["started_at"]), utc_time(record["ended_at"])
        if began:
            ended = ended[11:] if ended[:10] == began[:10] else ended
            yield f"{began}{f' to {ended}' if ended else ''} UTC"
        spans = {"on hold": "held_s", "set-up": "setup_s", "ring": "ring_s", "talk": "talk_s"}
        times = [f"{name} {duration(record[key])}" for name, key in spans.items() if record[key] is not None]
        if times:
            yield ", ".join(times)

    def _callers(self) -> Iterable[LadderLeg]:
        """Yield the callers on hold who became no session of the call: those who did are in its record."""
        for caller in self._trace.callers.values():
            if caller.session_id not in self._trace.sessions:
                record = caller.to_dict()
                yield LadderLeg("", tuple(self._caller_facts(caller)), self._shown.record(record))

    def _caller_facts(self, caller: Caller) -> Iterable[str]:
        from_ = f" from {self._shown.address(caller.from_)}" if caller.from_ else ""
        to = f" to {self._shown.address(caller.to)}" if caller.to else ""
        yield f"caller on hold {self._shown.id(caller.call_id)}{from_}{to}"
        held = f", on hold for {duration(caller.held_s)}" if caller.held_s is not None else ""
        yield f"{caller.state}{held}"
        if caller.error is not None:
            yield f"error: {self._shown.text(caller.error)}"


def _tag(at: int) -> str:
    """a, b, …, z, aa, ab, …"""
    tag = ""
    at += 1
    while at:
        at, rest = divmod(at - 1, 26)
        tag = ascii_lowercase[rest] + tag
    return tag


def _names(trace: CallTrace) -> Iterable[str]:
    """Yield the display names that the events of a call tell."""
    for session in trace.sessions.values():
        yield from names_in([{"display_name": session.display_name}, session.sip_from])
    for seen in trace.seen:
        yield from names_in(json.loads(seen.event.to_json()))


def _merged(steps: list[LadderStep]) -> list[LadderStep]:
    """Count what comes several times in a row, and says the same each time."""
    merged: list[LadderStep] = []
    for step in steps:
        last = merged[-1] if merged else None
        if last is not None and step.outcome is not None and not step.states and _same(last, step):
            merged[-1] = last._replace(times=last.times + 1, until=step.at)
        else:
            merged.append(step)
    return merged


def _same(one: LadderStep, other: LadderStep) -> bool:
    return one._replace(at=None, times=1, until=None) == other._replace(at=None, times=1, until=None)


def _with_deltas(steps: list[LadderStep]) -> Iterable[LadderStep]:
    """Add to each step the time since the one before: since its last repetition, if it had some."""
    before: float | None = None
    for step in steps:
        delta = None if step.at is None or before is None else round(step.at - before, 3)
        yield step._replace(delta=delta)
        last = step.at if step.until is None else step.until
        before = before if last is None else last
