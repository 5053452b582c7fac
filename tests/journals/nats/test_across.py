"""Workers know the sessions of all partitions, and act on them: with a real server, two workers in one process."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from telstate import (
    CallEnded,
    Direction,
    Dispatcher,
    ForwardingFailed,
    PinlessDialin,
    Router,
    Session,
    State,
    parse,
)
from telstate.errors import DefinitionError, NotAllowed, NotSupported
from telstate.events import ActionAnswered, ActionBegun, ActionRequested
from telstate.journals.nats import Names
from telstate.options import Transfer
from telstate.testing import FakeControl, Request
from tests.calls import js, webhook
from tests.journals.nats.workers import HERE, THERE, known, pair, replayed, room_in
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.anyio
ENDPOINT = "sip:there.0@example.sip.daily.co"


def has_legs(calls: Dispatcher, any_id: str) -> bool:
    """Return whether it finds all of them by one id."""
    return [leg.session_id for leg in calls.legs(any_id)] == ["a", "b", "c"]


async def test_a_session_is_known_in_every_partition(shared_nats: NatsServer, names: Names) -> None:
    """With all its facts; and while it changes; and it cannot be confused with one that nobody knows."""
    async with pair(shared_nats, names) as (both, here, there):
        await both.publish(webhook("dialout.answered", "s", room=THERE, destination="+12025550142"), THERE)
        far = await known(here, "s")
        near = there.session("s")
        assert near is not None
        assert far is not near
        assert far.to_dict() == near.to_dict()
        assert far.transitions == near.transitions
        await both.publish(webhook("dialout.stopped", "s", room=THERE), THERE)
        ended = await known(here, "s", State.STOPPED)
        assert ended.ended_at == there.session("s").ended_at  # type: ignore[union-attr]
        assert here.session("other") is None
        assert here.sessions() == []


async def test_waiting_for_a_session_that_another_worker_has(shared_nats: NatsServer, names: Names) -> None:
    """One that is not known anywhere yet, one that is there already, and one that ends before."""
    async with pair(shared_nats, names) as (both, here, _), anyio.create_task_group() as group:
        found: list[Session] = []

        async def wait() -> None:
            found.append(await here.wait_for("s", State.ANSWERED, timeout=10))

        group.start_soon(wait)
        await anyio.sleep(0.1)
        await both.publish(webhook("dialout.connected", "s", room=THERE), THERE)
        await known(here, "s", State.CONNECTED)
        assert not found
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await until(lambda: found)
        assert (await here.wait_for("s", State.CONNECTED, timeout=1)).state is State.ANSWERED
        await both.publish(webhook("dialout.stopped", "t", room=THERE), THERE)
        with pytest.raises(CallEnded):
            await here.wait_for("t", State.ANSWERED, timeout=10)
        with pytest.raises(TimeoutError):
            await here.wait_for("nobody", State.ANSWERED, timeout=0.1)
        assert here.sizes()["waiters"] == 0


async def test_an_endpoint_of_another_partition_is_waited_for(shared_nats: NatsServer, names: Names) -> None:
    """And it is busy, free, and gone when its meeting ends."""
    async with pair(shared_nats, names) as (both, here, _), anyio.create_task_group() as group:
        group.start_soon(both.publish, webhook("dialin.ready", None, room=THERE, sip_endpoint=ENDPOINT), THERE)
        endpoint = await here.wait_ready(ENDPOINT.removeprefix("sip:"), timeout=10)
        assert (endpoint.uri, endpoint.scope[2]) == (ENDPOINT, THERE)
        await both.publish(webhook("dialin.connected", "d", room=THERE), THERE)
        await until(lambda: (found := here.endpoint(ENDPOINT)) is not None and found.session_id == "d")
        await both.publish(webhook("dialin.stopped", "d", room=THERE), THERE)
        await until(lambda: (found := here.endpoint(ENDPOINT)) is not None and not found.busy)
        await both.publish(webhook("meeting.ended", None, room=THERE), THERE)
        await until(lambda: here.endpoint(ENDPOINT) is None)


async def test_legs_are_found_in_all_partitions(shared_nats: NatsServer, names: Names) -> None:
    """By what the program linked and by their SIP Call-ID; and a replay of one partition has the same record."""
    async with pair(shared_nats, names) as (both, here, there):
        await both.publish(webhook("dialin.connected", "a", room=HERE), HERE)
        for session_id, room in (("b", THERE), ("c", HERE)):
            await both.publish(js("dialout-answered", session_id, room=room, sipCallId="x"), room, "daily-js")
        await known(here, "b")
        await known(there, "c")
        await known(there, "a", State.CONNECTED)
        outcome = await here.link("b", "a")
        assert outcome.kind == "noted"
        for calls in (here, there):
            for any_id in ("a", "b", "c", "x"):
                await until(partial(has_legs, calls, any_id))
        assert here.legs("nobody") == []
        for partition, session_id, calls, others in ((0, "a", here, ["b", "c"]), (1, "b", there, ["a", "c"])):
            live = calls._sequencer.engine
            one = live.session(session_id)
            assert one is not None
            await until(lambda live=live, one=one, others=others: live.record(one)["legs"] == others)  # type: ignore[misc]
            again = (await replayed(shared_nats, names, partition)).session(session_id)
            assert again is not None
            assert again.to_dict(legs=())["legs"] == others


async def test_acting_on_a_session_of_another_partition(shared_nats: NatsServer, names: Names) -> None:
    """Its owner does it, and the journal of that partition says so."""
    control = FakeControl()
    async with pair(shared_nats, names, control=control) as (both, here, there):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        far = await known(here, "s")
        await here.send_dtmf("s", "12#")
        await here.transfer(far, Transfer(to_end_point="+12025550190"))
        await here.refer("s", "sip:bob@example.com")
        await here.stop(far, reason="over")
        assert [request.verb for request in control.requests] == ["send_dtmf", "transfer", "refer", "stop"]
        assert control.requests[1] == Request("transfer", "s", Transfer(to_end_point="+12025550190"))
        near = there.session("s")
        assert near is not None
        assert near.stop_requested
        assert near.transfer_requested
        await until(lambda: here.session("s").notes.get("reason") == "over")  # type: ignore[union-attr]
        assert here._run.call_control.busy is False
        engine = await replayed(shared_nats, names, 1)
        assert engine.session("s").to_dict() == near.to_dict()  # type: ignore[union-attr]
        assert len(engine.answered_requests()) == 4


async def test_errors_come_back_as_they_were_raised(shared_nats: NatsServer, names: Names) -> None:
    """With Daily's answer; an end that is known here needs no question."""
    control = FakeControl()
    async with pair(shared_nats, names, control=control) as (both, here, _):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await known(here, "s")
        control.refuse(NotAllowed("no transfers", status=403, error="forbidden"), verb="transfer")
        with pytest.raises(NotAllowed, match="no transfers") as raised:
            await here.transfer("s", "+12025550190")
        assert (raised.value.status, raised.value.error) == (403, "forbidden")
        control.refuse(NotSupported("not by this way"), verb="stop")
        with pytest.raises(NotSupported, match="not by this way"):
            await here.stop("s")
        await both.publish(webhook("dialout.stopped", "s", room=THERE), THERE)
        await known(here, "s", State.STOPPED)
        asked = len(control.requests)
        with pytest.raises(CallEnded):
            await here.stop("s")
        assert len(control.requests) == asked


