"""One request: answered, retried, or refused in one clear sentence; and the key stays secret."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from pydantic import SecretStr

from telstate.control import DailyApi
from telstate.errors import DailyError, DefinitionError, NotAllowed, NotRunning, TemporarilyNotAvailable, UnknownResult
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import App, Fault, cut, drip, flood, hang, instead
from tests.control.receiving import Receiver, has_come
from tests.ports import free_port

QUICK = (0.01, 0.02)
pytestmark = pytest.mark.anyio


def api_of(daily: FakeDaily, *, timeout: float = 20.0, pauses: tuple[float, ...] = QUICK) -> DailyApi:
    """A client with short pauses."""
    return DailyApi(KEY, url=daily.url, timeout=timeout, pauses=pauses)


async def error_of(daily: FakeDaily, method: str, fault: Fault, timeout: float = 20.0) -> DailyError:  # noqa: ASYNC109
    """The error that a fault of each request causes: one that was given up may still be on its way to Daily when the next one is there."""
    daily.rules["/webhooks"] = fault
    async with api_of(daily, timeout=timeout) as api:
        for _ in range(10):
            with pytest.raises(DailyError) as raised:
                await api.request(method, "/webhooks", None if method == "GET" else {"url": "http://127.0.0.1:9/"})
            if await has_come(daily, 0):
                break
    return raised.value


@pytest.mark.both_loops
async def test_a_request_carries_the_key_and_its_answer_is_decoded(daily: FakeDaily) -> None:
    """An empty answer is None."""
    async with api_of(daily) as api:
        assert await api.request("GET", "/webhooks") == []
        daily.faults.append(instead(204))
        assert await api.request("delete", "/webhooks/x") is None
    assert [(one.method, one.path, one.authorization) for one in daily.seen] == [
        ("GET", "/v1/webhooks", f"Bearer {KEY}"),
        ("DELETE", "/v1/webhooks/x", f"Bearer {KEY}"),
    ]


@pytest.mark.parametrize("fault", [instead(500), instead(502, b"<html>"), instead(429), cut])
async def test_a_get_is_retried(daily: FakeDaily, fault: Fault) -> None:
    """Once for each pause."""
    daily.faults.extend([fault] * len(QUICK))
    async with api_of(daily) as api:
        assert await api.request("GET", "/webhooks") == []
    assert len(daily.seen) == 1 + len(QUICK)


@pytest.mark.parametrize("fault", [instead(500), instead(429), cut])
async def test_a_get_is_given_up_after_the_last_pause(daily: FakeDaily, fault: Fault) -> None:
    """It changes nothing, so its result is not unknown."""
    error = await error_of(daily, "GET", fault)
    assert not isinstance(error, UnknownResult)
    assert "ry again later" in str(error)
    assert len(daily.seen) == 1 + len(QUICK)


@pytest.mark.long
@pytest.mark.parametrize("dated", [False, True])
async def test_retry_after_is_respected(daily: FakeDaily, *, dated: bool) -> None:
    """As seconds, and as a date, which has whole seconds only."""
    began = time.monotonic()
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if dated else "1"
    daily.faults.append(instead(429, retry_after=when))
    async with api_of(daily) as api:
        assert await api.request("GET", "/webhooks") == []
    assert 0.9 <= time.monotonic() - began < 30


@pytest.mark.parametrize("when", ["soon", "-1", "1e9", "Mon, 99 Foo 2026 00:00:00 GMT", "9" * 5000])
async def test_an_odd_retry_after_is_ignored(daily: FakeDaily, when: str) -> None:
    """The usual pause applies."""
    daily.faults.append(instead(429, retry_after=when))
    async with api_of(daily) as api:
        assert await api.request("GET", "/webhooks") == []
    assert len(daily.seen) == 2


async def test_a_long_retry_after_is_not_waited_for(daily: FakeDaily) -> None:
    """The error says it."""
    error = await error_of(daily, "GET", instead(429, retry_after="3600"))
    assert (error.status, len(daily.seen)) == (429, 1)
    assert "try again in 3600 seconds" in str(error)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (instead(500), UnknownResult),
        (instead(504, b"<html>gateway timeout</html>"), UnknownResult),
        (instead(200, b"<html>hello</html>"), UnknownResult),
        (cut, UnknownResult),
        (hang, UnknownResult),
        (instead(429, b'{"error": "rate-limit-error", "info": "slow down"}'), TemporarilyNotAvailable),
        (instead(400, b'{"error": "invalid-request-error", "info": "no"}'), DailyError),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_other_methods_are_not_retried(
    daily: FakeDaily, method: str, fault: Fault, kind: type[DailyError]
) -> None:
    """Unless Daily refused, the result is unknown."""
    error = await error_of(daily, method, fault, timeout=0.3 if fault is hang else 20)
    assert type(error) is kind
    assert ("check before you send it again" in str(error)) == (kind is UnknownResult)
    assert len(daily.seen) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_any_method_is_retried_if_nothing_was_sent(receiver: Receiver, method: str) -> None:
    """Nothing listens at the port at first."""
    with FakeDaily() as nobody:
        pass
    started: list[FakeDaily] = []

    def serve() -> None:
        time.sleep(0.3)
        with FakeDaily(port=urlsplit(nobody.url).port or 0) as daily:
            started.append(daily)
            done.wait(10)

    done = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        async with DailyApi(KEY, url=nobody.url, pauses=[0.1] * 50) as api:
            await api.request(method, "/webhooks", {"url": receiver.url} if method == "POST" else None)
    finally:
        done.set()
        thread.join()
    assert [one.method for one in started[0].seen] == [method]


async def test_nothing_listens() -> None:
    """Nothing was sent, so the result is not unknown."""
    with FakeDaily(port=free_port()) as gone:
        pass
    async with api_of(gone) as api:
        for method in ("GET", "POST"):
            with pytest.raises(
                DailyError, match=r"was not sent, http://127\.0\.0\.1:\d+/v1 cannot be reached"
            ) as raised:
                await api.request(method, "/webhooks")
            assert type(raised.value) is DailyError
            assert raised.value.status is None


async def test_a_connection_that_is_not_accepted() -> None:
    """Nothing was sent then, either. The kernel does not answer if the queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        async with DailyApi(KEY, url=f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.2, pauses=[0.01]) as api:
            for _ in range(10):
                with pytest.raises(DailyError) as raised:
                    await api.request("POST", "/webhooks")
                if "was not sent" in str(
                    raised.value
                ):  # else the machine stood still for longer than a whole request may take
                    break
            assert "was not sent" in str(raised.value)
            assert type(raised.value) is DailyError


