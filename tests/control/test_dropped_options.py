"""No way to Daily drops an option without an error: each field of each option is carried, or refused before anything is sent.

The fields are found in the classes, so that a new one cannot be forgotten. Whether daily-python reads a field is measured: it is given a
value of a wrong type for it, which it refuses if it reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, get_args

import anyio
import pytest

from telstate.control import CallTransport, DailyApi, DialinConfigs, RestControl, Rooms, Trunks
from telstate.errors import DailyError, NotSupported
from telstate.options import (
    Codecs,
    DialinConfig,
    Dtmf,
    Permissions,
    PhoneDialout,
    PinDialin,
    Refer,
    SipDialout,
    SipRoom,
    SipTrunk,
    Transfer,
    VideoSettings,
)
from telstate.options._base import Options
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead
from tests.control.in_room import acting, answered, transport_of
from tests.sources.live import installed

daily_python = installed("daily")
installed("pipecat.transports.daily.transport")

pytestmark = pytest.mark.anyio

BOB, NUMBER = "sip:bob@example.com", "+12025550101"
ID = "f6d0b1f0-7c9e-4b57-9b0e-3a0d3a9e1c11"
VALUES: dict[str, Any] = {
    "sip_uri": BOB,
    "phone_number": NUMBER,
    "to_end_point": NUMBER,
    "display_name": "Bob",
    "user_id": "u1",
    "caller_id": "+12025550102",
    "extension": "12",
    "wait_before_extension_dial_sec": 3,
    "video": True,
    "width": 640,
    "height": 360,
    "fps": 10,
    "video_bitrate": 500,
    "audio": ["PCMU"],
    "can_receive": {"base": True},
    "provider": "daily",
    "tones": "1#",
    "method": "sip-info",
    "digit_duration_ms": 200,
    "num_endpoints": 2,
    "sip_mode": "dial-in",
}
"""A value of each field that is not its default."""
NEEDS: dict[str, dict[str, Any]] = {
    "video_settings": {"video": True},
    "wait_before_extension_dial_sec": {"extension": "12"},
}
"""What else must be given for a field."""
REQUESTS: dict[type[Options], tuple[str, Callable[[CallTransport, Any], Awaitable[object]]]] = {
    SipDialout: ("start_dialout", lambda control, options: control.start(options, "room")),
    PhoneDialout: ("start_dialout", lambda control, options: control.start(options, "room")),
    Dtmf: ("send_dtmf", lambda control, options: control.send_dtmf(answered(), options)),
    Transfer: ("sip_call_transfer", lambda control, options: control.transfer(answered(), options)),
    Refer: ("sip_refer", lambda control, options: control.refer(answered(), options)),
}
"""By option: the name of the request, and how it is made."""


class Leaf(NamedTuple):
    """A field that has a value, with the way to it."""

    options: Any
    """With as little as this field needs."""
    path: tuple[str, ...]
    """Python names."""
    key: tuple[str, ...]
    """As Daily spells them."""

    def found_in(self, body: Any) -> Any:
        """Its value in a request, or None."""
        for key in self.key:
            body = body.get(key) if isinstance(body, dict) else None
        return body


def leaves(model: type[Options]) -> Iterator[Leaf]:
    """Every field of an option class, those of the options within it included."""
    fields = model.model_fields
    required = {name: VALUES[name] for name, field in fields.items() if field.is_required()}
    if model is Refer:
        required["to_end_point"] = BOB
    for name, field in fields.items():
        alias = field.alias or name
        kinds = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        inner = next((one for one in kinds if issubclass(one, Options)), None)
        base = {**required, **NEEDS.get(name, {})}
        if inner is None:
            yield Leaf(model(**{name: VALUES[name], **base}), (name,), (alias,))
            continue
        for part, part_field in inner.model_fields.items():
            if (inner, part) == (Codecs, "video"):
                if model is PhoneDialout:  # the options themselves refuse it
                    continue
                base |= {"video": True}
            value = {part: ["VP8"] if (inner, part) == (Codecs, "video") else VALUES[part]}
            yield Leaf(model(**{**base, name: value}), (name, part), (alias, part_field.alias or part))


LEAVES = {model: list(leaves(model)) for model in REQUESTS}


WITHIN = {Codecs, Permissions, VideoSettings}
"""Options within those of a dial-out."""


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: two of the three ways need it."""
    return "asyncio"


def test_every_option_is_sent_by_some_request() -> None:
    """A new class needs a request here; the classes within others are found there."""
    within = {kind for _, model, fields in REST_ONLY for kind in kinds_in(model.model_validate(fields))}
    assert set(REQUESTS) | WITHIN | within == set(Options.__subclasses__())
    assert {leaf.path[0] for leaf in LEAVES[SipDialout]} == set(SipDialout.model_fields)
    assert sum(map(len, LEAVES.values())) >= 29


def kinds_in(options: Options) -> Iterator[type[Options]]:
    """The classes of options and of those within them."""
    yield type(options)
    for _, inner in inner_options(options):
        yield from kinds_in(inner)


