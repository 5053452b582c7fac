"""The options of what lets callers in: trunks, numbers and PINs. What all options share is in test_options.py."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from telstate.options import DialinConfig, PinDialin, SipTrunk, TrunkAccess, TrunkCredential, TrunkNotification

URL = "https://example.com/sip-trunk"
PASSWORD = "hunter2 of the carrier"
SECRET = "aHVudGVyMg=="
CREDENTIAL = {"username": "carrier", "password": PASSWORD}


def trunk(**access: Any) -> SipTrunk:
    """A trunk with some access."""
    return SipTrunk.model_validate(
        {"trunk_name": "support", "notification": {"webhook_url": URL}, "trunk_config": access}
    )


def test_the_body_of_a_trunk_has_the_secrets_and_nothing_else_has() -> None:
    """Not even the JSON of pydantic."""
    made = SipTrunk(
        trunk_name="support",
        notification=TrunkNotification(webhook_url=URL, hmac=SecretStr(SECRET)),
        trunk_config=TrunkAccess(credential=TrunkCredential(username="carrier", password=SecretStr(PASSWORD))),
        room_template={"enable_recording": "cloud"},
        description="Our carrier",
    )
    assert made.body() == {
        "trunk_name": "support",
        "notification": {"webhook_url": URL, "hmac": SECRET},
        "trunk_config": {"credential": CREDENTIAL, "is_open": False},
        "room_template": {"enable_recording": "cloud"},
        "description": "Our carrier",
    }
    for shown in (
        repr(made),
        str(made),
        made.model_dump_json(),
        str(made.model_dump()),
        str(made.model_dump(mode="json")),
    ):
        assert PASSWORD not in shown
        assert SECRET not in shown


@pytest.mark.parametrize("access", [{}, {"is_open": False}, {"allowed_ips": []}, {"allowed_ips": (), "exp_offset": 60}])
def test_a_trunk_is_never_open_by_accident(access: dict[str, Any]) -> None:
    """Everybody could call, at your cost."""
    with pytest.raises(
        ValidationError, match=r"nothing limits who may call: give allowed_ips .* or a credential"
    ) as raised:
        trunk(**access)
    assert raised.value.errors()[0]["loc"] == ("trunk_config", "is_open")


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_a_range_of_everybody_is_not_a_limit(everybody: str) -> None:
    """It has to be said by its name."""
    with pytest.raises(ValidationError, match="that is everybody: name your carrier's addresses, or say is_open=True"):
        trunk(allowed_ips=["203.0.113.7", everybody])


def test_is_open_is_always_sent() -> None:
    """An update that omits it might leave a trunk open."""
    assert trunk(is_open=True).body()["trunk_config"] == {"is_open": True}
    assert trunk(allowed_ips=["203.0.113.0/24", "2001:db8::1"], exp_offset=60).body()["trunk_config"] == {
        "allowed_ips": ["203.0.113.0/24", "2001:db8::1"],
        "exp_offset": 60,
        "is_open": False,
    }
    for limit in ({"allowed_ips": ["203.0.113.7"]}, {"credential": CREDENTIAL}):
        with pytest.raises(ValidationError, match=r"is_open lets everybody in, whatever .* says: give either"):
            trunk(is_open=True, **limit)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"allowed_ips": ["203.0.113.5/24"]}, "got '203.0.113.5/24': write 203.0.113.0/24, or the single address"),
        ({"allowed_ips": ["carrier.example"]}, "must be an IP address, or a range such as 203.0.113.0/24"),
        ({"allowed_ips": [7]}, "must be a string, got 7"),
        ({"credential": {"username": "carrier"}}, "password is missing: TrunkCredential needs it"),
        ({"credential": {"username": " ", "password": PASSWORD}}, "username must not be empty"),
        ({"credential": {**CREDENTIAL, "password": ""}}, "password must be a text without control characters"),
        ({"credential": {**CREDENTIAL, "password": [PASSWORD]}}, "password must be a text without control characters"),
        ({"credential": {**CREDENTIAL, "password": f"{PASSWORD}\n"}}, "password must be a text without control"),
        ({"credential": PASSWORD}, "credential must be an object with named fields, got something else: pass a dict"),
        ({"credential": {**CREDENTIAL, "pasword": PASSWORD}}, "'pasword' is not a field of TrunkCredential"),
        ({"credential": CREDENTIAL, "is_opened": PASSWORD}, "'is_opened' is not a field of TrunkAccess: write is_open"),
        ({"credential": CREDENTIAL, "exp_offset": 0}, "exp_offset must be a whole number of at least 1"),
    ],
)
def test_no_error_shows_a_password(given: dict[str, Any], text: str) -> None:
    """Nor does it hold one, for those who log `error.errors()`."""
    for make in (lambda: TrunkAccess.model_validate(given), lambda: trunk(**given)):
        with pytest.raises(ValidationError, match=text) as raised:
            make()
        assert PASSWORD not in f"{raised.value}{raised.value.errors()!r}{raised.value.json()}"


def test_fields_of_the_inner_objects_are_pointed_at() -> None:
    """A flat call is the likeliest mistake."""
    with pytest.raises(ValidationError) as raised:
        SipTrunk.model_validate({"trunk_name": "a", "webhook_url": URL, "allowed_ips": [], "hmac": SECRET})
    text = str(raised.value)
    for inner in ("notification={'webhook_url': …}", "trunk_config={'allowed_ips': […]}", "notification={'hmac': …}"):
        assert f"write {inner}" in text
    assert SECRET not in text + repr(raised.value.errors())


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        *[
            ("webhook_url", url, "begin with https:// and the host")
            for url in ("example.com", "ftp://a", "https://", "")
        ],
        ("webhook_url", "https://a b", "webhook_url must be a URL"),
        ("webhook_url", 7, "webhook_url must be a string, got 7"),
        *[("hmac", hmac, "hmac must be base64 and not empty") for hmac in ("", "not base64!", "aHVudGVyMg", [SECRET])],
    ],
)
def test_notifications_are_checked(field: str, value: Any, text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValidationError, match=text):
        TrunkNotification.model_validate({"webhook_url": URL, "hmac": SECRET, field: value})


def test_pin_dialin_has_dailys_form() -> None:
    """As Daily's guide shows it."""
    pin = PinDialin.model_validate(
        {"display_name": "Caller", "wait_for_meeting_start": True, "room_numbers": [{"phone_number": "+12095038039"}]}
    )
    assert pin.body() == {
        "display_name": "Caller",
        "wait_for_meeting_start": True,
        "room_numbers": [{"phone_number": "+12095038039"}],
    }
    assert PinDialin(display_name="Caller").body() == {"display_name": "Caller"}
    with pytest.raises(ValidationError, match=r"phone_number must be in E\.164"):
        PinDialin.model_validate({"display_name": "Caller", "room_numbers": [{"phone_number": "2095038039"}]})


def test_each_kind_of_number_has_its_fields() -> None:
    """Daily ignores those of the other kind."""
    pinless = {"type": "pinless_dialin", "phone_number": "+12095038039", "room_creation_api": URL, "hmac": SECRET}
    pin = {"type": "pin_dialin", "phone_number": "+12095038039", "ivr_greeting": {"message": "Your PIN, please."}}
    for whole in (pinless, pin):
        assert DialinConfig.model_validate(whole).body() == whole
    assert SECRET not in repr(DialinConfig.model_validate(pinless))
    for wrong, text in (
        ({"type": "pinless_dialin"}, "room_creation_api is missing: a pinless number needs the URL"),
        ({**pinless, "ivr_greeting": {"message": "a"}}, "ivr_greeting is for pin_dialin only"),
        ({**pin, "hmac": SECRET}, "hmac is for pinless_dialin only"),
        ({**pin, "room_creation_api": URL}, "room_creation_api is for pinless_dialin only"),
        ({"type": "pinless"}, "type must be 'pinless_dialin' or 'pin_dialin', got 'pinless'"),
    ):
        with pytest.raises(ValidationError, match=text) as raised:
            DialinConfig.model_validate(wrong)
        assert SECRET not in f"{raised.value}{raised.value.errors()!r}"
