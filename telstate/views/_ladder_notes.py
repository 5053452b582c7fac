"""What there is to say about a step of a ladder, in words: why it did not count, what followed from it, what is odd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from telstate.calls._evidence import EndedBy, EndSource
from telstate.calls._outcome import OutcomeKind
from telstate.events import DeadlinePassed, DialinReady, PresenceChecked, UnknownEvent
from telstate.views._call_trace import CallTrace, KnownEnd, Seen
from telstate.views._findings import spoken
from telstate.views._shown import Shown
from telstate.views._text import utc_time
from telstate.views._words import SIGNS

__all__ = ["NoteWriter", "end_in_words"]

_APART = 2.0
"""Seconds between an event and its receipt that are worth a word: webhooks have whole seconds."""


class NoteWriter:
    """Writes the notes on the steps of one call.

    Args:
        trace: the call.
        shown: shows texts.
        tag: returns how a session is called on the ladder, by its id.
    """

    def __init__(self, trace: CallTrace, shown: Shown, tag: Callable[[str], str]) -> None:
        self._trace = trace
        self._shown = shown
        self._tag = tag
        self._told: dict[tuple[str, str], str] = {}
        """By which dialect an event of a session was told first."""
        self._webhooks: set[tuple[str, str]] = set()
        self._waiting: dict[str, list[str]] = {}
        """The names of the events that wait for a session."""
        self._opened = {seen.session_id: seen.at for seen in reversed(trace.seen) if seen.opened}

    def notes(self, seen: Seen) -> list[str]:
        """Return the notes on an event, in order of importance. To be called once for each event, in order."""
        notes = ["unknown type: it is kept, and moves nothing"] if isinstance(seen.event, UnknownEvent) else []
        if seen.reused:
            notes.append("! an earlier session had this id: this is a new one")
        if seen.continued:
            notes.append("what was before is not in the log: it was pruned")
        notes += [*self._why_not(seen), *self._parked(seen), *self._ends(seen), *self._signs(seen)]
        if seen.lost is not None:
            notes.append(f"the caller on hold is lost: {seen.lost}")
        if (late := self._arrival(seen)) is not None:
            notes.append(late)
        if seen.kind is not OutcomeKind.UNEXPECTED:  # what is odd is said already
            notes += [f"! {self._shown.text(anomaly)}" for anomaly in seen.anomalies]
        self._remember(seen)
        return notes

    def _why_not(self, seen: Seen) -> Iterator[str]:
        event, session = seen.event, seen.session
        match seen.kind:
            case OutcomeKind.DUPLICATE if self._came_before(seen):
                yield "duplicate: this webhook was delivered before"
            case OutcomeKind.DUPLICATE:
                by = self._told.get((seen.session_id or "", event.name))
                yield f"duplicate: told before{f' by {by}' if by and by != seen.dialect else ''}"
            case OutcomeKind.LATE:
                yield f"late: {_too_late(seen)}"
            case OutcomeKind.UNEXPECTED if session is not None:
                yield f"unexpected: it came for a {session.direction} session, and changes nothing"
            case OutcomeKind.UNMATCHED:
                yield f"unmatched: {self._unmatched(seen)}"
            case _:
                pass

    def _came_before(self, seen: Seen) -> bool:
        return seen.event.webhook_id is not None and (seen.event.name, seen.event.webhook_id) in self._webhooks

    def _unmatched(self, seen: Seen) -> str:
        """Say why no session was found, and whether one was later."""
        sip_call_id = seen.event.sip_call_id
        if sip_call_id is None:
            return "it names no session, and no SIP Call-ID"
        told = self._trace.sip_calls.get(sip_call_id)
        if told is None:
            return "no session is known to have its SIP Call-ID"
        return f"no session was known to have its SIP Call-ID; applied {_at(told.at)}"

    def _parked(self, seen: Seen) -> Iterator[str]:
        """Say that an event waits for its session, or that the session has come that others waited for."""
        session_id, event = seen.session_id, seen.event
        if session_id in self._trace.ids.sessions and seen.session is None and seen.kind is OutcomeKind.NOTED:
            if isinstance(event, (DeadlinePassed, PresenceChecked)):
                yield "its session is not known: it does nothing"
            elif session_id in self._opened:
                self._waiting.setdefault(session_id, []).append(event.name)
                yield f"parked: its session was not known yet; applied {_at(self._opened[session_id])}"
            else:
                yield "parked: its session is not known"
        elif seen.opened and (names := self._waiting.pop(session_id or "", None)):
            yield f"applied with it, as it had waited: {', '.join(dict.fromkeys(names))}"

    def _ends(self, seen: Seen) -> Iterator[str]:
        """Say how the session ended, or what became known of its end."""
        if seen.ended and seen.after is not None:
            yield end_in_words(seen.after, ended=True)
        elif seen.before is not None and seen.after is not None and (change := _change(seen.before, seen.after)):
            yield f"after the end: {change}"

    def _signs(self, seen: Seen) -> Iterator[str]:
        for session_id, due_at in seen.signs:
            by_then = f" at {utc_time(due_at)[11:]}" if due_at is not None else ""
            yield f"a sign of the end: without a sign of life {self._tag(session_id)} ends{by_then}"
        for session_id in seen.relieved:
            yield f"{self._tag(session_id)} goes on: the sign of its end does not hold"
        for session_id in seen.doubtful:
            yield f"{self._tag(session_id)} is uncertain: events may have been missed"

    def _arrival(self, seen: Seen) -> str | None:
        """Say when it happened, if it was received much later or earlier."""
        at, happened_at = seen.at, seen.event.occurred_at
        if at is None or happened_at is None or abs(at - happened_at) <= _APART:
            return None
        apart = at - happened_at
        return (
            f"happened {_at(happened_at)}, received {spoken(round(abs(apart)))} {'later' if apart > 0 else 'earlier'}"
        )

    def _remember(self, seen: Seen) -> None:
        event = seen.event
        if event.webhook_id is not None:
            self._webhooks.add((event.name, event.webhook_id))
        if seen.session_id is not None and seen.dialect is not None and not isinstance(event, DialinReady):
            self._told.setdefault((seen.session_id, event.name), seen.dialect)


def end_in_words(end: KnownEnd, *, ended: bool = False) -> str:
    """Say why a session ended, and how that is known."""
    by = "" if end.ended_by in (None, EndedBy.UNKNOWN) else f" by {end.ended_by}"
    words = f"{'ended: ' if ended else ''}{end.cause}{by}"
    if end.source == EndSource.INFERRED and end.sign is not None:
        return f"{words}, inferred: {SIGNS[end.sign]}{f' {_at(end.at)}' if end.at is not None else ''}, and no event reports the end"
    if end.source == EndSource.ASSUMED:
        return f"{words}, assumed after silence{f'; the last sign of life was {_at(end.at)}' if end.at is not None else ''}"
    return f"{words}, told by Daily"


def _too_late(seen: Seen) -> str:
    """Say what an event is too late for."""
    if seen.session is None:
        return "the caller is not on hold any more"
    if seen.before is not None and isinstance(seen.event, (DeadlinePassed, PresenceChecked)):
        return "the session has ended"
    if isinstance(seen.event, DeadlinePassed):
        return "the limit does not run any more, an event came since"
    if isinstance(seen.event, PresenceChecked):
        return "there was a sign of life since"
    return f"the session is {seen.state} already; what it reports is kept"


def _change(before: KnownEnd, after: KnownEnd) -> str:
    """Say what is different."""
    names = ("cause", "ended by", "known as", "sign")
    changes = [
        f"{name} {old or 'unknown'} → {new or 'none'}"
        for name, old, new in zip(names, before[:4], after[:4], strict=True)
        if old != new
    ]
    if after.at is not None and (before.at is None or abs(after.at - before.at) >= 1):  # a webhook has whole seconds
        changes.append(f"ended {_at(after.at)}")
    return ", ".join(changes)


def _at(at: float | None) -> str:
    return "at an unknown time" if at is None else f"at {utc_time(at)[11:]}"
