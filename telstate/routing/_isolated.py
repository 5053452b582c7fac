"""Awaiting a function of the program inside a context of its own, and telling what it raises from the end of whoever awaits it."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

__all__ = ["Isolated"]

_NOT_BEGUN = object()


class Isolated:
    """Awaits a coroutine, and runs each of its steps inside a context.

    Args:
        coroutine: not begun yet, or come to where it first suspends.
        context: where it runs; nobody else may be in it.
        waits_for: what it passed to the event loop, if it has begun.
    """

    __slots__ = ("_context", "_coroutine", "_waits_for", "closed")

    def __init__(self, coroutine: Coroutine[Any, Any, object], context: Context, waits_for: Any = _NOT_BEGUN) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for
        self.closed = False
        """True once whoever awaits it was closed. A GeneratorExit is else the handler's own."""

    @property
    def suspended(self) -> bool:
        """True once it has waited for something: before that, nobody can have cancelled it."""
        return self._waits_for is not _NOT_BEGUN

    def __await__(self) -> Generator[Any, Any, Any]:
        """Pass on what the event loop sends or throws, and what the coroutine waits for."""
        run, coroutine = self._context.run, self._coroutine
        try:
            if not self.suspended:
                self._waits_for = run(coroutine.send, None)
            while True:
                try:
                    given = yield self._waits_for
                except GeneratorExit:
                    self.closed = True
                    run(coroutine.close)
                    raise
                except BaseException as error:  # a cancellation above all: the coroutine must see it
                    self._waits_for = run(coroutine.throw, error)
                else:
                    self._waits_for = run(coroutine.send, given)
        except StopIteration as end:
            return end.value
