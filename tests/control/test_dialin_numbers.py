"""Where the calls of the domain's numbers go: the list of pinless numbers, and the configs."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from telstate.control import DailyApi, DialinConfigs, PinlessNumbers
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import DialinConfig, SpokenMessage
from telstate.testing import FakeDaily
from telstate.testing._faults import instead, lost
from tests.control.receiving import SECRET

pytestmark = pytest.mark.anyio

NUMBER, OTHER = "+12025550100", "+12025550101"
URL = "https://example.com/pinless"
OLD = "b2xkIHNlY3JldA=="


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: test_api.py runs on both event loops."""
    return "asyncio"


@asynccontextmanager
async def api_of(daily: FakeDaily) -> AsyncIterator[DailyApi]:
    """With short pauses."""
    async with DailyApi(daily.key, url=daily.url, timeout=5.0, pauses=(0.01, 0.02)) as api:
        yield api


async def have(api: DailyApi, *entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Let the domain have a list; return it as Daily shows it."""
    answer = await api.request("POST", "/", {"properties": {"pinless_dialin": list(entries)}})
    listed: list[dict[str, Any]] = answer["config"]["pinless_dialin"]
    return listed


def domain(*entries: Any) -> bytes:
    """An answer to `GET /`."""
    return json.dumps({"config": {"pinless_dialin": list(entries)}}).encode()


def posted(daily: FakeDaily) -> Any:
    """The list that was sent last."""
    return [one.body for one in daily.seen if one.method == "POST"][-1]["properties"]["pinless_dialin"]


async def test_the_other_entries_stay_as_they_are(daily: FakeDaily) -> None:
    """With their secrets, their order and fields that telstate does not know: Daily replaces the whole list."""
    async with api_of(daily) as api:
        numbers = PinlessNumbers(api)
        first = {
            "phone_number": OTHER,
            "room_creation_api": "https://other.example",
            "hold_music_url": "https://m",
            "x": [1],
        }
        sip = {"room_creation_api": "https://sip.example", "name_prefix": "interconnect"}
        before = await have(api, first, {"phone_number": NUMBER, "room_creation_api": "https://old", "hmac": OLD}, sip)
        done = await numbers.set(NUMBER, URL)
        after = (await api.request("GET", "/"))["config"]["pinless_dialin"]
        assert after == [before[0], {**before[1], "room_creation_api": URL}, before[2]]
        assert (done.new_secret, done.meanwhile) == (False, ())
        assert (done.address.phone_number, done.address.room_creation_api) == (NUMBER, URL)
        assert done.address.hmac == SecretStr(OLD)  # its receiver goes on
        listed = await numbers.list()
        assert [one.phone_number for one in listed] == [OTHER, NUMBER, None]
        assert listed[2].sip_uri == before[2]["sip_uri"]
        assert OLD not in repr((done, listed))


async def test_a_new_number_gets_a_secret(daily: FakeDaily) -> None:
    """Made here, so that a repeated request does not make another; or the given one."""
    async with api_of(daily) as api:
        numbers = PinlessNumbers(api)
        daily.faults.extend([instead(200, b'{"config": {}}'), lost])
        made = await numbers.set(NUMBER, URL)
        assert made.new_secret
        assert made.address.hmac is not None
        bodies = [one.body for one in daily.seen if one.method == "POST"]
        assert len(bodies) == 2
        assert bodies[0] == bodies[1]
        assert posted(daily)[0]["hmac"] == made.address.hmac.get_secret_value()
        given = await numbers.set(OTHER, URL, SecretStr(SECRET))
        assert (given.new_secret, given.address.hmac) == (False, SecretStr(SECRET))
        again = await numbers.set(OTHER, "https://example.com/new")
        assert again.address.hmac == SecretStr(SECRET)
        assert len(await numbers.list()) == 2


@pytest.mark.parametrize("spelled", [NUMBER[1:], "+1 (202) 555-0100"])
async def test_the_number_is_found_in_any_spelling(daily: FakeDaily, spelled: str) -> None:
    """Daily's examples have it with and without a plus sign; two entries of a number become one."""
    twice = [{"phone_number": one, "room_creation_api": "https://old", "hmac": OLD} for one in (spelled, NUMBER)]
    daily.faults.append(instead(200, domain(*twice)))
    async with api_of(daily) as api:
        done = await PinlessNumbers(api).set(NUMBER, URL)
    assert posted(daily) == [{"phone_number": NUMBER, "room_creation_api": URL, "hmac": OLD}]
    assert not done.new_secret


@pytest.mark.parametrize("hmac", [None, "", "*****", "••••", 7])
async def test_a_hidden_secret_is_not_replaced_unasked(daily: FakeDaily, hmac: Any) -> None:
    """Daily would make a new one, and the other number's receiver would refuse all callers."""
    hidden = {"phone_number": OTHER, "room_creation_api": "https://other", **({} if hmac is None else {"hmac": hmac})}
    async with api_of(daily) as api:
        daily.faults.append(instead(200, domain(hidden)))
        with pytest.raises(DefinitionError, match=r"shows no secret for \+12025550101.*Nothing was sent"):
            await PinlessNumbers(api).set(NUMBER, URL)
        assert len(daily.seen) == 1
        shown = [hidden, {"phone_number": NUMBER, "room_creation_api": URL, "hmac": "***"}]
        daily.faults.extend(instead(200, body) for body in (domain(hidden), b"{}", domain(*shown)))
        done = await PinlessNumbers(api).set(NUMBER, URL, new_secrets=True)
    assert done.new_secret
    assert done.meanwhile == ()


@pytest.mark.parametrize(
    ("after", "changes"),
    [
        ([], [f"{OTHER} is gone"]),
        (
            [{"phone_number": OTHER, "room_creation_api": "https://b", "hmac": OLD}],
            [f"{OTHER} has another room_creation_api"],
        ),
        ([{"phone_number": OTHER, "room_creation_api": "https://a", "hmac": SECRET}], [f"{OTHER} has another hmac"]),
        (
            [
                {"phone_number": OTHER, "room_creation_api": "https://a", "hmac": OLD, "sip_uri": "a@b"},
                {"sip_uri": "c@d"},
            ],
            ["c@d is new"],
        ),
    ],
)
async def test_what_another_program_changes_meanwhile_is_told(
    daily: FakeDaily, caplog: pytest.LogCaptureFixture, after: list[Any], changes: list[str]
) -> None:
    """Our number is set all the same. The secrets show nowhere."""
    before = {"phone_number": OTHER, "room_creation_api": "https://a", "hmac": OLD}
    ours = {"phone_number": NUMBER, "room_creation_api": URL, "hmac": SECRET}
    daily.faults.extend(instead(200, body) for body in (domain(before), b"{}", domain(*after, ours)))
    async with api_of(daily) as api:
        with caplog.at_level(logging.INFO, "telstate"):
            done = await PinlessNumbers(api).set(NUMBER, URL, SecretStr(SECRET))
    assert list(done.meanwhile) == changes
    assert "pinless.changed_meanwhile" in caplog.text
    assert not any(secret in caplog.text + repr(done) for secret in (OLD, SECRET))


@pytest.mark.parametrize(
    "after",
    [[], [{"phone_number": NUMBER, "room_creation_api": "https://theirs", "hmac": SECRET}], [{"sip_uri": "a@b"}]],
)
async def test_a_number_that_is_not_there_afterwards_is_an_error(daily: FakeDaily, after: list[Any]) -> None:
    """Daily took the list, and somebody else replaced it."""
    daily.faults.extend(instead(200, body) for body in (domain(), b"{}", domain(*after)))
    async with api_of(daily) as api:
        with pytest.raises(UnknownResult, match="is not in it as it was sent: another program") as raised:
            await PinlessNumbers(api).set(NUMBER, URL, SecretStr(SECRET))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"config": []}', b'{"config": {"pinless_dialin": {"a": 1}}}', domain(7)]
)
async def test_a_list_that_cannot_be_read_is_not_overwritten(daily: FakeDaily, body: bytes) -> None:
    """What was not understood would be lost."""
    daily.faults.append(instead(200, body))
    async with api_of(daily) as api:
        with pytest.raises(DailyError, match=r"GET /: "):
            await PinlessNumbers(api).set(NUMBER, URL)
    assert [one.method for one in daily.seen] == ["GET"]


