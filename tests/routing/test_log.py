"""Where log lines go, what stands in them, and that a broken log harms nothing."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from time import process_time
from typing import Any

import pytest
import structlog

from telstate import Engine, JournalError, parse
from telstate.routing._log import Log, display_names, failure_of, of_session, report_repeated, text_of, traceback_of
from tests.calls import SESSION, feed, js

NUMBER = "+12025550101"


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """As in a program that has not configured structlog; other tests may have."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_lines_go_to_the_standard_librarys_logger(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logger `telstate`, with level, event and facts, and with the place of the call; nothing on standard output."""
    log = Log()
    with caplog.at_level(logging.INFO, "telstate"):
        log.info("session.moved", source="idle", target="connected", cause=None)
        log.warning("handler.slow", handler="app.greet", seconds=2.5)
        log.error("journal.failed", hint="free some space")
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("telstate", "INFO", "session.moved source=idle target=connected"),
        ("telstate", "WARNING", "handler.slow handler=app.greet seconds=2.5"),
        ("telstate", "ERROR", "journal.failed hint='free some space'"),
    ]
    assert {record.filename for record in caplog.records} == {"test_log.py"}
    assert capsys.readouterr().out == ""


def test_a_level_of_the_standard_librarys_logger_filters(caplog: pytest.LogCaptureFixture) -> None:
    """As for any other logger."""
    with caplog.at_level(logging.ERROR, "telstate"):
        Log().warning("handler.slow")
    assert caplog.records == []


def test_without_any_configuration_warnings_are_on_standard_error() -> None:
    """Python's last resort: standard output stays free for the program."""
    code = "from telstate.routing._log import Log; Log().info('a.info'); Log().warning('a.warning', number=5)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60, text=True)
    assert (run.stdout, run.stderr) == ("", "a.warning number=5\n")


def test_lines_go_to_structlog_once_the_program_has_configured_it(caplog: pytest.LogCaptureFixture) -> None:
    """Also if it does so after telstate was imported and the log was made."""
    log = Log()
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.KeyValueRenderer(sort_keys=True)],
        logger_factory=structlog.PrintLoggerFactory(written),
    )
    log.warning("handler.slow", handler="app.greet", number=NUMBER)
    assert written.getvalue() == ("event='handler.slow' handler='app.greet' level='warning' number='+12•••••••01'\n")
    assert caplog.records == []


class Broken(logging.Handler):
    """A handler that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(f"no space left for {record.name}")


def test_a_log_that_cannot_be_written_harms_nothing() -> None:
    """Neither a handler of the standard library that raises nor a broken processor of structlog."""
    logger, handler = logging.getLogger("telstate"), Broken()
    logger.addHandler(handler)
    try:
        Log().error("journal.failed")
    finally:
        logger.removeHandler(handler)

    def broken(*_: Any) -> Any:
        raise OSError("no space left on device")

    structlog.configure(processors=[broken])
    Log().error("journal.failed")


def test_numbers_are_masked_and_ids_are_not(caplog: pytest.LogCaptureFixture) -> None:
    """In every text but the ids, which people search for."""
    Log().warning("dial.failed", session_id="12345678", sip_call_id="ab12@10.0.0.1", error=f"no route to {NUMBER}")
    assert caplog.messages == [
        "dial.failed session_id=12345678 sip_call_id=ab12@10.0.0.1 error='no route to +12•••••••01'"
    ]


def test_a_traceback_stands_below_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """As Python shows it, without numbers."""
    with pytest.raises(KeyError) as caught:
        {}[NUMBER]  # type: ignore[index]
    Log().error("handler.failed", handler="app.greet", exception=traceback_of(caught.value))
    lines = caplog.messages[0].splitlines()
    assert lines[0] == "handler.failed handler=app.greet"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: '+12•••••••01'"


def test_an_error_of_telstates_own_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """It says what to do. Only what nobody foresaw has a traceback."""
    for error in (JournalError(f"the disk is full, said Ann of {NUMBER}"), OSError("what is this")):
        Log().error("checkpoint.failed", **failure_of(error, ["Ann"]), hint="it is tried again")
    own, other = caplog.messages
    assert own == "checkpoint.failed error='the disk is full, said A••• of +12•••••••01' hint='it is tried again'"
    assert other.splitlines() == ["checkpoint.failed hint='it is tried again'", "OSError: what is this"]


def test_a_failure_is_a_warning_if_it_was_foreseen(caplog: pytest.LogCaptureFixture) -> None:
    """Else an error, which somebody has to look into."""
    for error in (JournalError("the server is away"), KeyError("x")):
        Log().failed("views.not_followed", error, hint="it is tried again")
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.messages[0] == "views.not_followed error='the server is away' hint='it is tried again'"
    assert caplog.messages[1].endswith("KeyError: 'x'")


def test_text_from_outside_cannot_pass_for_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Line ends and control characters are escaped."""
    Log().warning("payload.refused", field="a\nERROR telstate all is lost\x1b[31m")
    assert caplog.messages == [r"payload.refused field='a\nERROR telstate all is lost\x1b[31m'"]


