"""SIP trunks over REST: requests, answers, the check, and that no secret shows anywhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from telstate import Dispatcher, Router
from telstate.control import DailyApi, Trunk, Trunks
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import SipTrunk, TrunkAccess, TrunkNotification
from telstate.sources import TRUNK, Secret, verify, webhook_app
from telstate.testing import FakeDaily
from telstate.testing._faults import instead, lost
from tests.control.receiving import SECRET, Receiver
from tests.sources.serving import serving

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2 of the carrier"
OTHER = "YW5vdGhlciBzZWNyZXQ="


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: test_api.py runs on both event loops."""
    return "asyncio"


@asynccontextmanager
async def trunks_of(daily: FakeDaily) -> AsyncIterator[Trunks]:
    """With short pauses."""
    async with DailyApi(daily.key, url=daily.url, timeout=5.0, pauses=(0.01, 0.02)) as api:
        yield Trunks(api)


def wanted(receiver: Receiver, name: str = "support", **access: Any) -> SipTrunk:
    """A trunk for a carrier with a password."""
    access = access or {"credential": {"username": "carrier", "password": PASSWORD}}
    fields = {
        "trunk_name": name,
        "notification": {"webhook_url": receiver.url, "hmac": SECRET},
        "trunk_config": access,
        "room_template": {"enable_recording": "cloud"},
        "description": "Our carrier",
    }
    return SipTrunk.model_validate(fields)


def hidden(*shown: object) -> bool:
    """Whether no secret is in what is shown."""
    text = "".join(f"{one!r}{one}" for one in shown)
    return not any(secret in text for secret in (PASSWORD, SECRET, OTHER))


