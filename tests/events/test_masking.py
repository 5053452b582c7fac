"""Masking: phone numbers of any country, SIP users and display names are masked, nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import process_time

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from telstate.errors import shorten
from telstate.events._masking import mask, mask_address, mask_cut, mask_name


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+12098888888", "+12•••••••88"),
        ("+4930123456", "+49••••••56"),
        ("+8613912345678", "+86•••••••••78"),
        ("(209) 888-8888", "(209••••••••88"),
        ("call +12098888888 now", "call +12•••••••88 now"),
        ("sip:caller@example.com", "sip:c•••@example.com"),
        ("sips:+12098888888@example.com", "sips:+12•••••••88@example.com"),
        ("caller@example.com", "c•••@example.com"),
        ("sip:alice:secret@example.com", "sip:ali•••••••et@example.com"),
        ("sip:alice.smith;phone-context=+49@example.com", "sip:ali••••••••••••••••••••••••49@example.com"),
        ("alice:secret@example.com", "ali•••••••et@example.com"),
        ("alice%40example.com", "a•••%40example.com"),
        ("tel:4711", "tel:4•••"),
        ("123456780@example.sip.daily.co", "123••••80@example.sip.daily.co"),
        ("sip:+12098888888@example.sip.daily.co", "sip:+12•••••••88@example.sip.daily.co"),
        ("sip:call-1-209-888-8888.0@example.sip.daily.co", "sip:cal••••••••••••••••.0@example.sip.daily.co"),
        ("support@example-main.siptrunk.sip-us.daily.co", "sup••rt@example-main.siptrunk.sip-us.daily.co"),
        ("support@sip.daily.co.example.com", "sup••rt@sip.daily.co.example.com"),
        ("support@notsip.daily.co", "sup••rt@notsip.daily.co"),
        ("2026-09-21 14:14:34 +12098888888", "2026-09-21 14:14:34 +12•••••••88"),
        ('"Ada Lovelace" <sip:ada@example.com>', '"A••• L•••" <sip:a•••@example.com>'),
        ("no route to Ada van Dyk <tel:110>", "no route to A••• v••• D••• <tel:1•••>"),
        ("error: ada <sip:ada@example.com>", "error: a••• <sip:a•••@example.com>"),
        ("display_name='Ada Lovelace' room='r'", "display_name='A••• L•••' room='r'"),
        ('{"displayName": "Ada Lovelace", "room": "r"}', '{"displayName": "A••• L•••", "room": "r"}'),
        ('{\\"userName\\":\\"Ada Lo', '{\\"userName\\":\\"A••• L•••'),
        ("display_name: was Ada Lovelace, then Eva B", "display_name: was A••• L•••, then E••• B•••"),
        ("sip_headers: was {'X-N': 'Ada L'}, then {'X-N': 'Eva'}", "sip_headers: was {'X-N': 'A••• L•••'}, then {'X-N': 'E•••'}"),
        (
            "sip:room.0@example.sip.daily.co?x-daily_display_name=my%20name",
            "sip:room.0@example.sip.daily.co?x-daily_display_name=m•••%20n•••",
        ),
        ("got '+12025'… (90 long)", "got '+•••'… (90 long)"),
        ("got 'sip:alice.smi'… (90 long)", "got 'sip:ali•••••i'… (90 long)"),
    ],
)  # fmt: skip
def test_what_is_private_is_masked(text: str, masked: str) -> None:
    """Enough stays to recognise a known number, and masking again changes nothing."""
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "sip:myroom.0@daily-2358023-app.dapp.signalwire.com",
        "sip:support.0@example.sip.daily.co;x=1",
        "at room-12.0@domain.sip-us.daily.co.",
        "room-name@sip.daily.co",
        "sip:anonymous@anonymous.invalid",
        "7d208e2a-520b-4a8d-a2c9-123456789012",
        "sip_call_id=7d208e2a-520b-4a8d-a2c9-123456789012@10.0.0.1",
        "7d208e2a-520b-4a8d-a2c9-123456789012@10.0.0.1",
        "session_id='16777218' is unknown",
        '{"sessionId": "16777218"}',
        "event 4bf92f3577b34da6a3ce929d0e0e4736:12",
        "<Handler object at 0x7f3a12345678>",
        "room-12",
        "2024-01-01 INFO",
        "2026-09-21T14:14:34.123456Z",
        "2026-09-21 14:14:34,123 INFO",
        "21.09.2026 14:14",
        "20260921T141434Z",
        "14:14:34.123456",
        "received at 1730000000.123",
        "received_at: 1730000000",
        "1730000000123",
        "took 0.1234567 s, then 2.3456789",
        "1048576 bytes",
        "'x'… (5000000 long)",
        "client=192.168.100.200:5060",
        'File "/app/main.py", line 1234, in greet',
        "404",
        "",
        "name: 'Ada' in module names",
        '"a" <x> b',
    ],
)
def test_what_is_not_private_stays(text: str) -> None:
    """Ids, times, sizes, IP addresses, and the rooms of endpoints."""
    assert mask(text) == text


SPELLINGS = [
    "%2B4930123456", "+49\u00a030\u00a0123456", "+49\u202f30\u2009123456", "+49\u201130\u2013123456", "\u202a+4930123456\u202c",
    "+49\u200b30\u200b123456", "030/761863", "030 / 76 18 63", "+49.30.123.456", "030.761863", "+49 (0)30 123456", "(030) 123456",
    "[+49] [30] 123456", "{030} 123456", "+49-30-123456", "+49_30_123456", "+49~30~123456", "0049 30 123456", "011 49 30 123456",
    "tel:+49-30-123456", "tel:030123456;phone-context=+49", "tel:+4930123456;ext=99", "x123 +4930123456", "+4930123456x12", "+4930123456 ext. 12",
    "+4930123456,,12#", "+4930123456;12", "abc+4930123456def", "n4930123456m", "caller_4930123456_leg", "id=4930123456", "'4930123456'",
    "\uff0b\uff14\uff19\uff13\uff10\uff11\uff12\uff13\uff14\uff15\uff16", "\u0660\u0663\u0660\u0661\u0662\u0663\u0664\u0665\u0666",
    "\u06f0\u06f3\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6", "\u0966\u0969\u0966\u0967\u0968\u0969\u096a\u096b\u096c",
    "+49<b>30</b>123456", "<cc>+49</cc><nr>30123456</nr>", "+49&nbsp;30&nbsp;123456", "+49%2030%20123456", "+49%C2%A030%C2%A0123456",
    "%2B49%20%2830%29%20123456", "+49+30+123456", "+49\\xa030\\xa0123456", "+49\\u00a030\\u202f123456", "\\u0660\\u0663\\u0660\\u0661\\u0662\\u0663\\u0664\\u0665",
    "\\uff14\\uff19\\uff13\\uff10\\uff11\\uff12\\uff13\\uff14", "+49\t30\t123456", "+49 30\n123456", "+49\x1b[31m30\x1b[0m123456", "+49\x0030\x00123456",
    "+49\ufffd30\ufffd123456", "+49 \u2022\u2009"[:4] + "30 123456", "&#43;4930123456", "\\u002b4930123456", "+47 20-10-2010", "5550100", "555-0100",
]  # fmt: skip


@pytest.mark.parametrize("number", SPELLINGS)
def test_a_number_is_masked_in_any_spelling(number: str) -> None:
    """Alone, in a sentence and in JSON: no more than its first three characters, its last two and what is no number stay."""
    for text in (number, f"no route to {number}: busy", json.dumps({"error": f"to {number}"})):
        masked = mask(text)
        assert "•" in masked, masked
        hidden = _digits(number)
        assert not any(hidden[at : at + 5] in _digits(masked) for at in range(len(hidden) - 4)), masked


def _digits(text: str) -> str:
    """Its digits, of any script, as ASCII."""
    return "".join(str(int(c)) for c in text if c.isdecimal())


def examples() -> Iterator[str]:
    """Numbers of every country, of seven digits or more, in the formats of Google's library."""
    kinds = (
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.MOBILE,
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.VOIP,
        PhoneNumberType.UAN,
    )
    formats = (
        PhoneNumberFormat.E164,
        PhoneNumberFormat.INTERNATIONAL,
        PhoneNumberFormat.NATIONAL,
        PhoneNumberFormat.RFC3966,
    )
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for number in filter(None, (phonenumbers.example_number_for_type(region, kind) for kind in kinds)):
            for extension in (None, "4567"):
                number.extension = extension
                yield from (phonenumbers.format_number(number, form) for form in formats)
                yield phonenumbers.format_out_of_country_calling_number(number, "FR")


