"""Traces: a span for each session, with its moves as events, and a child span for each run of a handler. OpenTelemetry, by its API alone.

    calls = Dispatcher(router, journal=…)
    trace_calls(calls)

A span cannot be changed once it has ended, and what it holds is lost with the process until then. So the span of a session shows what was known at
its end; a session that a restart finds alive gets another span, which says so.
"""

from __future__ import annotations

from collections import OrderedDict
from time import time_ns
from typing import Any

import anyio
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, Status, StatusCode, Tracer, TracerProvider

from telstate.calls import Cause, Outcome, Session
from telstate.events import Direction, Event
from telstate.events._masking import mask
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import display_names, text_of, traceback_of
from telstate.routing._ports import HandlerRun, Measured

__all__ = ["trace_calls"]

_NAME = "telstate"
_MAX_SPANS = 100_000
"""Of sessions that live. Further ones are not traced."""
_MAX_ENDED = 20_000
"""So many sessions that ended are remembered, because handlers may still run for them. Those of older ones are traces of their own."""
_CONVERSATION = ("conversation_id", "conversation.id")
"""The notes that name the conversation that a session belongs to."""
_PERSONAL = (
    "destination",
    "origin",
    "caller_id",
    "sip_from",
    "sip_endpoint",
    "caller",
    "called",
    "display_name",
    "user_id",
)
_FAILED = frozenset({Cause.FAILED, Cause.REFUSED})
_FACTS = ("session_id", "sip_call_id", "room", "domain_id", "provider")
_END = ("cause", "ended_by", "end_source", "end_sign")
_TIMES = ("started_at", "ended_at", "setup_s", "ring_s", "talk_s", "held_s")
_Attributes = dict[str, str | bool | float | list[str]]
_SPANS: dict[Direction, tuple[str, _Attributes]] = {
    one: (f"session {one}", {"telstate.direction": str(one)}) for one in Direction
}
"""The name of a session's span, and what a sampler may know."""
_ROOT = Context()
"""A span that starts here has no parent: who delivers an event is not who called."""


def trace_calls(calls: Measured, tracer_provider: TracerProvider | None = None, *, numbers: bool = False) -> None:
    """Trace every session and every handler of a dispatcher, or of a worker of `telstate.journals.nats`, from its next start on.

    The span of a session begins at its `started_at` and ends at its `ended_at`. It is the root of a trace, whose other spans are the runs of its
    handlers: what they trace themselves is below those. Legs of one call link to each other. A session with the note `conversation_id` has the
    attributes `conversation.id` (pipecat's name) and `gen_ai.conversation.id`.

    Args:
        calls: before its `async with`, or its `run()`.
        tracer_provider: whose exporters get the spans; by default the global one at that time.
        numbers: add phone numbers, SIP users and names, as attributes `telstate.personal.…`.

    Raises:
        DefinitionError: if `calls` runs already.
    """
    calls.instrument(_Tracing(tracer_provider, numbers=numbers))


class _SessionSpan:
    """The span of a session; of one that ended only what is below it needs it."""

    __slots__ = ("began", "context", "is_recorded", "span")

    def __init__(self, span: Span, began: int) -> None:
        self.span = span
        self.began = began
        """When it begins, in nanoseconds."""
        self.context: Context = trace.set_span_in_context(span, _ROOT)
        """Where what belongs to it is below it."""
        self.is_recorded: bool = span.get_span_context().trace_flags.sampled
        """False if the sampler did not take it. Then its handlers get no spans, and what they trace themselves is below a span that nobody sees."""


