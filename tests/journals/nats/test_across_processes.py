"""Workers in processes of their own act across partitions, on a Daily over real HTTP, and one of them is killed meanwhile."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr

from telstate import State
from telstate.control import Trunks
from telstate.errors import UnknownResult
from telstate.journals.nats import Names
from telstate.journals.nats._names import partition_of, room_token
from telstate.options import SipTrunk, TrunkAccess, TrunkNotification
from telstate.testing import faults
from tests.journals.nats.across_worker import PARTITIONS, TTL
from tests.journals.nats.services import ROOMS, SECRET, service
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def test_a_call_is_ended_from_another_process(shared_nats: NatsServer, names: Names) -> None:
    """The one whose session it is asks Daily, and all know that this program ended it."""
    async with service(shared_nats, names) as one:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        session = await one.session(session_id)
        await one.calls(one.near).stop(session, reason="over")
        ended = await one.session(session_id, State.STOPPED)
        assert (ended.ended_by, ended.notes) == ("local", {"reason": "over"})
        assert one.ejected() == 1


async def test_an_owner_that_is_killed_before_the_answer_is_not_asked_again(
    shared_nats: NatsServer, names: Names
) -> None:
    """It may have ended the call, or not: its successor says so, and sends nothing."""
    async with service(shared_nats, names) as one, anyio.create_task_group() as group:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        session = await one.session(session_id)
        one.daily.rules["/rooms/*/eject"] = faults.hang
        raised: list[Exception] = []

        async def stop() -> None:
            with pytest.raises(UnknownResult, match="its owner ended before the answer") as found:
                await one.calls(one.near).stop(session)
            raised.append(found.value)

        group.start_soon(stop)
        await until(lambda: one.ejected() == 1, 15)
        one.other.kill()
        one.other.wait()
        await until(lambda: raised, 30)
        assert one.ejected() == 1
        del one.daily.rules["/rooms/*/eject"]
        await (await one.take_over()).stop(session_id)  # the program decides whether to try again
        assert (await one.session(session_id, State.STOPPED)).ended_by == "local"


async def test_what_is_asked_while_nobody_owns_the_partition_is_done_once_by_the_next_owner(
    shared_nats: NatsServer, names: Names
) -> None:
    """Within the lease's time to live, and some more."""
    async with service(shared_nats, names) as one:
        session_id = one.daily.dial_in(one.daily.host(ROOMS[one.far])[0])
        await one.session(session_id)
        one.other.kill()
        one.other.wait()
        with anyio.fail_after(TTL + 10):
            await one.calls(one.near).stop(session_id)
        assert (await one.session(session_id, State.STOPPED)).ended_by == "local"
        assert one.ejected() == 1


async def test_a_caller_on_hold_gets_to_a_room_of_another_process(shared_nats: NatsServer, names: Names) -> None:
    """Receiver, hold and room are in three places: this test's receiver, the worker here, and the process."""
    async with service(shared_nats, names) as one:
        number = f"+1202555010{one.far}"
        call_id = one.daily.call_in(number, "+12025550142", waits=30)
        while partition_of(room_token(call_id), PARTITIONS) != one.near:
            one.daily.hang_up(call_id)
            call_id = one.daily.call_in(number, "+12025550142", waits=30)
        await until(lambda: call_id in [caller.call_id for caller in one.calls(one.near).waiting()], 15)
        one.daily.host(ROOMS[one.far])
        await until(lambda: (found := one.calls(one.near).caller(call_id)) and found.session_id, 20)
        caller = one.calls(one.near).caller(call_id)
        assert caller is not None
        session = await one.session(caller.session_id or "")
        assert (session.caller, session.called, session.pinless_call_id) == ("+12025550142", number, call_id)
        assert session.room == ROOMS[one.far]
        one.other.kill()  # the session is theirs in the journal too, whoever reads it next
        one.other.wait()
        again = (await one.take_over()).session(session.session_id)
        assert again is not None
        assert (again.caller, again.pinless_call_id) == (session.caller, call_id)


async def test_a_caller_on_a_trunk_gets_to_a_room_of_another_process(shared_nats: NatsServer, names: Names) -> None:
    """Daily makes their room, and what it reports of both goes to the partition of that room."""
    async with service(shared_nats, names) as one:
        trunk = SipTrunk(
            trunk_name="support",
            notification=TrunkNotification(webhook_url=f"{one.receiver}/sip-trunk", hmac=SecretStr(SECRET)),
            trunk_config=TrunkAccess(allowed_ips=("203.0.113.0/24",)),
        )
        await Trunks(one.api).create(trunk)
        places = set()
        for _ in range(20):
            call = one.daily.call_trunk("+12025550142")
            await until(lambda call=call: one.calls(one.near).caller(call), 15)  # type: ignore[misc]
            caller = one.calls(one.near).caller(call)
            assert caller is not None
            assert caller.room is not None
            places.add(partition_of(room_token(caller.room), PARTITIONS))
            one.daily.host(caller.room)
            await until(lambda call=call: one.calls(one.near).caller(call).session_id, 15)  # type: ignore[misc, union-attr]
            if places == {0, 1}:
                return
        raise AssertionError("all rooms were in one partition")
