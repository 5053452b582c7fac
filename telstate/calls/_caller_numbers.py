"""The numbers of callers: whether two of them can be of one caller, in whatever spelling."""

from __future__ import annotations

import re
from functools import lru_cache

from telstate.calls._address import plain_uri

__all__ = ["agree", "may_agree", "number_key", "user_of"]

_NOT_DIGITS = re.compile(r"[\s().\-/]|^\+")
_SHORTEST = 7


@lru_cache(maxsize=1024)  # every dial-in asks for its number while callers are on hold
def user_of(address: str | None) -> str:
    """Return what names the caller in a number or SIP address: the digits of a number, else the user; empty if anonymous."""
    if not address:
        return ""
    user = plain_uri(address).rpartition("<")[2].partition("@")[0].partition(";")[0].rstrip(">")
    user = user.removeprefix("sip:").removeprefix("tel:")
    digits = _NOT_DIGITS.sub("", user)
    if digits.isdigit() and len(digits) >= _SHORTEST:
        return digits.lstrip("0")
    return "" if user.lower() in ("anonymous", "unknown", "unavailable", "restricted") else user.lower()


def number_key(address: str | None) -> str:
    """Return under which key numbers are found that may agree: with and without the code of the country."""
    user = user_of(address)
    return user[-_SHORTEST:] if user.isdigit() else user


def agree(one: str | None, other: str | None) -> bool:
    """Return whether two known addresses are of one caller."""
    first, second = user_of(one), user_of(other)
    if not first or not second:
        return False
    if first.isdigit() and second.isdigit() and min(len(first), len(second)) >= _SHORTEST:
        return first.endswith(second) or second.endswith(first)
    return first == second


@lru_cache(maxsize=1024)  # the callers and dial-ins of one number are compared again with each new one
def may_agree(one: str | None, other: str | None) -> bool:
    """Return whether two addresses can be of one caller. What is unknown or withheld can be anything."""
    return not user_of(one) or not user_of(other) or agree(one, other)