class _Tracing:
    """Makes the spans. An `Instrument`."""

    def __init__(self, provider: TracerProvider | None, *, numbers: bool) -> None:
        self._tracer: Tracer = trace.get_tracer(_NAME, tracer_provider=provider)
        self._numbers = numbers
        self._live: dict[str, _SessionSpan] = {}
        self._ended: OrderedDict[str, _SessionSpan] = OrderedDict()
        """Of sessions that ended: their last handlers run after that."""

    # --- what a dispatcher shows --------------------------------------------------------------------------------------

    def opened(self, calls: Dispatcher) -> None:
        """A dispatcher begins. The sessions that its journal has were traced by another process, whose spans of them are lost."""
        for session in calls.live():
            self._begin(session, None, recovered=True)

    def closed(self, calls: Dispatcher) -> None:
        """A dispatcher was left. Its live sessions go on, here after the next start or in another process."""
        for session in calls.live():
            found = self._live.pop(session.session_id, None)
            if found is not None:
                found.span.set_attributes({**self._facts_of(session), "telstate.incomplete": True})
                self._link_legs(calls, session, found)
                found.span.end()

    def published(self, event: Event, dialect: str) -> None:
        """Another process steps it, and traces its session."""

    def stepped(self, calls: Dispatcher, outcome: Outcome, received_at: float | None, dialect: str) -> None:  # noqa: ARG002 - for metrics
        """An event was stepped."""
        session = outcome.session
        if session is None:
            return
        if outcome.opened:
            self._begin(session, received_at, recovered=False)
        if outcome.moves:
            self._add_moves(session, outcome, received_at)
            if outcome.ended:
                self._end(calls, session, received_at)

    # --- the span of a session ----------------------------------------------------------------------------------------

    def _begin(self, session: Session, received_at: float | None, *, recovered: bool) -> None:
        if len(self._live) >= _MAX_SPANS:
            return
        began = _nanoseconds(session.started_at, received_at)
        name, attributes = _SPANS[session.direction]
        span = self._tracer.start_span(name, context=_ROOT, attributes=attributes, start_time=began)
        # What else is known of it is set at its end: nobody sees a span before, and more is known then.
        self._live[session.session_id] = _SessionSpan(span, began)
        if recovered:
            span.set_attribute("telstate.recovered", True)

    def _end(self, calls: Dispatcher, session: Session, received_at: float | None) -> None:
        found = self._live.pop(session.session_id, None)
        if found is None:
            return
        if found.is_recorded:
            found.span.set_attributes({**self._facts_of(session), **_end_of(session)})
            self._link_legs(calls, session, found)
            if session.cause in _FAILED:
                text = session.error_msg
                described = None if text is None else mask(text, display_names(session))
                found.span.set_status(Status(StatusCode.ERROR, described))
            # Whole seconds of a webhook may lie before the receipt of what came earlier.
            found.span.end(max(found.began, _nanoseconds(session.ended_at, received_at)))
            found = _SessionSpan(NonRecordingSpan(found.span.get_span_context()), found.began)
        self._ended[session.session_id] = found
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)

    def _facts_of(self, session: Session) -> _Attributes:
        """Return what is known of a session."""
        facts: _Attributes = {
            f"telstate.{name}": value for name in _FACTS if (value := getattr(session, name)) is not None
        }
        facts["telstate.direction"], facts["telstate.state"] = str(session.direction), str(session.state)
        if self._numbers:
            facts |= {
                f"telstate.personal.{name}": value
                for name in _PERSONAL
                if (value := getattr(session, name)) is not None
            }
        return facts | _conversation_of(session)

    def _recorded(self, session: Session) -> _SessionSpan | None:
        """Return the span of a session that lives, if somebody will see it."""
        found = self._live.get(session.session_id)
        return found if found is not None and found.is_recorded else None

    def _add_moves(self, session: Session, outcome: Outcome, received_at: float | None) -> None:
        found = self._recorded(session)
        if found is None:
            return
        for move in outcome.moves:
            facts = {"telstate.from": str(move.source), "telstate.event": move.event}
            found.span.add_event(str(move.target), facts, _nanoseconds(outcome.event.occurred_at, received_at))

    def _link_legs(self, calls: Dispatcher, session: Session, found: _SessionSpan) -> None:
        """Link to the other legs of its call, as far as they are known at its end."""
        for leg in calls.legs(session.session_id):
            other = None if leg.session_id == session.session_id else self._find(leg)
            if other is not None:
                found.span.add_link(other.span.get_span_context(), {"telstate.link": "leg"})

    def _find(self, session: Session) -> _SessionSpan | None:
        """Return the span of a session that lives, or that ended not too long ago."""
        return self._live.get(session.session_id) or self._ended.get(session.session_id)

    # --- the span of a handler ----------------------------------------------------------------------------------------

    def around(self, handler: str, run: HandlerRun) -> HandlerRun:
        """Trace a handler. What it traces itself is below its span."""
        name = f"handler {handler.rpartition('.')[2]}"

        async def traced(job: Any) -> object:
            of = None if job.session is None else self._find(job.session)
            if of is not None and not of.is_recorded:
                contexts.attach(of.context)  # the handler has a context of its own, so nothing needs to be undone
                return await run(job)
            parent = _ROOT if of is None else of.context
            span = self._tracer.start_span(name, parent, attributes=_attributes_of(handler, job))
            contexts.attach(trace.set_span_in_context(span))
            try:
                return await run(job)
            except BaseException as error:
                if not isinstance(error, GeneratorExit) and not isinstance(error, anyio.get_cancelled_exc_class()):
                    _record_error(span, error, job)
                raise
            finally:
                span.end()

        return traced


def _attributes_of(handler: str, job: Any) -> _Attributes:
    session, outcome, event = job.session, job.outcome, job.event
    attributes: _Attributes = {"telstate.handler": handler}
    if session is not None:
        attributes["telstate.session_id"] = session.session_id
    if event is not None:
        attributes["telstate.event"] = event.name or "other"
    if outcome is not None:
        if outcome.event_id is not None:
            attributes["telstate.event_id"] = outcome.event_id
        if outcome.redelivered:
            attributes["telstate.redelivered"] = True
    return attributes


def _end_of(session: Session) -> _Attributes:
    """Return what is known of a session's end."""
    facts: _Attributes = {f"telstate.{name}": value for name in _TIMES if (value := getattr(session, name)) is not None}
    facts |= {f"telstate.{name}": str(value) for name in _END if (value := getattr(session, name)) is not None}
    if transfers := session.transfers:
        facts["telstate.transfers"] = [str(record.outcome) for record in transfers]
    return facts


def _conversation_of(session: Session) -> _Attributes:
    notes = session.notes
    found = next((str(notes[name]) for name in _CONVERSATION if name in notes), None)
    return {} if found is None else {"conversation.id": found, "gen_ai.conversation.id": found}


def _record_error(span: Span, error: BaseException, job: Any) -> None:
    """Record what a handler raised, with everything private masked: `record_exception` would not."""
    names = display_names(job.session, job.event)
    text = mask(text_of(error), names)
    facts = {
        "exception.type": type(error).__name__,
        "exception.message": text,
        "exception.stacktrace": traceback_of(error, names),
    }
    span.add_event("exception", facts)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {text}"))


def _nanoseconds(*times: float | None) -> int:
    """Return the first known time, or now."""
    for at in times:
        if at is not None:
            return round(at * 1_000_000_000)
    return time_ns()