def test_numbers_of_every_country_are_masked() -> None:
    """In the national and international formats, with and without an extension."""
    numbers = {text for text in examples() if sum(c.isdigit() for c in text.removesuffix("4567")) >= 7}
    assert len(numbers) > 4000
    leaked = [(text, shown) for text in numbers if len(_digits(shown := mask(f"no route to {text} now"))) > 5]
    assert leaked == []


def test_known_names_are_masked_anywhere() -> None:
    """Whole or by their words, in any case; other words that contain them stay."""
    assert mask("no customer LOVELACE, Ada Lovelace; adapter", ["Ada Lovelace", None, "", "12"]) == (
        "no customer L•••, A••• L•••; adapter"
    )
    assert mask("KeyError: '\\xc5sa'", ["Åsa"]) == "KeyError: '\\x•••'"
    assert mask("\u017fam hung up", ["Sam"]) == "\u017f••• hung up"


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("110", "1•••"),
        ("+4930123456", "+49••••••56"),
        ("Ada Lovelace <4711>", "A••• L••• <4•••>"),
        ("sip:4711@example.com", "sip:4•••@example.com"),
        ("anonymous", "anonymous"),
        ("sip:room.0@example.sip.daily.co", "sip:room.0@example.sip.daily.co"),
        ("", ""),
    ],
)
def test_what_is_known_to_be_an_address_is_masked_however_short(address: str, masked: str) -> None:
    """And masking again changes nothing."""
    assert mask_address(address) == masked
    assert mask_address(masked) == masked


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("Ada Lovelace", "A••• L•••"),
        ("नमस्ते जी", "न••• ज•••"),
        ("山田太郎", "山•••"),
        ("Ada +12025550100", "A••• +12•••••••00"),
    ],
)
def test_a_name_becomes_initials(name: str, masked: str) -> None:
    """In any script."""
    assert mask_name(name) == masked
    assert mask_name(masked) == masked