class Unreadable(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


def test_exceptions_without_a_readable_text_are_named() -> None:
    """By their type."""
    assert text_of(Unreadable()) == "a Unreadable whose text cannot be read"
    assert "Unreadable" in traceback_of(Unreadable())
    assert text_of(ValueError("half \ud83d of an emoji")) == "half ? of an emoji"


def test_the_facts_of_a_session_are_its_ids_its_direction_and_its_room() -> None:
    """No numbers, no addresses; the same keys without a session."""
    session = feed(Engine(), js("dialout-connected")).session
    facts = {"session_id": SESSION, "sip_call_id": None, "direction": "dialout", "room": None}
    assert of_session(session) == facts
    assert of_session(None) == dict.fromkeys(facts)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the windows, which stands still: a test sets its one item."""
    now = [1000.0]
    monkeypatch.setattr("telstate.routing._log.monotonic", lambda: now[0])
    return now


@pytest.mark.usefixtures("clock")
def test_repeated_lines_are_counted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Of each name and reason the first few are written, then one that says how many more there were."""
    log = Log(burst=2, every=60)
    for _ in range(5):
        log.error("journal.failed", reason="full", number=1)
    log.error("journal.failed", reason="locked")
    log.error("journal.other", reason="full")
    assert [message.split()[0] for message in caplog.messages] == ["journal.failed"] * 3 + ["journal.other"]
    report_repeated()  # the window is not over
    assert len(caplog.messages) == 4
    report_repeated(all_of_them=True)
    assert caplog.messages[4:] == ["log.repeated name=journal.failed reason=full times=3 seconds=0.0"]
    log.error("journal.failed", reason="full")
    assert len(caplog.messages) == 6


def test_a_window_ends_by_itself(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    """The next line, or the next report, says what was left out of the last one."""
    log = Log(burst=1, every=5)
    for _ in range(3):
        log.error("journal.failed")
    clock[0] += 6
    log.error("journal.failed")
    assert [message.split()[0] for message in caplog.messages] == ["journal.failed", "log.repeated", "journal.failed"]
    assert "times=2" in caplog.messages[1]
    log.error("journal.failed")
    clock[0] += 6
    report_repeated()
    assert "times=1" in caplog.messages[3]


def test_reasons_from_outside_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand different texts are a few kinds of line, not a thousand."""
    log = Log(burst=1, every=60)
    for number in range(1000):
        log.error("webhook.refused", error="text " + "x" * number)
    assert len(caplog.messages) == 65
    report_repeated(all_of_them=True)
    assert sum(int(message.split("times=")[1].split()[0]) for message in caplog.messages[65:]) == 935


@pytest.mark.usefixtures("clock")
def test_numbers_in_a_reason_make_it_no_other_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Such as the age of a signature."""
    log = Log(burst=1, every=60)
    for age in range(100):
        log.error("webhook.refused", error=f"{age} seconds old")
    report_repeated(all_of_them=True)
    assert caplog.messages[1:] == ["log.repeated name=webhook.refused reason='N seconds old' times=99 seconds=0.0"]


def test_transitions_are_not_limited(caplog: pytest.LogCaptureFixture) -> None:
    """The program asks for each."""
    log = Log(burst=1)
    with caplog.at_level(logging.INFO, "telstate"):
        for _ in range(50):
            log.info("session.moved", source="idle", target="connected")
    assert len(caplog.messages) == 50


def test_a_traceback_of_megabytes_does_not_stop_the_loop() -> None:
    """It is cut before it is masked; both ends stay, and nothing at the cut is shown by half."""
    filler = " 2026 +12025550101 a@b" * 250_000
    error = ValueError(f"the beginning {filler} the end")
    began = process_time()
    shown = traceback_of(error)
    assert process_time() - began < 1.0
    assert len(shown) < 20_000
    assert "the beginning" in shown
    assert "characters left out" in shown
    assert shown.endswith(" the end\n")
    assert "5550101" not in shown


def test_a_traceback_is_harmless_to_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    """Its line ends stay, other control characters are replaced: for the standard library and for structlog."""
    error = ValueError("red \x1b[31m\x9b2J\rover\u2028line")
    Log().error("handler.failed", exception=traceback_of(error))
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.dev.ConsoleRenderer(colors=False)], logger_factory=structlog.PrintLoggerFactory(written)
    )
    Log().error("handler.failed", exception=traceback_of(error), handler="app\x1b[31m\nERROR all is lost")
    for text in (caplog.messages[0], written.getvalue()):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "ValueError: red \ufffd[31m\ufffd2J\ufffdover\ufffdline" in text
    assert "\nERROR" not in written.getvalue()


def test_the_names_of_a_session_are_masked_in_a_traceback() -> None:
    """Its display name, that before its address, those in its headers, and those of the event."""
    headers = {"X-Caller-Name": "Grace Hopper", "X-Campaign": "spring"}
    address = '"Ada Lovelace" <sip:ada@x>'
    event = parse(js("dialin-connected", sipFrom=address, sipHeaders=headers, displayName="Mary S", participantName=""))
    session = Engine().receive(event).session
    names = display_names(session, event)
    assert set(names) == {"Ada Lovelace", "Grace Hopper", "Mary S"}
    text = traceback_of(KeyError("Lovelace, grace hopper, Mary S in spring"), names)
    assert "'L•••, g••• h•••, M••• S••• in spring'" in text


def test_values_of_every_kind_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Texts in lists and other objects, too; numbers stay."""
    Log().warning("a.fact", some=[NUMBER, 5], other=ValueError(NUMBER), count=20255501, at=1.5)
    assert caplog.messages == ["a.fact some=['+12•••••••01', 5] other=+12•••••••01 count=20255501 at=1.5"]


def test_a_text_is_cut_between_words() -> None:
    """Half a user or half a number could not be recognised any more."""
    assert text_of(ValueError("x" * 990 + " alice.smith@example.com")) == "x" * 990 + " …"
