"""The meter: it counts what dispatchers do, in plain dictionaries. An event costs a few look-ups; what they mean is decided when somebody asks.

Nothing here has an id, a number, a name or a room: events are counted by their type, calls by direction, cause and the like, handlers by their name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import accumulate
from time import perf_counter
from typing import Any

import anyio

from telstate.calls._evidence import Cause, EndedBy, EndSource
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._session import Session
from telstate.events import Direction, Event
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._ports import HandlerRun

__all__ = ["Distribution", "HandlerTimes", "Meter"]

_DELAYS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
"""Seconds. Daily's times are whole seconds, so the first ones mostly tell nothing; Daily retries for hours."""
_SETUPS = (0.25, 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60)
_RINGS = (1, 2, 5, 10, 15, 20, 25, 30, 45, 60, 90, 120)
"""Networks give up after 30 to 60 seconds."""
_TALKS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_HOLDS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 600)
_HANDLERS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DUPLICATE = OutcomeKind.DUPLICATE
_RETIRED = "retired"
"""In place of an event's name: a session has left memory."""


class Distribution:
    """How often a value was how large.

    Args:
        bounds: the upper bounds of the buckets, rising. There is one more, without a bound.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total: float = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[float, int]]:
        """Return for each upper bound how many values were not above it; the last one has no bound."""
        return list(zip((*self._bounds, float("inf")), accumulate(self._counts.copy()), strict=True))


class HandlerTimes:
    """What one handler did for one type of event."""

    __slots__ = ("errors", "redelivered", "seconds")

    def __init__(self) -> None:
        self.seconds: Distribution = Distribution(_HANDLERS)
        self.errors: int = 0
        self.redelivered: int = 0
        """How many of the runs are repeated, because the process ended before they were known to have finished."""


def _distributions(bounds: tuple[float, ...]) -> Callable[[], Distribution]:
    return lambda: Distribution(bounds)


class Meter:
    """Counts. An `Instrument`, of any number of dispatchers."""

    def __init__(self) -> None:
        self.events: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """How many events there were, by type, outcome and dialect."""
        self.delays: defaultdict[str, Distribution] = defaultdict(_distributions(_DELAYS))
        """From when an event happened to its receipt, in seconds, by dialect."""
        self.started: Counter[str] = Counter()
        """How many sessions began, by direction."""
        self.ended: defaultdict[tuple[Direction, Cause | None, EndedBy | None, EndSource | None], int] = defaultdict(
            int
        )
        """How many ended, by direction, cause, side and source of the end."""
        self.setups: defaultdict[Direction, Distribution] = defaultdict(_distributions(_SETUPS))
        """Of the sessions that ended, by direction, as the following."""
        self.rings: defaultdict[Direction, Distribution] = defaultdict(_distributions(_RINGS))
        self.talks: defaultdict[Direction, Distribution] = defaultdict(_distributions(_TALKS))
        self.holds: Distribution = Distribution(_HOLDS)
        """How long the callers who connected were on hold before."""
        self.lost: Counter[str] = Counter()
        """How many callers on hold got to no session, by what became of them."""
        self.handlers: dict[str, defaultdict[str, HandlerTimes]] = {}
        """By the handler's name, then by the event's."""
        self.running: set[Dispatcher] = set()
        """The dispatchers that run now."""
        self.past_waits, self.past_waited, self.past_refused = 0, 0.0, 0
        """Of the dispatchers that were left: see `Vitals`, as the next."""
        self.past_dead_letters: Counter[str] = Counter()

    def opened(self, calls: Dispatcher) -> None:
        """A dispatcher begins."""
        self.running.add(calls)

    def closed(self, calls: Dispatcher) -> None:
        """A dispatcher was left. What it counted itself stays counted."""
        self.running.discard(calls)
        vitals = calls.vitals()
        self.past_waits += vitals.waits
        self.past_waited += vitals.waited_s
        self.past_refused += vitals.refused
        self.past_dead_letters.update(vitals.dead_letters)

    def published(self, event: Event, dialect: str) -> None:
        """A publisher has stored an event."""
        self.events[event.name, "published", dialect] += 1

    def stepped(self, calls: Dispatcher, outcome: Outcome, received_at: float | None, dialect: str) -> None:  # noqa: ARG002 - for traces
        """An event was stepped."""
        event, kind = outcome.event, outcome.kind
        self.events[event.name, kind, dialect] += 1
        occurred_at = event.occurred_at
        if occurred_at is not None and received_at is not None and kind is not _DUPLICATE and not event.local:
            self.delays[dialect].observe(max(0.0, received_at - occurred_at))
        session = outcome.session
        if session is not None:
            if outcome.opened:
                self.started[session.direction] += 1
            if outcome.ended:
                self._count_end(session)
        elif outcome.lost_caller is not None:
            self.lost[outcome.lost_caller.state] += 1

    def _count_end(self, session: Session) -> None:
        direction = session.direction
        self.ended[direction, session.cause, session.ended_by, session.end_source] += 1
        if (seconds := session.setup_s) is not None:
            self.setups[direction].observe(seconds)
        if (seconds := session.ring_s) is not None:
            self.rings[direction].observe(seconds)
        if session.answered_at is not None and (seconds := session.talk_s) is not None:
            self.talks[direction].observe(seconds)
        if session._rare is not None and (seconds := session.held_s) is not None:
            self.holds.observe(seconds)

    def around(self, handler: str, run: HandlerRun) -> HandlerRun:
        """Measure a handler, with its retries and pauses."""
        by_event = self.handlers.setdefault(handler, defaultdict(HandlerTimes))

        async def measured(job: Any) -> object:
            event, outcome = job.event, job.outcome
            times = by_event[_RETIRED if event is None else event.name]
            if outcome is not None and outcome.redelivered:
                times.redelivered += 1
            began = perf_counter()
            try:
                return await run(job)
            except BaseException as error:
                if not isinstance(error, GeneratorExit) and not isinstance(error, anyio.get_cancelled_exc_class()):
                    times.errors += 1
                raise
            finally:
                times.seconds.observe(perf_counter() - began)

        return measured

    def handler_times(self) -> Iterable[tuple[str, str, HandlerTimes]]:
        """Yield what each handler did, with its name and that of the event."""
        for handler, by_event in list(self.handlers.items()):
            for event, times in list(by_event.items()):
                yield handler, event, times
