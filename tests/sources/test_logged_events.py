"""Events in the lines that applications log: with the real loguru, structlog and logging, and what is none."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from telstate.events._parse import parse_line
from telstate.sources._logged_events import event_in, is_from_application
from tests.corpus import payloads
from tests.sources.live import installed

loguru = installed("loguru")

ID = "6d2f6f0e-6a1c-4d6e-8d1c-0f3f5a0a1b01"
NOON = 1767268800.0
"""2026-01-01 12:00 UTC."""
HEAD = "2026-01-01 12:00:00.250 | INFO     | bot:run:42 - "


def found(line: str | bytes) -> tuple[str, str | None, float | None] | None:
    """The event in a line: its name, its session, and its time."""
    logged = event_in(line.encode() if isinstance(line, str) else line)
    if logged is None:
        return None
    event, at, *_ = parse_line(logged.as_line())
    assert event is not None
    participant = getattr(event, "participant", None)
    return event.action, getattr(event, "session_id", None) or getattr(participant, "session_id", None), at


def with_loguru(log: Callable[[], None], **options: Any) -> list[str]:
    """What loguru writes."""
    out = io.StringIO()
    number = loguru.logger.add(out, **options)
    try:
        log()
    finally:
        loguru.logger.remove(number)
    return out.getvalue().rstrip("\n").split("\n")


def on_dialout_answered(data: dict[str, Any]) -> None:
    """A handler whose text does not name the event."""
    loguru.logger.info(f"they are there {data} now")
    loguru.logger.bind(payload=data).info("they are there")


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, [True, False]),
        ({"colorize": True}, [True, False]),
        ({"serialize": True}, [True, True]),
        ({"format": "{time} {level} {message} {extra}"}, [False, False]),
        ({"format": "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} [{level}] {function} {message} {extra}"}, [True, True]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("value", ['it\'s "quoted" {here}', None, "O'Neill", "\n", "ä\u2028\\"])
def test_loguru(options: dict[str, Any], lines: list[bool], value: Any) -> None:
    """The function names the handler; without it, nothing does. The time is when it was logged."""
    before = time.time()
    written = with_loguru(lambda: on_dialout_answered({"sessionId": ID, "actionTraceId": value}), **options)
    assert [found(line) is not None for line in written] == lines
    for line in written:
        assert is_from_application(line.encode())
        if (event := found(line)) is not None:
            assert event[:2] == ("dialout-answered", ID)
            assert event[2] is not None
            assert abs(event[2] - before) % 1800 < 60  # in local time, if that is not UTC


@pytest.mark.parametrize("payload", [one["payload"] for one in payloads()][::3])
def test_every_dialect_is_found_in_a_text(payload: dict[str, Any]) -> None:
    """As JSON and as Python's repr, with text around it. Its own time outweighs the line's."""
    event, at, *_ = parse_line(payload)
    assert event is not None
    for text in (json.dumps(payload), repr(payload)):
        for line in (f"{HEAD}received {text}", f"{HEAD}received {text} (attempt 1)", text):
            logged = event_in(line.encode())
            assert logged is not None
            again, time_found, *_ = parse_line(logged.as_line())
            assert again == event
            assert time_found == (at or (NOON + 0.25 if line != text else None))


def test_structlog_as_json() -> None:
    """Nested, beside the logger's own keys, or spread over them."""
    out = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(out),
        [
            structlog.processors.add_log_level,
            lambda *_: _[2] | {"timestamp": "2026-01-01T12:00:00Z"},
            structlog.processors.JSONRenderer(),
        ],
    )
    log.info("daily", payload={"action": "dialout-connected", "sessionId": ID})
    log.info("daily", handler="on_dialout_answered", data={"sessionId": ID})
    log.info("on_dialout_answered", data={"sessionId": ID})
    log.info("on_dialout_answered", sessionId=ID, actionTraceId=None)
    log.info("dial-out stopped", sessionId=ID, message="bye")
    log.info(f"on_dialout_answered {({'sessionId': ID},)}")
    log.info("a caller", To="+12025550100", From="+12025550101", callId="c", callDomain="d")
    assert [found(line) for line in out.getvalue().splitlines()] == [
        ("dialout-connected", ID, NOON),
        *[("dialout-answered", ID, NOON)] * 3,
        ("dialout-stopped", ID, NOON),
        ("dialout-answered", ID, NOON),
        ("pinless-dialin", None, NOON),
    ]


