"""A phone number or SIP address of the domain, as Daily describes it, and where its calls go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

__all__ = ["DialinAddress", "digits_of", "read_address"]


@dataclass(frozen=True)
class DialinAddress:
    """A phone number or SIP address of the domain, and where its calls go. The secret shows only by `get_secret_value()`."""

    kind: str
    """`pinless_dialin`: a program learns of its callers; `pin_dialin`: they enter the PIN of a room. Or a kind that Daily adds."""
    phone_number: str | None = None
    """None if it is a SIP address only."""
    sip_uri: str | None = None
    """Its SIP address; callers there are treated alike."""
    room_creation_api: str | None = None
    """Pinless: the URL that learns of callers."""
    hmac: SecretStr | None = None
    """Pinless: the secret that signs the requests to it; base64."""
    name_prefix: str | None = None
    id: str | None = None
    """Its id, if it has one: in `DialinConfigs`, not in `PinlessNumbers`."""


def read_address(fields: Mapping[str, Any], kind: str, address_id: str | None = None) -> DialinAddress:
    """Read Daily's description. What has another type than it should is None."""

    def text(name: str) -> str | None:
        value = fields.get(name)
        return value if isinstance(value, str) and value else None

    secret = text("hmac")
    return DialinAddress(
        kind,
        phone_number=text("phone_number"),
        sip_uri=text("sip_uri"),
        room_creation_api=text("room_creation_api"),
        hmac=SecretStr(secret) if secret else None,
        name_prefix=text("name_prefix"),
        id=address_id,
    )


def digits_of(number: object) -> str:
    """Return the digits of a phone number, to compare it: Daily's examples have it with and without a plus sign."""
    return re.sub(r"[^0-9]", "", number) if isinstance(number, str) else ""