async def test_the_life_of_a_trunk(daily: FakeDaily, receiver: Receiver) -> None:
    """Created after a signed test, listed, changed, deleted; the secrets are there for those who ask."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver))
        assert receiver.received[0]["type"] == "sip_trunk.test"
        verify([Secret(SECRET)], TRUNK, receiver.headers[0], receiver.raw[0], time.time())
        assert trunk == Trunk(
            trunk.id,
            trunk_name="support",
            sip_uri="sip:example-support.siptrunk.sip-us.daily.co",
            description="Our carrier",
            enabled=True,
            webhook_url=receiver.url,
            hmac=SecretStr(SECRET),
            username="carrier",
            password=SecretStr(PASSWORD),
            is_open=False,
            exp_offset=3600,
            room_template={"enable_recording": "cloud"},
        )
        assert hidden(trunk, trunks)
        assert await trunks.list() == (trunk,)
        assert await trunks.get(trunk.id) == trunk
        changed = await trunks.update(
            trunk.id,
            trunk_config=TrunkAccess(allowed_ips=("203.0.113.7",)),
            room_template={},
            description="",
            enabled=False,
        )
        assert (changed.enabled, changed.description, changed.room_template) == (False, "", {})
        assert (changed.allowed_ips, changed.username, changed.is_open) == (("203.0.113.7",), None, False)
        assert changed.hmac == trunk.hmac
        await trunks.delete(trunk.id)
        assert await trunks.list() == ()
        with pytest.raises(DailyError) as raised:
            await trunks.get(trunk.id)
        assert raised.value.status == 404
    puts = [one.body for one in daily.seen if one.method == "PUT"]
    assert puts == [
        {
            "trunk_config": {"allowed_ips": ["203.0.113.7"], "is_open": False},
            "room_template": {},
            "description": "",
            "enabled": False,
        }
    ]


async def test_what_daily_would_refuse_is_not_sent(daily: FakeDaily, receiver: Receiver) -> None:
    """A trunk that nothing limits, an update of nothing, an empty id."""
    async with trunks_of(daily) as trunks:
        with pytest.raises(ValidationError, match="nothing limits who may call"):
            await trunks.create(wanted(receiver, allowed_ips=[]))
        with pytest.raises(DefinitionError, match="nothing to change: give one of notification, trunk_config"):
            await trunks.update("t")
        for call in (trunks.get(""), trunks.delete(""), trunks.check("")):
            with pytest.raises(DefinitionError, match="the trunk's id is empty"):
                await call
    assert daily.seen == []


async def test_a_receiver_that_does_not_answer_the_test(daily: FakeDaily, receiver: Receiver) -> None:
    """The error says what to do, at create and at an update; another 400 has no such advice. No secret is in it."""
    async with trunks_of(daily) as trunks:
        receiver.answers = 401
        with pytest.raises(DailyError, match=r"sip_trunk\.test to .* which must answer with 2xx: check that") as raised:
            await trunks.create(wanted(receiver))
        assert (raised.value.status, receiver.url in str(raised.value)) == (400, True)
        assert await trunks.list() == ()
        receiver.answers = 204
        trunk = await trunks.create(wanted(receiver))
        receiver.answers = 500
        with pytest.raises(DailyError, match="check that the service runs") as again:
            await trunks.update(
                trunk.id, notification=TrunkNotification(webhook_url=receiver.url, hmac=SecretStr(OTHER))
            )
        receiver.answers = 200
        with pytest.raises(DailyError, match="already exists") as taken:
            await trunks.create(wanted(receiver))
        assert "sip_trunk.test" not in str(taken.value)
        assert hidden(raised.value, again.value, taken.value)


async def test_an_answer_that_repeats_the_secrets_does_not_show_them(daily: FakeDaily, receiver: Receiver) -> None:
    """In JSON or not, whatever the status."""
    password = 'hunter2 "é" \\ of the carrier'
    trunk = wanted(receiver, credential={"username": "carrier", "password": password})
    echo = {"error": "invalid-request-error", "info": f"no such thing as {password} or {json.dumps(trunk.body())}"}
    bodies = [json.dumps(echo).encode(), json.dumps(echo, ensure_ascii=False).encode(), f"{password} {SECRET}".encode()]
    async with trunks_of(daily) as trunks:
        for body in bodies:
            for status in (400, 403, 500):
                daily.faults.append(instead(status, body))
                with pytest.raises(DailyError) as raised:
                    await trunks.create(trunk)
                shown = f"{raised.value!r}{raised.value}{vars(raised.value)}"
                assert "hunter2" not in shown
                assert SECRET not in shown
                assert "***" in shown


async def test_a_changed_secret_is_logged(
    daily: FakeDaily, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless we gave it: the receiver has to be told. The log does not show it."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver))
        with caplog.at_level(logging.INFO, "telstate"):
            notification = TrunkNotification(webhook_url=receiver.url, hmac=SecretStr(OTHER))
            assert (await trunks.update(trunk.id, notification=notification)).hmac == SecretStr(OTHER)
            assert caplog.text == ""
            before = {"id": "t", "hmac": SECRET}
            after = {"id": "t", "hmac": OTHER}
            daily.faults.extend([instead(200, json.dumps(one).encode()) for one in (before, after, after)])
            await trunks.update("t", enabled=True)
        assert "trunk.secret_changed" in caplog.text
        assert hidden(caplog.text)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{}", b'{"id": 7}', b'{"id": ""}', b'{"data": [{"id": "a"}]}'])
async def test_an_answer_that_is_not_a_trunk_is_an_error(daily: FakeDaily, receiver: Receiver, body: bytes) -> None:
    """After a creation it may exist all the same."""
    daily.rules["*"] = instead(200, body)
    async with trunks_of(daily) as trunks:
        with pytest.raises(UnknownResult, match="not a trunk"):
            await trunks.create(wanted(receiver))
        with pytest.raises(DailyError, match="not a trunk") as raised:
            await trunks.get("t")
        assert type(raised.value) is DailyError


@pytest.mark.parametrize("body", [b"", b"7", b"{}", b'{"data": {}}', b"[7]", b'{"data": [{}]}'])
async def test_an_answer_that_is_not_a_list_is_an_error(daily: FakeDaily, body: bytes) -> None:
    """Not an empty list."""
    daily.faults.append(instead(200, body))
    async with trunks_of(daily) as trunks:
        with pytest.raises(DailyError, match=r"not a (list of )?trunk"):
            await trunks.list()


@pytest.mark.parametrize("bare", [True, False])
async def test_odd_values_of_a_trunk_are_left_out(daily: FakeDaily, bare: bool) -> None:
    """The rest is read; the secret may stand in two places, and the list be bare or under `data`."""
    odd = {
        "id": "t",
        "trunk_name": 7,
        "enabled": "yes",
        "notification": {"webhook_url": [], "hmac": SECRET},
        "trunk_config": {"allowed_ips": ["a", 7], "credential": "x", "is_open": 1, "exp_offset": True},
        "room_template": [],
        "new": {"password": PASSWORD},
    }
    daily.faults.append(instead(200, json.dumps([odd] if bare else {"data": [odd]}).encode()))
    async with trunks_of(daily) as trunks:
        (trunk,) = await trunks.list()
    assert trunk == Trunk("t", hmac=SecretStr(SECRET), allowed_ips=("a",))
    assert hidden(trunk, vars(trunk))


async def test_retries(daily: FakeDaily, receiver: Receiver) -> None:
    """A trunk is never created twice; updates and deletions are repeated."""
    async with trunks_of(daily) as trunks:
        daily.faults.append(lost)
        with pytest.raises(UnknownResult) as raised:
            await trunks.create(wanted(receiver))
        assert hidden(raised.value)
        (trunk,) = await trunks.list()
        daily.faults.extend([instead(500), lost])
        assert (await trunks.update(trunk.id, enabled=False)).enabled is False
        daily.faults.append(lost)
        await trunks.delete(trunk.id)
        with pytest.raises(DailyError):
            await trunks.delete(trunk.id)


async def test_check_finds_nothing_wrong(daily: FakeDaily, receiver: Receiver) -> None:
    """The test is signed as Daily's are, and its body has the trunk's name."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver))
        found = await trunks.check(trunk.id)
    assert found
    assert (found.trunk, found.problems, found.warnings) == (trunk, (), ())
    assert found.probe is not None
    assert (found.probe.status, found.probe.problem) == (200, None)
    probe = receiver.received[-1]
    assert (probe["type"], probe["payload"]) == ("sip_trunk.test", {"trunk": {"name": "support"}})
    verify([Secret(SECRET)], TRUNK, receiver.headers[-1], receiver.raw[-1], time.time())
    assert "authorization" not in receiver.headers[-1]
    assert hidden(found)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "answers 401: it does not accept the trunk's signature"),
        (403, "give it the trunk's secret"),
        (307, "answers 307, a redirect: set the URL to which it leads"),
        (404, "answers 404, where Daily needs 2xx: check the path of the URL"),
        (503, "answers 503, where Daily needs 2xx"),
    ],
)
async def test_check_says_what_is_wrong_with_the_receiver(
    daily: FakeDaily, receiver: Receiver, status: int, text: str
) -> None:
    """And what it means for calls."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver))
        receiver.answers = status
        found = await trunks.check(trunk.id)
    assert not found
    (problem,) = found.problems
    assert text in problem
    assert problem.endswith("; Daily rejects every call with 480")


@pytest.mark.parametrize(
    ("says", "accepted"),
    [
        (b'{"ok": true, "verified": false}', False),
        (b'{"ok": true, "verified": true}', True),
        *[
            (odd, True)
            for odd in (b'{"verified": 0}', b"[]", b"no JSON", b"[" * 4000, b'{"verified": false}' + b" " * 9999)
        ],
    ],
)
async def test_check_believes_a_receiver_that_did_not_accept_the_signature(
    daily: FakeDaily, receiver: Receiver, says: bytes, accepted: bool
) -> None:
    """telstate's answers any test with 200: before a trunk is created, its secret may not exist yet."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver))
        receiver.says = says
        found = await trunks.check(trunk.id)
    assert bool(found) == accepted
    assert accepted or "does not accept the trunk's signature, so it would refuse every call" in found.problems[0]


