"""CallLimiter: never more than allowed, every slot is released, and nobody waits behind a request for another room or key."""

from __future__ import annotations

from collections import Counter

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telstate.control._call_limiter import CallLimiter, CallSlot

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


async def acquire_now(limiter: CallLimiter, room: str | None, key: object = None) -> CallSlot | None:
    """Acquire a slot; None if that would have to wait."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        return await limiter.acquire(room, key)
    return None


async def test_a_room_has_a_limit() -> None:
    """A slot that is released can be acquired again."""
    limiter = CallLimiter(2, None)
    one, two = await acquire_now(limiter, "r"), await acquire_now(limiter, "r")
    assert one is not None
    assert two is not None
    assert await acquire_now(limiter, "r") is None
    assert await acquire_now(limiter, "other") is not None
    one.release()
    assert await acquire_now(limiter, "r") is not None


async def test_sessions_without_a_slot_count_in_their_room() -> None:
    """But for no key. Each counts once."""
    limiter = CallLimiter(2, 1)
    limiter.add_other("dialin", "r")
    limiter.add_other("dialin", "r")
    assert await acquire_now(limiter, "r", "k") is not None
    assert await acquire_now(limiter, "r", "l") is None
    limiter.remove_other("dialin")
    limiter.remove_other("dialin")
    assert await acquire_now(limiter, "r", "l") is not None


async def test_a_key_has_a_limit_in_all_rooms_together() -> None:
    """Requests without a key share one."""
    limiter = CallLimiter(None, 1)
    held = await acquire_now(limiter, "r", "k")
    assert held is not None
    assert await acquire_now(limiter, "s", "k") is None
    assert await acquire_now(limiter, "s") is not None
    assert await acquire_now(limiter, "s") is None
    held.release()
    assert await acquire_now(limiter, "s", "k") is not None


async def test_releasing_twice_is_releasing_once() -> None:
    """The second call does nothing."""
    limiter = CallLimiter(1, None)
    held = await acquire_now(limiter, "r")
    assert held is not None
    held.release()
    held.release()
    assert (await acquire_now(limiter, "r")) is not None
    assert await acquire_now(limiter, "r") is None


async def test_slots_are_granted_in_the_order_of_the_requests() -> None:
    """But nobody waits behind a request for another room."""
    limiter, granted = CallLimiter(1, None), list[str]()
    held = {room: await limiter.acquire(room, None) for room in "ab"}

    async def request(name: str, room: str) -> None:
        await limiter.acquire(room, None)
        granted.append(name)

    async with anyio.create_task_group() as group:
        for name, room in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            group.start_soon(request, name, room)
            await anyio.wait_all_tasks_blocked()
        held["b"].release()
        await anyio.wait_all_tasks_blocked()
        assert granted == ["b1"]
        held["a"].release()
        await anyio.wait_all_tasks_blocked()
        assert granted == ["b1", "a1"]
        group.cancel_scope.cancel()
    assert len(limiter) == 2


async def test_a_cancelled_request_keeps_no_slot() -> None:
    """Neither while it waits nor at the moment at which its slot is granted."""
    limiter = CallLimiter(1, None)
    held = await limiter.acquire("r", None)

    async def hold() -> None:
        slot = await limiter.acquire("r", None)
        try:
            await anyio.sleep_forever()
        finally:
            slot.release()

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.wait_all_tasks_blocked()
        held.release()  # granted, but the task has not run yet
        group.cancel_scope.cancel()
    assert len(limiter) == 0
    assert await acquire_now(limiter, "r") is not None


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(
    requests=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("kl"), st.integers(0, 3)), max_size=25),
    per_room=st.integers(1, 3),
    per_key=st.integers(1, 3),
)
def test_never_more_than_allowed_and_every_request_is_granted(
    requests: list[tuple[str, str, int]], per_room: int, per_key: int
) -> None:
    """For any requests, released in any order."""

    async def main() -> None:
        limiter, rooms, keys, granted = CallLimiter(per_room, per_key), Counter[str](), Counter[str](), 0

        async def hold(room: str, key: str, turns: int) -> None:
            nonlocal granted
            slot = await limiter.acquire(room, key)
            rooms[room] += 1
            keys[key] += 1
            assert rooms[room] <= per_room
            assert keys[key] <= per_key
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            rooms[room] -= 1
            keys[key] -= 1
            granted += 1
            slot.release()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for one in requests:
                    group.start_soon(hold, *one)
        assert granted == len(requests)
        assert len(limiter) == 0

    anyio.run(main)
