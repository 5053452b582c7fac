"""Signatures: Daily's are accepted, all others are refused, and no secret is shown."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate.sources._signatures import PINLESS, TOLERANCE, WEBHOOK, BadSignature, Secret, sign, verify

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
BODY = b'{"type":"dialout.answered","id":"1","payload":{"session_id":"s","timestamp":"1730000000"}}'
AT = 1730000001.5
SIGNED = {
    "x-webhook-timestamp": "1730000001.5",
    # made with `openssl dgst -sha256 -mac HMAC` over timestamp, dot and body
    "x-webhook-signature": "O9HRTJosLOSch4gpJey7w+M4nu80mF8NmrTrayxlMgc=",
}


def refused(
    headers: dict[str, str], *, body: bytes = BODY, now: float = AT, secrets: tuple[str, ...] = (SECRET,)
) -> str:
    """Return why a request is refused."""
    with pytest.raises(BadSignature) as caught:
        verify([Secret(secret) for secret in secrets], WEBHOOK, headers, body, now)
    return str(caught.value)


def test_a_signature_of_openssl_is_accepted() -> None:
    """And `sign` makes the same."""
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT)
    assert sign(Secret(SECRET), "1730000001.5", BODY) == SIGNED


def test_wrong_missing_and_truncated_signatures_are_refused() -> None:
    """Each with its reason."""
    signature = SIGNED["x-webhook-signature"]
    for wrong in (signature[:-1], signature[:10], signature.swapcase(), "", "é", signature + "A"):
        refused({**SIGNED, "x-webhook-signature": wrong})
    refused(
        {**SIGNED, "x-webhook-signature": base64.b64decode(signature).hex()}
    )  # some public code compares hex: wrong
    assert "no x-webhook-signature" in refused({})
    assert "no x-webhook-signature" in refused({"x-webhook-signature": signature})
    assert "another secret, or another body" in refused(SIGNED, body=BODY + b" ")
    assert "another secret" in refused({**SIGNED, "x-webhook-timestamp": "1730000001.6"})
    assert "another secret" in refused(SIGNED, secrets=())


def test_secrets_can_be_rotated() -> None:
    """Both are valid for a while, then only the new one."""
    new = base64.b64encode(b"another").decode()
    verify([Secret(new), Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT)
    refused(SIGNED, secrets=(new,))


def test_a_signature_is_valid_for_two_hours() -> None:
    """As long as duplicates are remembered: Daily may sign a retry with its first timestamp. Five minutes of them are ahead, as clocks differ."""
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT + TOLERANCE - 300)
    assert "6901 seconds old" in refused(SIGNED, now=AT + TOLERANCE - 299)
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT - 299)
    assert "lies 301 seconds in the future; the limit is 300" in refused(SIGNED, now=AT - 301)


@pytest.mark.parametrize("timestamp", ["", "now", "nan", "inf", "-inf", "1e400", "-1", "0"])
def test_an_invalid_timestamp_is_refused_though_it_is_signed(timestamp: str) -> None:
    """It cannot show when it was signed."""
    refused(sign(Secret(SECRET), timestamp, BODY))


def test_pinless_dialin_signs_milliseconds_in_its_own_headers() -> None:
    """As public receivers show."""
    headers = sign(Secret(SECRET), "1730000001500", BODY, PINLESS)
    assert set(headers) == {"x-pinless-signature", "x-pinless-timestamp"}
    verify([Secret(SECRET)], PINLESS, headers, BODY, AT)
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], PINLESS, headers, BODY, AT + TOLERANCE + 1)
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], WEBHOOK, headers, BODY, AT)


@pytest.mark.parametrize("text", ["", " ", "no base64!", "AAA", "héé"])
def test_a_secret_that_is_not_base64_raises(text: str) -> None:
    """Not with the first request."""
    with pytest.raises(ValueError, match="base64, as Daily shows it"):
        Secret(text)


def test_a_secret_is_not_shown() -> None:
    """In no representation."""
    secret = Secret(SECRET)
    assert SECRET not in f"{secret!r} {secret} {[secret]}"
    assert not hasattr(secret, "__dict__")


@given(st.dictionaries(st.sampled_from(["x-webhook-signature", "x-webhook-timestamp", "x"]), st.text()), st.binary())
def test_unsigned_requests_raise_bad_signature_only(headers: dict[str, str], body: bytes) -> None:
    """Whatever they contain."""
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], WEBHOOK, headers, body, AT)
