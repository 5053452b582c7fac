"""Comparison of SIP addresses and phone numbers: one address has many spellings.

`"Ann" <sip:+12025550142@Carrier.example:5060;user=phone>`, `tel:+1-202-555-0142` and `+12025550142` are one address.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["is_anonymous", "is_one_address", "plain_uri"]

_HAS_MORE = re.compile(r"[<>\"?;:%+()\s]").search
"""An address without these has nothing to leave out but the scheme."""
_SCHEME = re.compile(r"(?i)(sips?|tel):")
_DEFAULT_PORT = re.compile(r":506[01]$")
_NUMBER = re.compile(r"\+?[\d\-. ()]*\d[\d\-. ()]*")
_SEPARATORS = str.maketrans("", "", "-. ()")
_TEL_PARAMETERS = ("ext=", "isub=", "phone-context=")
"""The parameters that make a `tel:` another address."""


@lru_cache(maxsize=1024)  # every event of a dial-in asks for its endpoint
def plain_uri(uri: str) -> str:
    """Reduce an address to what is compared.

    It leaves out what does not say who it is: a display name, angle brackets, the scheme, headers, parameters, the default
    ports, separators in a number, and upper case in the host (RFC 3261, 19.1.4; RFC 3966, 4). An international number (`+…`)
    is the same person behind any host.
    """
    bare = uri.removeprefix("sip:")
    if _HAS_MORE(bare) is None:  # nearly all: the endpoints of rooms
        user, at, host = bare.rpartition("@")
        if at:
            return f"{user}@{host.lower()}"
    address = _without_name(uri.strip())
    found = _SCHEME.match(address)
    if found is not None:
        address = address[found.end() :]
    if found is not None and found[1].lower() == "tel":
        return _plain_number(address)
    user, at, host = address.partition("?")[0].rpartition("@")
    if not at:
        return _plain_number(host) if _is_number(host) else _plain_host(host)
    user = unquote(user)
    number = user.partition(";")[0]
    if number.startswith("+") and _is_number(number):
        return number.translate(_SEPARATORS)
    return f"{user}@{_plain_host(host)}"


def is_anonymous(value: object) -> bool:
    """Return True for the address of a caller who hides theirs: it is shown, but any other value is better (RFC 3323)."""
    return (
        isinstance(value, str)
        and "anonymous" in value.lower()
        and plain_uri(value).partition("@")[0].lower() == "anonymous"
    )


def _without_name(address: str) -> str:
    """Return what is in the angle brackets, if there are any. The display name before them may contain some in quotes."""
    if not address.endswith(">") and "<" not in address:
        return address
    quoted = address.rfind('"')
    start = address.find("<", quoted + 1)
    if start < 0:
        return address
    return address[start + 1 :].partition(">")[0].strip()


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.partition(";")[0]) is not None


def _plain_number(text: str) -> str:
    number, *parameters = text.split(";")
    kept = sorted(one.lower() for one in parameters if one.lower().startswith(_TEL_PARAMETERS))
    if number.startswith("+"):  # it is complete, whatever the context
        kept = [one for one in kept if not one.startswith("phone-context=")]
    return ";".join([number.translate(_SEPARATORS), *kept])


def _plain_host(host: str) -> str:
    return _DEFAULT_PORT.sub("", host.partition(";")[0].lower())


def is_one_address(one: object, other: object) -> bool:
    """Return whether two values are two spellings of one address."""
    return isinstance(one, str) and isinstance(other, str) and plain_uri(one) == plain_uri(other)