async def test_an_answer_that_repeats_the_secrets_does_not_show_them(daily: FakeDaily) -> None:
    """Those of other numbers neither. A refusal says where else the number may be."""
    entry = {"phone_number": OTHER, "room_creation_api": "https://a", "hmac": OLD}
    echo = json.dumps({"error": "invalid-request-error", "info": f"no {OLD} {SECRET}"}).encode()
    async with api_of(daily) as api:
        daily.faults.extend(instead(status, body) for status, body in ((200, domain(entry)), (400, echo)))
        with pytest.raises(DailyError, match="config of its own") as raised:
            await PinlessNumbers(api).set(NUMBER, URL, SecretStr(SECRET))
        config = DialinConfig(type="pinless_dialin", room_creation_api=URL, hmac=SecretStr(SECRET))
        daily.faults.extend([instead(400, echo)] * 2)
        for change in (DialinConfigs(api).create(config), DialinConfigs(api).update("a", config)):
            with pytest.raises(DailyError) as again:
                await change
            assert SECRET not in f"{again.value}{vars(again.value)}"
    assert not any(secret in f"{raised.value}{vars(raised.value)}" for secret in (OLD, SECRET))


async def test_wrong_arguments_are_not_sent(daily: FakeDaily) -> None:
    """All at once, and without the secret."""
    async with api_of(daily) as api:
        with pytest.raises(ValidationError) as raised:
            await PinlessNumbers(api).set("2025550100", "example.com", SecretStr("no base64!"))
    assert len(raised.value.errors()) == 3
    assert "no base64!" not in str(raised.value)
    assert daily.seen == []


