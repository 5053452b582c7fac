"""Log lines that handlers write carry their session: in structlog, and in the standard library's logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import structlog
from structlog.testing import LogCapture

from telstate import Dispatcher, Event, Router, Session
from telstate.routing import SessionLogFilter, _log_context
from tests.calls import js, webhook

pytestmark = pytest.mark.anyio

FACTS = ("session_id", "sip_call_id", "direction", "room")


@pytest.fixture
def captured() -> Iterator[LogCapture]:
    """What structlog was given, configured as programs do: the bound variables first."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)
    yield capture
    structlog.reset_defaults()


def logging_router(log: Any) -> Router:
    """A handler that logs, and does so again after others have run, and from a function that it calls."""
    router = Router()

    @router.on(Event)
    async def note(event: Event, session: Session | None) -> None:
        log.info("first")
        await anyio.sleep(0.01)
        log.info("second")

    return router


async def both_calls(router: Router) -> None:
    """Two calls at the same time, then an event of no session."""
    async with Dispatcher(router) as calls:
        await calls.receive(webhook("dialout.answered", "one", room="lobby"))
        await calls.receive(js("dialin-connected", "two", sipCallId="c@sip"))
        await calls.idle()
        await calls.receive({"action": "dialin-ready", "sipEndpoint": "sip:room@example"})
        await calls.idle()


async def test_structlog_has_the_session_bound(captured: LogCapture) -> None:
    """What is not known is left out; nothing stays bound for the next handler."""
    await both_calls(logging_router(structlog.get_logger("app")))
    lines = [entry for entry in captured.entries if entry["event"] in ("first", "second")]
    one = {"session_id": "one", "direction": "dialout", "room": "lobby"}
    two = {"session_id": "two", "direction": "dialin", "sip_call_id": "c@sip"}
    bound = [{name: line[name] for name in FACTS if name in line} for line in lines]
    assert [bound.count(one), bound.count(two), bound.count({})] == [2, 2, 2]


async def test_logging_has_it_by_the_filter(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record has all four, `-` where unknown, and what it brings itself stays."""
    monkeypatch.setattr(_log_context, "_filters_made", False)
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)
    caplog.handler.addFilter(SessionLogFilter())
    await both_calls(logging_router(log))
    lines = [record for record in caplog.records if record.name == "app"]
    found = [tuple(vars(record)[name] for name in FACTS) for record in lines]
    one, two, none = ("one", "-", "dialout", "lobby"), ("two", "c@sip", "dialin", "-"), ("-",) * 4
    assert sorted(found) == sorted([one, two, one, two, none, none])  # sessions do not wait for each other
    log.info("own", extra={"room": "mine"})
    assert (vars(caplog.records[-1])["room"], vars(caplog.records[-1])["session_id"]) == ("mine", "-")


async def test_nothing_is_bound_where_nobody_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it costs nothing."""
    monkeypatch.setattr(_log_context, "_filters_made", False)
    seen: list[object] = []
    router = Router()

    @router.on(Event)
    async def look() -> None:
        seen.append(_log_context._SESSION.get())

    async with Dispatcher(router) as calls:
        await calls.receive(js("dialout-answered"))
        await calls.idle()
    assert seen == [None]