@pytest.mark.parametrize("known", [SECRET, OTHER])
async def test_check_of_a_receiver_of_ours(daily: FakeDaily, known: str) -> None:
    """It says whether it would take the trunk's calls."""
    calls = Dispatcher(Router())
    async with serving(webhook_app(calls, secrets=[known])) as url, trunks_of(daily) as trunks:
        notification = TrunkNotification(webhook_url=f"{url}/sip-trunk", hmac=SecretStr(SECRET))
        access = TrunkAccess(allowed_ips=("203.0.113.7",))
        trunk = await trunks.create(SipTrunk(trunk_name="a", notification=notification, trunk_config=access))
        found = await trunks.check(trunk.id)
    assert found.probe is not None
    assert (found.probe.status, found.probe.verified, bool(found)) == (200, known == SECRET, known == SECRET)


async def test_check_of_a_receiver_that_is_gone_or_slow(daily: FakeDaily, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow one gets calls, while Daily has patience."""
    monkeypatch.setattr("telstate.control._trunks._SLOW", 0.05)
    async with trunks_of(daily) as trunks:
        with Receiver() as receiver:
            trunk = await trunks.create(wanted(receiver))
            receiver.delay = 0.1
            slow = await trunks.check(trunk.id)
            late = await trunks.check(trunk.id, timeout=0.02)
        gone = await trunks.check(trunk.id)
    assert slow
    assert "Daily waits about 12 s in all; answer first" in slow.warnings[0]
    assert "did not answer: nothing came within 0.02 seconds" in late.problems[0]
    assert "did not answer: " in gone.problems[0]
    assert gone.probe is not None
    assert gone.probe.status is None


async def test_check_of_a_receiver_whose_answer_does_not_end(daily: FakeDaily) -> None:
    """It says what came."""

    tests = 0

    async def drip(scope: Any, receive: Any, send: Any) -> None:
        nonlocal tests
        if scope["type"] == "http":
            tests += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(
                {"type": "http.response.body", "more_body": tests > 1}
            )  # Daily, which asks first, shall be content
            while (await receive())["type"] != "http.disconnect":
                pass

    async with serving(drip) as url, trunks_of(daily) as trunks:
        notification = TrunkNotification(webhook_url=f"{url}/sip-trunk", hmac=SecretStr(SECRET))
        access = TrunkAccess(allowed_ips=("203.0.113.7",))
        trunk = await trunks.create(SipTrunk(trunk_name="a", notification=notification, trunk_config=access))
        for timeout in (0.2, 1.0, 5.0):
            found = await trunks.check(trunk.id, timeout=timeout)
            if "nothing came" not in found.problems[0]:  # else the machine stood still for longer than that
                break
    assert f"did not answer: only the status 200 came within {timeout:g} seconds" in found.problems[0]


async def test_check_of_who_may_call(daily: FakeDaily, receiver: Receiver) -> None:
    """A trunk that is open is a warning, whichever way it is; one that is disabled is a problem."""
    async with trunks_of(daily) as trunks:
        trunk = await trunks.create(wanted(receiver, is_open=True))
        opened = await trunks.check(trunk.id)
        assert opened
        assert "it is open: everybody who knows its address can call" in opened.warnings[0]
        await trunks.update(trunk.id, enabled=False, trunk_config=TrunkAccess(allowed_ips=("203.0.113.0/24",)))
        disabled = await trunks.check(trunk.id)
        assert (disabled.warnings, len(disabled.problems)) == ((), 1)
        assert f"telstate trunk update {trunk.id} --enable" in disabled.problems[0]
        for config in ({"allowed_ips": ["0.0.0.0/0"]}, {"allowed_ips": ["203.0.113.7", "::/0"]}, {"is_open": True}):
            daily.faults.append(instead(200, json.dumps({"id": "t", "trunk_config": config}).encode()))
            assert (await trunks.get("t")).lets_everybody_in


@pytest.mark.parametrize(
    "url", ["nonsense", "http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", "http://[::1", "http://a b/"]
)
async def test_check_of_a_url_that_is_none(daily: FakeDaily, url: str) -> None:
    """Daily would not have taken it; but it is no reason to fail."""
    shown = {"id": "t", "hmac": SECRET, "notification": {"webhook_url": url}}
    daily.faults.append(instead(200, json.dumps(shown).encode()))
    async with trunks_of(daily) as trunks:
        found = await trunks.check("t", timeout=2)
    assert "did not answer: " in found.problems[0]


async def test_check_without_a_secret_or_a_url(daily: FakeDaily, receiver: Receiver) -> None:
    """Daily may not show the secret; then it can be given."""
    shown = {"id": "t", "enabled": True, "notification": {"webhook_url": receiver.url}}
    daily.faults.extend([instead(200, json.dumps(shown).encode())] * 3 + [instead(200, b'{"id": "t"}')])
    async with trunks_of(daily) as trunks:
        with pytest.raises(DefinitionError, match="must be base64 and not empty"):
            await trunks.check("t", secret=SecretStr("no base64!"))
        untested = await trunks.check("t")
        given = await trunks.check("t", secret=SecretStr(SECRET))
        without = await trunks.check("t")
    assert untested
    assert untested.probe is None
    assert "does not show the secret that signs the test, so give it" in untested.warnings[0]
    assert given.probe is not None
    verify([Secret(SECRET)], TRUNK, receiver.headers[-1], receiver.raw[-1], time.time())
    assert "it has no webhook_url" in without.problems[0]
