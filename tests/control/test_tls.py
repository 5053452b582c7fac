"""Where certificates are checked: what that needs is made outside of the event loop, and only for https."""

from __future__ import annotations

import ssl
import threading

import httpx
import pytest
from pydantic import SecretStr

from telstate.control import DailyApi
from telstate.control._tls import NO_TLS, tls_for
from telstate.control._trunk_probe import probe
from telstate.testing import FakeDaily
from tests.control.receiving import SECRET, Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
def made_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that have made something to check certificates with."""
    threads: list[threading.Thread] = []
    make = httpx.create_ssl_context

    def noted(*given: object, **named: object) -> ssl.SSLContext:
        if not isinstance(named.get("verify"), ssl.SSLContext):  # else it is used as it is
            threads.append(threading.current_thread())
        return make(*given, **named)  # type: ignore[arg-type]

    for place in ("httpx.create_ssl_context", "httpx._transports.default.create_ssl_context"):
        monkeypatch.setattr(place, noted)
    return threads


async def test_http_needs_nothing(made_in: list[threading.Thread], receiver: Receiver, daily: FakeDaily) -> None:
    """Neither the probe of a trunk, nor Daily's API, nor the fake's test of a new webhook."""
    assert await tls_for("http://127.0.0.1:1/x") is NO_TLS
    found = await probe(receiver.url, SecretStr(SECRET), "support", 5.0)
    assert found.status == 200
    async with DailyApi(daily.key, url=daily.url) as api:
        await api.request("POST", "/webhooks", {"url": receiver.url, "eventTypes": ["dialin.ready"]})
    assert made_in == []


async def test_https_is_prepared_in_a_thread(made_in: list[threading.Thread]) -> None:
    """An event loop with calls goes on meanwhile. It checks certificates, as httpx does by itself."""
    tls = await tls_for("HTTPS://example.com")
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    await probe("https://127.0.0.1:1/sip-trunk", SecretStr(SECRET), "support", 5.0)
    async with DailyApi("key", url="https://127.0.0.1:1"):
        pass
    assert len(made_in) == 3
    assert threading.current_thread() not in made_in
