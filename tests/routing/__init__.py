"""Router and dispatcher."""

from __future__ import annotations

from collections.abc import Callable

import anyio

__all__ = ["until"]


async def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds that no event tells of; fail if it never does. Only a failure takes the whole time."""
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - there is nothing to be woken by
            await anyio.sleep(0.002)
