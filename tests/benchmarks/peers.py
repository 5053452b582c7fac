"""The peers: each reads the same lines, finds the session, keeps its state, and awaits the same handler for each event.

None of the others does everything that telstate does; each docstring says what it leaves out. Each is written as an
experienced user of that library would write it for speed, and each must call the handler for every event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel
from statemachine import State as Configuration
from statemachine import StateMachine
from statemachine.exceptions import TransitionNotAllowed
from transitions.extensions.asyncio import AsyncMachine

from telstate import Dispatcher, Event, OutcomeKind, Replay, Router, parse
from telstate.calls._session import Session
from telstate.calls._table import ROWS, State
from telstate.journals import SqliteJournal
from telstate.routing._ports import Journal
from telstate.views import JsonReport, PrometheusMetrics, trace_calls

__all__ = ["PEERS"]

Lines = list[bytes]
Handler = Callable[[], Awaitable[None]]


class Counter:
    """The handler: it only counts."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        """One event was handled."""
        self.calls += 1


# --- telstate -----------------------------------------------------------------------------------------------------


def _counting() -> tuple[Router, Counter]:
    router, handler = Router(), Counter()

    @router.on(Event, outcomes=OutcomeKind)  # late events, too: the peers cannot tell them apart
    async def handle() -> None:
        await handler()

    return router, handler


async def telstate_live(lines: Lines, *switch_on: Callable[[Dispatcher], object]) -> int:
    """Everything on: types, correlation, duplicates, anomalies, causes, limits, lanes. Nothing on the disk."""
    router, handler = _counting()
    calls = Dispatcher(router)
    for switch in switch_on:
        switch(calls)
    async with calls:
        for line in lines:
            await calls.receive(line)
        await calls.idle()
    return handler.calls


async def telstate_metrics(lines: Lines) -> int:
    """The same with metrics."""
    return await telstate_live(lines, PrometheusMetrics)


async def telstate_traces(lines: Lines) -> int:
    """With traces, every span of which is recorded by OpenTelemetry's SDK, and exported nowhere."""
    return await telstate_live(lines, lambda calls: trace_calls(calls, TracerProvider()))


async def telstate_both(lines: Lines) -> int:
    """With metrics, and with traces of which the sampler takes one in a hundred."""
    provider = TracerProvider(ParentBased(TraceIdRatioBased(0.01)))
    return await telstate_live(lines, PrometheusMetrics, lambda calls: trace_calls(calls, provider))


BATCH = 500


async def _in_batches(journal: Journal | None, lines: Lines) -> int:
    router, handler = _counting()
    rest = iter(lines)
    async with Dispatcher(router, journal=journal) as calls:
        while batch := list(islice(rest, BATCH)):
            await calls.receive_many(batch)
        await calls.idle()
    return handler.calls


async def telstate_in_batches(lines: Lines) -> int:
    """The same with `receive_many`, as for a log or a broker."""
    return await _in_batches(None, lines)


async def telstate_batches_sqlite(lines: Lines) -> int:
    """With `receive_many`, each batch durable before the next."""
    with TemporaryDirectory() as folder:
        return await _in_batches(SqliteJournal(f"{folder}/calls.db"), lines)


IN_FLIGHT = 256
"""How many senders wait for their answer at the same time; a commit has at most so many events."""


async def _many_senders(journal: Journal | None, lines: Lines, senders: int) -> int:
    """As telstate_live, but from many senders at once, as webhooks are. Each waits until its event is durable."""
    router, handler = _counting()
    rest = iter(lines)

    async def send(calls: Dispatcher) -> None:
        for line in rest:
            await calls.receive(line)

    async with Dispatcher(router, journal=journal) as calls:
        async with asyncio.TaskGroup() as group:
            for _ in range(senders):
                group.create_task(send(calls))
        await calls.idle()
    return handler.calls


