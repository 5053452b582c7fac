"""Trying a handler again, with growing pauses, before it becomes a dead letter. The schedule is tenacity's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, NamedTuple

import anyio

from telstate.errors import DefinitionError
from telstate.routing._log import Log
from telstate.routing._ports import Clock

__all__ = ["Retry", "checked", "retrying"]

Run = Callable[[Any], Coroutine[Any, Any, object]]


class Retry(NamedTuple):
    """When to try a handler again that raised: `@router.on_end(retry=Retry(attempts=5, on=httpx.HTTPError))`.

    Other handlers of its session wait meanwhile, those of other sessions do not. The dispatcher's clock governs the pauses.
    Needs `telstate[retry]`.

    Attributes:
        on: the exceptions after which the handler is tried again.
        attempts: how many attempts in all, the first one included; None for no limit but the timeout.
        timeout: seconds from the first attempt, after which no other begins; None for no limit but the attempts.
        wait_initial: seconds before the second attempt. The pauses double.
        wait_max: the longest pause, in seconds, without jitter.
        wait_jitter: up to this many seconds are added to each pause at random, so that not all calls retry at the
            same moment.
    """

    on: type[Exception] | tuple[type[Exception], ...] = Exception
    attempts: int | None = 10
    timeout: float | None = 45.0
    wait_initial: float = 0.1
    wait_max: float = 5.0
    wait_jitter: float = 1.0


def checked(retry: Retry | int | None) -> Retry | None:
    """Read a registration's `retry=`: a number means so many attempts.

    Raises:
        DefinitionError: if it is neither, can never end, or tenacity is not installed.
    """
    if retry is None:
        return None
    if isinstance(retry, int) and not isinstance(retry, bool):
        retry = Retry(attempts=retry)
    if not isinstance(retry, Retry):
        raise DefinitionError(f"retry= takes a Retry, or a number of attempts, not {retry!r}")
    kinds: tuple[Any, ...] = retry.on if isinstance(retry.on, tuple) else (retry.on,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise DefinitionError(f"retry=: on= takes an exception class, or a tuple of them, not {retry.on!r}")
    if retry.attempts is not None and retry.attempts < 1:
        raise DefinitionError(f"retry=: attempts= is at least 1, which means no retry, not {retry.attempts}")
    if retry.attempts is None and retry.timeout is None:
        raise DefinitionError("retry=: without attempts and timeout it would never end: give one of them")
    if find_spec("tenacity") is None:
        raise DefinitionError("retry= needs tenacity: pip install 'telstate[retry]'")
    return retry


def retrying(run: Run, retry: Retry, name: str, clock: Clock) -> Run:
    """Wrap a handler, with its middlewares, so that it is tried again."""
    import tenacity  # noqa: PLC0415 - an extra

    log = Log()
    pause = tenacity.wait_exponential(retry.wait_initial, retry.wait_max) + tenacity.wait_random(0, retry.wait_jitter)

    async def run_again(job: Any) -> object:
        session = job.session
        now = clock.now if clock.timers else anyio.current_time  # handlers of a recorded log wait in real time
        began = now() or 0.0

        def is_over(state: tenacity.RetryCallState) -> bool:
            if retry.attempts is not None and state.attempt_number >= retry.attempts:
                return True
            next_at = (now() or 0.0) + state.upcoming_sleep
            return retry.timeout is not None and next_at - began >= retry.timeout

        def say_so(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            session_id = session.session_id if session is not None else None
            log.info("handler.attempt_failed", handler=name, session_id=session_id, error=type(error).__name__)

        attempts = tenacity.AsyncRetrying(
            sleep=clock.sleep,
            stop=is_over,
            wait=pause,
            retry=tenacity.retry_if_exception_type(retry.on),
            before_sleep=say_so,
            reraise=True,
        )

        async def attempt() -> object:  # not a lambda: tenacity awaits only what it sees to be async
            return await run(job)

        return await attempts(attempt)

    return run_again