def check_refusal(refused: NotSupported, leaf: Leaf, way: str) -> None:
    """It names the option, the way, and what to do instead."""
    text = str(refused)
    assert leaf.path[0] in text
    assert type(leaf.options).__name__ in text
    assert way in text
    assert any(word in text for word in ("leave it out", "omit", "remove it", "Control(")), text
    assert not {NUMBER, BOB} & set(text.split())


async def test_over_rest(daily: FakeDaily) -> None:
    """Over real HTTP."""
    daily.rules["*"] = instead(200, b'{"ok": "true", "sessionId": "s"}')
    refused = set()
    async with DailyApi(KEY, url=daily.url) as api:
        control = RestControl(api, "room")
        for model, (_, request) in REQUESTS.items():
            for leaf in LEAVES[model]:
                sent = len(daily.seen)
                try:
                    await request(control, leaf.options)
                except NotSupported as error:
                    check_refusal(error, leaf, "REST")
                    assert len(daily.seen) == sent, "refused, but sent"
                    refused.add((model, leaf.path[0]))
                else:
                    assert leaf.found_in(daily.seen[-1].body) == leaf.found_in(leaf.options.body())
                    assert leaf.found_in(leaf.options.body()) is not None, leaf
    assert refused == {
        (SipDialout, "permissions"),
        (SipDialout, "provider"),
        (PhoneDialout, "permissions"),
        (PhoneDialout, "provider"),
        (Dtmf, "method"),
    }


ADDRESS = {"phone_number": NUMBER, "name_prefix": "Support"}
SPOKEN = {"message": "Please hold"}
SECRET = "c2VjcmV0IG9mIG91cnM="
RECEIVER = "https://bot.example/calls"
REST_ONLY: list[tuple[Callable[[DailyApi, Any], Awaitable[object]], type[Options], dict[str, Any]]] = [
    (
        lambda api, sip: Rooms(api).set_sip("room", sip),
        SipRoom,
        {"display_name": "Bob", "num_endpoints": 2, "video": True, "codecs": {"audio": ["PCMU"]}, "provider": "daily"},
    ),
    (
        lambda api, pin: Rooms(api).update("room", pin=pin),
        PinDialin,
        {"display_name": "Ann", "wait_for_meeting_start": True, "room_numbers": [{"phone_number": NUMBER}]},
    ),
    (
        lambda api, config: DialinConfigs(api).create(config),
        DialinConfig,
        {
            "type": "pinless_dialin",
            **ADDRESS,
            "room_creation_api": RECEIVER,
            "hmac": SECRET,
            "hold_music_url": f"{RECEIVER}.mp3",
            "timeout_config": SPOKEN,
        },
    ),
    (
        lambda api, config: DialinConfigs(api).create(config),
        DialinConfig,
        {"type": "pin_dialin", **ADDRESS, "ivr_greeting": SPOKEN},
    ),
    (
        lambda api, trunk: Trunks(api).create(trunk),
        SipTrunk,
        {
            "trunk_name": "office",
            "notification": {"webhook_url": RECEIVER, "hmac": SECRET},
            "trunk_config": {
                "allowed_ips": ["203.0.113.7"],
                "credential": {"username": "carrier", "password": "correct-horse-battery-staple"},
                "exp_offset": 60,
            },
            "room_template": {"exp": 1},
            "description": "The office",
            "enabled": False,
        },
    ),
    (
        lambda api, trunk: Trunks(api).create(trunk),
        SipTrunk,
        {"trunk_name": "open", "notification": {"webhook_url": RECEIVER}, "trunk_config": {"is_open": True}},
    ),
]
"""What only REST does, with a value for every field."""


