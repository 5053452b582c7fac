"""The sender reacts to answers as Daily does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from telstate.sources._signatures import PINLESS, TRUNK, WEBHOOK, Secret, verify
from telstate.testing import WebhookSender, simulate
from telstate.testing._sender import body_of
from tests.sources.serving import serving

pytestmark = pytest.mark.asyncio

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class ScriptedReceiver:
    """A receiver that answers with given statuses, and records requests."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.app = Starlette(routes=[Route("/{any:path}", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        """Answer with the next status, or 200."""
        self.came.append((dict(request.headers), await request.body()))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 200)


async def test_exponential_makes_five_attempts_and_signs_each() -> None:
    """At most."""
    endpoint, now = ScriptedReceiver(500, 503, 404), iter([1730000000.0, 1730000060.0, 1730000120.0, 1730000180.0])
    async with serving(endpoint.app) as url:
        async with WebhookSender(url, SECRET, pauses=(0, 0, 0, 0), clock=lambda: next(now)) as sender:
            assert await sender.deliver({"type": "dialout.answered", "id": "1", "payload": {}})
        assert len({body for _, body in endpoint.came}) == 1
        for at, (headers, body) in zip((0, 60, 120, 180), endpoint.came, strict=True):
            verify([Secret(SECRET)], WEBHOOK, headers, body, 1730000000.0 + at, tolerance=1)
        endpoint.statuses = [500] * 9
        async with WebhookSender(url, SECRET, pauses=(0, 0, 0, 0)) as sender:
            assert not await sender.deliver({})
            assert (sender.tries, sender.state) == (5, "ACTIVE")


async def test_three_failures_in_a_row_open_the_circuit_breaker() -> None:
    """Nothing is sent until it is reactivated; a success resets the count."""
    endpoint = ScriptedReceiver(500, 500, 200, 500, 500, 500)
    async with serving(endpoint.app) as url, WebhookSender(url, SECRET, retry="circuit-breaker") as sender:
        assert [await sender.deliver({}) for _ in range(8)] == [False, False, True, False, False, False, False, False]
        assert (sender.state, sender.tries, len(endpoint.came)) == ("FAILED", 6, 6)
        sender.reactivate()
        assert await sender.deliver({})


async def test_no_answer_is_a_failure() -> None:
    """Nothing listens there."""
    async with WebhookSender("http://127.0.0.1:9/", SECRET, pauses=(0,)) as sender:
        assert not await sender.deliver({})
        assert sender.failed_count == 2
        with pytest.raises(httpx.ConnectError):
            await sender.post(b"")


async def test_an_answer_that_drips_without_end_is_a_failure() -> None:
    """Each part of it comes in time."""

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"."
            await anyio.sleep(0.02)

    async def answer(_: Request) -> Response:
        return StreamingResponse(drip())

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    async with serving(app) as url, WebhookSender(f"{url}/", SECRET, pauses=(), timeout=0.2) as sender:
        with anyio.fail_after(30):
            for _ in range(10):
                with pytest.raises(httpx.ReadTimeout) as raised:
                    await sender.post({})
                if str(raised.value):  # else a part of it did not come in time, as the machine stood still
                    break
            assert "no complete answer within 0.4 seconds" in str(raised.value)
            assert not await sender.deliver({})


async def test_each_kind_is_signed_in_its_own_headers() -> None:
    """The bytes are those of JavaScript."""
    endpoint = ScriptedReceiver()
    async with serving(endpoint.app) as url:
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            for sent in simulate(1, calls=3, dialects=["webhook"]):
                assert await sender.deliver(sent.payload)
        async with WebhookSender(f"{url}/pinless", SECRET, clock=lambda: 1730000000.0) as sender:
            assert await sender.deliver({"To": "1", "From": "2"})
        async with WebhookSender(f"{url}/a/sip-trunk/", SECRET, clock=lambda: 1730000000.0) as sender:
            assert await sender.deliver({"type": "sip_trunk.incoming"})
    headers, body = endpoint.came.pop()
    verify([Secret(SECRET)], TRUNK, headers, body, 1730000000.0, tolerance=1)
    assert headers["x-siptrunk-timestamp"] == "1730000000000"
    assert len(endpoint.came) > 6
    headers, body = endpoint.came.pop()
    verify([Secret(SECRET)], PINLESS, headers, body, 1730000000.0, tolerance=1)
    assert headers["x-pinless-timestamp"] == "1730000000000"
    assert body == b'{"To":"1","From":"2"}'
    assert body_of({"a": "é", "b": [1, None]}) == '{"a":"é","b":[1,null]}'.encode()
