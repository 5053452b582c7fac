"""The log of everything in telstate: the name of what happened and its facts, with ids and states, without phone numbers.

Lines go to the standard library's logger `telstate`, so its handlers, its levels and pytest's `caplog` see them. If the program
has configured structlog, they go to structlog instead. telstate never logs to standard output by itself.

Exceptions are logged as text: with `exc_info`, structlog shows local variables, and those hold phone numbers.

Repeated lines are limited: of one name and reason a few are written, then one that says how many more there were.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from traceback import format_exception
from typing import Any
from uuid import uuid4

from telstate.calls._session import Session
from telstate.errors import TelstateError, cut_text, printable, printable_lines
from telstate.events._known_names import names_in
from telstate.events._masking import mask, mask_cut
from telstate.routing._log_limit import LineLimit

__all__ = [
    "Log",
    "configured_structlog",
    "display_names",
    "failure_of",
    "of_session",
    "random_letters",
    "report_repeated",
    "repr_of",
    "text_of",
    "traceback_of",
]

_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_NAME = "telstate"
_METHODS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}

_IDS = frozenset({"session_id", "sip_call_id", "event_id", "room", "uuid", "session_ids", "see"})
"""Facts that stay as they are, even if they look like a number or an address: people search logs for them, or run what they name."""

_LONGEST_TRACEBACK = 16_000
"""Characters. An exception's text may have megabytes, and masking those would stop the event loop for seconds."""
_LONGEST_TEXT = 1_000

_REASONS = ("error", "reason", "handler")
"""Facts that tell lines of one name apart: each reason has a limit of its own, whatever numbers are in it."""
_numbers = re.compile(r"\d+").sub
_NOT_LIMITED = frozenset({"session.moved", "log.repeated"})
"""The program asks for each of the first; the second is what limits the others."""

_LIMITED: set[LineLimit] = set()
"""The limits that have suppressed lines nobody has reported yet."""


class Log:
    """Writes log lines.

    Args:
        burst: how many lines of one name and reason are written in a window. `report_repeated` says how many more there were.
        every: the length of a window, in seconds.

    A line that cannot be written (a closed stream, a full disk, a handler that raises) is dropped: it must neither end the
    handling of calls nor change an answer.
    """

    __slots__ = ("_limit", "_standard", "_structlog")

    def __init__(self, *, burst: int = 20, every: float = 5.0) -> None:
        self._limit = LineLimit(burst, every)
        self._standard = logging.getLogger(_NAME)
        self._structlog: Any = None

    def info(self, event: str, **facts: Any) -> None:
        """Log what happened."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Log what an operator should know."""
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Log what an operator should look into."""
        self._write(logging.ERROR, event, facts)

    def failed(self, event: str, error: BaseException, **facts: Any) -> None:
        """Log a failure after which it is tried again: a warning, or an error if nobody foresaw it."""
        level = logging.WARNING if isinstance(error, TelstateError) else logging.ERROR
        self._write(level, event, {**failure_of(error), **facts})

    def _write(self, level: int, event: str, facts: Mapping[str, Any]) -> None:
        with suppress(Exception):
            if event not in _NOT_LIMITED and not self._admits(event, facts):
                return
            if (structlog := configured_structlog()) is not None:
                if self._structlog is None:
                    self._structlog = structlog.get_logger(_NAME)
                getattr(self._structlog, _METHODS[level])(event, **_harmless(_masked(facts)))
            elif self._standard.isEnabledFor(level):
                self._standard.log(level, _line(event, _masked(facts)), stacklevel=3)  # 3: the caller of `info`

    def _admits(self, event: str, facts: Mapping[str, Any]) -> bool:
        now = monotonic()
        _report(self._limit, now)
        admitted = self._limit.admits(event, _reason_of(facts), now)
        if not admitted:
            _LIMITED.add(self._limit)
        return admitted


def configured_structlog() -> Any:
    """Return the package structlog if the program has configured it, and so has imported it; else None.

    Importing it takes a quarter of telstate's start.
    """
    structlog = sys.modules.get("structlog")
    return structlog if structlog is not None and structlog.is_configured() else None


def report_repeated(*, all_of_them: bool = False) -> None:
    """Log how many lines were not written, of each kind whose window is over: called now and then.

    Args:
        all_of_them: also where the window is not over, because nobody will call again.
    """
    now = monotonic()
    for limit in list(_LIMITED):
        if not _report(limit, now, all_of_them=all_of_them):
            _LIMITED.discard(limit)


def _report(limit: LineLimit, now: float, *, all_of_them: bool = False) -> bool:
    """Log what a limit has suppressed; return whether it still has windows."""
    for found in limit.expire(now, all_of_them=all_of_them):
        facts = {"name": found.event, "reason": found.detail or None, "times": found.lines, "seconds": found.seconds}
        _REPEATED.warning("log.repeated", **facts)
    return limit.in_use


def _reason_of(facts: Mapping[str, Any]) -> str:
    found = next((str(facts[name])[:200] for name in _REASONS if facts.get(name) is not None), "")
    return _numbers("N", found)


_REPEATED = Log()


def text_of(error: BaseException) -> str:
    """An exception's text, shortened. Some exceptions raise when asked for it, or even exit."""
    return _read_by(str, error)