async def test_the_life_of_a_config(daily: FakeDaily) -> None:
    """Both kinds."""
    async with api_of(daily) as api:
        configs = DialinConfigs(api)
        pinless = await configs.create(
            DialinConfig(type="pinless_dialin", phone_number=NUMBER, room_creation_api=URL, hmac=SecretStr(SECRET))
        )
        assert (pinless.kind, pinless.phone_number, pinless.room_creation_api) == ("pinless_dialin", NUMBER, URL)
        assert pinless.hmac == SecretStr(SECRET)
        greeting = SpokenMessage(message="Your PIN, please.")
        pin = await configs.create(DialinConfig(type="pin_dialin", phone_number=OTHER, ivr_greeting=greeting))
        assert await configs.list() == (pinless, pin)
        assert pin.id is not None
        assert await configs.get(pin.id) == pin
        with pytest.raises(DailyError, match="is used by another config"):
            await configs.create(DialinConfig(type="pin_dialin", phone_number=NUMBER))
        with pytest.raises(DailyError, match="one config only"):
            await PinlessNumbers(api).set(NUMBER, URL)
        renamed = await configs.update(
            pin.id, DialinConfig(type="pin_dialin", phone_number=OTHER, name_prefix="Support")
        )
        assert renamed.name_prefix == "Support"
        assert daily.seen[-1].body == {"phone_number": OTHER, "name_prefix": "Support"}
        daily.faults.append(lost)
        await configs.delete(pin.id)
        with pytest.raises(DailyError) as raised:
            await configs.delete(pin.id)
        assert raised.value.status == 404
        with pytest.raises(DefinitionError, match="the config's id is empty"):
            await configs.get("")
        assert SECRET not in repr((pinless, configs))


async def test_all_pages_of_the_configs_are_read(daily: FakeDaily, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are, and no page twice if Daily sends the same again."""
    monkeypatch.setattr("telstate.control._dialin_configs._PAGE", 2)
    async with api_of(daily) as api:
        configs = DialinConfigs(api)
        made = [await configs.create(DialinConfig(type="pin_dialin", name_prefix=str(number))) for number in range(5)]
        assert await configs.list() == tuple(made)
        page = json.dumps({"total_count": 9, "data": [{"id": "a", "type": "pin_dialin", "config": {}}]}).encode()
        daily.rules["/domain-dialin-config"] = instead(200, page)
        assert [one.id for one in await configs.list()] == ["a"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": [{}]}', b'{"id": 7}'])
async def test_an_answer_that_is_not_a_config_is_an_error(daily: FakeDaily, body: bytes) -> None:
    """After a change it may have been made all the same."""
    daily.rules["*"] = instead(200, body)
    config = DialinConfig(type="pin_dialin")
    async with api_of(daily) as api:
        configs = DialinConfigs(api)
        for change in (configs.create(config), configs.update("a", config)):
            with pytest.raises(UnknownResult, match="not a dial-in config"):
                await change
        for read in (configs.get("a"), configs.list()):
            with pytest.raises(DailyError, match=r"not a (list|dial-in config)") as raised:
                await read
            assert type(raised.value) is DailyError
