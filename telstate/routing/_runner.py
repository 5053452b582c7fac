"""The runner: it calls the handlers of one event one after another, and keeps each from harming the next.

Each handler runs in a copy of one clean context: what it sets in a ContextVar reaches what it calls and nobody else. A
worker runs the handlers of many sessions; without this, what one handler binds for its call (structlog's context, say) would
stand in the log lines of the next. A task for each handler would do the same at ten times the cost.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, NamedTuple

import anyio

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.routing._backlog import Backlog
from telstate.routing._cancellation import forgive_cancellation, is_cancelled
from telstate.routing._handlers import BoundHandler
from telstate.routing._lanes import Job, Lane
from telstate.routing._log import Log, display_names, of_session, text_of, traceback_of
from telstate.routing._work_log import WorkLog

__all__ = ["Runner"]


class Runner:
    """Runs handlers.

    Args:
        observers: the handlers of errors.
        work_log: learns what is done, and what failed.
        backlog: learns which handlers wait for events.
    """

    def __init__(self, observers: tuple[BoundHandler, ...], work_log: WorkLog, backlog: Backlog) -> None:
        self._observers = observers
        self._work_log = work_log
        self._backlog = backlog
        # The context in which the runner is made, not that in which an event is received.
        self._context = copy_context()
        self._context.run(backlog.begin_handler)
        self._log = Log()

    def begin(self, lane: Lane, job: Job) -> Coroutine[Any, Any, None] | None:
        """Run the handlers of one event up to where one suspends; return the rest, to be awaited.

        Mostly there is no rest. Hence this is a function: a coroutine around each event, and one around each handler, would
        cost more than all else that happens here.
        """
        for number, handler in enumerate(job.handlers):
            if handler.live_only:
                return self._rest(lane, job, number)
            context = self._context.copy()
            try:
                coroutine = handler.run(job)
            except BaseException as error:
                return self._rest(lane, job, number, error)
            try:
                waits_for = context.run(coroutine.send, None)
            except StopIteration:
                if lane.task is not None and lane.task.cancelling():
                    return self._rest(lane, job, number + 1)
            except BaseException as error:
                return self._rest(lane, job, number, error)
            else:
                return self._rest(lane, job, number, _Isolated(coroutine, context, waits_for))
        return None

    async def _rest(
        self,
        lane: Lane,
        job: Job,
        number: int,
        begun: _Isolated | BaseException | None = None,
    ) -> None:
        """Run the handlers of one event from number `number` on. Raises nothing but cancellation.

        Args:
            begun: how far the first of them has come: to where it suspended, or to what it raised; None if it has not begun.
        """
        if begun is None:
            await forgive_cancellation(lane.task)  # of the handler before it
        for handler in job.handlers[number:]:
            if handler.live_only and job.session is not None and job.session.ended:
                continue
            lane.handler, lane.since, lane.named_slow = handler.name, monotonic(), False
            try:
                await self._run_one(lane, job, handler, begun)
                await forgive_cancellation(lane.task)
            finally:
                lane.handler = None
            begun = None

    async def _run_one(
        self,
        lane: Lane,
        job: Job,
        handler: BoundHandler,
        begun: _Isolated | BaseException | None,
    ) -> None:
        try:
            if isinstance(begun, BaseException):
                raised, begun = begun, None
                try:
                    raise raised
                finally:
                    del raised  # else it and this frame would keep each other, and the event
            running = begun or _Isolated(handler.run(job), self._context.copy())
            with self._backlog.suspended(self._context):
                if handler.live_only:
                    with anyio.CancelScope() as lane.scope:
                        await running
                else:
                    await running
            if running.suspended and is_cancelled():  # it was cut off and swallowed that: it did not finish
                await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            own = RuntimeError(f"the handler cancelled itself, not the dispatcher: {error!r}")
            await self._failed(job, handler, own)
        except Exception as error:
            if is_cancelled():
                await anyio.lowlevel.checkpoint()
            await self._failed(job, handler, error)
        except (
            BaseExceptionGroup
        ) as group:  # of a task group that was cancelled, and in which something else failed too
            ours, theirs = group.split(anyio.get_cancelled_exc_class())
            if ours is None or (theirs is not None and not isinstance(theirs, Exception)):
                raise
            if is_cancelled():
                self._log_failed("handler.failed", handler, group, job.session, job.outcome)
                await anyio.lowlevel.checkpoint()
            own = RuntimeError(f"the handler cancelled itself: {group!r}")
            await self._failed(job, handler, theirs or own)
        finally:
            lane.scope = None

    async def _failed(self, job: Job, handler: BoundHandler, error: Exception) -> None:
        """A handler raised: log it, keep a dead letter, run the handlers of errors."""
        self._log_failed("handler.failed", handler, error, job.session, job.outcome)
        self._work_log.give_up(job, type(error).__name__, text_of(error), handler.name)
        for observer in self._observers:
            try:
                failure = _Failure(job.event, job.session, job.outcome, error, handler.name)
                running = _Isolated(observer.run(failure), self._context.copy())
                with self._backlog.suspended(self._context):
                    await running
            except (Exception, anyio.get_cancelled_exc_class()) as again:
                if is_cancelled():
                    raise
                self._log_failed("handler_error.failed", observer, again, job.session, job.outcome)

    def _log_failed(
        self,
        what: str,
        handler: BoundHandler,
        error: BaseException,
        session: Session | None,
        outcome: Outcome | None,
    ) -> None:
        """Log what failed and for which call, with the traceback: without local variables, and with masked numbers."""
        self._log.error(
            what,
            handler=handler.name,
            **of_session(session),
            name=outcome.event.action if outcome is not None else None,
            event_id=outcome.event_id if outcome is not None else None,
            exception=traceback_of(error, display_names(session, outcome and outcome.event)),
        )


class _Failure(NamedTuple):
    """What a handler of errors can want."""

    event: Any
    session: Any
    outcome: Any
    error: Exception
    handler: str


_NOT_BEGUN = object()


class _Isolated:
    """Awaits a coroutine, and runs each of its steps inside a context.

    Args:
        coroutine: not begun yet, or come to where it first suspends.
        context: where it runs; nobody else may be in it.
        waits_for: what it passed to the event loop, if it has begun.
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
        """Pass on what the event loop sends or throws, and what the coroutine waits for."""
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
                except BaseException as error:  # a cancellation above all: the coroutine must see it
                    self._waits_for = run(coroutine.throw, error)
                else:
                    self._waits_for = run(coroutine.send, given)
        except StopIteration:
            return
