"""Router and dispatcher."""

from __future__ import annotations

from collections.abc import Callable

import anyio

__all__ = ["until"]


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something holds that no event tells of; fail if it never does."""
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - there is nothing to be woken by
            await anyio.sleep(0.002)