async def telstate_in_memory(lines: Lines) -> int:
    """Many senders, in memory: what the durable ones are compared with."""
    return await _many_senders(None, lines, IN_FLIGHT)


async def telstate_sqlite(lines: Lines) -> int:
    """Many senders, each event durable before `receive` returns."""
    with TemporaryDirectory() as folder:
        return await _many_senders(SqliteJournal(f"{folder}/calls.db"), lines, IN_FLIGHT)


async def telstate_commit_each(lines: Lines) -> int:
    """One sender: there is no group to commit, each event waits for the disk alone."""
    with TemporaryDirectory() as folder:
        return await _many_senders(SqliteJournal(f"{folder}/calls.db"), lines, 1)


async def telstate_replay(lines: Lines) -> int:
    """Without handlers: what `telstate replay` does with each line."""
    replay = Replay()
    for line in lines:
        replay.feed(line)
    return replay.engine.received


async def telstate_replay_forgetting(lines: Lines) -> int:
    """The same once calls leave memory as fast as new ones come, which a service reaches after two hours, and this log in minutes."""
    replay = Replay({"retention": 300, "key_ttl": 300, "parked_ttl": 60, "hold_limit": 60})
    for line in lines:
        replay.feed(line)
    assert replay.engine.sizes()["ended"] < 200
    return replay.engine.received


async def telstate_replay_json(lines: Lines) -> int:
    """The same, with the records of the sessions: what `telstate replay --json` prints."""
    replay, report = Replay(), JsonReport()
    for line in lines:
        outcome = replay.feed(line)
        assert outcome is not None
        for gone in outcome.departed:
            if isinstance(gone, Session):
                report.session(gone)
    for session in replay.engine.sessions():
        report.session(session)
    return replay.engine.received


async def telstate_parse(lines: Lines) -> int:
    """Only from bytes to an event."""
    for line in lines:
        parse(line)
    return len(lines)


# --- the pydantic floor -------------------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)

    call_client_id: str | None = None


class _Session(_Model):
    session_id: str
    sip_call_id: str | None = None
    provider: str | None = None
    user_id: str | None = None
    action_trace_id: str | None = None


class _Dialin(_Session):
    sip_from: str | None = None
    sip_endpoint: str | None = None
    sip_headers: dict[str, Any] | None = None
    error_msg: str | None = None
    details: dict[str, Any] | None = None
    type: str | None = None


class _Dialout(_Session):
    destination: str | None = None
    origin: str | None = None
    caller_id: str | None = None
    error_msg: str | None = None
    details: dict[str, Any] | None = None
    type: str | None = None


class _DialinConnected(_Dialin):
    action: Literal["dialin-connected"]


class _DialinStopped(_Dialin):
    action: Literal["dialin-stopped"]


class _DialinError(_Dialin):
    action: Literal["dialin-error"]


class _DialinWarning(_Dialin):
    action: Literal["dialin-warning"]


class _DialoutConnected(_Dialout):
    action: Literal["dialout-connected"]


class _DialoutAnswered(_Dialout):
    action: Literal["dialout-answered"]


class _DialoutStopped(_Dialout):
    action: Literal["dialout-stopped"]


class _DialoutError(_Dialout):
    action: Literal["dialout-error"]


class _DialoutWarning(_Dialout):
    action: Literal["dialout-warning"]


class _DialinReady(_Model):
    action: Literal["dialin-ready"]
    session_id: ClassVar[None] = None
    sip_endpoint: str
    provider: str | None = None


class _Dtmf(_Model):
    action: Literal["dtmf-event"]
    session_id: str
    tone: str
    volume: float | None = None
    method: str | None = None


