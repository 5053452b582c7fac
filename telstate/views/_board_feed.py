"""What the live board is sent besides the live stream: the clock, the last hour, what is wrong with calls, and the calls that ended lately.

`BoardFacts` follows a dispatcher while somebody looks at the board, for all of them; `BoardFeed` is what one reader was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import anyio

from telstate.calls._caller import LOST, Caller
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.routing._dispatcher import Dispatcher
from telstate.views._call_events import CallTape
from telstate.views._last_hour import LastHour
from telstate.views._live_findings import LiveFindings
from telstate.views._live_messages import HEARTBEAT, LiveEvent, message, record_message
from telstate.views._playback import Playback

__all__ = ["BoardFacts", "BoardFeed"]

_KEPT = 300.0
"""Seconds after the last reader left."""
_AT_ONCE = 500
"""Sessions that are counted before others get a turn."""
_LATELY = 900.0
"""Seconds for which the board shows a call that ended."""
_MOST_LATELY = 200
_MOST_FINDINGS = 10_000
"""Calls of which it is remembered what a reader was told."""
_HEARTBEAT_AFTER = 15.0
_HOUR_EVERY = 1.0
"""Seconds between two messages with the last hour, at least."""
_SERVICE_EVERY = 20.0
"""Seconds between two messages with the clock, at most: clocks of two machines drift, and one may sleep."""

HOLD_LONG, RING_LONG, MEDIA_LONG, SETUP_LONG = 30.0, 45.0, 15.0, 30.0
"""Seconds after which it is odd that somebody is on hold, a call rings, has no media, or is not connected; where no deadline is set."""


class BoardFacts:
    """Follows a dispatcher. An `Observer`, from the first reader until some minutes after the last one left.

    Args:
        calls: the dispatcher.
        playback: of the log that is played; None if calls are live.
        clock: returns seconds that never fall.
    """

    def __init__(
        self, calls: Dispatcher, playback: Playback | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.calls = calls
        self.playback = playback
        self.findings = LiveFindings()
        self.hour = LastHour()
        self.tape: CallTape | None = None
        self._lately: dict[str, Session | Caller] = {}
        self._clock = clock
        self._readers = 0
        self._left_at = clock()
        self._stop: Callable[[], None] | None = None

    @property
    def now(self) -> float | None:
        """The time, in Unix seconds: of a log that is played, the log's."""
        return self.calls.clock.now() if self.playback is None else self.playback.now

    async def begin(self) -> None:
        """Follow the dispatcher from now on, if it does not yet.

        Raises:
            NotRunning: outside the dispatcher's block.
        """
        if self._stop is not None:
            return
        self._stop = self.calls.observe(self)
        self.hour, self.findings, self._lately = LastHour(), LiveFindings(), {}
        self.tape = CallTape() if self.calls.journal is None else None
        hour, now = self.hour, self.now
        over = list[Session | Caller]()
        for caller in self.calls.unconnected():
            if caller.state in LOST:
                hour.add_lost(caller, now)
                over.append(caller)
        for place, session in enumerate(self.calls.sessions()):
            if session.ended:
                hour.add(session, now)
                over.append(session)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await anyio.lowlevel.checkpoint()
        meanwhile, self._lately = self._lately, {}
        for one in [*sorted(over, key=_end_of)[-_MOST_LATELY:], *meanwhile.values()]:
            self._note_end(one)

    def stepped(self, outcome: Outcome) -> None:
        """Count what ended, and keep the event where no journal does."""
        if not self._readers and self.playback is None and self._clock() - self._left_at > _KEPT:
            self._end()
            return
        now = self.calls.clock.now()
        if outcome.session is not None:
            self.hour.add(outcome.session, now)
            if outcome.ended:
                self._note_end(outcome.session)
        for session in outcome.changed:
            self.hour.add(session, now)
        if outcome.lost_caller is not None and outcome.lost_caller.state in LOST:
            self.hour.add_lost(outcome.lost_caller, now)
            self._note_end(outcome.lost_caller)
        if self.tape is not None:
            self.tape.add(outcome, now)

    def closed(self) -> None:
        """The dispatcher was left."""
        self._stop = None

    def enter(self) -> None:
        """A reader came."""
        self._readers += 1

    def leave(self) -> None:
        """A reader left."""
        self._readers -= 1
        self._left_at = self._clock()

    def service(self) -> dict[str, Any]:
        """Return the clock, what takes too long, and how the service is, as JSON values."""
        settings = self.calls.settings
        return {
            "now": self.now,
            "pace": 1.0 if self.playback is None else self.playback.pace,
            "replay": None if self.playback is None else self.playback.to_dict(),
            "not_ready": None if self.playback is not None else self.calls.not_ready,
            "long": {
                "hold": settings.hold_deadline or HOLD_LONG,
                "ring": settings.ring_deadline or RING_LONG,
                "media": settings.media_deadline or MEDIA_LONG,
                "setup": settings.setup_deadline or SETUP_LONG,
                "give_up": settings.hold_limit,
            },
        }

    def ended_lately(self) -> list[Session | Caller]:
        """Return the sessions that ended, and the callers who were lost, in the last minutes: the latest ones."""
        now = self.now
        since = None if now is None else now - _LATELY
        return [one for one in self._lately.values() if since is None or _end_of(one) >= since]

    def _note_end(self, one: Session | Caller) -> None:
        """Keep the latest ends, in their order."""
        key = one.session_id if isinstance(one, Session) else f"caller {one.call_id}"
        self._lately.pop(key, None)
        self._lately[key] = one
        if len(self._lately) > _MOST_LATELY:
            del self._lately[next(iter(self._lately))]

    def _end(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None


class BoardFeed:
    """Adds to the stream of one reader. A `Companion`.

    Args:
        facts: of the dispatcher.
        numbers: show phone numbers, SIP users and names in full.
        signed_in: whether readers have signed in, and so can sign out.
    """

    every: float = 0.5

    def __init__(self, facts: BoardFacts, *, numbers: bool, signed_in: bool) -> None:
        self._facts = facts
        self._signed_in = signed_in
        self._numbers = numbers
        self._findings_sent: dict[str, list[dict[str, Any]]] = {}
        self._known: list[dict[str, Any]] | None = None
        """What the reader knows of a call that it was told nothing about: nothing is wrong with it. After an interruption, nobody can say."""
        self._hour: tuple[LastHour, int] | None = None
        self._hour_at = self._service_at = self._sent_at = 0.0
        self._shown: tuple[Any, ...] = ()

    async def begin(self) -> None:
        """Count from now on."""
        await self._facts.begin()
        self._facts.enter()

    def end(self) -> None:
        """The reader left."""
        self._facts.leave()

    def greeting(self) -> Iterator[bytes]:
        """Yield the clock."""
        yield self._service()
        yield from self._last_hour()

    def snapshot(self) -> Iterator[bytes]:
        """Yield what ended lately, and what is wrong with that and with what goes on."""
        self._known = []
        lately = self._facts.ended_lately()
        for one in lately:
            yield record_message(self._facts.calls, one, numbers=self._numbers)
        for one in [*self._facts.calls.live(), *lately]:
            yield from self._findings(one)

    def before(self, event: LiveEvent) -> Iterator[bytes]:
        """Yield what is wrong with the calls that an event is about."""
        for one in (event.session, event.caller, *event.changed):
            if one is not None:
                yield from self._findings(one)

    def due(self) -> Iterator[bytes]:
        """Yield what changed since it was sent; a sign of life if that was long ago."""
        facts, now = self._facts, monotonic()
        if now - self._hour_at >= _HOUR_EVERY and self._hour != (facts.hour, facts.hour.version):
            yield from self._last_hour()
        shown = self._what_is_shown()
        if shown != self._shown or now - self._service_at >= _SERVICE_EVERY:
            yield self._service()
        if now - self._sent_at >= _HEARTBEAT_AFTER:
            self._sent_at = now
            yield HEARTBEAT

    def _what_is_shown(self) -> tuple[Any, ...]:
        playback = self._facts.playback
        return (None if playback is None else playback.version, self._facts.calls.not_ready)

    def _service(self) -> bytes:
        self._service_at = self._sent_at = monotonic()
        self._shown = self._what_is_shown()
        return message("service", {**self._facts.service(), "signed_in": self._signed_in})

    def _last_hour(self) -> Iterator[bytes]:
        hour = self._facts.hour
        data = hour.to_dict(self._facts.now)
        self._hour, self._hour_at = (hour, hour.version), monotonic()
        yield message("hour", data)

    def _findings(self, one: Session | Caller) -> Iterator[bytes]:
        """Yield what is wrong with a session or caller, if that is not what the reader was told last."""
        findings = self._facts.findings
        if isinstance(one, Session):
            key, found = one.session_id, findings.of(one, numbers=self._numbers)
        else:
            key, found = one.call_id, findings.of_caller(one, self._facts.now, numbers=self._numbers)
        if found != self._findings_sent.get(key, self._known):
            self._findings_sent[key] = found
            if len(self._findings_sent) > _MOST_FINDINGS:
                del self._findings_sent[next(iter(self._findings_sent))]
            yield message("findings", {"of": key, "findings": found})


def _end_of(one: Session | Caller) -> float:
    return one.ended_at or one.started_at or 0.0