@pytest.mark.parametrize(
    "style",
    [
        logging.BASIC_FORMAT,
        "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
        "[%(asctime)s: %(levelname)s/x] %(message)s",
    ],
)
def test_the_standard_librarys_logging(style: str) -> None:
    """basicConfig has no time."""
    record = logging.LogRecord(
        "bot", logging.INFO, "bot.py", 1, "on_dialout_error: %s", ({"sessionId": ID, "message": "no"},), None
    )
    line = logging.Formatter(style).format(record)
    assert is_from_application(line.encode())
    event = found(line)
    assert event is not None
    assert event[:2] == ("dialout-error", ID)
    assert (event[2] is None) == (style is logging.BASIC_FORMAT)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("on_dialout_connected {}", "dialout-connected"),
        ("Dial-out answered: {}", "dialout-answered"),
        ("DIALOUT ANSWERED: {}", "dialout-answered"),
        ("dialout.answered {}", "dialout-answered"),
        ("dial out stopped, bye {}", "dialout-stopped"),
        ("got {} in on_dialout_stopped", "dialout-stopped"),
        ("{} -> on_dialout_stopped", "dialout-stopped"),
        ("DailyTransport#0 dial-in connected: {}", "dialin-connected"),
        ("after on_dialout_connected came on_dialout_answered: {}", "dialout-answered"),
        ("event={} ", None),
        ("dialin answered {}", None),
        ("on_dialout_answered_handler {}", "dialout-answered"),
        ("fondialout_answered {}", None),
        ("on_call_state_updated {}", None),
    ],
)
def test_names(text: str, action: str | None) -> None:
    """In any spelling, the nearest before the dict; there is no dial-in answered."""
    for shown in (text, HEAD + text):
        event = found(shown.replace("{}", repr({"sessionId": ID})))
        assert (event[0] if event else None) == action


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"on_dtmf_event {{'sessionId': '{ID}', 'tone': '5'}}", ("dtmf-event", ID)),
        (f"Participant joined: {{'id': '{ID}', 'info': {{'userName': 'Ann'}}}}", ("participant-joined", ID)),
        (f"on_participant_left ({{'id': '{ID}', 'info': {{}}}}, 'leftCall')", ("participant-left", ID)),
        (f"on_dialout_answered {{'participantId': '{ID}'}}", ("dialout-answered", ID)),
        ("Dial-in ready: sip:room.0@daily-1-app.dapp.signalwire.com", ("dialin-ready", None)),
        ("on_dialin_ready:7 - 123456780@example.sip.daily.co", ("dialin-ready", None)),
        ("on_dialin_ready {'sipEndpoint': 'sip:a@example.sip.daily.co'}", ("dialin-ready", None)),
        ("dialin ready, forwarding to sip:bob@pbx.example", None),
        ("Dialout error {'message': 'no'}", ("dialout-error", None)),
        ("Dialout stopped {'message': 'no'}", None),
        (f"on_dialout_answered: settings {{'sessionId': '{ID}', 'tones': '1'}}", None),
        ("on_dialout_error: again with {'phoneNumber': '+12025550101'}", None),
        (f"on_participant_joined {{'sessionId': '{ID}'}}", None),
        ("click {'action': 'click', 'sessionId': 's'}", None),
        ("post {'type': 'message', 'payload': {'session_id': 's'}}", None),
        ("post {'event': 'call.ended', 'data': {'callId': 'c', 'callDomain': 'd'}}", None),
        ("post {'handler': 'on_click', 'data': {}}", None),
        ("dialout-answered without a dict", None),
        ("on_dialout_answered {'sessionId': open('x')}", None),
        (f"on_dialout_answered {{'sessionId': '{ID}'", None),
        (f"on_dialout_answered {{'a': {{1, 2}}}} {{'sessionId': '{ID}'}}", ("dialout-answered", ID)),
        (f"it's on_dialout_answered {{'sessionId': '{ID}'}}", ("dialout-answered", ID)),
    ],
)
def test_what_is_an_event_and_what_only_resembles_one(line: str, expected: tuple[str, str | None] | None) -> None:
    """The settings of a request, another vendor's JSON, and a dict that was cut are none."""
    event = found(line)
    assert (event[:2] if event else None) == expected


