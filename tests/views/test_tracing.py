"""Traces, as a collector receives them: sessions, their handlers, what handlers trace, errors, legs, restarts; and nobody's number."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from telstate import DefinitionError, Dispatcher, Router, Session
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from telstate.views import _tracing, trace_calls
from tests.calls import js, webhook
from tests.sources.live import installed
from tests.views.otlp_collector import TraceCollector, collecting

pytestmark = pytest.mark.anyio

NUMBER = "+12025550142"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Spans are found by context variables, which both event loops have."""
    name: str = request.param
    return name


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    """A collector that a tracer provider exports to."""
    with collecting() as found:
        yield found


async def test_a_session_is_a_span_with_its_own_times_and_its_handlers_below(collector: TraceCollector) -> None:
    """What the handler traces itself is below that, also after it has waited, while other handlers run."""
    router, tracer = Router(), collector.provider.get_tracer("bot")

    @router.on("dialout-answered")
    async def greet(session: Session) -> None:
        await anyio.sleep(0.01)
        with tracer.start_as_current_span(f"speak to {session.session_id}"):
            await anyio.sleep(0.01)

    @router.on_end()
    async def write_down() -> None:
        pass

    calls = Dispatcher(router, clock=FakeClock(start=1030.5))
    trace_calls(calls, collector.provider)
    async with calls:
        for session in ("a", "b"):
            await calls.receive(webhook("dialout.connected", session, timestamp=1000, room="lobby"))
            await calls.receive(webhook("dialout.answered", session, timestamp=1008))
        await calls.receive(webhook("dialout.stopped", "a", timestamp=1028))
        await calls.idle()
        spans = collector.spans()
        (call,) = [span for span in spans if span.name == "session dialout"]
        assert (call.begin, call.end, call.parent_id) == (1000, 1028, b"")
        assert call.events == [
            ("connected", {"telstate.from": "idle", "telstate.event": "dialout-connected"}),
            ("answered", {"telstate.from": "connected", "telstate.event": "dialout-answered"}),
            ("stopped", {"telstate.from": "answered", "telstate.event": "dialout-stopped"}),
        ]
        assert call.attributes == {
            "telstate.session_id": "a",
            "telstate.direction": "dialout",
            "telstate.room": "lobby",
            "telstate.state": "stopped",
            "telstate.cause": "completed",
            "telstate.ended_by": "unknown",
            "telstate.end_source": "told",
            "telstate.started_at": 1000,
            "telstate.ended_at": 1028,
            "telstate.ring_s": 8,
            "telstate.talk_s": 20,
        }
        below = {span.name: span for span in spans if span.trace_id == call.trace_id and span is not call}
        assert set(below) == {"handler greet", "speak to a", "handler write_down"}
        assert below["handler greet"].parent_id == below["handler write_down"].parent_id == call.span_id
        assert below["speak to a"].parent_id == below["handler greet"].span_id
        attributes = below["handler greet"].attributes
        assert attributes.pop("telstate.event_id").endswith(":2")
        assert attributes.pop("telstate.handler").endswith("greet")
        assert attributes == {"telstate.session_id": "a", "telstate.event": "dialout-answered"}
        (other,) = [span for span in spans if span.name == "speak to b"]
        assert other.trace_id != call.trace_id


