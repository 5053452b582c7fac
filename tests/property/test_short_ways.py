"""The short way of each dialect and the long way read the same event, or refuse it with the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telstate import Dialect, Event, ParseError, ParticipantEvent, event_types
from telstate.events._dialects import daily_python, webhook
from telstate.events._parse import _SHORT_WAYS, _START, _decode, parse_line
from telstate.testing import simulate
from tests.corpus import payloads

DIALECTS = (Dialect.DAILY_JS, Dialect.WEBHOOK, Dialect.DAILY_PYTHON)


def _simulated(dialect: Dialect) -> list[dict[str, Any]]:
    return [sent.payload for sent in islice(simulate(7, calls=400, dialects=[dialect]), 500)]


PAYLOADS = st.sampled_from(
    [payload for dialect in DIALECTS for payload in _simulated(dialect)]
    + [row["payload"] for row in payloads()]
    + [
        {"handler": "on_participant_left", "data": [{"id": "s", "info": {"userId": "u"}}, "leftCall"], "room": "r"},
        {"handler": "on_dialin_stopped", "data": {"sessionId": "s", "reason": "hangup"}, "callClientId": "c"},
        {"handler": "on_dialout_error", "data": {"participantId": "s", "message": "busy"}},
    ]
)
KEYS = st.sampled_from(
    sorted(
        {field.alias or name for cls in event_types().values() for name, field in cls.model_fields.items()}
        | {name for cls in event_types().values() for name in cls.model_fields}
        | {*webhook.KEYS, *daily_python.UNUSUAL_KEYS}
        | {
            "type",
            "payload",
            "id",
            "event_ts",
            "version",
            "handler",
            "data",
            "info",
            "joined_at",
            "duration",
            "v",
            "To",
            "new",
        }
    )
)
VALUES = st.sampled_from(
    [
        *(
            None,
            "",
            "  ",
            " s ",
            "\u2003s",
            "\x1fs",
            "s",
            "x" * 2000,
            "1790000000",
            1_790_000_000,
            1_790_000_000.5,
            True,
        ),
        *(
            -1,
            4_102_444_799.5,
            4_102_444_800,
            1e400,
            float("nan"),
            [],
            {},
            [float("inf")],
            {"a": "b"},
            [{"id": "p"}, "r"],
        ),
        *(
            {"daily_api_key": "0f1e2d"},
            {"a": [{"daily_api_url": "u"}]},
            {"userName": "", "isLocal": 1},
            {"session_id": "s"},
        ),
        *("missing", "participant.left", "dialin-stopped", "on_dialin_stopped"),
    ]
)
CHANGES = st.lists(st.tuples(st.integers(0, 3), KEYS, VALUES), max_size=3)
"""For each: which object of the payload, from the innermost on; which key; which value, or that the key is missing."""


def _change(payload: dict[str, Any], changes: list[tuple[int, str, Any]]) -> None:
    for number, key, value in changes:
        objects = list(_objects(payload))
        objects[number % len(objects)][key] = deepcopy(value)
        if value == "missing":
            del objects[number % len(objects)][key]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Iterate over the objects in a value, the innermost first."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _objects(item)
    if isinstance(value, dict):
        yield value


def _all_of(event: Event) -> list[Any]:
    """Return everything about an event that a program can see, which `==` does not compare."""
    seen = [
        type(event),
        repr(event),
        event.to_json(),
        event.model_fields_set,
        list(event.model_extra or {}),
        event.anomalies,
    ]
    if isinstance(event, ParticipantEvent):
        seen += [event.participant.model_fields_set, list(event.participant.model_extra or {})]
    return seen


def _outcome_of(way: Any, data: bytes, dialect: Dialect | None) -> list[Any]:
    try:
        event, *others = way(data, dialect)
    except ParseError as error:
        return [str(error), error.field]
    return [*others, *([] if event is None else _all_of(event))]


JOINED = {"version": "1.0.0", "type": "participant.joined", "id": "i", "payload": {"session_id": "s"}, "event_ts": 5.5}
WARNED = {**JOINED, "type": "dialin.warning"}
STOPPED = {"handler": "on_dialin_stopped", "data": {"sessionId": "s"}}


@example(JOINED, [(1, "participant", {"session_id": "other"})], None, True)
@example(JOINED, [(1, "occurredAt", 1_790_000_000), (0, "joined_at", 5)], None, True)
@example(WARNED, [(0, "sessionId", "other")], None, True)
@example(JOINED, [(0, "joined_at", 4_102_444_799.5), (0, "duration", 2.5)], None, True)
@example(STOPPED, [(0, "reason", "hangup")], None, True)
@example(STOPPED, [(0, "sip_from", "+12025550100")], None, True)
@example(STOPPED, [(0, "room", "of the event"), (1, "room", "of the recorder")], None, True)
@given(PAYLOADS, CHANGES, st.sampled_from([None, *DIALECTS]), st.booleans())
def test_both_ways_read_the_same(
    payload: dict[str, Any], changes: list[Any], dialect: Dialect | None, escaped: bool
) -> None:
    """Whatever is added, missing, empty, odd, secret, or spelled as in another dialect, and whether the dialect is given or not."""
    changed = json.loads(json.dumps(payload))
    _change(changed, changes)
    data = json.dumps(changed, separators=(",", ":"), ensure_ascii=escaped).encode()
    assert _outcome_of(parse_line, data, dialect) == _outcome_of(_decode, data, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_usual_goes_the_short_way(dialect: Dialect) -> None:
    """Nearly all of a simulated day, and all that Daily documents: only callers who wait are unusual."""
    lines = [sent.line() for sent in islice(simulate(7, calls=400, dialects=[dialect]), 2_000)]
    lines += [json.dumps(row["payload"]).encode() for row in payloads() if row["dialect"] == dialect]
    unusual = []
    for line in lines:
        found, read = _SHORT_WAYS.get(line[:_START], (None, None))
        if read is None or read(line) is None:
            unusual.append(line)
        else:
            assert found == dialect
    assert [line for line in unusual if not line.startswith(b'{"To":')] == []
    assert len(unusual) < len(lines) / 20
