"""Random histories of calls that reach from room to room, and what one process makes of them.

All are webhooks with Daily's times, so what is known at their end does not depend on who hears what first.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from telstate import Dispatcher, Engine, PinlessDialin, Router, Session, Settings
from telstate.calls._session import rare
from telstate.testing import FakeControl
from tests.calls import webhook
from tests.journals.nats.workers import room_in

__all__ = [
    "SETTINGS",
    "Link",
    "Step",
    "Told",
    "handlers",
    "history",
    "known_by",
    "known_by_one",
    "one_process",
    "rooms_of",
    "take",
]

BEGIN = 1_790_000_000
_PINLESS = "pinless"
"""How the names of rooms begin to which callers on hold are forwarded."""
_LATE = "-late"
SETTINGS = Settings(end_grace=3000.0)
"""So long that no sign of an end is taken for one while a storm lasts."""
_COUNTED = {"events", "held_s"}
"""What depends on the clock, or on how many events told something."""
_PACED = {"amended", "uncertain"}
"""What depends on whether other partitions had shown something by then."""


class Told(NamedTuple):
    """A webhook."""

    room: str
    payload: dict[str, Any]


class Link(NamedTuple):
    """The program links two sessions."""

    one: str
    other: str


Step = Told | Link


def endpoint_of(room: str, number: int = 0) -> str:
    """A SIP endpoint of a room."""
    return f"sip:{room}.{number}@example.sip.daily.co"


def rooms_of(partitions: int) -> list[str]:
    """Rooms in all partitions."""
    return [*(room_in(partition, partitions) for partition in range(partitions)), "sales", "support"]


class _Call:
    """One call: its events, in the order in which they happened."""

    def __init__(self, rng: Random, number: int, rooms: list[str], ids: list[str]) -> None:
        self._rng, self._name, self._rooms, self._ids = rng, f"s{number}", rooms, ids
        self._now = BEGIN + 1000.0 * number + rng.randrange(100)
        self.steps: list[Step] = []

    def _hook(self, kind: str, session_id: str | None, room: str, after: float = 0.0, **fields: Any) -> None:
        self._now += after
        stamp = str(int(self._now))
        payload = webhook(kind, session_id, id=f"{kind} {session_id} {stamp}", timestamp=stamp, room=room, **fields)
        self.steps.append(Told(room, payload))
        if session_id is not None and session_id not in self._ids:
            self._ids.append(session_id)

    def _some(self, *choices: float) -> float:
        return self._rng.choice(choices)

    def _ready(self, room: str) -> None:
        self._hook("dialin.ready", None, room, sip_endpoint=endpoint_of(room))
        if self._rng.random() < 0.1:
            self._hook("dialin.ready", None, room, 1, sip_endpoint=endpoint_of(room, 1))

    def transferred(self) -> None:
        """A session that is transferred, once or more often, to rooms or to a number."""
        rng, near = self._rng, self._name
        room = rng.choice(self._rooms)
        kind = rng.choice(["dialin", "dialout"])
        more: dict[str, Any] = {"destination": "+12025550142"} if kind == "dialout" else {}
        self._hook(f"{kind}.connected", near, room, **more)
        if kind == "dialout":
            self._hook("dialout.answered", near, room, 3, **more)
        for number in range(rng.choice([1, 1, 1, 2])):
            target = rng.choice(self._rooms)
            self._transfer(near, room, target, f"{near}-{number}")
        if rng.random() < 0.8:
            self._hook(f"{kind}.stopped", near, room, self._some(1, 2, 30, 100))
        if rng.random() < 0.3 and kind == "dialout":
            self._hook("dialout.warning", near, room, 2, error_msg="weak")

    def _transfer(self, near: str, room: str, target: str, far: str) -> None:
        rng, to = self._rng, endpoint_of(target)
        if rng.random() < 0.15:
            to = "+12025550190"
        if rng.random() < 0.7:
            self._ready(target)
        for step in rng.choice([("triggered",), ("initiated",), ("triggered", "initiated")]):
            self._hook(f"calltransfer.{step}", near, room, self._some(1, 5), to_endpoint=to)
        if rng.random() < 0.1:
            self._hook("dialin.connected", f"{far}-early", target, -self._some(30, 60))
            self._now += 60
        fate = rng.random()
        if fate < 0.6:
            self._hook("dialin.connected", far, target, self._some(0, 1, 4))
            if rng.random() < 0.5:
                self._hook("dialin.stopped", far, target, self._some(20, 200))
        elif fate < 0.75:
            self._hook("dialin.warning", far, target, 2, error_msg="no media")
            self._hook("dialin.stopped", far, target, 10)
        elif fate < 0.85:
            self._hook("dialin.error", far, target, 3, error_msg="failed")
        if rng.random() < 0.2:
            self._hook("dialin.connected", f"{far}{_LATE}", target, self._some(1, 90))

    def held(self) -> None:
        """A caller on hold, whom a handler forwards, and their session in the room that is theirs alone."""
        room, number = f"{_PINLESS}{self._name}", f"+1202555{self._rng.randrange(10_000):04}"
        call_id = f"call{self._name}"
        payload = {"From": number, "To": f"+{self._name[1:]}", "callId": call_id, "callDomain": "d"}
        self.steps.append(Told(call_id, payload))
        self._hook("dialin.ready", None, room, 1, sip_endpoint=endpoint_of(room))
        self._hook("dialin.connected", self._name, room, 5, sip_from=f"sip:{number}@carrier")
        if self._rng.random() < 0.5:
            self._hook("dialin.stopped", self._name, room, 60)


def history(seed: int, rooms: list[str], calls: int) -> Iterator[Step]:
    """Yield the steps of some calls in the order in which they are heard: mixed, some late, some twice; and links between any of them."""
    rng = Random(seed)
    ids: list[str] = []
    made = []
    for number in range(calls):
        call = _Call(rng, number + 1, rooms, ids)
        if rng.random() < 0.15:
            call.held()
        else:
            call.transferred()
            if rng.random() < 0.3:
                rng.shuffle(call.steps)
        made.append(call.steps)
    made += [[Link(rng.choice(ids), rng.choice(ids))] for _ in range(calls // 5)]
    while made:
        steps = rng.choice(made)
        step = steps.pop(0)
        yield step
        if isinstance(step, Told) and "payload" in step.payload and rng.random() < 0.1:
            yield step
        made = [steps for steps in made if steps]


def handlers() -> Router:
    """The program of these calls: it forwards each caller on hold to a room of their own, and links some sessions with others."""
    router = Router()

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, calls: Dispatcher) -> None:
        assert event.to is not None
        ready = await calls.wait_ready(endpoint_of(f"{_PINLESS}s{event.to[1:]}"), timeout=300)
        await calls.forward(event, ready.uri)

    @router.on_start()
    async def link(session: Session, calls: Dispatcher) -> None:
        if session.session_id.endswith(_LATE):
            number = int(session.session_id[1:].partition("-")[0])
            await calls.link(session.session_id, f"s{number + 1}")  # it may be known here, elsewhere, later, or never

    return router


def one_process() -> Dispatcher:
    """One process, with a journal in memory."""
    return Dispatcher(handlers(), control=FakeControl(), settings=SETTINGS)


async def take(calls: Dispatcher, step: Step) -> None:
    """Let one process take a step."""
    if isinstance(step, Link):
        await calls.link(*step)
    else:
        await calls.receive(step.payload, "webhook")


async def known_by_one(steps: list[Step]) -> dict[str, Any]:
    """What one process knows after them."""
    async with one_process() as calls:
        for step in steps:
            await take(calls, step)
        await calls.idle()
        return known_by(calls._sequencer.engine)


def known_by(*engines: Engine, paced: bool = False) -> dict[str, Any]:
    """What engines know together: each session, and each caller on hold, where they are now.

    Args:
        engines: of all partitions.
        paced: whether each event was heard only after all knew what follows from the one before.
    """
    found: dict[str, Any] = {}
    for engine in engines:
        callers = (caller for caller in engine.unconnected() if not caller.is_elsewhere)
        found |= {
            session.session_id: _comparable(session, engine.record(session), paced) for session in engine.sessions()
        }
        found |= {caller.call_id: [caller.from_, caller.to, caller.state, caller.session_id] for caller in callers}
    return found


def _comparable(session: Session, record: dict[str, Any], paced: bool) -> dict[str, Any]:
    """What two records of a session can have in common."""
    left_out = _COUNTED if paced else _COUNTED | _PACED
    kept = {name: value for name, value in record.items() if name not in left_out}
    if (
        paced and len(record["transitions"]) == 1
    ):  # with its end as the first event, all that is elsewhere is heard after it
        kept["amended"] = None
    if paced:  # what is known of far legs may decide only later
        kept["far legs"] = {plain: one.get("leg") for plain, one in (rare(session, "transfers") or {}).items()}
    kept["legs"] = sorted(record.get("legs") or ())
    kept["anomalies"] = sorted(record["anomalies"])
    return kept
