"""Checks of an installation: each is a small async function that returns what it found, within a time of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import anyio

from telstate.errors import TelstateError
from telstate.routing._log import text_of

__all__ = [
    "Check",
    "Health",
    "Observation",
    "Once",
    "Tell",
    "aside",
    "fault",
    "fine",
    "run_checks",
    "together",
    "unchecked",
    "unknown_host",
    "warning",
]

T = TypeVar("T")

_WITHIN = 15.0
"""Seconds for one check. What it asks answers sooner, or has a shorter limit of its own."""
_LOOK_UP_WITHIN = 5.0
_AT_ONCE = 8
"""Requests that one check has under way."""


class Health(StrEnum):
    """How what was looked at is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something will be lost if more goes wrong."""
    FAULT = "fault"
    """Calls are lost, or their records are wrong."""
    UNCHECKED = "not checked"


class Observation(NamedTuple):
    """One thing that was found."""

    health: Health
    found: str
    """One sentence, with figures."""
    why: str = ""
    """Why it matters."""
    do: str = ""
    """What to do next."""


def fine(found: str) -> Observation:
    """Something is as it should be."""
    return Observation(Health.OK, found)


def warning(found: str, why: str, do: str) -> Observation:
    """Something works, but not for sure."""
    return Observation(Health.WARNING, found, why, do)


def fault(found: str, why: str, do: str) -> Observation:
    """Something does not work."""
    return Observation(Health.FAULT, found, why, do)


def unchecked(reason: str) -> Observation:
    """Something was not looked at."""
    return Observation(Health.UNCHECKED, reason)


class Check(NamedTuple):
    """One part of an installation, and how to look at it."""

    name: str
    look: Callable[[], Awaitable[Sequence[Observation]]]
    within: float = _WITHIN


Tell = Callable[[str, Sequence[Observation]], None]
"""Gets the name of a check, and what it found."""


async def run_checks(checks: Sequence[Check], tell: Tell) -> None:
    """Run all checks at the same time; tell what each found, in their order. What a check raises is a fault that it found."""
    found: list[Sequence[Observation]] = [()] * len(checks)
    done = [anyio.Event() for _ in checks]

    async def look(place: int, check: Check) -> None:
        found[place] = await _observed(check)
        done[place].set()

    failed: OSError | None = None  # raised outside of the group, which would wrap it
    async with anyio.create_task_group() as group:
        for place, check in enumerate(checks):
            group.start_soon(look, place, check)
        try:
            for place, check in enumerate(checks):
                await done[place].wait()
                tell(check.name, found[place])
        except OSError as error:  # nobody reads the report any more: `| head`
            failed = error
            group.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _observed(check: Check) -> Sequence[Observation]:
    try:
        with anyio.fail_after(check.within):
            return await check.look()
    except TimeoutError:
        why = "whoever needs it waits as long"
        return [fault(f"no result within {check.within:g} seconds", why, "look at its host, its network and its load")]
    except TelstateError as error:
        return [fault(str(error), "this check found nothing else out", "mend that, and run telstate doctor again")]
    except Exception as error:
        return [fault(f"the check failed: {text_of(error)}", "it is not known how this part is", "report it as a bug")]


async def together(*looks: Awaitable[T]) -> list[T]:
    """Wait for several at the same time, some at once; return their results in order."""
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def within_limits(look: Awaitable[T]) -> T:
        async with limiter:
            return await look

    return await asyncio.gather(*map(within_limits, looks))


class Once(Generic[T]):
    """The result of an async function that runs once, for all checks that want it. What it raises, all of them get.

    Args:
        do: the function.
    """

    def __init__(self, do: Callable[[], Awaitable[T]]) -> None:
        self._do = do
        self._result: list[T] = []
        self._error: TelstateError | None = None
        self._lock = anyio.Lock()

    async def __call__(self) -> T:
        """Return the result. Whoever asks first may run out of time: then the next one begins anew."""
        async with self._lock:
            if not self._result and self._error is None:
                try:
                    self._result.append(await self._do())
                except TelstateError as error:
                    self._error = error
        if self._error is not None:
            raise self._error
        return self._result[0]


async def aside(do: Callable[[], T]) -> T:
    """Run what blocks in a thread that keeps nothing from ending, however long it blocks: neither this program nor a time limit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failed = None, None
        try:
            value = do()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, value, failed)

    threading.Thread(target=run, name="telstate doctor", daemon=True).start()
    return await result


async def unknown_host(url: str) -> str | None:
    """Return why the host of a URL has no address; None if it has one.

    A name server that does not answer blocks whoever asks, in libraries too, where nothing can be done about it: so this comes first.
    """
    host = urlsplit(url).hostname or ""
    try:
        with anyio.fail_after(_LOOK_UP_WITHIN):
            await aside(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except TimeoutError:
        return f"no name server says within {_LOOK_UP_WITHIN:g} seconds where {host} is"
    except (OSError, UnicodeError) as error:
        return f"no address of {host} is known: {getattr(error, 'strerror', None) or error}"
    return None