async def test_without_a_way_to_daily_the_owner_says_so(shared_nats: NatsServer, names: Names) -> None:
    """As it does for its own sessions."""
    async with pair(shared_nats, names) as (both, here, _):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await known(here, "s")
        with pytest.raises(DefinitionError, match="needs a way to Daily"):
            await here.stop("s")


async def test_notes_reach_the_partition_of_their_session(shared_nats: NatsServer, names: Names) -> None:
    """And are bounded before they are sent."""
    async with pair(shared_nats, names) as (both, here, there):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await known(here, "s")
        outcome = await here.annotate("s", tenant="acme")
        assert outcome.seq > 1
        await until(lambda: there.session("s").notes == {"tenant": "acme"})  # type: ignore[union-attr]
        await until(lambda: here.session("s").notes == {"tenant": "acme"})  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="notes"):
            await here.annotate("s", more="x" * 5000)
        await here.transfer_failed("s", "+12025550190", "busy")
        await until(lambda: there.session("s").transfers)  # type: ignore[union-attr]


async def test_a_long_handler_of_the_session_does_not_delay_the_request(shared_nats: NatsServer, names: Names) -> None:
    """It has a lane of its own: the handler may go on for as long as the call."""
    router = Router()

    @router.on_state(State.ANSWERED)
    async def talk() -> None:
        await anyio.sleep(60)

    control = FakeControl()
    async with pair(shared_nats, names, router, router, control=control) as (both, here, _):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        await known(here, "s")
        with anyio.fail_after(5):
            await here.stop("s")
        assert control.requests == [Request("stop", "s")]