@pytest.mark.parametrize(
    ("head", "at"),
    [
        ("2026-01-01 12:00:00", NOON),
        ("2026-01-01 12:00:00,250", NOON + 0.25),
        ("2026-01-01T12:00:00.123456789Z", NOON + 0.123456789),
        ("2026-01-01T13:00:00+01:00", NOON),
        ("2026-01-01 04:30:00 -0730", NOON),
        ("[2026/01/01 12:00:00]", NOON),
        ("<13>1 2026-01-01T12:00:00.5Z host bot - - -", NOON + 0.5),
        ("2026-01-01T12:00:00.5Z stdout F 2026-01-01 14:00:00", NOON + 0.5),
        ("Jan  1 12:00:00 host bot[7]: 2026-01-01 12:00:00", NOON),
        ("12:00:00", None),
        ("2026-13-41 12:00:00", None),
        ("2026-01-01 11:59:60", NOON),
    ],
)
def test_times(head: str, at: float | None) -> None:
    """A time with a zone is exact; one without is taken as UTC."""
    event = found(f"{head} INFO on_dialout_answered {{'sessionId': '{ID}'}}")
    assert event is not None
    assert event[2] == (None if at is None else pytest.approx(at, abs=1e-6))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("timestamp", "2026-01-01T12:00:00Z"),
        ("time", NOON),
        ("ts", NOON * 1000),
        ("@timestamp", "2026-01-01T12:00:00.000Z"),
        ("__REALTIME_TIMESTAMP", str(int(NOON * 1e6))),
        ("time", {"repr": "2026-01-01 13:00:00+01:00", "timestamp": NOON}),
        ("asctime", "2026-01-01 12:00:00,000"),
        ("timestamp", int(NOON * 1e9)),
        ("timestamp", True),
        ("timestamp", "soon"),
        ("timestamp", "1" * 400),
    ],
)
def test_times_of_records(key: str, value: Any) -> None:
    """Seconds, and smaller units; an odd value is no time."""
    event = found(
        json.dumps({key: value, "level": "info", "event": "x", "data": {"action": "dialout-answered", "sessionId": ID}})
    )
    assert event == ("dialout-answered", ID, None if value in (True, "soon", "1" * 400) else NOON)


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01T12:00:00Z [info     ] on_dialout_answered            data={'sessionId': '%s'} room=r",
        "\x1b[2m2026-01-01T12:00:00Z\x1b[0m [\x1b[32minfo\x1b[0m] \x1b[1mon_dialout_answered\x1b[0m \x1b[36mdata\x1b[0m=\x1b[35m{'sessionId': '%s'}\x1b[0m",
        "data={'sessionId': '%s'} event='on_dialout_answered' level='info' timestamp='2026-01-01T12:00:00Z'",
        'time=2026-01-01T12:00:00Z level=info msg="on_dialout_answered" data="{\\"sessionId\\": \\"%s\\"}"',
        """2026-01-01 12:00:00 POST /webhook body=b'{"action": "dialout-answered", "sessionId": "%s"}'""",
    ],
)
def test_other_layouts(line: str) -> None:
    """structlog's console and key-value lines, logfmt, and the bytes of a body."""
    assert found(line % ID) == ("dialout-answered", ID, NOON)


