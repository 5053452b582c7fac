"""No phone number, SIP user or display name leaves the process by any output, unless it is asked for."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat

from telstate.testing import WebhookSender
from tests.cli.running import telstate
from tests.cli.test_serve import SECRET, serving

REGIONS = ("BR", "CN", "DE", "FR", "GB", "IN", "US", "ZA")
FORMATS = (
    PhoneNumberFormat.E164,
    PhoneNumberFormat.INTERNATIONAL,
    PhoneNumberFormat.NATIONAL,
    PhoneNumberFormat.RFC3966,
)
NAME, USER, PASSWORD = "Ada Lovelace", "augusta.byron", "analytical"
SECRETS = ("Lovelace", "lovelace", "augusta", "byron", PASSWORD)

PROGRAM = """
from telstate import DialinEvent, DialoutEvent, Router, Session, UnknownEvent

router = Router()


@router.on(DialoutEvent)
async def bill(event: DialoutEvent, session: Session) -> None:
    try:
        raise KeyError(event.destination)
    except KeyError as error:
        raise LookupError(f"no customer {(event.model_extra or {}).get('displayName')} {session.destination}: {event!r}\\x1b[31m") from error


@router.on(DialinEvent)
async def greet(event: DialinEvent, session: Session) -> None:
    raise ValueError(f"{session.sip_from} of {session.display_name!r}: {dict(session.sip_headers or {})}: {session.to_dict()}")


@router.on(UnknownEvent)
async def wonder(event: UnknownEvent) -> None:
    raise RuntimeError(event.to_json().decode())
"""
STRUCTLOG = """
import structlog
structlog.configure(processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=False)],
    logger_factory=structlog.PrintLoggerFactory(__import__("sys").stderr))
