"""A simulated busy afternoon on the live board: a hundred calls at a time, and a few troubles. For pictures, and for tests in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from telstate import Dispatcher, Router
from telstate.journals import SqliteJournal
from telstate.sources._listener import listen
from telstate.sources._server import make_server
from telstate.testing import SCRIPTS, FakeClock, Script, simulate
from telstate.views import board_app

__all__ = ["BEGIN", "NOW", "busy_afternoon", "serving_board"]

BEGIN = 1_790_078_400.0
"""2026-09-22, noon UTC."""
NOW = BEGIN + 4_380.0
_DIALECT = "webhook"


@asynccontextmanager
async def serving_board(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an app as `telstate serve` does; give the URL without a slash at its end."""
    server = make_server(app, connections=200, backlog=50)
    with listen("127.0.0.1", port, backlog=50) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - of uvicorn
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            with anyio.fail_after(5, shield=True):
                await task


@asynccontextmanager
async def busy_afternoon(folder: Path, number: int = 1_500, **how: Any) -> AsyncIterator[tuple[Dispatcher, str]]:
    """Play the hours before `NOW`; give the dispatcher and the URL.

    Args:
        folder: for the journal.
        number: how many calls there are in all, besides those with troubles.
        how: as for `board_app`.
    """
    clock = FakeClock(BEGIN)
    async with Dispatcher(Router(), journal=SqliteJournal(folder / "calls.db"), clock=clock) as calls:
        batch: list[Any] = []
        for at, payload in sorted([*_ordinary(number), *_troubles()], key=lambda pair: pair[0]):
            if at > clock.now() + 1:
                await calls.receive_many(batch)
                batch = []
                await clock.advance(at - clock.now())
            batch.append(payload)
        await calls.receive_many(batch)
        await clock.advance(NOW - clock.now())
        async with serving_board(board_app(calls, **how)) as url:
            yield calls, url


def _ordinary(number: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield the events of calls that go as they should, or as telephony is."""
    weights = {
        "dialin_answered": 40,
        "dialout_answered": 34,
        "dialout_unanswered": 14,
        "dialout_busy": 5,
        "dialin_transferred": 4,
    }
    scripts: dict[Script, float] = {
        script: weights[script.__name__] for script in SCRIPTS if script.__name__ in weights
    }
    span = NOW - BEGIN
    for sent in simulate(11, calls=number, rooms=400, start=BEGIN, span=span, dialects=[_DIALECT], scripts=scripts):
        if sent.at < NOW and "From" not in sent.payload:
            yield sent.at, sent.payload


def _troubles() -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield the events of some calls that do not."""
    yield (
        NOW - 72,
        {"To": "+12025550100", "From": "+12025550171", "callId": "pinless-7f1c", "callDomain": "daily.example"},
    )
    yield (
        NOW - 11,
        {"To": "+12025550100", "From": "+12025550118", "callId": "pinless-90ab", "callDomain": "daily.example"},
    )
    yield _event(
        NOW - 41, "dialin.connected", "in-silent", room="support-12", sip_from="sip:+12025550163@carrier.example"
    )
    yield _event(NOW - 96, "dialout.connected", "out-long", room="survey-4", destination="+12025550137")
    for place in range(7):
        session_id, at = f"out-failed-{place}", NOW - 260 + 31 * place
        yield _event(
            at, "dialout.connected", session_id, room=f"campaign-{place}", destination=f"+120255501{20 + place}"
        )
        error = "DialOut failed with error: SIP 503 Service Unavailable"
        yield _event(at + 2, "dialout.error", session_id, room=f"campaign-{place}", error_msg=error)
    yield _event(
        NOW - 300, "dialin.connected", "in-moved", room="support-3", sip_from="sip:+12025550155@carrier.example"
    )
    yield _event(NOW - 298, "participant.joined", "in-moved", room="support-3")
    yield (
        NOW - 120,
        {
            "action": "dialin-warning",
            "sessionId": "in-moved",
            "errorMsg": "Requested codec unavailable, using fallback",
        },
    )


def _event(at: float, kind: str, session_id: str, **facts: Any) -> tuple[float, dict[str, Any]]:
    payload = {"session_id": session_id, "timestamp": str(at), **facts}
    return at, {"version": "1.0.0", "type": kind, "id": f"{session_id}-{kind}", "payload": payload, "event_ts": at}
