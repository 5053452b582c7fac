"""The runner: it calls the handlers of one event one after another, and keeps each from harming the next.

Each handler runs in a copy of one clean context: what it sets in a ContextVar reaches what it calls and nobody else. A
worker runs the handlers of many sessions; without this, what one handler binds for its call (structlog's context, say) would
stand in the log lines of the next. A task for each handler would do the same at ten times the cost.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import copy_context
from time import monotonic
from typing import Any, NamedTuple

import anyio

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.errors import NotRunning
from telstate.routing._backlog import Backlog
from telstate.routing._cancellation import forgive_cancellation, is_cancelled
from telstate.routing._gate import Gate
from telstate.routing._handlers import BoundHandler
from telstate.routing._interruption import Interruption
from telstate.routing._isolated import Isolated
from telstate.routing._lanes import Job, Lane
from telstate.routing._log import Log, display_names, of_session, repr_of, text_of, traceback_of
from telstate.routing._work_log import WorkLog

__all__ = ["Runner"]


class Runner:
    """Runs handlers.

    Args:
        observers: the handlers of errors.
        work_log: learns what is done, and what failed.
        backlog: learns which handlers wait for events.
        interruption: learns of a KeyboardInterrupt.
        gate: asked before each handler; None if handlers may start at any time.
    """

    def __init__(
        self,
        observers: tuple[BoundHandler, ...],
        work_log: WorkLog,
        backlog: Backlog,
        interruption: Interruption,
        gate: Gate | None,
    ) -> None:
        self._interruption = interruption
        self._observers = observers
        self._work_log = work_log
        self._backlog = backlog
        self._gate = gate
        # The context in which the runner is made, not that in which an event is received.
        self._context = copy_context()
        self._context.run(backlog.begin_handler)
        self._log = Log()

    def begin(self, lane: Lane, job: Job) -> Coroutine[Any, Any, None] | None:
        """Run the handlers of one event up to where one suspends; return the rest, to be awaited.

        Mostly there is no rest. Hence this is a function: a coroutine around each event, and one around each handler, would
        cost more than all else that happens here.
        """
        gate = self._gate
        for number, handler in enumerate(job.handlers):
            if handler.live_only or (gate is not None and not gate.is_open()):
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
                return self._rest(lane, job, number, Isolated(coroutine, context, waits_for))
        return None

    async def _rest(
        self,
        lane: Lane,
        job: Job,
        number: int,
        begun: Isolated | BaseException | None = None,
    ) -> None:
        """Run the handlers of one event from number `number` on. Raises nothing but cancellation.

        Args:
            begun: how far the first of them has come: to where it suspended, or to what it raised; None if it has not begun.
        """
        if begun is None:
            await forgive_cancellation(lane.task)  # of the handler before it
        for handler in job.handlers[number:]:
            if begun is None and self._gate is not None:
                await self._gate.wait_open(lane.task)
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
        begun: Isolated | BaseException | None,
    ) -> None:
        running = begun if isinstance(begun, Isolated) else None
        try:
            if isinstance(begun, BaseException):
                raised, begun = begun, None
                try:
                    raise raised
                finally:
                    del raised  # else it and this frame would keep each other, and the event
            running = running or Isolated(handler.run(job), self._context.copy())
            with self._backlog.suspended(self._context):
                if handler.live_only:
                    with anyio.CancelScope() as lane.scope:
                        await running
                else:
                    await running
            if running.suspended and is_cancelled():  # it was cut off and swallowed that: it did not finish
                await anyio.lowlevel.checkpoint()
        except BaseException as error:  # it may raise whatever there is: only our own cancellation ends a worker
            if running is not None and running.closed:
                raise  # nobody runs this worker any more
            if self._backlog.is_leaving and _needs_more_time(error):
                await self._leave(lane, handler)
            await self._raised(job, handler, error)
        finally:
            lane.scope = None

    async def _leave(self, lane: Lane, handler: BoundHandler) -> None:
        """A handler cannot finish, as the dispatcher is being left: it did not fail, and runs again at the next start, like one that is cut off."""
        self._log.info("handler.left", handler=handler.name, hint="it runs again at the next start")
        lane.handler = None  # nobody waits for it
        self._backlog.leave(1 + len(lane.jobs))
        await anyio.sleep_forever()

    async def _raised(self, job: Job, handler: BoundHandler, error: BaseException) -> None:
        """A handler raised. If it was cut off, it goes on as our cancellation; anything else is a failure of the handler."""
        self._interruption.note(error, handler.name)
        cancelled = anyio.get_cancelled_exc_class()
        if is_cancelled():
            if isinstance(error, cancelled):
                raise error
            if not isinstance(error, Exception):
                self._log_failed("handler.failed", handler, error, job.session, job.outcome)
            await anyio.lowlevel.checkpoint()
        failure: BaseException | None = error
        if isinstance(error, cancelled):
            failure = None
        elif isinstance(
            error, BaseExceptionGroup
        ):  # of a task group that was cancelled, and in which something failed too
            failure = error.split(cancelled)[1]
        if failure is None:
            failure = RuntimeError(f"the handler cancelled itself, not the dispatcher: {repr_of(error)}")
        await self._failed(job, handler, failure)

    async def _failed(self, job: Job, handler: BoundHandler, error: BaseException) -> None:
        """A handler raised: log it, keep a dead letter, run the handlers of errors."""
        self._log_failed("handler.failed", handler, error, job.session, job.outcome, see=self._work_log.see)
        self._work_log.give_up(job, type(error).__name__, text_of(error), handler.name)
        for observer in self._observers:
            running: Isolated | None = None
            try:
                failure = _Failure(job.event, job.session, job.outcome, error, handler.name)
                running = Isolated(observer.run(failure), self._context.copy())
                with self._backlog.suspended(self._context):
                    await running
            except BaseException as again:
                if running is not None and running.closed:
                    raise
                self._interruption.note(again, observer.name)
                if is_cancelled():
                    if isinstance(again, anyio.get_cancelled_exc_class()):
                        raise
                    await anyio.lowlevel.checkpoint()
                self._log_failed("handler_error.failed", observer, again, job.session, job.outcome)

    def _log_failed(
        self,
        what: str,
        handler: BoundHandler,
        error: BaseException,
        session: Session | None,
        outcome: Outcome | None,
        *,
        see: str | None = None,
    ) -> None:
        """Log what failed and for which call, with the traceback: without local variables, and with masked numbers."""
        self._log.error(
            what,
            handler=handler.name,
            **of_session(session),
            name=outcome.event.action if outcome is not None else None,
            event_id=outcome.event_id if outcome is not None else None,
            see=see,
            exception=traceback_of(error, display_names(session, outcome and outcome.event)),
        )


def _needs_more_time(error: BaseException) -> bool:
    """Return whether all that went wrong is that a dispatcher takes nothing more."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(NotRunning)[1] is None
    return isinstance(error, NotRunning)


class _Failure(NamedTuple):
    """What a handler of errors can want."""

    event: Any
    session: Any
    outcome: Any
    error: BaseException
    handler: str