def inner_options(options: Options) -> Iterator[tuple[str, Options]]:
    """The options within others, with the field that has them."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Options):
                yield field.alias or name, one


def check_carried(options: Options, body: Any, given: dict[type[Options], set[str]]) -> None:
    """Every field that is set is in a request, at every level."""
    given.setdefault(type(options), set()).update(options.model_fields_set)
    for name in options.model_fields_set:
        assert (type(options).model_fields[name].alias or name) in body, (name, body)
    for key, inner in inner_options(options):
        part = body[key]
        check_carried(inner, part[0] if isinstance(part, list) else part, given)


async def test_what_only_rest_does(daily: FakeDaily) -> None:
    """Every field of every option is in the request."""
    daily.rules["*"] = instead(200, b"{}")
    given: dict[type[Options], set[str]] = {}
    async with DailyApi(KEY, url=daily.url) as api:
        for request, model, fields in REST_ONLY:
            options, sent = model.model_validate(fields), len(daily.seen)
            with suppress(DailyError):  # the answer is of no interest
                await request(api, options)
            body = daily.seen[sent].body
            sent_as = {SipRoom: "sip", PinDialin: "dialin"}.get(model)
            check_carried(options, body["properties"][sent_as] if sent_as else body, given)
    given.pop(Codecs)
    assert set(given) == set(Options.__subclasses__()) - set(REQUESTS) - WITHIN
    # Whatever is not given here, or has only one value, is a default that need not be sent.
    assert {(model.__name__, name) for model in given for name in set(model.model_fields) - given[model]} == {
        ("SipRoom", "sip_mode")
    }


@pytest.mark.parametrize("kind", ["client", "transport"])
async def test_in_a_room(kind: str) -> None:
    """What daily-python's client and pipecat's real transport are called with, and pass on."""
    refused = set()
    async with acting(kind) as (control, fake):
        for model, (name, request) in REQUESTS.items():
            for leaf in LEAVES[model]:
                sent = len(fake.sent)
                try:
                    await request(control, leaf.options)
                except NotSupported as error:
                    check_refusal(error, leaf, "call client")
                    assert len(fake.sent) == sent, "refused, but sent"
                    refused.add((model, leaf.path[0]))
                else:
                    assert fake.sent[-1][0] == name
                    assert leaf.found_in(fake.sent[-1][1]) == leaf.found_in(leaf.options.body()) is not None
    assert refused == DROPPED


DROPPED = {
    (SipDialout, "video_settings"),
    (PhoneDialout, "provider"),
    (Transfer, "extension"),
    (Transfer, "wait_before_extension_dial_sec"),
}
"""By a call client. `test_the_real_client_drops_these` measures it."""


@asynccontextmanager
async def real() -> Any:
    """A real call client. pipecat must initialise the native library: a second time would abort the process."""
    transport_of()
    client = daily_python.CallClient()
    try:
        yield client
    finally:
        client.release()


async def answer_of(client: Any, name: str, settings: dict[str, Any]) -> str:
    """What the real client answers, without a joined room: that it is in none, or that it cannot read the settings."""
    done, answers = anyio.Event(), list[Any]()
    loop = asyncio.get_running_loop()

    def completion(*answer: Any) -> None:
        answers.extend(answer)
        loop.call_soon_threadsafe(done.set)

    getattr(client, name)(settings, completion=completion)
    with anyio.fail_after(20):
        await done.wait()
    return str(answers[-1])


def with_value(body: dict[str, Any], key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of a request with another value of one field."""
    first, *rest = key
    return {**body, first: with_value(body.get(first, {}), tuple(rest), value) if rest else value}


async def test_the_real_client_drops_these() -> None:
    """And reads all others: it refuses a value of a wrong type. One that a new version reads, or drops, fails here."""
    dropped = set()
    async with real() as client:
        for model, (name, _) in REQUESTS.items():
            mine = {} if name == "start_dialout" else {"sessionId": ID}
            for leaf in LEAVES[model]:
                body = {**mine, **leaf.options.body()}
                assert "NotInACall" in await answer_of(client, name, body), leaf
                wrong = [with_value(body, leaf.key, value) for value in ([{"x": 1}], 7)]
                texts = [await answer_of(client, name, one) for one in wrong]
                if not any("settings are not valid" in text for text in texts):
                    dropped.add((model, leaf.path[0]))
    assert dropped == DROPPED


async def test_the_real_client_takes_one_provider_and_three_keys_of_permissions() -> None:
    """Others are refused here, with a text that says which option is meant."""
    async with real() as client, acting("client") as (control, fake):
        for provider in ("signalwire", "twilio", "Daily"):
            other = SipDialout(sip_uri=BOB, provider=provider)
            assert "settings are not valid" in await answer_of(client, "start_dialout", other.body())
            with pytest.raises(NotSupported, match=f"provider '{provider}': write 'daily', or leave it out"):
                await control.start(other)
        for key in ("base", "byUserId", "byParticipantId", "byRole"):
            for made in (PhoneDialout(phone_number=NUMBER), SipDialout(sip_uri=BOB)):
                body = {**made.body(), "permissions": {"canReceive": {key: 7}}}
                is_read = "settings are not valid" in await answer_of(client, "start_dialout", body)
                assert is_read == (key != "byRole")
                permitted = made.model_copy(update={"permissions": {"can_receive": {key: True}}})
                if is_read:
                    await control.start(permitted)
                else:
                    with pytest.raises(NotSupported, match="can_receive\\['byRole'\\]: remove it"):
                        await control.start(permitted)
    assert len(fake.sent) == 6


async def test_defaults_and_empty_options_are_no_reason_to_refuse(daily: FakeDaily) -> None:
    """They are not sent, so nothing is dropped."""
    daily.rules["*"] = instead(200, b'{"ok": "true", "sessionId": "s"}')
    async with acting("client") as (control, _), DailyApi(KEY, url=daily.url) as api:
        for way in (control, RestControl(api, "room")):
            await way.start(SipDialout(sip_uri=BOB, video=True, video_settings=VideoSettings()))
            await way.send_dtmf(answered(), Dtmf(tones="1", method="auto"))
            await way.transfer(answered(), Transfer(to_end_point=NUMBER, wait_before_extension_dial_sec=0))
            await way.start(PhoneDialout(phone_number=NUMBER, wait_before_extension_dial_sec=0))
