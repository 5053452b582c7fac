"""The log lines that handlers write carry their session: bound for structlog, and by a filter for the standard library's logging.

    logging.getLogger().handlers[0].addFilter(SessionLogFilter())   # %(session_id)s, %(sip_call_id)s, %(direction)s, %(room)s

Where the program has neither configured structlog nor made a filter by the time its dispatcher is entered, nothing is bound.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from telstate.calls._session import Session
from telstate.routing._log import configured_structlog, of_session
from telstate.routing._ports import HandlerRun

__all__ = ["SessionLogFilter", "binding_session"]

_SESSION: ContextVar[Session | None] = ContextVar("telstate_session", default=None)
_FACTS = ("session_id", "sip_call_id", "direction", "room")
_UNKNOWN = "-"

_filters_made = False


class SessionLogFilter(logging.Filter):
    """Gives each log record the session of the handler that wrote it: `session_id`, `sip_call_id`, `direction` and `room`.

    Add it to a handler of the standard library's logging before the dispatcher is entered. It lets every record pass. Outside a handler, and
    where a fact is not known, the value is `-`. What a record already has, as by `extra=`, stays.
    """

    def __init__(self) -> None:
        global _filters_made  # noqa: PLW0603 - it is only ever set
        super().__init__()
        _filters_made = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the facts."""
        facts = of_session(_SESSION.get())
        for name in _FACTS:
            if not hasattr(record, name):
                setattr(record, name, facts[name] or _UNKNOWN)
        return True


def binding_session(_: str, run: HandlerRun) -> HandlerRun | None:
    """Return what runs a handler with its session bound to the log; None if nobody would see that."""
    structlog = configured_structlog()
    if structlog is None and not _filters_made:
        return None
    bind = None if structlog is None else structlog.contextvars.bind_contextvars

    async def bound(job: Any) -> object:
        session = job.session
        if session is not None:
            _SESSION.set(session)  # the handler has a context of its own, so nothing needs to be undone
            if bind is not None:
                bind(**{name: fact for name, fact in of_session(session).items() if fact is not None})
        return await run(job)

    return bound