async def test_errors_are_recorded_without_anybodys_number(collector: TraceCollector) -> None:
    """Of handlers, with the traceback; of calls that failed. A handler that is cut off is no error."""
    router = Router()

    @router.on("dialout-answered")
    async def fail() -> None:
        raise ValueError(f"cannot reach {NUMBER} at sip:anna@example.com")

    @router.on("dialout-answered", live_only=True)
    async def wait() -> None:
        await anyio.sleep_forever()

    calls = Dispatcher(router)
    trace_calls(calls, collector.provider)
    async with calls:
        await calls.receive(js("dialout-answered", "a", destination=NUMBER, displayName="Anna Andersson"))
        await anyio.wait_all_tasks_blocked()
        await calls.receive(js("dialout-error", "a", errorMsg=f"{NUMBER} is out of order"))
        await calls.idle()
    failed = collector.one("handler fail")
    assert failed.is_error
    (event, facts), *_ = failed.events
    assert (event, facts["exception.type"]) == ("exception", "ValueError")
    assert "cannot reach" in facts["exception.message"]
    assert "in fail" in facts["exception.stacktrace"]
    assert not collector.one("handler wait").is_error
    call = collector.one("session dialout")
    assert call.is_error
    assert "is out of order" in call.message
    assert call.attributes["telstate.cause"] == "failed"
    for private in (NUMBER, NUMBER[2:], "anna@example", "Andersson"):
        assert not any(private.encode() in body for body in collector.bodies)


async def test_numbers_are_marked_attributes_if_asked_for(collector: TraceCollector) -> None:
    """By one prefix, so that a collector can remove them."""
    calls = Dispatcher(Router())
    trace_calls(calls, collector.provider, numbers=True)
    async with calls:
        await calls.receive(js("dialout-answered", "a", destination=NUMBER, userId="u"))
        await calls.receive(js("dialout-stopped", "a"))
    attributes = collector.one("session dialout").attributes
    personal = {name: value for name, value in attributes.items() if name.startswith("telstate.personal.")}
    assert personal == {"telstate.personal.destination": NUMBER, "telstate.personal.user_id": "u"}
    assert [name for name, value in attributes.items() if NUMBER in str(value)] == ["telstate.personal.destination"]


async def test_legs_link_to_each_other(collector: TraceCollector) -> None:
    """By a SIP Call-ID, or because the program says so; also to a leg that has ended, as far as is known at the own end."""
    calls = Dispatcher(Router())
    trace_calls(calls, collector.provider)
    async with calls:
        await calls.receive(js("dialin-connected", "in", sipCallId="x"))
        await calls.receive(js("dialout-connected", "out", sipCallId="x"))
        await calls.receive(js("dialout-connected", "third"))
        await calls.receive(js("dialin-stopped", "in"))
        await calls.link("third", "out")
        for session in ("out", "third"):
            await calls.receive(js("dialout-stopped", session))
    spans = {span.attributes["telstate.session_id"]: span for span in collector.spans()}
    ids = {name: span.span_id for name, span in spans.items()}
    assert spans["in"].links == [ids["out"]]
    assert sorted(spans["out"].links) == sorted([ids["in"], ids["third"]])
    assert sorted(spans["third"].links) == sorted([ids["in"], ids["out"]])


async def test_no_span_ends_before_it_begins(collector: TraceCollector) -> None:
    """A webhook has whole seconds, which may lie before the receipt of an event without a time."""
    calls = Dispatcher(Router(), clock=FakeClock(start=1030.5))
    trace_calls(calls, collector.provider)
    async with calls:
        await calls.receive(js("dialout-answered", "a"))
        await calls.receive(webhook("dialout.stopped", "a", timestamp=1030))
    call = collector.one("session dialout")
    assert (call.begin, call.end, call.attributes["telstate.ended_at"]) == (1030.5, 1030.5, 1030)


async def test_a_restart_is_said(collector: TraceCollector, tmp_path: Path) -> None:
    """The session goes on in a span of the next process, from its own start; a handler that runs again says so."""
    router, cut_off = Router(), True

    @router.on("dialout-answered")
    async def slow() -> None:
        if cut_off:
            await anyio.sleep_forever()

    calls = Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db"), drain=0, clock=FakeClock(start=1010))
    trace_calls(calls, collector.provider)
    async with calls:
        await calls.receive(webhook("dialout.answered", "a", timestamp=1000))
        await anyio.wait_all_tasks_blocked()
    cut_off = False
    async with calls:
        await calls.idle()
        await calls.receive(webhook("dialout.stopped", "a", timestamp=1020))
    first, second = sorted(
        (span for span in collector.spans() if span.name == "session dialout"),
        key=lambda span: "telstate.recovered" in span.attributes,
    )
    assert first.attributes["telstate.incomplete"] is True
    assert "telstate.cause" not in first.attributes
    assert first.begin == second.begin == 1000
    assert (second.end, second.attributes["telstate.recovered"]) == (1020, True)
    assert second.attributes["telstate.cause"] == "completed"
    handlers = [span for span in collector.spans() if span.name == "handler slow"]
    assert [span.attributes.get("telstate.redelivered") for span in handlers] == [None, True]
    assert [span.parent_id for span in handlers] == [first.span_id, second.span_id]


