"""Each handler runs in a copy of one clean context: what it sets in a ContextVar is seen by what it calls, and by nobody else.

A worker runs the handlers of many sessions, one after another. Without this, the structlog context that a handler binds for
its call would stand in the lines of the next one. A task for each handler would do the same and cost ten times as much.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

__all__ = ["Isolated"]


_NOT_BEGUN = object()


class Isolated:
    """Awaits a coroutine, each of its steps inside a context.

    Args:
        coroutine: not begun yet, or come to where it first waits.
        context: where it runs; nobody else may be in it.
        waits_for: what it handed to the event loop, if it has begun.
    """

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, object], context: Context, waits_for: Any = _NOT_BEGUN) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for

    @property
    def suspended(self) -> bool:
        """True once it has waited for something: before that, nobody can have cancelled it."""
        return self._waits_for is not _NOT_BEGUN

    def __await__(self) -> Generator[Any, Any, None]:
        """Hand on what the event loop sends or throws, and what the coroutine waits for."""
        run, coroutine = self._context.run, self._coroutine
        try:
            if not self.suspended:
                self._waits_for = run(coroutine.send, None)
            while True:
                try:
                    given = yield self._waits_for
                except GeneratorExit:
                    run(coroutine.close)
                    raise
                except BaseException as error:  # a cancellation above all: it is the coroutine's to see
                    self._waits_for = run(coroutine.throw, error)
                else:
                    self._waits_for = run(coroutine.send, given)
        except StopIteration:
            return
