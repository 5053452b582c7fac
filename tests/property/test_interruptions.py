"""Interruptions of several clients, in any order and repeated: who is in doubt follows from a model of one line for each step."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telstate import Engine, parse
from tests.calls import js, webhook

CLIENTS = ("k1", "k2", "k3")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["interrupted", "connected", "leaves"]), st.sampled_from(CLIENTS)),
        st.tuples(st.just("heard of"), st.sampled_from([f"{client}-{n}" for client in CLIENTS for n in (1, 2)])),
        st.tuples(st.sampled_from(["media", "restart"]), st.just("")),
    ),
    max_size=30,
)


def signalling(client: str, status: str) -> dict[str, Any]:
    """Make what a client reports of its signalling connection."""
    return js("network-connection", None, callClientId=client, type="signaling", event=status)


@given(STEPS)
def test_a_session_is_in_doubt_from_an_interruption_or_its_end_until_it_is_heard_of(
    steps: list[tuple[str, str]],
) -> None:
    """A client that left and connects has joined anew. A program that restarts from a snapshot knows the same."""
    engine = Engine()
    for client in CLIENTS:
        for number in (1, 2):
            session_id = f"{client}-{number}"
            engine.receive(parse(js("dialout-answered", session_id, callClientId=client)))
            # Somebody else reports it too, so the leaving of its client is no sign of its end.
            engine.receive(parse(webhook("dialout.connected", session_id)), dialect="webhook")
    interrupted, doubtful = set[str](), set[str]()
    for what, which in steps:
        of_client = {f"{which}-1", f"{which}-2"}
        if what == "interrupted":
            engine.receive(parse(signalling(which, what)))
            interrupted.add(which)
            doubtful |= of_client
        elif what == "connected":
            engine.receive(parse(signalling(which, what)))
            doubtful |= of_client if which in interrupted else set()
            interrupted.discard(which)
        elif what == "leaves":
            engine.receive(parse(js("left-meeting", None, callClientId=which)))
            interrupted.discard(which)
        elif what == "heard of":
            engine.receive(parse(js("dtmf-event", which, tone="1")))
            doubtful.discard(which)
        elif what == "media":
            engine.receive(parse(js("network-connection", None, callClientId="k1", type="sfu", event="interrupted")))
        else:
            engine = Engine.restore(json.loads(json.dumps(engine.snapshot())))
        assert {session.session_id for session in engine.live() if session.uncertain} == doubtful
