"""What `telstate doctor` finds at Daily, against a fake of it and a real service: each finding once."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telstate.control import NEEDED
from telstate.events import Dialect
from telstate.testing import FakeDaily
from telstate.testing._faults import instead
from tests.cli.doctor_setup import OTHER, SECRET, Served, StandIn, doctor, hook, journal_of, listed

pytestmark = pytest.mark.long
NUMBER = "+12025550143"


def test_daily_cannot_be_asked(daily: FakeDaily) -> None:
    """It is one fault: the other checks say that they could not look."""
    for env, said in (
        ({"DAILY_API_KEY": "another"}, "Daily answered 401: authentication-error"),
        ({"DAILY_API_KEY": "with space"}, "the API key is empty, or has characters that no key has"),
        ({"TELSTATE_DAILY_API_URL": "http://127.0.0.1:9/v1"}, "cannot be reached"),
        ({"TELSTATE_DAILY_API_URL": "https://telstate.invalid/v1"}, "no address of telstate.invalid is known"),
    ):
        variables = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url, **env}
        run = doctor("--room", "support", env=variables)
        assert said in run.one("daily", "fault")
        assert run.summary["fault"] == 1
        for check in ("webhooks", "rooms", "pinless", "trunks"):
            assert run.one(check, "not checked")
    for answer in (b"[]", b"null", b'{"domain_name": 5}'):  # perhaps not Daily
        daily.rules["/"] = instead(200, answer)
        run = doctor(daily=daily)
        assert "names no domain: check TELSTATE_DAILY_API_URL" in run.one("daily", "fault")
        assert run.one("pinless", "not checked")


def webhooks(daily: FakeDaily, *arguments: object, env: dict[str, str] | None = None) -> list[tuple[str, str]]:
    """The findings about webhooks."""
    return doctor(*arguments, daily=daily, env=env).of("webhooks")


def test_webhooks_that_do_not_report(daily: FakeDaily, service: Served, stand_in: StandIn) -> None:
    """None, none that points here, and those that Daily has switched off."""
    assert webhooks(daily, service.url) == [("fault", "the domain has no webhook")]
    hook(daily, "https://elsewhere.example/hook?token=of-theirs")
    elsewhere, none = webhooks(daily, stand_in.url)
    assert elsewhere == ("ok", "1 webhook of the domain points elsewhere: elsewhere.example")
    assert none == ("fault", "no webhook of the domain points here")
    hook(daily, f"{service.url}/hooks")
    path, _, unsure, *_ = webhooks(daily, service.url)
    assert unsure[0] == "not checked"
    assert "only URLs of this machine were given" in unsure[1]
    assert path[0] == "warning"
    assert path[1].startswith("the webhook u1 points to this host, but to /hooks, where")
    assert ("not checked", "no URL of a running service was given, so it is not known which of them are its own") in (
        webhooks(daily)
    )
    daily.hooks = {}
    uuid = hook(daily, f"{service.url}/webhooks/", state="FAILED", failedCount=3, eventTypes=list(NEEDED[1:]))
    found = webhooks(daily, service.url)
    off = f"the webhook {uuid}: it is FAILED, Daily sends nothing, and events are being lost"
    assert found[:2] == [("fault", off), ("fault", f"the webhook {uuid}: it lacks {NEEDED[0]}")]
    assert webhooks(daily)[1:] == found[:2]


def test_webhooks_that_report_but_not_for_long(daily: FakeDaily, service: Served, stand_in: StandIn) -> None:
    """A breaker, failures, two of them, a secret that the service does not have, and a URL that does not say."""
    one = hook(daily, f"{service.url}/webhooks", retryType="circuit-breaker", failedCount=2)
    two = hook(daily, f"{service.url}/webhooks", hmac=OTHER)
    found = webhooks(daily, service.url)
    accepts = f"the URL of the webhook {one} accepts a test that is signed with the secret that Daily has"
    assert found == [
        ("warning", f"2 deliveries in a row of the webhook {one} failed"),
        ("warning", f"the webhook {one} has the retry type circuit-breaker"),
        ("ok", accepts),
        ("ok", f"the webhook {two} is ACTIVE, and has all event types that telstate needs"),
        ("fault", f"the URL of the webhook {two} refuses a test that is signed with the secret that Daily has"),
        ("warning", "2 webhooks point here"),
    ]
    daily.hooks = {}
    uuid = hook(daily, f"{service.url}/webhooks", hmac="••••")
    hidden = f"Daily does not show the secret of the webhook {uuid}, and no setting has one"
    assert ("not checked", hidden) in webhooks(daily, service.url)
    found = webhooks(daily, service.url, env={"TELSTATE_WEBHOOK_SECRET": SECRET})
    assert ("ok", f"the URL of the webhook {uuid} accepts a test that is signed with that of the settings") in found
    daily.hooks = {}
    uuid = hook(daily, f"{stand_in.url}/webhooks")
    stand_in.answer = (500, b"")
    said = f"the URL of the webhook {uuid} answers 500 to a test that is signed with the secret that Daily has, and does not say whether it accepts it"
    assert any(health == "fault" and text.startswith(said) for health, text in webhooks(daily, stand_in.url))


def test_events_that_daily_sends_and_the_journal_does_not_get(
    daily: FakeDaily, service: Served, tmp_path: Path
) -> None:
    """The journal is not the one of the service, or the webhook is not the one that reports."""
    path = tmp_path / "calls.db"
    an_hour = 3600.0
    now = time.time()
    journal_of(path, (now - an_hour, Dialect.WEBHOOK), (now - 1, Dialect.JOURNAL))
    hook(daily, f"{service.url}/webhooks", lastMomentPushed=datetime.fromtimestamp(now - 60, UTC).isoformat())
    run = doctor(service.url, "--journal", path, daily=daily)
    assert "ago, and the journal got its last event 59 min before that" in run.one("webhooks", "warning")
    journal_of(tmp_path / "new.db")
    run = doctor(service.url, "--journal", tmp_path / "new.db", daily=daily)
    assert run.one("webhooks", "warning").endswith("ago, and the journal has nothing")
    journal_of(tmp_path / "right.db", (now - 60, Dialect.WEBHOOK))
    run = doctor(service.url, "--journal", tmp_path / "right.db", daily=daily)
    assert {health for health, _ in run.of("webhooks")} == {"ok"}


def test_rooms(daily: FakeDaily) -> None:
    """That may not dial out, do not say so, are over, or are not there."""
    daily.host("off", enable_dialout=False, sip=None)
    assert doctor("--room", "off", daily=daily).of("rooms") == [
        ("fault", "the room off may not dial out"),
        ("ok", "callers reach the room off by pinless forwarding or a link only"),
    ]
    config = {"name": "old", "config": {"exp": 1_000_000_000, "dialin_code": "123456789"}}
    daily.rules["/rooms/old"] = instead(200, json.dumps(config).encode())
    unsaid, over, pin = doctor("--room", "old", daily=daily).of("rooms")
    assert unsaid == ("fault", "the room old is not said to dial out")
    assert over[0] == "fault"
    assert over[1].startswith("the room old expired ")
    assert pin == ("ok", "callers reach the room old by a PIN")
    assert doctor("--room", "none", daily=daily).of("rooms") == [("fault", "there is no room none")]
    assert doctor(daily=daily).of("rooms") == [("not checked", "no room was given (--room)")]
    listed(daily, enable_dialout=True)
    assert doctor(daily=daily).of("rooms") == [("ok", "dial-out is enabled for the domain")]
    assert doctor("--room", "old", daily=daily).of("rooms")[0] == ("ok", "the room old may dial out")


def test_numbers(daily: FakeDaily, service: Served) -> None:
    """Where their callers are reported, and with which secret. A number is masked."""
    assert doctor(service.url, daily=daily).of("pinless") == [
        ("ok", "the domain has no numbers, so nobody is put on hold")
    ]
    entry = {"phone_number": NUMBER, "hmac": OTHER, "room_creation_api": f"{service.url}/pinless"}
    other = {"phone_number": "+12025550144", "hmac": OTHER, "room_creation_api": "https://elsewhere.example/x"}
    alike = {**other, "phone_number": "+12125550144"}  # masked, it is the same
    path = {"phone_number": "+12025550145", "hmac": OTHER, "room_creation_api": f"{service.url}/x"}
    listed(daily, entry, {**entry, "phone_number": "+12025550146"}, other, alike, path)
    configs = {"total_count": 1, "data": [{"id": "c", "type": "pin_dialin", "config": {"phone_number": NUMBER}}]}
    daily.rules["/domain-dialin-config"] = instead(200, json.dumps(configs).encode())
    run = doctor(service.url, daily=daily)
    assert "2025550" not in str(run)
    refused = (
        "the URL of the number +12•••••••43 and of 1 more refuses a test that is signed with the secret that Daily has"
    )
    assert run.of("pinless") == [
        ("ok", "1 number with a PIN, which needs no URL"),
        (
            "warning",
            "the number +12•••••••45 points to this host, but to /x, where the URLs that were given have nothing",
        ),
        ("ok", "2 numbers of the domain point elsewhere: elsewhere.example (2)"),
        ("fault", refused),
    ]
    assert doctor(daily=daily).of("pinless")[1][0] == "not checked"


def test_trunks(daily: FakeDaily, service: Served) -> None:
    """What `telstate trunk check` says, of those that point here."""
    assert doctor(service.url, daily=daily).of("trunks") == [("ok", "the domain has no SIP trunks")]
    daily.rules["/sip-trunk"] = instead(404)
    not_shown = "Daily shows no trunks to this domain: they may not be enabled for it"
    assert doctor(service.url, daily=daily).of("trunks") == [("not checked", not_shown)]
    daily.rules["/sip-trunk"] = instead(500)
    assert "Daily answered 500" in doctor(service.url, daily=daily).one("trunks", "fault")
    trunks = [
        {"id": "t1", "enabled": False, "notification": {"webhook_url": f"{service.url}/sip-trunk"}, "hmac": SECRET},
        {
            "id": "t2",
            "enabled": True,
            "trunk_config": {"is_open": True},
            "notification": {"webhook_url": f"{service.url}/sip-trunk"},
            "hmac": OTHER,
        },
        {"id": "t3", "enabled": True, "notification": {"webhook_url": "https://elsewhere.example"}, "hmac": OTHER},
    ]
    daily.rules["/sip-trunk"] = instead(200, json.dumps(trunks).encode())
    for one in trunks:
        daily.rules[f"/sip-trunk/{one['id']}"] = instead(200, json.dumps(one).encode())
    elsewhere, disabled, refused, is_open = doctor(service.url, daily=daily).of("trunks")
    assert elsewhere == ("ok", "1 trunk of the domain points elsewhere: elsewhere.example")
    assert disabled[0] == refused[0] == "fault"
    assert "the trunk t1: it is disabled and takes no calls" in disabled[1]
    assert "the trunk t2: its webhook_url" in refused[1]
    assert "does not accept the trunk's signature" in refused[1]
    assert is_open[0] == "warning"
    assert "the trunk t2: it is open: everybody" in is_open[1]
    assert doctor(daily=daily).of("trunks")[0][0] == "not checked"
    unreadable = [{"id": "t4", "enabled": True, "notification": {"webhook_url": "http://[no-address"}}]
    daily.rules["/sip-trunk"] = instead(200, json.dumps(unreadable).encode())
    said = "1 trunk of the domain points elsewhere: an address that cannot be read"
    assert doctor(service.url, daily=daily).of("trunks") == [("ok", said)]