def test_a_log_in_a_log() -> None:
    """Docker, journald and cloud loggers put a line into a record; what is certain of its time is the outermost zone."""
    text = f"2026-01-01 14:00:00.000 | INFO | bot:on_dialout_answered:1 - {{'sessionId': '{ID}'}}\n"
    time_found = "2026-01-01T12:00:00Z"
    docker = json.dumps({"log": text, "stream": "stderr", "time": time_found})
    for line in (
        docker,
        json.dumps({"MESSAGE": text, "PRIORITY": "6", "__REALTIME_TIMESTAMP": str(int(NOON * 1e6))}),
        json.dumps({"textPayload": text, "timestamp": time_found}),
        json.dumps({"jsonPayload": {"message": text}, "timestamp": time_found}),
        json.dumps({"message": docker}),
    ):
        assert found(line) == ("dialout-answered", ID, NOON)
        assert is_from_application(line.encode()) or "docker" in line or line.startswith('{"message"')


def test_a_name_in_a_key_is_no_code() -> None:
    """Nothing in a line is executed."""
    for text in ("__import__('os').getcwd()", "[x for x in '1']", "f'{1}'", "(lambda: 1)()"):
        assert found(f"on_dialout_answered {{'sessionId': {text}}}") is None


HOSTILE = [
    "{",
    "{'",
    '{"',
    "{'a':",
    "[{",
    "{}",
    "{'sessionId': 'x'}",
    "dial-out answered ",
    "on_dialin_ready a@b.",
    "\\'",
    "-",
    "2026-01-01 ",
    "\x1b[",
    "('",
]


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.parametrize(
    "begin", ["", "on_dialout_answered {'sessionId': ", '{"level": "info", "message": "', "on_dialin_ready {'a': "]
)
def test_hostile_lines_take_little_time(begin: str, part: str) -> None:
    """And raise nothing. A line of a megabyte takes less than a second."""
    line = (begin + part * (500_000 // len(part))).encode()
    began = time.process_time()
    event_in(line)
    is_from_application(line)
    assert time.process_time() - began < 1.0


PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "'",
        '"',
        "\\",
        ":",
        ", ",
        "\\ud800",
        "1",
        "-1e999",
        "None",
        "nan",
        "...",
        "b'x'",
        "{1: 2, (1,): set()}",
    ),
    *(
        "on_dialout_answered ",
        "'sessionId': 's'",
        '"action": "dialout-answered"',
        '"payload": {}',
        '"level": "info"',
        "2026-01-01 12:00:00 ",
    ),
    *(
        "'tone': 5",
        "'id': 'x', 'info': {}",
        "on_participant_joined ",
        "dialin ready a@b.daily.co",
        "\x1b[1m",
        "\x00",
        "é",
    ),
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
    | st.binary(max_size=40).map(lambda data: data.decode("latin-1"))
)
@settings(max_examples=60)
def test_no_line_raises_anything(text: str) -> None:
    """What is found can be read as a line of a log of events."""
    for line in (text, HEAD + text, json.dumps({"message": text, "level": "info"})):
        logged = event_in(line.encode("utf-8", "surrogatepass"))
        is_from_application(line.encode("utf-8", "surrogatepass"))
        if logged is not None:
            assert parse_line(logged.as_line())[0] is not None


def test_a_line_that_is_too_long_is_not_looked_at() -> None:
    """No event is that long."""
    line = f"on_dialout_answered {{'sessionId': '{ID}'}}".encode()
    assert event_in(line) is not None
    assert event_in(line + b" " * (1 << 20)) is None
    assert event_in(f"on_dialout_answered {{'sessionId': '{ID}', 'reason': '{'x' * 70_000}'}}".encode()) is None
    assert sys.getrecursionlimit() >= 1000
