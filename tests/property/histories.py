"""Histories of calls, drawn by Hypothesis: reported in any dialect, in any order, any number of times."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from telstate import Dialect, Event, event_types, parse
from telstate.testing import SCRIPTS, SimulatedCall, spell

T = TypeVar("T")
DIALECTS = [Dialect.DAILY_JS, Dialect.WEBHOOK, Dialect.DAILY_PYTHON, Dialect.JOURNAL]
START = 1_790_000_000.0


@st.composite
def calls(draw: st.DrawFn) -> SimulatedCall:
    """Draw one simulated call."""
    rng = Random(draw(st.integers(0, 2**32)))
    script = draw(st.sampled_from(list(SCRIPTS)))
    return script(rng, START + rng.uniform(0, 600), f"room-{rng.randrange(3)}")


@st.composite
def reports(draw: st.DrawFn, call: SimulatedCall) -> list[Event]:
    """Draw the events of a call, each in a dialect of its own, with events of this program, and some left out.

    Only events that name their session: the promise of convergence holds for those.
    """
    events = []
    for happening in call.events:
        payload = spell(happening, call.room, draw(st.sampled_from(DIALECTS)))
        if payload is not None and draw(st.integers(0, 9)):
            event = parse(payload)
            if event.session_id == call.session_id:
                events.append(event)
    return events + draw(st.lists(local_events(call), max_size=3))


_NOTES: dict[str, dict[str, Any]] = {
    "session-annotated": {"notes": {"tenant": "acme"}},
    "stop-requested": {"reason": "x"},
}


def local_events(call: SimulatedCall) -> st.SearchStrategy[Event]:
    """Draw an event that this program makes, or one that may accompany any call."""
    names = [
        "stop-requested",
        "transfer-requested",
        "session-annotated",
        f"{call.direction}-warning",
        f"{call.direction}-error",
    ]
    if call.direction == "dialout":
        names += ["dialout-requested", "dialout-refused"]
    return st.sampled_from(names).map(
        lambda name: parse({"action": name, "sessionId": call.session_id, **_NOTES.get(name, {})})
    )


def shuffled(events: list[T]) -> st.SearchStrategy[list[T]]:
    """Draw the same events in any order, each at least once, some several times."""
    repeats = st.lists(st.sampled_from(events), max_size=len(events)) if events else st.just([])
    return repeats.flatmap(lambda more: st.permutations(events + more))


IDS = st.sampled_from(["a", "b", "c", "d"])
TEXTS = st.sampled_from(
    ["x", "sip:room.0@x", "+12025550100", "sip:to@x?y=1", "", " ", "anonymous", "<sip:room.0@X:5060>"]
)


FEW: dict[str, Any] = {"max_ended": 3, "max_parked": 5, "retain_untimed": 2}
OTHER_SETTINGS: list[dict[str, Any]] = [
    FEW,
    {**FEW, "retention": 7000, "key_ttl": 7000, "ring_deadline": 5},
    {**FEW, "silence_in_call": 1, "parked_ttl": 60, "setup_deadline": 10},
    {"unknown": 1},
]


@st.composite
def any_events(draw: st.DrawFn) -> Event:
    """Draw an event of any type with few different ids and values, so that all combinations occur."""
    cls = draw(st.sampled_from(list(event_types().values())))
    fields: dict[str, Any] = {"action": cls.name}
    for name, field in cls.model_fields.items():
        key = field.alias or name
        if name == "action" or (not field.is_required() and draw(st.booleans())):
            continue
        if name == "participant":
            fields[key] = {"session_id": draw(IDS)}
        elif name == "deadline":
            fields[key] = draw(st.sampled_from(["setup", "ring", "media", "silence", "meeting", "presence", "?"]))
        elif name == "presence":
            fields[key] = draw(st.sampled_from(["alive", "gone", "unknown"]))
        elif name == "notes":
            fields[key] = draw(st.dictionaries(TEXTS, TEXTS | st.just("x" * 2500) | st.none(), max_size=2))
        elif name == "settings":
            fields[key] = draw(st.sampled_from(OTHER_SETTINGS))
        elif name in ("session_id", "other_session_id", "sip_call_id", "webhook_id", "call_id"):
            fields[key] = draw(IDS)
        elif "float" in str(field.annotation):
            fields[key] = draw(st.floats(0, 20_000))
        elif "dict" in str(field.annotation):
            fields[key] = {"destination": draw(TEXTS)}
        elif "bool" in str(field.annotation):
            fields[key] = draw(st.booleans())
        else:
            fields[key] = draw(TEXTS.filter(str.strip)) if field.is_required() else draw(TEXTS)
    return parse(fields)


def times(count: int) -> st.SearchStrategy[list[float | None]]:
    """Draw times of receipt: rising, jumping, falling back, or unknown."""
    return st.lists(st.none() | st.floats(0, 20_000), min_size=count, max_size=count)