class _Participant(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    session_id: str
    user_name: str | None = None
    local: bool | None = None
    owner: bool | None = None


class _WithParticipant(_Model):
    participant: _Participant

    @property
    def session_id(self) -> str:
        return self.participant.session_id


class _ParticipantJoined(_WithParticipant):
    action: Literal["participant-joined"]


class _ParticipantLeft(_WithParticipant):
    action: Literal["participant-left"]


_Any = Annotated[
    _DialinConnected
    | _DialinStopped
    | _DialinError
    | _DialinWarning
    | _DialoutConnected
    | _DialoutAnswered
    | _DialoutStopped
    | _DialoutError
    | _DialoutWarning
    | _DialinReady
    | _Dtmf
    | _ParticipantJoined
    | _ParticipantLeft,
    Field(discriminator="action"),
]
_ADAPTER: TypeAdapter[_Model] = TypeAdapter(_Any)

_TABLE: dict[str, dict[str, str]] = {}
for _row in ROWS:
    for _source in _row.sources:
        _TABLE.setdefault(str(_source), {})[_row.event] = str(_row.target or _source)


async def pydantic_floor(lines: Lines) -> int:
    """Validate, look up, await. No correlation, no deduplication, no order, no retention."""
    states: dict[str, str] = {}
    handler = Counter()
    validate = _ADAPTER.validate_json
    for line in lines:
        event: Any = validate(line)
        session_id = event.session_id
        if session_id is not None:
            state = states.get(session_id, "idle")
            states[session_id] = _TABLE[state].get(event.action, state)
        await handler()
    return handler.calls


# --- dictionaries by hand -----------------------------------------------------------------------------------------


async def dicts_by_hand(lines: Lines) -> int:
    """json.loads and dictionaries, as most bots do. No types, no correlation, no order."""
    sessions: dict[str, dict[str, Any]] = {}
    handler = Counter()
    for line in lines:
        event = json.loads(line)
        session_id = event.get("sessionId") or event.get("participant", {}).get("session_id")
        if session_id is not None:
            session = sessions.get(session_id)
            if session is None:
                session = sessions[session_id] = {"state": "idle", "events": 0}
            session["events"] += 1
            session["state"] = _TABLE[session["state"]].get(event["action"], session["state"])
            if event.get("sipCallId"):
                session["sip_call_id"] = event["sipCallId"]
        await handler()
    return handler.calls


# --- pipecat's path -----------------------------------------------------------------------------------------------


async def pipecats_path(lines: Lines) -> int:
    """As its Daily transport does: a queue, one task that reads it, and a new task for each handler.

    There, the native client passes dicts to the callbacks; here, json.loads makes them. Handlers of successive events
    may overlap and finish out of order.
    """
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    handler = Counter()
    running: set[asyncio.Task[None]] = set()

    async def run_handler(_: dict[str, Any]) -> None:
        await handler()

    async def take() -> None:
        while (event := await queue.get()) is not None:
            task = asyncio.create_task(run_handler(event))
            running.add(task)
            task.add_done_callback(running.discard)
            queue.task_done()

    taker = asyncio.create_task(take())
    for line in lines:
        await queue.put(json.loads(line))
        if queue.qsize() > 100:
            await asyncio.sleep(0)
    await queue.put(None)
    await taker
    await asyncio.gather(*running)
    return handler.calls


# --- a transitions machine per session ----------------------------------------------------------------------------

_TRANSITIONS = [
    {"trigger": row.event, "source": [str(source) for source in row.sources], "dest": str(row.target)}
    for row in ROWS
    if row.target is not None
]


async def async_machine_per_session(lines: Lines) -> int:
    """pydantic, and an AsyncMachine for each session: the obvious way to use `transitions`."""
    machines: dict[str, AsyncMachine] = {}
    handler = Counter()
    validate = _ADAPTER.validate_json
    for line in lines:
        event: Any = validate(line)
        machine = machines.get(event.session_id)
        if machine is None and event.session_id is not None:
            machine = machines[event.session_id] = AsyncMachine(
                states=[str(state) for state in State],
                transitions=_TRANSITIONS,
                initial="idle",
                auto_transitions=False,
                ignore_invalid_triggers=True,
            )
        if machine is not None and event.action in machine.events:
            await machine.trigger(event.action)
        await handler()
    return handler.calls


# --- one shared transitions machine -------------------------------------------------------------------------------


class _Moved:
    """The model of a shared machine. It is passed to each trigger: `add_model` gets slower with every model added."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = "idle"


async def shared_async_machine(lines: Lines) -> int:
    """pydantic, and one AsyncMachine for all sessions."""
    machine = AsyncMachine(
        model=None,
        states=[str(state) for state in State],
        transitions=_TRANSITIONS,
        initial="idle",
        auto_transitions=False,
        ignore_invalid_triggers=True,
    )
    models: dict[str, _Moved] = {}
    handler = Counter()
    validate = _ADAPTER.validate_json
    for line in lines:
        event: Any = validate(line)
        if event.session_id is not None and event.action in machine.events:
            model = models.get(event.session_id)
            if model is None:
                model = models[event.session_id] = _Moved()
            await machine.events[event.action].trigger(model)
        await handler()
    return handler.calls


# --- python-statemachine ------------------------------------------------------------------------------------------


def _statechart() -> type[StateMachine]:
    """The same table for python-statemachine. An async callback is what makes it use its async engine."""
    states = {str(state): Configuration(initial=state is State.IDLE, final=state is State.ERROR) for state in State}
    events: dict[str, Any] = {}
    for row in ROWS:
        for source in row.sources if row.target is not None else ():
            transition = states[str(source)].to(states[str(row.target)])
            name = row.event.replace("-", "_")
            events[name] = events[name] | transition if name in events else transition

    async def on_transition(_: StateMachine) -> None:
        """Do nothing, but be async."""

    return type("Call", (StateMachine,), {**states, **events, "on_transition": on_transition})


async def python_statemachine(lines: Lines) -> int:
    """pydantic, and a machine of python-statemachine for each session."""
    chart = _statechart()
    charts: dict[str, Any] = {}
    handler = Counter()
    validate = _ADAPTER.validate_json
    moving = {row["trigger"]: str(row["trigger"]).replace("-", "_") for row in _TRANSITIONS}
    for line in lines:
        event: Any = validate(line)
        if event.session_id is not None and event.action in moving:
            machine = charts.get(event.session_id)
            if machine is None:
                machine = charts[event.session_id] = chart()
                await machine.activate_initial_state()
            with suppress(TransitionNotAllowed):  # late, or a duplicate
                await machine.send(moving[event.action])
        await handler()
    return handler.calls


# What Python services live on comes first. Where no dialect is named, the log is daily-js's.
PEERS: dict[str, Callable[[Lines], Awaitable[int]]] = {
    "pydantic floor": pydantic_floor,
    "telstate, webhook, live": telstate_live,
    "telstate, webhook, replay": telstate_replay,
    "telstate, webhook, replay with a short memory": telstate_replay_forgetting,
    "telstate, webhook, replay as JSON": telstate_replay_json,
    "telstate, webhook, parse": telstate_parse,
    "telstate, daily-python, parse": telstate_parse,
    "telstate, daily-js, parse": telstate_parse,
    "telstate, live": telstate_live,
    "telstate, webhook, live with metrics": telstate_metrics,
    "telstate, webhook, live with metrics and sampled traces": telstate_both,
    "telstate, webhook, live with all traces": telstate_traces,
    "telstate, replay": telstate_replay,
    "telstate, in batches": telstate_in_batches,
    "telstate, 256 in flight": telstate_in_memory,
    "telstate, 256 in flight, SQLite": telstate_sqlite,
    "telstate, in batches, SQLite": telstate_batches_sqlite,
    "telstate, a commit each, SQLite": telstate_commit_each,
    "dicts by hand": dicts_by_hand,
    "pipecat's path": pipecats_path,
    "shared AsyncMachine": shared_async_machine,
    "AsyncMachine per session": async_machine_per_session,
    "python-statemachine per session": python_statemachine,
}
