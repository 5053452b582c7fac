"""A day of simulated calls as a backend receives it: interleaved, with the faults of a network. The same seed gives the same day.

Calls are made one by one, and only those in progress are kept, so a log of millions of events needs no memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, NamedTuple

from telstate.events import Dialect
from telstate.testing._scripts import SCRIPTS, Script, SimulatedCall
from telstate.testing._spelling import body_of, spell

__all__ = ["Noise", "Sent", "simulate"]


@dataclass(frozen=True)
class Noise:
    """What happens to events on the way; shares are between 0 and 1."""

    lost: float = 0.0
    repeated: float = 0.0
    """Sent a second time, up to a minute later."""
    swapped: float = 0.0
    """A little late, so that later events overtake it."""
    delayed: float = 0.0
    """Up to `delay` seconds late, as Daily's webhook retries are."""
    delay: float = 900.0

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ("lost", "repeated", "swapped", "delayed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)!r}")

    @classmethod
    def of_a_bad_day(cls) -> Noise:
        """One event in fifty comes twice, one in thirty out of order, one in a hundred minutes late or never."""
        return cls(lost=0.01, repeated=0.02, swapped=0.03, delayed=0.01)


class Sent(NamedTuple):
    """One event as it arrives."""

    at: float
    """Unix seconds."""
    payload: dict[str, Any]
    call: SimulatedCall
    """The call that it belongs to, which knows the true outcome."""

    def line(self) -> bytes:
        """Return it as a line of a log."""
        return body_of(self.payload) + b"\n"


def simulate(
    seed: int = 0,
    *,
    calls: int = 300,
    rooms: int = 12,
    start: float = 1_790_000_000.0,
    span: float = 8 * 3600.0,
    dialects: Sequence[Dialect | str] = (Dialect.DAILY_JS,),
    twice: float = 0.0,
    noise: Noise | None = None,
    scripts: Mapping[Script, float] = SCRIPTS,
) -> Iterator[Sent]:
    """Simulate calls, and yield their events in the order of arrival.

    Args:
        seed: the same seed gives the same day.
        calls: how many sessions.
        rooms: how many rooms they are spread over.
        start: when the day begins, in Unix seconds.
        span: seconds over which the calls begin.
        dialects: each call is reported in one of these (a list of Dialect, or of their names).
        twice: the share of calls reported by two observers, each in a dialect of its own.
        noise: what happens to events on the way; None for nothing.
        scripts: the kinds of calls, with their weights.

    Raises:
        ValueError: if a dialect is unknown.
    """
    spellings = [Dialect(dialect) for dialect in dialects]
    rng = Random(seed)  # noqa: S311 - a simulation must be repeatable
    tiebreak = count()
    in_progress: list[tuple[float, int, Sent]] = []
    choices, weights = list(scripts), list(scripts.values())
    begin = start
    for _ in range(calls):
        begin += rng.expovariate(calls / span)
        while in_progress and in_progress[0][0] <= begin:
            yield heapq.heappop(in_progress)[2]
        call = rng.choices(choices, weights)[0](rng, begin, f"room-{rng.randrange(rooms)}")
        observers = rng.sample(spellings, 2) if rng.random() < twice else [rng.choice(spellings)]
        for dialect in observers:
            for sent in _observe(rng, call, dialect, noise or Noise()):
                heapq.heappush(in_progress, (sent.at, next(tiebreak), sent))
    while in_progress:
        yield heapq.heappop(in_progress)[2]


def _observe(rng: Random, call: SimulatedCall, dialect: Dialect, noise: Noise) -> Iterator[Sent]:
    """Report a call in one dialect, over a network."""
    for event in call.events:
        if rng.random() < noise.lost:
            continue
        at = event.at
        if rng.random() < noise.swapped:
            at += rng.uniform(0.5, 10)
        if rng.random() < noise.delayed:
            at += rng.uniform(10, noise.delay)
        times = [at, at + rng.uniform(0.1, 60)] if rng.random() < noise.repeated else [at]
        for sent_at in times:
            payload = spell(event, call.room, dialect, sent_at)
            if payload is not None:
                yield Sent(sent_at, payload, call)
