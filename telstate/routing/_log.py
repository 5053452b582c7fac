"""How things are said in the log: with ids and states, without anybody's phone number, and without local variables, which
structlog shows where `exc_info` is passed."""

from __future__ import annotations

from contextlib import suppress
from traceback import format_exception
from typing import Any

import structlog

from telstate.calls._session import Session
from telstate.events._masking import mask

__all__ = ["Log", "of_session", "text_of", "traceback_of"]


def text_of(error: Exception) -> str:
    """An exception's text, cut; some cannot even tell that."""
    try:
        return str(error)[:1000].encode("utf-8", "replace").decode()  # half an emoji can be written nowhere
    except Exception:
        return f"a {type(error).__name__} whose text cannot be had"


class Log:
    """structlog's logger, but for one thing: a log that cannot be written (its reader is gone, its disk is full) must neither end
    the handling of calls nor change an answer."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("telstate")

    def info(self, event: str, **facts: Any) -> None:
        """Tell what happened."""
        with suppress(Exception):
            self._log.info(event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tell what somebody should know."""
        with suppress(Exception):
            self._log.warning(event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        """Tell what somebody should look at."""
        with suppress(Exception):
            self._log.error(event, **facts)


def traceback_of(error: BaseException) -> str:
    """An exception as Python shows it, without anybody's phone number."""
    try:
        return mask("".join(format_exception(error)))
    except Exception:
        return f"a {type(error).__name__} whose traceback cannot be had"


def of_session(session: Session | None) -> dict[str, str | None]:
    """What every line about a session carries. No numbers, no addresses."""
    if session is None:
        return {"session_id": None, "sip_call_id": None, "direction": None}
    return {"session_id": session.session_id, "sip_call_id": session.sip_call_id, "direction": str(session.direction)}
