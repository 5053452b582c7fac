"""What a task waits for until another one sets it. `anyio.Event()` would find out each time whose loop runs, which is most of its cost."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import anyio

__all__ = ["WaitEvent", "new_event"]

WaitEvent: TypeAlias = anyio.Event | asyncio.Event


def new_event() -> WaitEvent:
    """Make an event of asyncio's where that runs, else of anyio's. On asyncio it is no pause to wait for one that is set already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.Event()
    return asyncio.Event()
