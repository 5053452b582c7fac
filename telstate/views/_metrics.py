"""Metrics for Prometheus, of one dispatcher, worker or publisher.

    calls = Dispatcher(router, journal=…)
    REGISTRY.register(PrometheusMetrics(calls))             # beside the metrics of your own program

No label has a session id, a number, a name of a person or a room, so there are as many series as there are event types, causes and handlers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from telstate.calls import CallerState, State
from telstate.events import Dialect, Direction, event_types
from telstate.routing._ports import Measured
from telstate.routing._vitals import Vitals
from telstate.routing._work_log import GIVEN_UP
from telstate.views._meter import Distribution, Meter

__all__ = ["PrometheusMetrics"]

T = TypeVar("T")
_Values = Mapping[Any, float]
"""By their labels, as tuples of texts."""

_OTHER = "other"
"""The label of what telstate does not know: an event type, a dialect."""
_ON_HOLD = (CallerState.WAITING, CallerState.FORWARDED)
_LIVE = (State.IDLE, State.CONNECTED, State.ANSWERED)
_TRIES = 5
"""A scrape in another thread reads again what changed meanwhile."""


@runtime_checkable
class _Shared(Protocol):
    """A worker, whose partitions can be behind."""

    def partitions(self) -> Iterable[Any]:
        """Return where each of its partitions stands."""


class PrometheusMetrics(Collector):
    """The metrics of one dispatcher, worker or publisher, as a collector for a registry of prometheus-client.

    Make it before the `async with`. A scrape may come from any thread, and takes time with the number of live sessions: about a millisecond for
    10,000 of them.

    Args:
        calls: the dispatcher, or a worker or publisher of `telstate.journals.nats`.
        webhooks: the app that `webhook_app` made, to count its answers too.

    Raises:
        DefinitionError: inside the `async with` of `calls`.
    """

    def __init__(self, calls: Measured, *, webhooks: Any = None) -> None:
        self._calls = calls
        self._meter = Meter()
        self._answers: Mapping[int, int] = {} if webhooks is None else webhooks.state.answers
        calls.instrument(self._meter)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, as of now."""
        # A worker's partitions are many: each look at one is used for everything.
        vitals = [_steadily(calls.vitals) for calls in list(self._meter.running)]
        yield _gauge(
            "telstate_ready",
            "1 if new calls may come here, 0 if not: GET /ready says why.",
            self._calls.not_ready is None,
        )
        yield from self._events()
        yield from self._sessions(vitals)
        yield from self._handlers()
        yield from self._queues(vitals)
        yield from self._journal(vitals)
        yield from self._webhooks()
        if isinstance(self._calls, _Shared):
            yield from _partitions(self._calls)

    def _events(self) -> Iterator[Metric]:
        known, dialects = event_types(), {str(dialect) for dialect in Dialect}
        counts: Counter[tuple[str, ...]] = Counter()
        for (name, outcome, dialect), count in self._meter.events.copy().items():
            counts[name if name in known else _OTHER, str(outcome), dialect if dialect in dialects else _OTHER] += count
        what = "Events that were taken in, by type, outcome and dialect; `published` by a publisher to NATS."
        yield _counter("telstate_events", what, ("event", "outcome", "dialect"), counts)
        what = "From when an event happened, as Daily says it, to its receipt. Daily's times are whole seconds."
        delays = {dialect if dialect in dialects else _OTHER: one for dialect, one in self._meter.delays.copy().items()}
        yield _histogram("telstate_event_delay_seconds", what, ("dialect",), _keyed(delays))

    def _sessions(self, all_vitals: list[Vitals]) -> Iterator[Metric]:
        meter = self._meter
        live = {
            (one, state): sum(vitals.live.get((one, state), 0) for vitals in all_vitals)
            for one in Direction
            for state in _LIVE
        }
        yield _gauges("telstate_sessions_live", "Sessions that have not ended.", ("direction", "state"), live)
        uncertain = sum(vitals.uncertain for vitals in all_vitals)
        yield _gauge(
            "telstate_sessions_uncertain",
            "Live sessions of which events may have been missed, or which show a sign of their end.",
            uncertain,
        )
        on_hold = {(state,): sum(vitals.callers.get(state, 0) for vitals in all_vitals) for state in _ON_HOLD}
        yield _gauges(
            "telstate_callers_on_hold",
            "Callers on hold or in ringback, who are in no session yet.",
            ("state",),
            on_hold,
        )
        started = {(str(one),): meter.started[one] for one in Direction}
        yield _counter(
            "telstate_sessions_started", "Sessions that were seen for the first time.", ("direction",), started
        )
        labels = ("direction", "cause", "ended_by", "end_source")
        yield _counter("telstate_sessions_ended", "Sessions that ended, as known at their end.", labels, meter.ended)
        lost = _keyed(
            {str(state): meter.lost[state] for state in CallerState if state not in (*_ON_HOLD, CallerState.CONNECTED)}
        )
        yield _counter("telstate_callers_lost", "Callers on hold who got to no session.", ("state",), lost)
        for name, what, by_direction in (
            (
                "setup",
                "How long sessions that ended were set up. Dial-out: request to connected. Dial-in: connected to media.",
                meter.setups,
            ),
            ("ring", "How long dial-outs that ended were connected until they were answered or given up.", meter.rings),
            ("talk", "How long media flowed in sessions that ended.", meter.talks),
        ):
            yield _histogram(
                f"telstate_session_{name}_seconds",
                what,
                ("direction",),
                _keyed({str(one): found for one, found in by_direction.copy().items()}),
            )
        yield _histogram(
            "telstate_caller_hold_seconds", "How long callers who connected had been on hold.", (), {(): meter.holds}
        )

    def _handlers(self) -> Iterator[Metric]:
        known, labels = event_types(), ("handler", "event")
        times = {
            (handler, event if event in known or event == "retired" else _OTHER): found
            for handler, event, found in self._meter.handler_times()
        }
        what = "How long handlers took, with their retries and pauses. `retired` stands for a session that left memory."
        yield _histogram("telstate_handler_seconds", what, labels, {key: one.seconds for key, one in times.items()})
        errors = {key: one.errors for key, one in times.items()}
        yield _counter("telstate_handler_errors", "Runs of handlers that raised, after all retries.", labels, errors)
        again = {key: one.redelivered for key, one in times.items()}
        what = (
            "Runs of handlers that may be repeated, because the process ended before they were known to have finished."
        )
        yield _counter("telstate_handler_redeliveries", what, labels, again)

    def _queues(self, all_vitals: list[Vitals]) -> Iterator[Metric]:
        meter = self._meter
        letters = meter.past_dead_letters + Counter()
        for vitals in all_vitals:
            letters.update(vitals.dead_letters)
        by_reason = _keyed({reason: letters[reason] for reason in GIVEN_UP})
        yield _counter(
            "telstate_dead_letters",
            "Dead letters: work that was given up. `telstate dead` lists them.",
            ("reason",),
            by_reason,
        )

        def total(name: str) -> float:
            return float(sum(getattr(vitals, name) for vitals in all_vitals))

        def most(name: str) -> float:
            return float(max((getattr(vitals, name) for vitals in all_vitals), default=0))

        yield _gauge("telstate_handlers_running", "Handlers that wait for something.", total("handlers_running"))
        yield _gauge(
            "telstate_handler_longest_seconds", "How long the one that began first has run.", most("longest_handler_s")
        )
        yield _gauge("telstate_lanes", "Sessions with events that wait for handlers, or run them.", total("lanes"))
        yield _gauge("telstate_lane_depth_max", "Events in the fullest lane: of one session.", most("deepest_lane"))
        yield _gauge("telstate_pending_events", "Events that wait for handlers, or run them.", total("pending"))
        yield _gauge(
            "telstate_pending_events_limit",
            "From so many waiting events on, receiving waits too.",
            total("pending_limit"),
        )
        yield _gauge(
            "telstate_receives_waiting",
            "Senders that wait, because the limit of waiting events is reached.",
            total("receiving"),
        )
        yield _count(
            "telstate_receive_waits",
            "How often a sender had to wait for that.",
            meter.past_waits + total("waits"),
        )
        waited = meter.past_waited + total("waited_s")
        yield _count("telstate_receive_wait_seconds", "How long senders waited for that, in all.", waited)
        yield _gauge("telstate_append_queue_events", "Events that wait for the journal.", total("appending"))
        notifications: Counter[tuple[str]] = Counter()
        for vitals in all_vitals:
            notifications.update({(target,): count for target, count in vitals.notifications.items()})
        yield _gauges(
            "telstate_notifications_waiting",
            "Messages that wait to be sent to a receiver of `notify=`, as of some seconds ago.",
            ("target",),
            notifications,
        )

    def _journal(self, all_vitals: list[Vitals]) -> Iterator[Metric]:
        refused = self._meter.past_refused + sum(vitals.refused for vitals in all_vitals)
        yield _count(
            "telstate_journal_refused_events",
            "Events that the journal could not keep. Their senders were asked to retry.",
            refused,
        )
        for name, what, values in (
            (
                "telstate_journal_size_bytes",
                "What the journal takes on the disk.",
                [one.usage.size_bytes for one in all_vitals],
            ),
            (
                "telstate_journal_records",
                "Events that the journal keeps, at most.",
                [one.usage.records for one in all_vitals],
            ),
            (
                "telstate_checkpoint_behind_records",
                "Events that a start would read again.",
                [one.checkpoint_behind for one in all_vitals],
            ),
        ):
            yield _unless_unknown(name, what, values, sum)
        free = [one.usage.free_bytes for one in all_vitals]
        yield _unless_unknown("telstate_journal_free_bytes", "What the journal's disk has left.", free, min)
        what = "How long ago the last checkpoint was saved; nothing before the first one of this process."
        yield _unless_unknown(
            "telstate_checkpoint_age_seconds", what, [one.checkpoint_age_s for one in all_vitals], max
        )

    def _webhooks(self) -> Iterator[Metric]:
        what = "Requests to the webhook receiver, by the status of the answer."
        answers = {(str(status),): count for status, count in dict(self._answers).items()}
        yield _counter("telstate_webhook_requests", what, ("code",), answers)


