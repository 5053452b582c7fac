"""Signatures: Daily's are accepted, everything else is not, and nothing of a secret shows."""

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
    """Why a request is refused."""
    with pytest.raises(BadSignature) as caught:
        verify([Secret(secret) for secret in secrets], WEBHOOK, headers, body, now)
    return str(caught.value)


def test_what_openssl_signed_is_accepted() -> None:
    """And made here just so."""
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT)
    assert sign(Secret(SECRET), "1730000001.5", BODY) == SIGNED


def test_wrong_missing_and_truncated_signatures_are_refused() -> None:
    """Each for its reason."""
    signature = SIGNED["x-webhook-signature"]
    for wrong in (signature[:-1], signature[:10], signature.swapcase(), "", "é", signature + "A"):
        refused({**SIGNED, "x-webhook-signature": wrong})
    refused(
        {**SIGNED, "x-webhook-signature": base64.b64decode(signature).hex()}
    )  # some public code compares hex: wrong
    assert "no x-webhook-signature" in refused({})
    assert "no x-webhook-signature" in refused({"x-webhook-signature": signature})
    assert "another secret, or of another body" in refused(SIGNED, body=BODY + b" ")
    assert "another secret" in refused({**SIGNED, "x-webhook-timestamp": "1730000001.6"})
    assert "another secret" in refused(SIGNED, secrets=())


def test_one_secret_takes_anothers_place() -> None:
    """Both hold for a while, then only the new one."""
    new = base64.b64encode(b"another").decode()
    verify([Secret(new), Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT)
    refused(SIGNED, secrets=(new,))


def test_a_signature_holds_as_long_as_duplicates_are_remembered() -> None:
    """Two hours in all, as Daily may sign a retry with its first timestamp; five minutes of them ahead, as clocks differ."""
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT + TOLERANCE - 300)
    assert "6901 seconds old" in refused(SIGNED, now=AT + TOLERANCE - 299)
    verify([Secret(SECRET)], WEBHOOK, SIGNED, BODY, AT - 299)
    refused(SIGNED, now=AT - 301)


@pytest.mark.parametrize("timestamp", ["", "now", "nan", "inf", "-inf", "1e400", "-1", "0"])
def test_a_timestamp_that_is_none_is_refused_though_it_is_signed(timestamp: str) -> None:
    """It was signed by somebody who has the secret, but when?"""
    refused(sign(Secret(SECRET), timestamp, BODY))


def test_pinless_dialin_tells_milliseconds_in_headers_of_its_own() -> None:
    """As public receivers say."""
    headers = sign(Secret(SECRET), "1730000001500", BODY, PINLESS)
    assert set(headers) == {"x-pinless-signature", "x-pinless-timestamp"}
    verify([Secret(SECRET)], PINLESS, headers, BODY, AT)
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], PINLESS, headers, BODY, AT + TOLERANCE + 1)
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], WEBHOOK, headers, BODY, AT)


@pytest.mark.parametrize("text", ["", " ", "no base64!", "AAA", "héé"])
def test_what_is_no_secret_is_refused_at_once(text: str) -> None:
    """Not with the first request."""
    with pytest.raises(ValueError, match="base64, as Daily shows it"):
        Secret(text)


def test_a_secret_does_not_show() -> None:
    """Wherever it is printed."""
    secret = Secret(SECRET)
    assert SECRET not in f"{secret!r} {secret} {[secret]}"
    assert not hasattr(secret, "__dict__")


@given(st.dictionaries(st.sampled_from(["x-webhook-signature", "x-webhook-timestamp", "x"]), st.text()), st.binary())
def test_nothing_unsigned_passes_and_nothing_else_is_raised(headers: dict[str, str], body: bytes) -> None:
    """Whatever comes."""
    with pytest.raises(BadSignature):
        verify([Secret(SECRET)], WEBHOOK, headers, body, AT)