async def test_what_the_sampler_does_not_take_leaves_nothing(collector: TraceCollector) -> None:
    """Neither sessions nor handlers, nor what handlers trace themselves."""
    provider = TracerProvider(ParentBased(ALWAYS_OFF))
    tracer, router = collector.provider.get_tracer("bot"), Router()

    @router.on("dialout-answered")
    async def greet() -> None:
        with tracer.start_as_current_span("speak"):
            pass

    calls = Dispatcher(router)
    trace_calls(calls, provider)
    async with calls:
        await calls.receive(js("dialout-answered", "a"))
        await calls.receive(js("dialout-stopped", "a"))
        await calls.idle()
    assert collector.spans() == []


async def test_memory_is_bounded(collector: TraceCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions beyond the limit are not traced; ended ones are forgotten."""
    monkeypatch.setattr(_tracing, "_MAX_SPANS", 10)
    monkeypatch.setattr(_tracing, "_MAX_ENDED", 5)
    calls = Dispatcher(Router())
    tracing = _tracing._Tracing(collector.provider, numbers=False)
    calls.instrument(tracing)
    async with calls:
        for number in range(20):
            await calls.receive(js("dialout-answered", f"s{number}"))
        assert len(tracing._live) == 10
        for number in range(20):
            await calls.receive(js("dialout-stopped", f"s{number}"))
        assert (len(tracing._live), len(tracing._ended)) == (0, 5)
    gc.collect()
    assert len(collector.spans()) == 10


async def test_traces_are_switched_on_before_the_start() -> None:
    """A session that is known already would have half a span."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(DefinitionError, match="before"):
            trace_calls(calls)


@pytest.mark.long  # the imports of pipecat take five seconds
async def test_a_session_and_pipecats_conversation_have_one_id(collector: TraceCollector) -> None:
    """Pipecat's own observer makes its span; a note gives the session the same attribute. In a handler its span is below ours."""
    observer = installed("pipecat.utils.tracing.turn_trace_observer")
    turns = installed("pipecat.observers.turn_tracking_observer").TurnTrackingObserver()
    latency = installed("pipecat.observers.user_bot_latency_observer").UserBotLatencyObserver()
    context = installed("pipecat.utils.tracing.tracing_context").TracingContext()
    router = Router()

    @router.on("dialin-connected")
    async def bot(session: Session, calls: Dispatcher) -> None:
        tracing: Any = observer.TurnTraceObserver(turns, latency, conversation_id="c-1", tracing_context=context)
        tracing._tracer = collector.provider.get_tracer("pipecat")  # by default that of the global provider
        tracing.start_conversation_tracing("c-1")
        await calls.annotate(session, conversation_id="c-1")
        tracing.end_conversation_tracing()

    calls = Dispatcher(router)
    trace_calls(calls, collector.provider)
    async with calls:
        await calls.receive(js("dialin-connected", "a"))
        await calls.idle()
        await calls.receive(js("dialin-stopped", "a"))
    conversation, call = collector.one("conversation"), collector.one("session dialin")
    assert conversation.attributes["conversation.id"] == call.attributes["conversation.id"] == "c-1"
    assert call.attributes["gen_ai.conversation.id"] == "c-1"
    assert (conversation.trace_id, conversation.parent_id) == (call.trace_id, collector.one("handler bot").span_id)
    assert trace.get_current_span() is trace.INVALID_SPAN
