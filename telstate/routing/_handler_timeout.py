"""The timeout of a handler: it is cancelled when it takes too long, and its event becomes a dead letter.

A handler that hangs holds up its session, and takes a place of the pending limit. Enough of them stop the whole service.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

from telstate.errors import DefinitionError, HandlerTimeout
from telstate.routing._ports import Clock

__all__ = ["checked_timeout", "with_timeout"]

Run = Callable[[Any], Coroutine[Any, Any, object]]


def checked_timeout(timeout: float | None) -> float | None:
    """Return a `timeout=` if it is one.

    Raises:
        DefinitionError: if it is not a number of seconds above 0.
    """
    given: Any = timeout
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise DefinitionError(
            f"timeout= takes seconds above 0, not {given!r}: None for the router's, math.inf for no timeout"
        )
    return timeout


def with_timeout(run: Run, timeout: float | None, name: str, clock: Clock) -> Run:
    """Wrap a handler, with its middlewares and its retries, so that it is cancelled after so many seconds of the clock."""
    if timeout is None or timeout == math.inf:
        return run

    async def run_within(job: Any) -> object:
        result = error = None
        with clock.move_on_after(timeout) as scope:
            try:
                result = await run(job)
            except Exception as raised:  # what it makes of its cancellation is no news
                if not scope.cancel_called:
                    raise
                error = raised
        if scope.cancel_called:
            raise HandlerTimeout(name, timeout) from error
        return result

    return run_within