"""


def numbers() -> list[str]:
    """Of many countries, in four formats, and in spellings that no format has."""
    parsed = [phonenumbers.example_number(region) for region in REGIONS]
    known = [phonenumbers.format_number(one, FORMATS[at % 4]) for at, one in enumerate(parsed) if one is not None]
    return [*known, "%2B49307618630", "+49\u00a030\u00a07618631", "030/7618632", "+49<b>30</b>7618633", "x+493076186349x", "\uff0b\uff14\uff19\uff13\uff10\uff17\uff16\uff11\uff18\uff16\uff13\uff15"]  # fmt: skip


def events(number: str, at: int) -> Iterator[dict[str, Any]]:
    """A dial-in, a dial-out and more, each with the number and the name wherever they can be."""

    def event(kind: str, session: str | None, **fields: Any) -> dict[str, Any]:
        payload = {"room": "lobby", **fields} | ({"session_id": session} if session else {})
        return {"type": kind, "id": f"{kind}-{at}", "payload": payload}

    yield event(
        "dialin.connected",
        f"in-{at}",
        sip_from=f'"{NAME}" <sip:{number}:{PASSWORD}@carrier.example>',
        display_name=NAME,
        sip_headers={"X-Caller-Name": NAME, "X-Number": number},
    )
    yield event("dialin.warning", f"in-{at}", error_msg=f"{NAME} ({number}) <sip:{USER}@x>")
    yield event("dialin.error", f"in-{at}", error_msg=f"{number} ({NAME}) hung up")
    yield event("dialout.connected", f"out-{at}", destination=number, display_name=NAME, user_name=NAME)
    yield event("dialout.answered", f"out-{at}", destination=f"sip:{USER}:{PASSWORD}@x", display_name=f"Not {NAME}")
    yield event("dialout.warning", f"out-{at}", error_msg=f"to {number}", warning=f"{number}", display_name=5)
    yield event("dialout.error", f"out-{at}", error_msg=f"{number} hung up", destination={"to": number})
    yield event("dialout.error", None, error_msg=f"no route to {number}", display_name=NAME, destination=number)
    yield event(f"new.{number}", f"new-{at}", display_name=NAME, number=number, by=f"sip:{USER}@x")
    yield {"To": number, "From": f'"{NAME}" <sip:{number}@x>', "callId": f"call-{at}", "callDomain": "d"}
    yield {"type": "dialout.connected", "id": f"bad-{at}", "payload": {"destination": number, "session_id": [number]}}


async def post(url: str) -> str:
    """Post everything; return the answers."""
    answers: list[httpx.Response] = []
    async with WebhookSender(f"{url}/webhooks", SECRET) as hooks, WebhookSender(f"{url}/pinless", SECRET) as pinless:
        for at, number in enumerate(numbers()):
            for event in events(number, at):
                sender = pinless if "To" in event else hooks
                answers.append(await sender.post(json.dumps(event).encode()))
            answers.append(await hooks.post(f'{{"to": "{number}", "displayName": "{NAME}", "by": "{USER}@x'.encode()))
    async with httpx.AsyncClient() as stranger:
        answers.append(await stranger.post(f"{url}/webhooks", json={"to": numbers()[0], "displayName": NAME}))
        answers.append(await stranger.post(f"{url}/{numbers()[0]}", content=numbers()[1]))
    assert {answer.status_code for answer in answers} == {200, 401, 404}
    return "\n".join(f"{answer.text} {answer.headers}" for answer in answers)


def read_on(process: subprocess.Popen[str], into: list[str]) -> Thread:
    """Collect what a process writes to standard error: a full pipe would stop it."""
    assert process.stderr is not None
    reader = Thread(target=lambda: into.extend(process.stderr or []))
    reader.start()
    return reader


@pytest.fixture(scope="module", params=["stdlib", pytest.param("structlog", marks=pytest.mark.long)])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a service that received everything, and what it wrote and answered."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "app.py").write_text((STRUCTLOG if request.param == "structlog" else "") + PROGRAM)
    log: list[str] = []
    with serving(folder, "app:router", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        reader = read_on(process, log)
        answers = asyncio.run(post(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reader.join(60)
    return folder, {"log": "".join(log), "answers": answers}


def digits(text: str) -> str:
    """Its digits, of any script, as ASCII."""
    return "".join(str(int(c)) for c in text if c.isdecimal())


BETWEEN_NUMBERS = re.compile(r"•|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{10}\.\d+|[A-Za-z]{4,}")
"""What no number has in it: without it, ids and times would form numbers."""


def leaks(output: str) -> list[str]:
    """The lines that show a name, a user, or six hidden digits of a number in a row."""
    hidden = [digits(number)[3:-2] for number in numbers()]
    pieces = {one[at : at + 6] for one in hidden for at in range(len(one) - 5)}
    found = []
    for line in re.sub(r"\\+u2022", "•", output).splitlines():
        words = [digits(word) for word in BETWEEN_NUMBERS.split(line)]
        if any(piece in word for word in words for piece in pieces) or any(secret in line for secret in SECRETS):
            found.append(line)
    return found


COMMANDS = (
    ("replay",),
    ("replay", "--json"),
    ("replay", "--csv"),
    ("calls",),
    ("calls", "--json"),
    ("calls", "--csv"),
    ("calls", "--group-by", "number"),
    ("lint", "--fail-on", "never"),
    ("lint", "--json", "--fail-on", "never"),
    ("tail",),
    ("tail", "--json"),
    ("ladder", "--limit", "100"),
    ("ladder", "--limit", "100", "--format", "html"),
    ("ladder", "--limit", "100", "--json"),
    ("ladder", "--format", "mermaid"),
    ("ladder", "--format", "svg"),
    ("dead", "list"),
    ("dead", "list", "--json"),
    ("dead", "show"),
    ("dead", "show", "--json"),
)


@pytest.mark.long
def test_a_service_shows_none_in_its_log_and_its_answers(service: tuple[Path, dict[str, str]]) -> None:
    """Also in the tracebacks of handlers; no escape of a terminal passes."""
    _, outputs = service
    assert outputs["log"].count("handler.failed") > 40  # the rest are repeats, which are counted
    assert outputs["log"].count("LookupError: no customer") > 12
    assert leaks(outputs["log"]) == []
    assert leaks(outputs["answers"]) == []
    assert "\x1b" not in outputs["log"]


@pytest.mark.parametrize(
    "arguments",
    [one if one[0] == "replay" else pytest.param(one, marks=pytest.mark.long) for one in COMMANDS],
    ids=" ".join,
)
def test_no_command_shows_any(service: tuple[Path, dict[str, str]], arguments: tuple[str, ...]) -> None:
    """Of a journal and of its export; with --numbers all are shown."""
    folder, _ = service
    export = folder / "calls.jsonl"
    assert telstate("export", folder / "calls.db", export, "--force").returncode == 0
    for source in (folder / "calls.db", export):
        if arguments[:2] == ("dead", "show"):
            letters = range(1, 8)
            runs = [telstate("dead", "show", source, number, *arguments[2:]) for number in letters]
            plain = [telstate("dead", "show", source, number, *arguments[2:], "--numbers") for number in letters]
        else:
            runs, plain = [telstate(*arguments, source)], [telstate(*arguments, source, "--numbers")]
        assert {run.returncode for run in runs + plain} == {0}
        shown = b"".join(run.stdout + run.stderr for run in runs).decode()
        assert leaks(shown) == []
        assert "\x1b" not in shown
        assert leaks(b"".join(run.stdout for run in plain).decode())


def test_the_calls_that_there_are_instead_show_none(service: tuple[Path, dict[str, str]]) -> None:
    """They are named where no call matches."""
    run = telstate("ladder", service[0] / "calls.db", "--number", "no such number")
    assert (run.returncode, run.stdout) == (1, b"")
    assert run.stderr.count(b"\n") > 10
    assert leaks(run.stderr.decode()) == []


def test_neither_a_comparison_nor_a_redacted_copy_shows_any(service: tuple[Path, dict[str, str]]) -> None:
    """The copy has the same calls."""
    folder, _ = service
    copy = folder / "copy.jsonl"
    assert telstate("redact", folder / "calls.db", "-o", copy, "--force").returncode == 0
    assert leaks(copy.read_text(encoding="utf-8")) == []
    for options in ((), ("--json",)):
        same = telstate("diff", folder / "calls.db", copy, *options)
        assert same.returncode == 0
        other = telstate(
            "diff", folder / "calls.db", "-", *options, given=b'{"action": "dialin-ready", "sipEndpoint": "x"}'
        )
        assert other.returncode == 1
        assert leaks((same.stdout + other.stdout + same.stderr + other.stderr).decode()) == []


def test_no_error_shows_any(tmp_path: Path) -> None:
    """Of lines that cannot be read, and of misuse."""
    log = tmp_path / "bad.jsonl"
    lines = [f'{{"action": "dialout-connected", "displayName": "{NAME}", "sessionId": ["{one}"], "to": "{one}' for one in numbers()]  # fmt: skip
    whole = [
        json.dumps({"action": "dialout-connected", "sessionId": {"of": one}, "by": f"{USER}@x"}) for one in numbers()
    ]
    odd = [json.dumps({"action": ["dialout", one, NAME]}) for one in numbers()]
    log.write_text("\n".join([*lines, *whole, *odd]), encoding="utf-8")
    for arguments in (
        ("replay",),
        ("replay", "--json"),
        ("tail",),
        ("tail", "--json"),
        ("ladder",),
        ("lint",),
        ("lint", "--json"),
        ("calls",),
        ("calls", "--json"),
        ("export",),
        ("dead", "list"),
    ):
        run = telstate(*arguments, log)
        output = (run.stdout + run.stderr).decode()
        assert output.count("\n") > 0
        assert leaks(output) == []
