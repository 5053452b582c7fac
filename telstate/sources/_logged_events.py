"""Finds the event in a line that an application logged: loguru (plain or serialized), structlog, the standard library's logging, and what
collects such logs (Docker, Kubernetes, cloud loggers), which wrap them once more.

    2026-01-01 12:00:00.000 | INFO | bot:on_dialout_answered:42 - Dial-out answered: {'sessionId': '…'}
    {"event": "daily", "handler": "on_dialout_answered", "data": {"sessionId": "…"}, "timestamp": "2026-01-01T12:00:00Z"}

An event is found by what it says itself (`action`, `type` with `payload`, `handler` with `data`), or as the dict of a handler whose name
stands beside it: in the text, in words ("dial-out answered"), or as the function that logged it. Anything that only resembles an
event is none. Nothing in a line is executed: dicts are read with the JSON decoder and `ast.literal_eval`, and each of these steps has a limit
of size, depth or number.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import from_json

from telstate.errors import ParseError
from telstate.events import Dialect
from telstate.events._base import BY_NAME
from telstate.events._dialects.journal import wrap
from telstate.events._json import to_bytes
from telstate.events._parse import parse_line

__all__ = ["FoundEvent", "event_in", "is_from_application"]

_LONGEST_LINE = 1 << 20
"""Bytes. Daily's events have a few kilobytes."""
_LONGEST_DICT = 1 << 16
"""Characters of a dict in a text."""
_DEEPEST = 40
"""Levels within it; an event has five."""
_MOST_DICTS = 8
"""How many dicts of one text are tried."""
_MOST_VALUES = 300
"""How many values of one line are looked at."""
_DEEPEST_RECORD = 5
"""A log in a log in a log."""


class FoundEvent(NamedTuple):
    """An event in a line of a log."""

    payload: bytes
    """The event alone."""
    at: float | None
    """The line's time, in Unix seconds; None if the payload has a time, or the line has none."""
    dialect: Dialect
    is_whole_line: bool = False
    """Whether the line is the event itself, so that it need not come from an application's log."""

    def as_line(self, seq: int = 0) -> bytes:
        """The event as a line of a log of events."""
        return self.payload if self.at is None else wrap(seq, self.at, self.dialect, self.payload)


def event_in(line: bytes) -> FoundEvent | None:
    """Return the first event in a line of an application's log, or None if there is none."""
    if len(line) > _LONGEST_LINE or _SIGN.search(line) is None:
        return None
    search = _Search()
    for payload, at in search.look_at(_plain(line), _Context()):
        try:
            event, own, dialect, _, _, is_record = parse_line(payload)
        except ParseError:
            continue
        if event is not None:
            has_time = is_record or own is not None
            return FoundEvent(payload, None if has_time else at, dialect, search.whole == payload)
    return None


def is_from_application(line: bytes) -> bool:
    """Return True for a line as logging libraries write them, with or without an event in it."""
    text = _plain(line[:2000])
    if _HEAD.match(text):
        return True
    return text.lstrip().startswith("{") and _JSON_LOG.search(text) is not None


# --- what is looked for ---------------------------------------------------------------------------------------------