async def test_a_request_that_has_begun_is_not_sent_again(shared_nats: NatsServer, names: Names) -> None:
    """Its owner ended in between: the next one answers that nobody knows. One that is too old is not begun."""
    control = FakeControl()
    async with pair(shared_nats, names, control=control) as (both, here, there):
        await both.publish(webhook("dialout.answered", "s", room=THERE), THERE)
        far = await known(here, "s")
        elsewhere = here._setup.elsewhere
        assert elsewhere is not None
        requested = ActionRequested(request_id="r", verb="stop", target_id="s", expires_at=4e9)
        await elsewhere.publish(far, ActionBegun(request_id="r"))  # nobody has asked for it: it counts for nothing
        await there.receive(ActionRequested(request_id="q", verb="stop", target_id="s", expires_at=1.0))
        await until(lambda: (asked := there._sequencer.engine.request("q")) is not None and asked.is_answered)
        late = there._sequencer.engine.request("q")
        assert late is not None
        assert late.failure is not None
        assert late.failure["type"] == "TemporarilyNotAvailable"
        await there._sequencer.submit_events(requested, ActionBegun(request_id="r"))
        answer = await elsewhere.ask(far, requested, 5)
        assert answer is not None
        assert answer.failure is not None
        assert answer.failure["type"] == "UnknownResult"
        assert control.requests == []
        await there.receive(ActionAnswered(request_id="r"))  # a second answer changes nothing
        assert there._sequencer.engine.request("r").failure == answer.failure  # type: ignore[union-attr]


async def test_a_caller_on_hold_is_forwarded_to_a_room_of_another_partition(
    shared_nats: NatsServer, names: Names
) -> None:
    """Pinless: they wait here, their room is there. The session there becomes theirs, and here they are no more."""
    router, lost = Router(), list[str]()
    control = FakeControl()

    @router.on(PinlessDialin)
    async def connect(event: PinlessDialin, calls: Dispatcher) -> None:
        endpoint = await calls.wait_ready(ENDPOINT, timeout=20)
        await calls.forward(event, endpoint.uri)

    @router.on_caller_lost()
    async def gone(caller: object) -> None:
        lost.append(repr(caller))

    async with pair(shared_nats, names, router, router, control=control) as (both, here, there):
        caller = {"From": "+12025550142", "To": "+12025550100", "callId": "call", "callDomain": "d"}
        await both.publish(caller, room_in(0))
        await until(there.waiting)
        assert [one.call_id for one in there.waiting()] == ["call"]
        await both.publish(webhook("dialin.ready", None, room=THERE, sip_endpoint=ENDPOINT), THERE)
        await until(lambda: here._sequencer.engine.caller("call").is_elsewhere)  # type: ignore[union-attr]
        assert control.requests == [Request("forward", "call", ENDPOINT)]
        await until(lambda: [one.state for one in here.waiting()] == ["forwarded"])
        assert here._sequencer.engine.waiting() == []
        await both.publish(webhook("dialin.connected", "d", room=THERE, sip_from="sip:+12025550142@x"), THERE)
        await known(here, "d", State.CONNECTED)
        session = there.session("d")
        assert session is not None
        assert (session.direction, session.caller, session.called) == (Direction.DIALIN, "+12025550142", "+12025550100")
        assert session.pinless_call_id == "call"
        assert session.held_s is not None
        await until(lambda: here.waiting() == [] and there.waiting() == [])
        assert here.caller("call").state == "connected"  # type: ignore[union-attr]
        for partition, calls in ((0, here), (1, there)):
            engine = await replayed(shared_nats, names, partition)
            known_there = calls._sequencer.engine.caller("call")
            assert known_there is not None
            assert engine.caller("call").dump() == known_there.dump()  # type: ignore[union-attr]
        assert lost == []


async def test_who_forwards_a_caller_of_another_partition_tells_that_one(shared_nats: NatsServer, names: Names) -> None:
    """Daily's refusal is kept where they wait; once Daily accepts, they are this partition's."""
    control = FakeControl()
    async with pair(shared_nats, names, control=control) as (both, here, there):
        payload = {"From": "+12025550142", "To": "+12025550100", "callId": "call", "callDomain": "d"}
        event = parse(payload)
        assert isinstance(event, PinlessDialin)
        await both.publish(payload, HERE)
        await both.publish(webhook("dialin.ready", None, room=THERE, sip_endpoint=ENDPOINT), THERE)
        await there.wait_ready(ENDPOINT, timeout=5)
        await until(there.waiting)
        control.refuse(ForwardingFailed("hung up", status=400), verb="forward")
        with pytest.raises(ForwardingFailed):
            await there.forward(event, ENDPOINT)
        await until(lambda: (found := here.caller("call")) is not None and found.state == "failed")
        assert there._sequencer.engine.caller("call") is None
        await there.forward(event, ENDPOINT)
        await until(lambda: here._sequencer.engine.caller("call").is_elsewhere)  # type: ignore[union-attr]
        own = there._sequencer.engine.caller("call")
        assert own is not None
        assert (own.from_, own.state) == ("+12025550142", "forwarded")
        asked = len(control.requests)
        await there.forward(event, ENDPOINT)
        await here.forward(event, ENDPOINT)
        assert len(control.requests) == asked
