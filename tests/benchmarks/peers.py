"""The peers: each takes the same lines, finds the session, keeps its state, and awaits the same handler for each event.

None of them does all that telstate does; what each leaves out is said. Each is written as somebody would write it who
knows the library and wants it fast, and each is held to having called the handler for every event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel
from statemachine import State as Configuration
from statemachine import StateMachine
from statemachine.exceptions import TransitionNotAllowed
from transitions.extensions.asyncio import AsyncMachine

from telstate import Dispatcher, Event, OutcomeKind, Replay, Router
from telstate.calls._table import ROWS, State
from telstate.journals import JsonlJournal, SqliteJournal
from telstate.routing._ports import Journal

__all__ = ["PEERS"]

Lines = list[bytes]
Handler = Callable[[], Awaitable[None]]


class Counter:
    """The handler: it does nothing, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        """One event was handled."""
        self.calls += 1


# --- telstate -----------------------------------------------------------------------------------------------------


def _counting() -> tuple[Router, Counter]:
    router, handler = Router(), Counter()

    @router.on(Event, outcomes=OutcomeKind)  # the late ones too: the peers cannot tell them
    async def handle() -> None:
        await handler()

    return router, handler


async def telstate_live(lines: Lines) -> int:
    """Everything on: typed, correlated, duplicates, anomalies, causes, limits, lanes. No journal."""
    router, handler = _counting()
    async with Dispatcher(router) as calls:
        for line in lines:
            await calls.receive(line)
        await calls.idle()
    return handler.calls


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
    """The same, taken in together, as a log or a broker has them."""
    return await _in_batches(None, lines)


async def telstate_batches_sqlite(lines: Lines) -> int:
    """Together, and each batch durable before the next."""
    with TemporaryDirectory() as folder:
        return await _in_batches(SqliteJournal(f"{folder}/calls.db"), lines)


IN_FLIGHT = 256
"""How many senders wait for their answer at the same time: a commit has that many events at most."""


async def _many_senders(journal: Journal | None, lines: Lines, senders: int) -> int:
    """As telstate_live, but the events come from many at once, as webhooks do, and each waits until its event is kept."""
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
    """Many at once, nothing kept: what the journalled ones are measured against."""
    return await _many_senders(None, lines, IN_FLIGHT)


async def telstate_sqlite(lines: Lines) -> int:
    """Many at once, each durable before `receive` returns."""
    with TemporaryDirectory() as folder:
        return await _many_senders(SqliteJournal(f"{folder}/calls.db"), lines, IN_FLIGHT)


async def telstate_jsonl(lines: Lines) -> int:
    """The same in a file of lines."""
    with TemporaryDirectory() as folder:
        return await _many_senders(JsonlJournal(f"{folder}/calls.jsonl"), lines, IN_FLIGHT)


async def telstate_commit_each(lines: Lines) -> int:
    """One at a time: no group to commit, each event waits for the disk alone."""
    with TemporaryDirectory() as folder:
        return await _many_senders(SqliteJournal(f"{folder}/calls.db"), lines, 1)


async def telstate_replay(lines: Lines) -> int:
    """The same without handlers: what `telstate replay` does with each line."""
    replay = Replay()
    for line in lines:
        replay.feed(line)
    return replay.engine.received


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
    """Validate, look up, await: no correlation, no duplicates, no order, nothing forgotten."""
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
    """json.loads and dictionaries, as most bots do: untyped, no correlation, no order."""
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
    """As its Daily transport does: a queue, one task that takes from it, and a task of its own for each handler.

    The callbacks' dicts come from the native client there; here json.loads makes them. Handlers of successive events
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
    """pydantic, and the obvious way to have a state machine per session: an AsyncMachine each."""
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
    """What a shared machine moves: it is handed over with each trigger, as adding it would cost milliseconds later on."""

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
    """The same table, as python-statemachine writes it; its async engine runs once there is an async callback."""
    states = {str(state): Configuration(initial=state is State.IDLE, final=state is State.ERROR) for state in State}
    events: dict[str, Any] = {}
    for row in ROWS:
        for source in row.sources if row.target is not None else ():
            arrow = states[str(source)].to(states[str(row.target)])
            name = row.event.replace("-", "_")
            events[name] = events[name] | arrow if name in events else arrow

    async def on_transition(_: StateMachine) -> None:
        """Nothing; but it is async."""

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
            with suppress(TransitionNotAllowed):  # late, or told again
                await machine.send(moving[event.action])
        await handler()
    return handler.calls


PEERS: dict[str, Callable[[Lines], Awaitable[int]]] = {
    "pydantic floor": pydantic_floor,
    "telstate, live": telstate_live,
    "telstate, replay": telstate_replay,
    "telstate, in batches": telstate_in_batches,
    "telstate, 256 in flight": telstate_in_memory,
    "telstate, 256 in flight, SQLite": telstate_sqlite,
    "telstate, 256 in flight, JSONL": telstate_jsonl,
    "telstate, in batches, SQLite": telstate_batches_sqlite,
    "telstate, a commit each, SQLite": telstate_commit_each,
    "dicts by hand": dicts_by_hand,
    "pipecat's path": pipecats_path,
    "shared AsyncMachine": shared_async_machine,
    "AsyncMachine per session": async_machine_per_session,
    "python-statemachine per session": python_statemachine,
}
