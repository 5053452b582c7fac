"""Trying a handler again, with growing pauses, before it is given up as a dead letter. The work is stamina's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from telstate.errors import DefinitionError
from telstate.routing._log import Log

__all__ = ["Retry", "checked", "retrying"]

Run = Callable[[Mapping[str, Any]], Coroutine[Any, Any, object]]


class Retry(NamedTuple):
    """When a handler that raised is tried again: `@router.on_end(retry=Retry(attempts=5, on=httpx.HTTPError))`.

    Its session's other handlers wait meanwhile, those of other sessions do not. Needs `telstate[retry]`.
    """

    on: type[Exception] | tuple[type[Exception], ...] = Exception
    """Only for these exceptions."""
    attempts: int | None = 10
    """In all, the first one included; None for no limit but the timeout."""
    timeout: float | None = 45.0
    """Seconds from the first attempt, after which none is begun any more; None for no limit but the attempts."""
    wait_initial: float = 0.1
    """Seconds before the second attempt. The pauses double."""
    wait_max: float = 5.0
    """The longest pause, in seconds."""
    wait_jitter: float = 1.0
    """Up to so many seconds are added to each pause at random, so that not all calls try at the same moment."""


def checked(retry: Retry | int | None) -> Retry | None:
    """A registration's `retry=`: a number means so many attempts.

    Raises:
        DefinitionError: if it is neither, can never end, or stamina is not installed.
    """
    if retry is None:
        return None
    if isinstance(retry, int) and not isinstance(retry, bool):
        retry = Retry(attempts=retry)
    if not isinstance(retry, Retry):
        raise DefinitionError(f"retry= takes a Retry, or a number of attempts, not {retry!r}")
    if not all(isinstance(one, type) and issubclass(one, Exception) for one in _several(retry.on)):
        raise DefinitionError(f"retry=: on= takes an exception class, or a tuple of them, not {retry.on!r}")
    if retry.attempts is not None and retry.attempts < 1:
        raise DefinitionError(f"retry=: {retry.attempts} attempts are none; 1 means never again")
    if retry.attempts is None and retry.timeout is None:
        raise DefinitionError("retry=: without attempts and timeout it would never end: give one of them")
    if find_spec("stamina") is None:
        raise DefinitionError("retry= needs stamina: pip install 'telstate[retry]'")
    return retry


def _several(on: Any) -> tuple[Any, ...]:
    return on if isinstance(on, tuple) else (on,)


def retrying(run: Run, retry: Retry, name: str) -> Run:
    """Wrap a handler, with its middlewares, so that it is tried again."""
    import stamina  # noqa: PLC0415 - an extra

    log = Log()
    schedule = {key: value for key, value in retry._asdict().items() if key != "on"}

    async def run_again(given: Mapping[str, Any]) -> object:
        def is_worth_it(error: Exception) -> bool:
            if not isinstance(error, retry.on):
                return False
            session = given.get("session")
            log.info(
                "handler.attempt_failed",
                handler=name,
                session_id=session.session_id if session is not None else None,
                error=type(error).__name__,
            )
            return True

        # As a context, not as a decorator: stamina logs the arguments of what it decorates, and in ours are phone numbers.
        async for attempt in stamina.retry_context(on=is_worth_it, **schedule):
            with attempt:
                return await run(given)
        raise AssertionError("stamina gives an attempt or raises")

    return run_again