@pytest.mark.parametrize(
    "private", ["+12025550100", "+1 (202) 555-0100", "alice.smith@example.com", "sip:alice.smith@x"]
)
def test_a_cut_shows_no_half(private: str) -> None:
    """Wherever a text is cut, no more is shown than otherwise: not at the end of the first part, nor at the start of the last."""
    for at in range(60, 90):
        for text in ("x " * (at // 2) + private + " y" * 500, "y " * 500 + private + " x" * (at // 2)):
            shown = mask_cut(text, 110 if text.startswith("x") else 330)
            assert "characters left out" in shown
            leaked = [part for part in ("alice", "smith") if part in shown]
            assert leaked + [part for part in ("2555010", "02555") if part in _digits(shown)] == [], shown


@pytest.mark.long
@pytest.mark.parametrize(
    "piece",
    ["1", "1 ", "a", "a@", "<", "+1..", "x ", "\\u", "display_name=", "1<a ", "Ada ", "1.1.", '"', "name:'\\", "sip_headers:'", "tel:", "%2B1"],
)  # fmt: skip
def test_the_time_grows_with_the_length_only(piece: str) -> None:
    """No text makes a pattern try the same place again and again."""
    times = []
    for size in (20_000, 80_000):
        text = piece * (size // len(piece)) + " Ada <sip:x"
        started = process_time()
        mask(text)
        times.append(process_time() - started)
    assert times[1] < 12 * times[0] + 0.1


@pytest.mark.parametrize("length", range(50, 90))
def test_a_payload_in_an_error_is_cut_between_words(length: int) -> None:
    """Whatever its length, and as text or as bytes: half a user at the end could not be recognised."""
    for text in (
        f'{{"a": "{"x" * length}", "by": "alice.smith@example.com"',
        f'{{"a": "{"y" * length}", "by": "alice.smith@x',
    ):
        for shown in (shorten(text), shorten(text.encode())):
            assert "alice" not in mask(shown), shown
