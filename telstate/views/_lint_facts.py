"""What the checks of a log need beyond the sessions: how each event came. One pass; memory for what is live, not for what was.

A session knows how many of its events were repeated or late. Whether that is a fault depends on who told them: a bot and a webhook
that both tell of an answer are two observers, a webhook that comes twice is a redelivery.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._evidence import Evidence
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._session import Session
from telstate.events import (
    ConnectionChanged,
    Dialect,
    DialinConnected,
    DialinError,
    DialinStopped,
    DialoutAnswered,
    DialoutConnected,
    DialoutError,
    DialoutStopped,
    MeetingEnded,
    SourceGap,
    UnknownEvent,
)
from telstate.events._address_tests import TRUNK_TEST
from telstate.events._base import Subject

__all__ = ["LATE_AFTER", "QUIET", "CallFacts", "Gap", "LogFacts", "Quiet", "Step", "text_key"]

QUIET = 600.0
"""Seconds without an event after which a source may have gone."""
_IN_TOUCH = 3_600.0
"""Seconds before a silence in which a call must have been heard of: what was silent before may have lost its end alone."""
LATE_AFTER = 60.0
"""Seconds from an event to its receipt after which its delivery was slow."""
_SKEW = 5.0
"""Seconds that two clocks may differ: webhooks have whole seconds, and few machines are exact."""
_STEP_OF_RECORDS = 2.0
_STEP_OF_SENDERS = 60.0
"""Seconds by which times may fall: those of receipts by one clock hardly, those of senders by more."""
_APART = 60.0
"""Seconds between two calls that are not legs of one."""
_IN_A_ROW = 5
"""Events that must be late by the same time before the clock is said to be fast."""
_MAX_KINDS = 1_000
"""How many different texts are counted at most."""
_MAX_GAPS = 100
_MAX_IDS = 50_000
"""How many ids of past calls are remembered, to find those that are used again."""
_MAX_TOLD = 64
_BEGINNINGS = (DialinConnected, DialoutConnected, DialoutAnswered)
_ENDS = (DialinStopped, DialoutStopped, DialinError, DialoutError)
_OBSERVERS = {
    Dialect.WEBHOOK: Evidence.BY_WEBHOOK,
    Dialect.DAILY_JS: Evidence.BY_DAILY_JS,
    Dialect.DAILY_PYTHON: Evidence.BY_DAILY_PYTHON,
}


class CallFacts:
    """How the events of one session came."""

    __slots__ = ("late", "repeats", "reused_at", "shares_sip_call", "slow", "slowest", "told")

    def __init__(self) -> None:
        self.told: set[tuple[str, Any, str | None]] = set()
        """Which observer told of what."""
        self.repeats = 0
        """Events that one observer told more than once."""
        self.late = 0
        """Events that came after later ones of the same observer."""
        self.slow = 0
        """Events that were received long after they happened."""
        self.slowest = 0.0
        self.reused_at: float | None = None
        """When its id began another call after its end."""
        self.shares_sip_call: str | None = None
        """A session that has its SIP Call-ID and cannot be a leg of the same call."""


class Step(NamedTuple):
    """A clock that jumped: by how much, and where."""

    seconds: float
    file: str
    line: int


class Gap(NamedTuple):
    """A source that lost its connection."""

    at: float | None
    live: int
    reason: str | None


class Quiet:
    """A time in which a source told nothing, while calls that it reports were live."""

    def __init__(self, source: str, begin: float, end: float, sessions: Iterable[Session]) -> None:
        self.source = source
        self.begin = begin
        self.end = end
        self.sessions = set(sessions)
        self.live = len(self.sessions)
        self.lost = 0
        """How many of these calls were never heard of again, and have no end that was told."""

    def settle(self, session: Session) -> None:
        """Count a session that leaves memory."""
        if session in self.sessions:
            self.sessions.discard(session)
            self.lost += is_lost_since(session, self.begin)


class LogFacts:
    """What is counted over a whole log."""

    def __init__(self) -> None:
        self.lines = self.events = self.invalid = 0
        self.first_invalid: tuple[str, int, str] | None = None
        self.calls = self.callers = self.dialouts = self.unanswered = self.untold = 0
        self.has_media = False
        """Whether any dial-in's media was reported: then a dial-in without it had none."""
        self.errors: Counter[str] = Counter()
        self.error_texts: dict[str, str] = {}
        self.unknown: Counter[str] = Counter()
        self.unmatched: Counter[str] = Counter()
        self.repeats = self.late = 0
        self.timed = self.slow = self.early = 0
        """Events with both times; those that were received long after they happened; those before."""
        self.slowest = self.earliest = 0.0
        self.steps = 0
        self.first_step: Step | None = None
        self.fast: Step | None = None
        """From where on the clock is fast, and by how much."""
        self.gaps: list[Gap] = []
        self.quiets: list[Quiet] = []
        self.begin: float | None = None
        self.now: float | None = None
        """The log's own time."""
        self._alike = 0
        self._offset = Step(0.0, "", 0)
        self._heard: dict[str, float] = {}
        self._last: tuple[str, float] | None = None
        self._calls: dict[Session, CallFacts] = {}
        self._by_sip_call: dict[str, Session] = {}
        self._past: dict[bytes, float | None] = {}

    # --- what is seen of each line --------------------------------------------------------------------------------

    def see(
        self,
        outcome: Outcome,
        live: Callable[[], list[Session]],
        *,
        file: str,
        line: int,
        at: float | None,
        dialect: str | None,
        is_record: bool,
    ) -> None:
        """Take in one event.

        Args:
            outcome: of the event.
            live: returns the sessions that are live after it; called only if there is a gap.
            file: where it stands.
            line: its line there.
            at: when it was received, or sent.
            dialect: of its payload.
            is_record: whether `at` is the time of receipt, by the clock of whoever wrote the log.
        """
        event = outcome.event
        self.events += 1
        if at is not None:
            self._pass_time(at, file, line, is_record=is_record)
        if isinstance(event, UnknownEvent) and event.action != TRUNK_TEST:
            _tally(self.unknown, event.action)
        elif isinstance(event, SourceGap) or (isinstance(event, ConnectionChanged) and event.may_lose_events):
            self._note_gap(at, live, event.reason if isinstance(event, SourceGap) else "signalling was interrupted")
        call = self._see_call(outcome, dialect)
        if event.local:
            return
        self._note_delay(outcome, call, at, file, line)
        if at is not None and dialect is not None:
            self._note_quiet(dialect, at, live, outcome.session)

    def refuse(self, file: str, line: int, error: str) -> None:
        """Count a line that could not be read."""
        self.invalid += 1
        if self.first_invalid is None:
            self.first_invalid = (file, line, error)

    def _pass_time(self, at: float, file: str, line: int, *, is_record: bool) -> None:
        """Compare with the line before, of the same file: files may be given in any order."""
        last, self._last = self._last, (file, at)
        self.begin = at if self.begin is None else min(self.begin, at)
        self.now = at if self.now is None else max(self.now, at)
        if last is None or last[0] != file:
            return
        fall = last[1] - at
        if fall > (_STEP_OF_RECORDS if is_record else _STEP_OF_SENDERS):
            self.steps += 1
            if self.first_step is None:
                self.first_step = Step(fall, file, line)

    def _note_gap(self, at: float | None, live: Callable[[], list[Session]], reason: str | None) -> None:
        number = len(live())
        if number and len(self.gaps) < _MAX_GAPS:
            self.gaps.append(Gap(at, number, reason))

    def _note_delay(self, outcome: Outcome, call: CallFacts | None, at: float | None, file: str, line: int) -> None:
        """Compare the two times of an event. A meeting's end is known to come late, and a repeat came before."""
        event = outcome.event
        if at is None or event.occurred_at is None or isinstance(event, MeetingEnded):
            return
        if outcome.kind is OutcomeKind.DUPLICATE:
            return
        delay = at - event.occurred_at
        self.timed += 1
        self._note_offset(delay, file, line)
        if delay < -_SKEW:
            self.early += 1
            self.earliest = min(self.earliest, delay)
        elif delay > LATE_AFTER:
            self.slow += 1
            self.slowest = max(self.slowest, delay)
            if call is not None:
                call.slow += 1
                call.slowest = max(call.slowest, delay)

    def _note_offset(self, delay: float, file: str, line: int) -> None:
        """Note a clock that goes fast: several events in a row are late by the same time, which no retry is."""
        if self._alike and abs(delay - self._offset.seconds) <= _SKEW:
            self._alike += 1
        else:
            self._alike, self._offset = 1, Step(delay, file, line)
        if self._alike == _IN_A_ROW and delay > LATE_AFTER and self.fast is None:
            self.fast = self._offset

    def _note_quiet(self, dialect: str, at: float, live: Callable[[], list[Session]], own: Session | None) -> None:
        """Note that a source told nothing for long, if two calls or more were live that it reports."""
        before = self._heard.get(dialect)
        self._heard[dialect] = at if before is None else max(before, at)
        if before is None or at - before < QUIET or len(self.quiets) >= _MAX_GAPS:
            return
        silent = [one for one in live() if one is not own and _is_in_touch(one, dialect, before)]
        if len(silent) > 1:
            self.quiets.append(Quiet(dialect, before, at, silent))

    def end(self, sessions: Iterable[Session], now: float | None) -> None:
        """Note the sources that told nothing at the end of the log.

        Args:
            sessions: all that are still in memory.
            now: the log's own time.
        """
        self.now = now
        known = list(sessions)
        for dialect, last in self._heard.items():
            if now is None or now - last < QUIET:
                continue
            silent = [one for one in known if _is_in_touch(one, dialect, last) and is_lost_since(one, last)]
            if len(silent) > 1:
                self.quiets.append(Quiet(dialect, last, now, silent))

    # --- what is seen of each call --------------------------------------------------------------------------------

    def _see_call(self, outcome: Outcome, dialect: str | None) -> CallFacts | None:
        session, event = outcome.session, outcome.event
        if session is None:
            return None
        call = self._calls.get(session)
        if call is None:
            call = self._calls[session] = CallFacts()
        if session.sip_call_id is not None:
            self._compare(session, call)
        if event.local:
            return call
        observer = (dialect, event.call_client_id)
        # A participant may join twice: only the id of the webhook tells that from a redelivery.
        told = (event.action, observer, event.webhook_id if event._subject is Subject.PARTICIPANT else None)
        if outcome.kind is OutcomeKind.DUPLICATE:
            if told in call.told:
                call.repeats += 1
                self.repeats += 1
        elif (
            outcome.kind is OutcomeKind.LATE
            and not isinstance(event, _ENDS)  # a stopped may follow an error
            and any(one == observer for _, one, _ in call.told)
        ):
            call.late += 1
            self.late += 1
        if (
            session.ended
            and not outcome.ended
            and isinstance(event, _BEGINNINGS)
            and event.occurred_at is not None
            and session.ended_at is not None
            and event.occurred_at > session.ended_at + _APART
        ):
            call.reused_at = event.occurred_at
        if len(call.told) < _MAX_TOLD:
            call.told.add(told)
        return call

    def _compare(self, session: Session, call: CallFacts) -> None:
        """Compare a session with the last one that had its SIP Call-ID."""
        sip_call_id = session.sip_call_id
        assert sip_call_id is not None  # noqa: S101
        other = self._by_sip_call.get(sip_call_id)
        if other is not None and other.opened >= session.opened:
            return
        self._by_sip_call[sip_call_id] = session
        if other is not None and _are_apart(other, session):
            call.shares_sip_call = other.session_id

    def leave(self, session: Session) -> tuple[CallFacts, float | None, bool]:
        """Take a session that leaves memory; return its facts, and whether its id had a call before, which ended when."""
        for quiet in self.quiets:
            quiet.settle(session)
        call = self._calls.pop(session, None) or CallFacts()
        if session.sip_call_id is not None and self._by_sip_call.get(session.sip_call_id) is session:
            del self._by_sip_call[session.sip_call_id]
        key = blake2b(session.session_id.encode("utf-8", "replace"), digest_size=8).digest()
        was_used, before = key in self._past, self._past.pop(key, None)
        self._past[key] = session.ended_at
        if len(self._past) > _MAX_IDS:
            del self._past[next(iter(self._past))]
        return call, before, was_used

    def note_error(self, text: str) -> None:
        """Count an error by its text, without the figures in it."""
        key = text_key(text)
        if key in self.errors or len(self.errors) < _MAX_KINDS:
            self.errors[key] += 1
            self.error_texts.setdefault(key, text)

    def note_unmatched(self, action: str) -> None:
        """Count an event that no session was found for."""
        _tally(self.unmatched, action)


