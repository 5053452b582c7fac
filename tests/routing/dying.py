"""Programs that really die: each run is a process of its own, forked, so that it starts within milliseconds."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import structlog

from telstate import Dispatcher, Router, Settings
from telstate.journals import SqliteJournal
from telstate.routing._ports import KeptLetter

__all__ = ["SURVIVED", "letters_of", "run_until_death"]

SURVIVED = 77
"""The exit code of a run that came to its end."""


def run_until_death(
    path: Path,
    router: Router,
    body: Callable[[Dispatcher], Awaitable[object]],
    *,
    backend: str = "asyncio",
    settings: Settings | None = None,
    **options: Any,
) -> int:
    """Run a dispatcher in a process; return its exit code, or the signal that ended it, below zero.

    Args:
        path: the journal.
        router: the handlers.
        body: what runs inside the dispatcher's block.
        backend: the event loop.
        settings: of the dispatcher.
        options: further ones of the dispatcher.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            log = path.with_suffix(".log").open("a")
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
            anyio.run(lambda: _run(path, router, body, settings, options), backend=backend)
            code = SURVIVED
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def _run(
    path: Path,
    router: Router,
    body: Callable[[Dispatcher], Awaitable[object]],
    settings: Settings | None,
    options: dict[str, Any],
) -> None:
    async with Dispatcher(router, journal=SqliteJournal(path), settings=settings, **options) as calls:
        await body(calls)


def letters_of(path: Path) -> list[KeptLetter]:
    """Return the dead letters in a journal."""

    async def read() -> list[KeptLetter]:
        return [kept async for kept in SqliteJournal(path).dead_letters()]

    return anyio.run(read)