_CALL = r"dial[-_. ]?(?P<way>in|out)[-_. ]?(?P<what>ready|connected|answered|stopped|error|warning)"
_NAME = re.compile(
    rf"(?<![A-Za-z0-9])(?:on[-_ ])?(?:{_CALL}|(?P<other>dtmf[-_ ]event|participant[-_. ](?:joined|left)))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""The name of a handler or an event, in any spelling."""
_HANDLER_FIELDS = frozenset(
    [
        "sessionId",
        "participantId",
        "actionTraceId",
        "message",
        "errorMsg",
        "type",
        "details",
        "provider",
        "sipCallId",
        "userId",
        "origin",
        "destination",
        "callerId",
        "sipFrom",
        "sipTo",
        "sipHeaders",
        "sipEndpoint",
        "displayName",
        "direction",
        "reason",
        "error",
        "tone",
        "volume",
        "method",
        "callClientId",
        "room",
    ]
)
"""What a dict of a handler may have, so that the settings of some request in the same line are not taken for one."""
_ENDPOINT = re.compile(
    r"(?<![\w.])(?:sip:)?[\w.+-]{1,100}@[a-z0-9.-]{1,200}\.(?:daily\.co|signalwire\.com)(?![\w@.-])", re.IGNORECASE
)
"""A room's SIP endpoint, which is all that `on_dialin_ready` gets."""


_SIGN = re.compile(
    rb"""dial[-_. ]?(?:in|out)|dtmf|participant|["'](?:action|handler|payload)[\\"']|call_?domain""", re.IGNORECASE
)
"""One of these is in every line with an event, and in few others: this rules out nearly all of a log at little cost."""
_HEAD = re.compile(
    r"\W{0,4}(?:<\d{1,3}>\d? ?)?(?:"
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\d\d[:.]\d\d[:.]\d\d\b|\d{4}/\d\d/\d\d \d\d:|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
    r"|(?:TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARN|WARNING|ERROR|CRITICAL|FATAL)[:|\] \t])"
)
"""A time or a level at the beginning of a line."""
_JSON_LOG = re.compile(
    r'"(?:level|levelname|log_level|severity|PRIORITY|level_name|record|stream|textPayload|jsonPayload|@timestamp)"\s*:'
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _plain(line: bytes) -> str:
    """The text of a line, without colours."""
    text = line.decode("utf-8", "replace")
    return _ANSI.sub("", text) if "\x1b" in text else text


class _Context(NamedTuple):
    """What a line says around a value."""

    at: float | None = None
    has_zone: bool = False
    """Whether that time is certain."""
    handler: str | None = None


# --- the search -----------------------------------------------------------------------------------------------------


class _Search:
    """One line. Its parts yield payloads that may be events, with the time beside them."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES
        self.whole = b""
        """The line, if it names itself an event."""
        self._begins_line = False

    def look_at(self, value: Any, around: _Context, depth: int = 0) -> Iterator[tuple[bytes, float | None]]:
        """Look for events in a value of any kind."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST_RECORD:
            return
        if isinstance(value, str):
            yield from self._in_text(value, around, depth)
        elif isinstance(value, dict):
            yield from self._in_record(value, around, depth)
        elif isinstance(value, list):
            for item in value:
                yield from self.look_at(item, around, depth + 1)

    def _in_record(self, record: dict[str, Any], around: _Context, depth: int) -> Iterator[tuple[bytes, float | None]]:
        if _is_event(record):
            around = _with_time(around, _time_of(record))
            payload = _json(record)
            if depth == 1 and self._begins_line:
                self.whole = payload
            yield payload, around.at
            if not record.keys().isdisjoint(_LEVELS):  # the logger's own keys may be what keeps it from being one
                yield _json({key: value for key, value in record.items() if key not in _OF_LOGGER}), around.at
            return
        if around.handler is not None and _is_handlers(around.handler, record):
            yield _json({"handler": around.handler, "data": record}), around.at
            return
        around = _with_time(around, _time_of(record))
        texts = [record[key] for key in _TEXTS if isinstance(record.get(key), str)]
        names = [record.get("function"), record.get("funcName"), record.get("func_name"), *texts]
        handler = next(
            (name for text in reversed(names) if isinstance(text, str) and (name := _handler_in(text))), None
        )
        around = around._replace(handler=handler or around.handler)
        for key, value in record.items():
            if isinstance(value, (dict, list)) and key not in _TIMES:
                yield from self.look_at(value, around, depth + 1)
        for text in texts:
            yield from self.look_at(text, around, depth + 1)
        if texts and around.handler is not None:  # a record with the fields of the dict beside its own
            own = {key: value for key, value in record.items() if key in _HANDLER_FIELDS and key not in _TEXTS}
            if own.keys() & {"sessionId", "participantId"} and _is_handlers(around.handler, own):
                yield _json({"handler": around.handler, "data": own}), around.at

    def _in_text(self, text: str, around: _Context, depth: int) -> Iterator[tuple[bytes, float | None]]:
        begin = text.find("{")
        head, tail = (text, "") if begin < 0 else (text[:begin], text[text.rfind("}") + 1 :])
        around = _with_time(around, _time_in(head) or _time_in(tail))
        if begin >= 0 and not text[:begin].strip():
            self._begins_line = not depth
            whole = _read(text.strip())
            if isinstance(whole, dict):
                yield from self.look_at(whole, around, depth + 1)
                return
        end = 0
        for _ in range(_MOST_DICTS):
            begin = text.find("{", end)
            if begin < 0:
                break
            closed = _end_of_dict(text, begin)
            end = begin + 1 if closed is None else closed
            value = None if closed is None else _read(text[begin:end])
            if isinstance(value, dict):
                handler = _handler_in(text[:begin]) or around.handler or _handler_in(text[end : end + 200])
                yield from self.look_at(value, around._replace(handler=handler), depth + 1)
        if '{\\"' in text:  # JSON in quotes, as logfmt writes it
            yield from self.look_at(text.replace('\\"', '"'), around, depth + 1)
        if (_handler_in(text) or around.handler) == _READY:
            for endpoint in _ENDPOINT.findall(text[-1000:])[-1:]:
                yield _json({"handler": _READY, "data": endpoint}), around.at


_READY = "on_dialin_ready"


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return to_bytes(value)
    except ParseError:
        return b""


# --- what is an event -----------------------------------------------------------------------------------------------


def _is_event(value: dict[str, Any]) -> bool:
    """Return True for what names itself an event of Daily's or of telstate's; a look alike of another vendor's has no such name."""
    action, kind, handler = value.get("action"), value.get("type"), value.get("handler")
    if isinstance(action, str):
        return action in BY_NAME
    if isinstance(kind, str) and isinstance(value.get("payload"), dict):
        return "." in kind and kind.replace(".", "-") in BY_NAME
    if isinstance(handler, str) and "data" in value:
        return _handler_in(handler) is not None or handler in _OTHER_HANDLERS
    if value.get("v") == 1 and isinstance(value.get("dialect"), str):
        return "payload" in value
    caller = value.get("dialin_settings", value)
    if not isinstance(caller, dict):
        return False
    if caller is not value:
        return {"call_id", "call_domain"} <= caller.keys() or {"callId", "callDomain"} <= caller.keys()
    return {"To", "From", "callId", "callDomain"} <= caller.keys()


_OTHER_HANDLERS = frozenset({"on_left", "on_network_connection_status_updated", "on_call_state_updated"})


def _is_handlers(handler: str, value: dict[str, Any]) -> bool:
    """Return True if a dict may be what a handler of this name was called with."""
    if handler.startswith("on_participant"):
        return isinstance(value.get("id"), str) and isinstance(value.get("info"), dict)
    if not value or not value.keys() <= _HANDLER_FIELDS:
        return False
    if handler == "on_dtmf_event":
        return isinstance(value.get("tone"), str)
    if handler == _READY:
        return isinstance(value.get("sipEndpoint"), str)
    if any(isinstance(value.get(key), str) and value[key] for key in ("sessionId", "participantId")):
        return True
    return handler.endswith(("_error", "_warning")) and isinstance(value.get("errorMsg", value.get("message")), str)


def _handler_in(text: str) -> str | None:
    """Return the last handler that a text names, in whatever spelling."""
    every = list(_NAME.finditer(text[-4000:]))
    if not every:
        return None
    found = every[-1]
    if found["other"]:
        return f"on_{re.sub('[-. ]', '_', found['other'].lower())}"
    way, what = found["way"].lower(), found["what"].lower()
    return None if (way, what) in {("in", "answered"), ("out", "ready")} else f"on_dial{way}_{what}"


# --- dicts in a text ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[{}\[\]()'"]""", re.DOTALL)


def _end_of_dict(text: str, begin: int) -> int | None:
    """Return where the dict that begins here ends; None if it does not, or is too large or too deep."""
    depth = 0
    for token in _TOKEN.finditer(text, begin, begin + _LONGEST_DICT):
        one = token[0]
        if one in ("{", "[", "("):
            depth += 1
            if depth > _DEEPEST:
                return None
        elif one in ("}", "]", ")"):
            depth -= 1
            if not depth:
                return token.end()
        elif len(one) == 1:
            return None  # a quote without its partner
    return None


def _read(text: str) -> Any:
    """Read JSON, or the repr of a Python value; None if it is neither."""
    try:
        return from_json(text.encode("utf-8", "replace"))
    except ValueError:
        pass
    if len(text) > _LONGEST_DICT or _end_of_dict(text, 0) != len(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


# --- times ----------------------------------------------------------------------------------------------------------

_TEXTS = ("message", "msg", "event", "text", "log", "MESSAGE", "textPayload", "body")
"""The keys of the text of a log record; the more exact one first."""
_TIMES = ("timestamp", "@timestamp", "time", "ts", "asctime", "datetime", "created", "__REALTIME_TIMESTAMP")
_LEVELS = frozenset({"level", "levelname", "log_level", "severity"})
_OF_LOGGER = _LEVELS | {"event", "logger", "message", "msg", *_TIMES}
_TIME = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|UTC|[+-]\d\d:?\d\d)?(?![\d:])",
    re.IGNORECASE,
)


class _Time(NamedTuple):
    at: float
    has_zone: bool


def _with_time(around: _Context, time: _Time | None) -> _Context:
    """A time with a zone is exact; else the one closest to the event counts."""
    if time is None or (around.has_zone and not time.has_zone):
        return around
    return around._replace(at=time.at, has_zone=time.has_zone)


def _time_of(record: Mapping[str, Any]) -> _Time | None:
    """Return the time of a log record."""
    for key in _TIMES:
        value = record.get(key)
        if isinstance(value, dict):  # loguru: {"repr": "…", "timestamp": 1767268800.0}
            value = value.get("timestamp", value.get("repr"))
        time = (_time_in(value) if isinstance(value, str) else None) or _time_from(value)
        if time is not None:
            return time
    return None


def _time_from(value: Any) -> _Time | None:
    """Read a number of seconds, or of milliseconds, microseconds or nanoseconds, which only its size tells."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    for unit in (1.0, 1e3, 1e6, 1e9):
        if 1e9 <= number / unit < 1e10:
            return _Time(number / unit, has_zone=True)
    return None


def _time_in(text: str) -> _Time | None:
    """Return the first time with a zone near the beginning of a text, else the first one. Without a zone it is taken as UTC."""
    first = None
    for found in _TIME.finditer(text[:300]):
        year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
        zone = found[8]
        try:
            at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC).timestamp()
        except ValueError:
            continue
        at += float(f"0.{found[7] or 0}") + (second == 60)
        if zone is not None:
            return _Time(at - _offset(zone), has_zone=True)
        first = first or _Time(at, has_zone=False)
    return first


def _offset(zone: str) -> float:
    """Seconds east of Greenwich."""
    if zone[0] not in "+-":
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)
