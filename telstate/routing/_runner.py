"""The runner: calls the handlers of one event, one after another, and lets nothing that one of them does reach the next."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from time import monotonic
from typing import Any

import anyio

from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.routing._cancellation import forgive_cancellation, is_cancelled
from telstate.routing._isolation import Isolated
from telstate.routing._lanes import Job, Lane, Lanes
from telstate.routing._log import Log, of_session, traceback_of
from telstate.routing._plan import Call

__all__ = ["IN_HANDLER", "Runner"]

IN_HANDLER: ContextVar[bool] = ContextVar("telstate_inside_a_handler", default=False)
"""True in a handler, and in what it started."""


def _clean_context() -> Context:
    """What handlers see: the context of whoever makes it, so not that of whoever brings an event."""
    context = copy_context()
    context.run(IN_HANDLER.set, True)
    return context


class Runner:
    """Runs handlers.

    Args:
        calls: what handlers get as `calls`.
        bury: told of a handler that raised: what it was to do, its name, the exception.
    """

    def __init__(self, calls: Any, bury: Callable[[Job, str, Exception], None]) -> None:
        self._calls = calls
        self._bury = bury
        self._observers: tuple[Call, ...] = ()
        self._context = _clean_context()
        self._log = Log()

    def open(self, observers: tuple[Call, ...]) -> None:
        """Handlers run in the present context from now on; `observers` are those of errors."""
        self._observers = observers
        self._context = _clean_context()

    def begin(self, lane: Lane, job: Job) -> Coroutine[Any, Any, None] | None:
        """Run the handlers of one event up to where one waits; what is left then is returned, to be awaited.

        Mostly that is nothing. Hence this is a function: a coroutine around each event, and one around each handler, cost more
        than all else that is done here.
        """
        given = {"event": job.event, "session": job.session, "outcome": job.outcome, "calls": self._calls}
        for number, call in enumerate(job.calls):
            if call.live_only:
                return self._rest(lane, job, given, number)
            context = self._context.copy()
            try:
                coroutine = call.run(given)
            except BaseException as error:
                return self._rest(lane, job, given, number, error)
            try:
                waits_for = context.run(coroutine.send, None)
            except StopIteration:
                if lane.task is not None and lane.task.cancelling():
                    return self._rest(lane, job, given, number + 1)
            except BaseException as error:
                return self._rest(lane, job, given, number, error)
            else:
                return self._rest(lane, job, given, number, Isolated(coroutine, context, waits_for))
        return None

    async def _rest(
        self, lane: Lane, job: Job, given: dict[str, Any], number: int, begun: Isolated | BaseException | None = None
    ) -> None:
        """Run the handlers of one event from the one with this number on; raises nothing but cancellation.

        Args:
            begun: how far the first of them has come, if it was begun: to where it waits, or to what it raised.
        """
        if begun is None:
            await forgive_cancellation(lane.task)  # of the one before it
        for call in job.calls[number:]:
            if call.live_only and job.session is not None and job.session.ended:
                continue
            lane.handler, lane.since, lane.told = call.name, monotonic(), False
            try:
                await self._run_one(lane, job, call, given, begun)
                await forgive_cancellation(lane.task)
            finally:
                lane.handler = None
            begun = None

    async def _run_one(
        self, lane: Lane, job: Job, call: Call, given: dict[str, Any], begun: Isolated | BaseException | None
    ) -> None:
        try:
            if isinstance(begun, BaseException):
                raised, begun = begun, None
                try:
                    raise raised
                finally:
                    del raised  # else it and this frame would keep each other, and the event
            handler = begun or Isolated(call.run(given), self._context.copy())
            if call.live_only:
                with anyio.CancelScope() as lane.scope:
                    await handler
            else:
                await handler
            if handler.suspended and is_cancelled():  # cut off, whatever it made of that: it did not finish
                await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            await self._failed(job, call, RuntimeError(f"cancelled by itself, not by the dispatcher: {error!r}"), given)
        except Exception as error:
            if is_cancelled():
                await anyio.lowlevel.checkpoint()
            await self._failed(job, call, error, given)
        except BaseExceptionGroup as group:  # of a task group that was cancelled, and had something to say to that
            ours, theirs = group.split(anyio.get_cancelled_exc_class())
            if ours is None or (theirs is not None and not isinstance(theirs, Exception)):
                raise
            if is_cancelled():
                self.log_failure("handler.failed", call, group, job.session, job.outcome)
                await anyio.lowlevel.checkpoint()
            await self._failed(job, call, theirs or RuntimeError(f"cancelled by itself: {group!r}"), given)
        finally:
            lane.scope = None

    async def _failed(self, job: Job, call: Call, error: Exception, given: dict[str, Any]) -> None:
        """A handler raised: log it, bury it, tell the handlers of errors."""
        outcome = job.outcome
        self.log_failure("handler.failed", call, error, job.session, outcome)
        self._bury(job, call.name, error)
        for observer in self._observers:
            try:
                facts = {**given, "error": error, "handler": call.name}
                await Isolated(observer.run(facts), self._context.copy())
            except (Exception, anyio.get_cancelled_exc_class()) as again:
                if is_cancelled():
                    raise
                self.log_failure("handler_error.failed", observer, again, job.session, outcome)

    def filter_failed(self, call: Call, error: Exception) -> None:
        """A predicate raised; its handler does not run."""
        self.log_failure("filter.failed", call, error, None, None)

    def log_failure(
        self, what: str, call: Call, error: BaseException, session: Session | None, outcome: Outcome | None
    ) -> None:
        """Say what failed, of which call, with the traceback: without local variables, and with masked numbers."""
        with suppress(Exception):  # a log that cannot be written must not end the handling of calls
            self._log.error(
                what,
                handler=call.name,
                **of_session(session),
                name=outcome.event.action if outcome is not None else None,
                event_id=outcome.event_id if outcome is not None else None,
                exception=traceback_of(error),
            )

    def name_slow_ones(self, lanes: Lanes, slow_after: float) -> None:
        """Name handlers that run for long, once each. One look at all of them costs less than a timeout around each."""
        now = monotonic()
        for lane in lanes.running():
            if not lane.told and now - lane.since >= slow_after:
                lane.told = True
                facts = {"lane": str(lane.key), "seconds": round(now - lane.since, 1), "waiting": len(lane.jobs)}
                self._log.warning("handler.slow", handler=lane.handler, **facts)