@pytest.mark.both_loops
@pytest.mark.parametrize("fault", [hang, drip])
async def test_timeouts(daily: FakeDaily, fault: Fault) -> None:
    """Also if a byte comes now and then."""
    began = time.monotonic()
    error = await error_of(daily, "POST", fault, timeout=0.2)
    assert "within 0." in str(error)
    assert time.monotonic() - began < 60


def as_refusal(fault: Fault) -> Fault:
    """Make a fault of which the status is 401."""

    async def refuse(app: App, scope: Any, receive: Any, send: Any) -> None:
        await fault(app, scope, receive, lambda one: send({**one, "status": 401} if "status" in one else one))

    return refuse


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("fault", "timeouts"), [(drip, [0.1, 0.5, 1.5]), (cut, [20.0])])
async def test_a_refusal_is_one_without_the_end_of_its_body(fault: Fault, timeouts: list[float], method: str) -> None:
    """Its status says that nothing was done: it is not unknown, and not asked again."""
    for timeout in timeouts:
        with FakeDaily() as daily:
            error = await error_of(daily, method, as_refusal(fault), timeout)
        found = (type(error), error.status, len(daily.seen))
        if found == (NotAllowed, 401, 1):  # else the status may have come too late: the machine stood still
            break
    assert found == (NotAllowed, 401, 1)


TWICE = gzip.compress(gzip.compress(b"[" + b" " * 50_000_000 + b"]"))
"""A few hundred bytes that would become 50 MB."""


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (instead(200, b"<html>\x1b[2J hello"), "is not JSON"),
        (instead(200, b"\xff\xfe"), "is not JSON"),
        (instead(200, b"[" * 100_000), "is not JSON"),
        (instead(200, b"[" + b"1," * 5_100_000 + b"1]"), "more than 10,000,000 bytes"),
        (flood, "more than 10,000,000 bytes"),
        (instead(200, TWICE, content_encoding="gzip, gzip"), "is compressed (gzip, gzip)"),
    ],
    ids=["html", "bytes", "deep", "huge", "endless", "compressed"],
)
async def test_unreadable_answers_are_not_requested_again(daily: FakeDaily, fault: Fault, text: str) -> None:
    """They would be the same."""
    error = await error_of(daily, "GET", fault)
    assert text in str(error)
    assert len(str(error)) < 200
    assert len(daily.seen) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "Developers section"), (403, "may not do this"), (404, "for a typo"), (429, "not done: try again later")],
)
async def test_an_error_has_dailys_text_and_advice(daily: FakeDaily, status: int, advice: str) -> None:
    """On one line, cut short and printable."""
    info = b'{"error": "some-error", "info": "' + b"first\\nthen\\u001b[31m " + b"x" * 100_000 + b'"}'
    error = await error_of(daily, "POST", instead(status, info))
    assert (error.status, error.error) == (status, "some-error")
    assert str(error).startswith(f"POST /webhooks: Daily answered {status}: some-error: first then [31m xxx")
    assert advice in str(error)
    assert len(str(error)) < 800
    assert str(error).isprintable()


