"""Each handler runs in a copy of one clean context: what it sets in a ContextVar is seen by what it calls, and by nobody else.

A worker runs the handlers of many sessions, one after another. Without this, the structlog context that a handler binds for
its call would stand in the lines of the next one. A task for each handler would do the same and cost ten times as much.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

__all__ = ["Isolated"]


class Isolated:
    """Awaits a coroutine, each of its steps inside a context.

    Args:
        coroutine: not begun yet.
        context: where it runs; nobody else may be in it.
    """

    __slots__ = ("_context", "_coroutine", "suspended")

    def __init__(self, coroutine: Coroutine[Any, Any, object], context: Context) -> None:
        self._coroutine = coroutine
        self._context = context
        self.suspended = False
        """True once it has waited for something: before that, nobody can have cancelled it."""

    def __await__(self) -> Generator[Any, Any, object]:
        """Hand on what the event loop sends or throws, and what the coroutine waits for."""
        run, coroutine = self._context.run, self._coroutine
        step, given = coroutine.send, None
        while True:
            try:
                waits_for = run(step, given)
            except StopIteration as end:
                return end.value
            self.suspended = True
            try:
                given = yield waits_for
                step = coroutine.send
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:  # a cancellation above all: it is the coroutine's to see
                step, given = coroutine.throw, error