def repr_of(error: BaseException) -> str:
    """An exception's type and text, shortened; as `text_of`."""
    return _read_by(repr, error)


def _read_by(read: Callable[[object], str], error: BaseException) -> str:
    try:
        text = cut_text(read(error), _LONGEST_TEXT)
        return text.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be encoded
    except BaseException:
        return f"a {type(error).__name__} whose text cannot be read"


def traceback_of(error: BaseException, names: Iterable[str | None] = ()) -> str:
    """An exception with its traceback, as Python shows it, but shortened, harmless to a terminal, and with everything private masked.

    Args:
        error: what was raised.
        names: display names that are known, see `display_names`.
    """
    try:
        return printable_lines(mask_cut("".join(format_exception(error)), _LONGEST_TRACEBACK, names))
    except BaseException:
        return f"a {type(error).__name__} whose traceback cannot be read"


def failure_of(error: BaseException, names: Iterable[str | None] = ()) -> dict[str, str]:
    """What a line says of a failure: the sentence of an error of telstate's own, and the traceback of any other, which nobody foresaw.

    Args:
        error: what was raised.
        names: display names that are known, see `display_names`.
    """
    if isinstance(error, TelstateError):
        return {"error": mask_cut(text_of(error), _LONGEST_TEXT, names)}
    return {"exception": traceback_of(error, names)}


def display_names(session: Session | None, event: object = None) -> list[str]:
    """The display names that texts about a session or an event may mention."""
    known = [
        {name: getattr(one, name, None) for name in ("display_name", "user_name", "sip_from", "sip_headers")}
        for one in (session, event)
    ]
    known.append(getattr(event, "model_extra", None) or {})
    return names_in(known)


def of_session(session: Session | None) -> dict[str, str | None]:
    """The facts that every line about a session carries. No numbers, no addresses."""
    if session is None:
        return {"session_id": None, "sip_call_id": None, "direction": None, "room": None}
    return {
        "session_id": session.session_id,
        "sip_call_id": session.sip_call_id,
        "direction": str(session.direction),
        "room": session.room,
    }


def _masked(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact if name in _IDS or name == "exception" else _masked_fact(fact) for name, fact in facts.items()}


def _masked_fact(fact: Any) -> Any:
    if isinstance(fact, str):
        return mask(fact)
    if isinstance(fact, (list, tuple)):
        return [_masked_fact(item) for item in fact]
    return fact if fact is None or isinstance(fact, (int, float)) else mask(str(fact))


def _harmless(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As `_shown` escapes it for the standard library: not all renderers of structlog do."""
    return {
        name: (printable_lines if name == "exception" else printable)(fact) if isinstance(fact, str) else fact
        for name, fact in facts.items()
    }


def _line(event: str, facts: Mapping[str, Any]) -> str:
    """`session.moved source=idle target=connected`; facts that are None are left out, a traceback follows on its own lines."""
    traceback = facts.get("exception")
    pairs = [f"{name}={_shown(fact)}" for name, fact in facts.items() if fact is not None and name != "exception"]
    return " ".join([event, *pairs]) + (f"\n{str(traceback).rstrip()}" if traceback else "")


def _shown(fact: Any) -> str:
    """A word as it is; other text quoted and escaped, so that nothing from outside can pass for a line of its own."""
    if isinstance(fact, str) and fact.isprintable() and not set(fact).intersection(" =\"'") and fact:
        return str(fact)
    return repr(str(fact) if isinstance(fact, str) else fact)


def random_letters(length: int) -> str:
    """Return a random name of at most 32 characters for the log. It has no digits, which would now and then be masked as a phone number."""
    return uuid4().hex[:length].translate(_LETTERS)