@pytest.mark.parametrize("body", [b"", b"[]", b'"no"', b"null", b'{"error": {"a": 1}, "info": ["b"]}', b"<p>no</p>"])
async def test_odd_refusals(daily: FakeDaily, body: bytes) -> None:
    """In any form."""
    error = await error_of(daily, "POST", instead(403, body))
    assert error.status == 403
    assert "403" in str(error)


async def test_a_redirect_is_not_followed(daily: FakeDaily) -> None:
    """Another host must not get the key."""
    error = await error_of(daily, "GET", instead(302, location=f"{daily.url}/webhooks"))
    assert (error.status, len(daily.seen)) == (302, 1)


@pytest.mark.long
async def test_the_key_is_never_shown(daily: FakeDaily, caplog: pytest.LogCaptureFixture) -> None:
    """In no log at any level, no repr, no error, and no traceback with local variables."""
    echoes = [instead(status, f"you sent: Bearer {KEY}".encode()) for status in (200, 401, 429, 500)]
    faults = [cut, hang, drip, *echoes]
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logs:
        for method in ("GET", "POST"):
            for fault in faults:
                timeout = 0.05 if fault in (hang, drip) else 20
                error = await error_of(daily, method, fault, timeout=timeout)
                assert error.__context__ is None
                shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
                shown += [repr(error), repr(vars(error))]
        with FakeDaily(port=free_port()) as gone:
            pass
        async with api_of(gone) as api:
            shown += [repr(api), str(vars(api))]
            with pytest.raises(DailyError) as raised:
                await api.request("POST", "/webhooks")
            assert raised.value.__context__ is None
            shown += traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()
    assert any("httpcore" in record.name for record in caplog.records)
    assert any(line["event"] == "daily.retry" for line in logs)
    assert "•••" in "".join(shown)
    everything = "".join([*shown, caplog.text, repr(logs)])
    assert KEY not in everything
    assert KEY[:20] not in everything


@pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "a\nb", "a\x00b"])
def test_invalid_keys(key: str) -> None:
    """The error does not show them."""
    with pytest.raises(DefinitionError, match=r"copy it again from Daily$"):
        DailyApi(key)


def test_an_invalid_key_is_in_no_local_variable() -> None:
    """Error reporters show those, and the repr of the unfinished object."""
    key = "0123456789abcdef with a blank"
    with pytest.raises(DefinitionError) as raised:
        DailyApi(key)
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    inside = [frame for frame in shown.stack if frame.filename.endswith("api.py") and frame.name == "__init__"]
    assert "DailyApi(url=" in str(inside[-1].locals)
    assert "0123456789abcdef" not in str(inside[-1].locals)


def test_a_key_may_be_a_secret_and_have_a_line_end() -> None:
    """As in files and environments. A wrong URL is refused before the key is sent anywhere."""
    assert repr(DailyApi(SecretStr(f"{KEY}\n"))) == "DailyApi(url='https://api.daily.co/v1')"
    for url in ("http://api.daily.co/v1", "api.daily.co/v1", "ftp://localhost", "http://localhost.example.com"):
        with pytest.raises(DefinitionError, match="must begin with https://"):
            DailyApi(KEY, url=url)


async def test_it_works_only_inside_its_context(daily: FakeDaily) -> None:
    """It can be entered again."""
    api = api_of(daily)
    for _ in range(2):
        with pytest.raises(NotRunning, match="async with"):
            await api.request("GET", "/webhooks")
        async with api:
            assert await api.request("GET", "/webhooks") == []
    assert len(daily.seen) == 2


async def test_invalid_paths(daily: FakeDaily) -> None:
    """Nothing is sent."""
    async with api_of(daily) as api:
        with pytest.raises(DefinitionError, match="cannot be the path of a URL"):
            await api.request("POST", "/a\x00b")
    assert not daily.seen


@pytest.mark.long
def test_without_httpx_the_error_says_what_to_install() -> None:
    """And the package can still be imported."""
    code = "import sys; sys.modules['httpx'] = None\nfrom telstate.control import DailyApi\nDailyApi('key')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert run.stderr.decode().splitlines()[-1].endswith("needs httpx: pip install 'telstate[rest]'")
