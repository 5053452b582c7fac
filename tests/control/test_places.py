"""CallLimiter: never more than there are, every one let go, and nobody waits behind one who needs another."""

from __future__ import annotations

from collections import Counter

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telstate.control._call_limiter import CallLimiter, CallSlot

pytestmark = pytest.mark.anyio


async def soon(places: CallLimiter, room: str | None, key: object = None) -> CallSlot | None:
    """Take a place, or None if it would have to be waited for."""
    with anyio.move_on_after(0.01):
        return await places.take(room, key)
    return None


async def test_a_room_has_so_many() -> None:
    """And who waits gets the next that is free."""
    places = CallLimiter(2, None)
    one, two = await soon(places, "r"), await soon(places, "r")
    assert one is not None
    assert two is not None
    assert await soon(places, "r") is None
    assert await soon(places, "other") is not None
    one.free()
    assert await soon(places, "r") is not None


async def test_those_of_others_count() -> None:
    """Who dialled in has a place in the room, too; but takes nothing of a key's."""
    places = CallLimiter(2, 1)
    places.came("dialin", "r")
    places.came("dialin", "r")
    assert await soon(places, "r", "k") is not None
    assert await soon(places, "r", "l") is None
    places.went("dialin")
    places.went("dialin")
    assert await soon(places, "r", "l") is not None


async def test_a_key_has_so_many_in_all_rooms() -> None:
    """A customer, a trunk; those without one share one."""
    places = CallLimiter(None, 1)
    held = await soon(places, "r", "k")
    assert held is not None
    assert await soon(places, "s", "k") is None
    assert await soon(places, "s") is not None
    assert await soon(places, "s") is None
    held.free()
    assert await soon(places, "s", "k") is not None


async def test_a_place_is_let_go_once() -> None:
    """However often its holder says so."""
    places = CallLimiter(1, None)
    held = await soon(places, "r")
    assert held is not None
    held.free()
    held.free()
    assert (await soon(places, "r")) is not None
    assert await soon(places, "r") is None


async def test_in_order_of_asking() -> None:
    """And nobody waits behind one who waits for another room."""
    places, got = CallLimiter(1, None), list[str]()
    holders = {room: await places.take(room, None) for room in "ab"}

    async def ask(name: str, room: str) -> None:
        await places.take(room, None)
        got.append(name)

    async with anyio.create_task_group() as group:
        for name, room in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            group.start_soon(ask, name, room)
            await anyio.sleep(0.01)
        holders["b"].free()
        await anyio.sleep(0.01)
        assert got == ["b1"]
        holders["a"].free()
        await anyio.sleep(0.01)
        assert got == ["b1", "a1"]
        group.cancel_scope.cancel()
    assert len(places) == 2


async def test_who_is_cancelled_takes_none_along() -> None:
    """Neither while he waits nor in the moment in which he is served."""
    places = CallLimiter(1, None)
    held = await places.take("r", None)

    async def hold() -> None:
        place = await places.take("r", None)
        try:
            await anyio.sleep(1)
        finally:
            place.free()

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.sleep(0.01)
        held.free()  # granted, but not run yet
        group.cancel_scope.cancel()
    assert len(places) == 0
    assert await soon(places, "r") is not None


@settings(deadline=None, max_examples=60)
@given(
    asked=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("kl"), st.integers(0, 3)), max_size=25),
    per_room=st.integers(1, 3),
    per_key=st.integers(1, 3),
)
def test_never_too_many_and_everybody_in_the_end(
    asked: list[tuple[str, str, int]], per_room: int, per_key: int
) -> None:
    """Whatever is asked for, in whatever order it is let go."""

    async def main() -> None:
        places, rooms, keys, served = CallLimiter(per_room, per_key), Counter[str](), Counter[str](), 0

        async def hold(room: str, key: str, turns: int) -> None:
            nonlocal served
            place = await places.take(room, key)
            rooms[room] += 1
            keys[key] += 1
            assert rooms[room] <= per_room
            assert keys[key] <= per_key
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            rooms[room] -= 1
            keys[key] -= 1
            served += 1
            place.free()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for one in asked:
                    group.start_soon(hold, *one)
        assert served == len(asked)
        assert len(places) == 0

    anyio.run(main)