def is_lost_since(session: Session, at: float) -> bool:
    """Return whether nothing was heard of a session since then, and its end was not told."""
    heard, alive = session.heard_at, session.alive_at
    return (
        not session._evidence & Evidence.TOLD
        and heard is not None
        and heard <= at
        and (alive is None or alive <= at + _SKEW)
    )


_FIGURES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\+?\d+")


def text_key(text: str) -> str:
    """Return a text without the figures and ids in it: what tells one kind of error from another."""
    return _FIGURES.sub("#", text[:200]).lower()


def _is_in_touch(session: Session, dialect: str, at: float) -> bool:
    """Return whether a source reports a session, and did so lately."""
    bit = _OBSERVERS.get(Dialect(dialect), 0)
    return bool(session._evidence & bit) and session.heard_at is not None and at - _IN_TOUCH <= session.heard_at <= at


def _are_apart(first: Session, second: Session) -> bool:
    """Return whether two sessions with one SIP Call-ID cannot be legs of one call: by their times, else by their parties."""
    if first.ended_at is not None and second.started_at is not None:
        return second.started_at - first.ended_at > _APART
    if first.direction is not second.direction:
        return False
    one, other = (session.destination or session.sip_from for session in (first, second))
    return one is not None and other is not None and plain_uri(one) != plain_uri(other)


def _tally(counter: Counter[str], key: str) -> None:
    if key in counter or len(counter) < _MAX_KINDS:
        counter[key] += 1
