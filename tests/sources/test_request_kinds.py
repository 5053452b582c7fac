"""One address is enough: a request is judged by the headers that it carries, with the secrets of that kind, on whichever path it comes."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import httpx
import pytest

from telstate import Dispatcher, Router
from telstate.sources import webhook_app
from telstate.sources._signatures import PINLESS, TRUNK, WEBHOOK, Secret, SignatureHeaders, sign
from telstate.testing._sender import body_of

pytestmark = pytest.mark.asyncio

SHARED, OF_PINLESS, OF_TRUNK, WRONG = "c2hhcmVk", "cGlubGVzcw==", "dHJ1bms=", "d3Jvbmc="
PATHS = ["/webhooks", "/pinless", "/sip-trunk"]
BODIES: dict[SignatureHeaders, dict[str, Any]] = {
    WEBHOOK: {"type": "dialin.connected", "id": "1", "payload": {"session_id": "s"}},
    PINLESS: {"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"},
    TRUNK: {"type": "sip_trunk.incoming", "id": "1", "payload": {"room": {"url": "https://x.daily.co/r"}}},
}


def signed(kind: SignatureHeaders, secret: str, body: bytes) -> dict[str, str]:
    """Sign a body now."""
    return sign(Secret(secret), kind.stamp(time.time()), body, kind)


def client(calls: Dispatcher, **secrets: Any) -> httpx.AsyncClient:
    """Make a client of a receiver that runs in this process."""
    app = webhook_app(calls, **secrets)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=("203.0.113.9", 1)), base_url="http://x")


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log's lines about refused requests."""
    return [line for record in caplog.records if (line := record.getMessage()).startswith("webhook.refused")]


async def test_each_kind_is_taken_on_each_path() -> None:
    """Signed with a secret for all kinds, or with one of its own."""
    own = {WEBHOOK: SHARED, PINLESS: OF_PINLESS, TRUNK: OF_TRUNK}
    for kind, path in product(BODIES, PATHS):
        for secret in (SHARED, own[kind]):
            body = body_of(BODIES[kind])
            known = {"secrets": [SHARED], "pinless_secrets": [OF_PINLESS], "trunk_secrets": [OF_TRUNK]}
            async with Dispatcher(Router()) as calls, client(calls, **known) as daily:
                answer = await daily.post(path, content=body, headers=signed(kind, secret, body))
                assert (answer.status_code, answer.json()["ok"]) == (200, True)
                assert calls.sizes()["live"] + calls.sizes()["callers"] == 1


@pytest.mark.parametrize("path", PATHS)
async def test_the_secret_of_one_kind_is_not_valid_for_another(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says whose headers came, and where its secrets are set. The answer does not."""
    body = body_of(BODIES[WEBHOOK])
    async with (
        Dispatcher(Router()) as calls,
        client(calls, secrets=[SHARED], pinless_secrets=[OF_PINLESS], trunk_secrets=[OF_TRUNK]) as daily,
    ):
        for kind, secret in ((WEBHOOK, OF_TRUNK), (PINLESS, OF_TRUNK), (TRUNK, OF_PINLESS)):
            answer = await daily.post(path, content=body, headers=signed(kind, secret, body))
            assert answer.status_code == 401
            assert answer.json() == {"error": "not signed with a known secret, or too old"}
        assert calls.sizes()["live"] == 0
    of_webhooks, of_pinless, of_trunk = reasons(caplog)
    assert "x-webhook-signature: the signature does not match" in of_webhooks
    assert "set secrets=[…] (telstate serve: TELSTATE_WEBHOOK_SECRET)" in of_webhooks
    assert "x-pinless-signature: the signature does not match" in of_pinless
    assert "pinless_secrets=[…] or secrets=[…]" in of_pinless
    assert "x-siptrunk-signature: the signature does not match" in of_trunk
    assert "TELSTATE_TRUNK_SECRET or TELSTATE_WEBHOOK_SECRET" in of_trunk
    assert f"path={path}" in of_trunk.replace("'", "").replace('"', "")


async def test_a_kind_without_a_secret_is_refused_with_a_hint(caplog: pytest.LogCaptureFixture) -> None:
    """Once any secret is set, nothing unsigned or unknown is taken."""
    body = body_of(BODIES[WEBHOOK])
    async with Dispatcher(Router()) as calls, client(calls, trunk_secrets=[OF_TRUNK]) as daily:
        for kind in (WEBHOOK, PINLESS):
            assert (
                await daily.post("/webhooks", content=body, headers=signed(kind, OF_TRUNK, body))
            ).status_code == 401
        assert (await daily.post("/webhooks", content=body)).status_code == 401
        assert (await daily.post("/webhooks", content=body, headers={"X-Siptrunk-Signature": "x"})).status_code == 401
    assert "has x-webhook-signature, and no secret for that is known: set secrets=[…]" in reasons(caplog)[0]
    assert "has x-pinless-signature, and no secret for that is known: set pinless_secrets=[…]" in reasons(caplog)[1]
    assert "not signed: it has none of the headers x-siptrunk-signature, x-pinless-signature," in reasons(caplog)[2]
    assert "has no x-siptrunk-signature or no x-siptrunk-timestamp" in reasons(caplog)[3]


async def test_a_valid_signature_among_invalid_ones_is_enough() -> None:
    """Whichever it is: a proxy may add headers of its own. None is enough if all are wrong."""
    body = body_of(BODIES[TRUNK])
    known = {"secrets": [SHARED], "trunk_secrets": [OF_TRUNK]}
    for valid in (*BODIES, None):
        headers: dict[str, str] = {}
        for kind in BODIES:
            headers |= signed(kind, SHARED if kind is valid else WRONG, body)
        async with Dispatcher(Router()) as calls, client(calls, **known) as daily:
            answer = await daily.post("/webhooks", content=body, headers=headers)
            assert answer.status_code == (401 if valid is None else 200)
            assert len(calls.waiting()) == (valid is not None)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [100, 300])
async def test_an_unsigned_request_is_refused_on_each_path(
    path: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With the same words, also where it is too long to be read."""
    async with Dispatcher(Router()) as calls, client(calls, secrets=[SHARED]) as daily:
        assert (await daily.post(path, content=b"x" * size)).status_code == 401
    assert "the request is not signed" in reasons(caplog)[0]


async def test_each_option_is_checked() -> None:
    """The message names it."""
    for name in ("secrets", "pinless_secrets", "trunk_secrets"):
        given: Any = {name: ["no base64!"]}
        with pytest.raises(ValueError, match=f"^{name}=: a secret is base64"):
            webhook_app(Dispatcher(Router()), **given)
        given = {name: SHARED}
        with pytest.raises(TypeError, match=f"^{name}= takes a list of secrets"):
            webhook_app(Dispatcher(Router()), **given)