def _partitions(worker: _Shared) -> Iterator[Metric]:
    each = list(worker.partitions())
    yield _gauge("telstate_partitions_owned", "Partitions of this worker.", len(each))
    yield _gauge(
        "telstate_partitions_open", "Partitions of this worker that take events in.", sum(one.is_open for one in each)
    )
    for name, what, values in (
        (
            "telstate_partition_behind_records",
            "Events of a partition that were not read yet.",
            {one.partition: one.behind or 0 for one in each},
        ),
        (
            "telstate_partition_behind_seconds",
            "For how long it has not come to what was its last event some seconds ago.",
            {one.partition: one.seconds_behind for one in each},
        ),
    ):
        yield _gauges(name, what, ("partition",), _keyed({str(number): value for number, value in values.items()}))


def _steadily(read: Callable[[], T]) -> T:
    """Read something of a dispatcher that may run in another thread."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except RuntimeError:  # a dictionary changed its size
            continue
    return read()


def _keyed(values: Mapping[str, T]) -> dict[tuple[str, ...], T]:
    return {(name,): value for name, value in values.items()}


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value))


def _count(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=float(value))


def _unless_unknown(name: str, what: str, values: list[Any], combine: Callable[[list[Any]], float]) -> Metric:
    known = [value for value in values if value is not None]
    return GaugeMetricFamily(name, what, value=float(combine(known)) if known else None)


def _gauges(name: str, what: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, what: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for key, value in dict(values).items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, what: str, labels: tuple[str, ...], values: Mapping[Any, Distribution]) -> Metric:
    family = HistogramMetricFamily(name, what, labels=labels)
    for key, one in values.items():
        family.add_metric(key, [(_bound(bound), count) for bound, count in one.buckets()], one.total)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if bound == math.inf else str(float(bound))
