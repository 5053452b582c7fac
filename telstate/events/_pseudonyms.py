"""Stable pseudonyms of phone numbers, SIP users and names: one key gives each the same one every time, and nobody without the key
gets from one back to the original.

A pseudonym keeps what correlates calls. The engine takes `030 761863` and `+49 30 761863` for one caller, because one ends with
the other: so digits are replaced from the last to the first, each depending on those behind it, and zeros stay. What has a `+` gets the
country code 999, which is nobody's (ITU-T E.164: reserved).
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import unquote

__all__ = ["Pseudonyms"]

_PLAIN = re.compile(r"\+?[\d\-. ()/]+", re.ASCII).fullmatch
_CODE = "999"
_LONGEST = 12
"""Digits of a number, without its country code 999: together the fifteen of E.164."""
_LETTERS = "bcdfghjkmnpqrstv"
"""No vowels, so that no word comes about, and no digits, so that nothing looks like a number."""
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,60}>|\x1b\[[\d;]{0,10}[A-Za-z]")
_ESCAPED = re.compile(r"\\{1,2}u([0-9a-fA-F]{4})")


class Pseudonyms:
    """Gives pseudonyms.

    Args:
        key: secret bytes, at most 64. The same key gives the same pseudonyms, in another log too.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.number = lru_cache(maxsize=4096)(self._number)
        """Return the pseudonym of a phone number in any spelling: a number in the same spelling, if that is a usual one."""

    def user(self, user: str) -> str:
        """Return the pseudonym of a SIP user. Users that differ in upper case only get pseudonyms that do."""
        lower = user.lower()
        word = f"user-{self._letters('user', lower, 10)}"
        if user == lower:
            return word
        bits = self._digest("case", user)[0] % 15 + 1
        head = "".join(c.upper() if bits >> at & 1 else c for at, c in enumerate("user"))
        return head + word[4:]

    def name(self, name: str) -> str:
        """Return the pseudonym of a display name."""
        return f"Name-{self._letters('name', ' '.join(name.lower().split()), 10)}"

    def _number(self, number: str) -> str:
        if _PLAIN(number) is None:
            number = _decoded(number)
        kept = [c for c in number if c.isdigit()]
        if not kept:
            return number
        core = "".join(kept).lstrip("0")
        drop = max(0, len(core) - _LONGEST)  # the first digits behind the leading zeros
        lead = len(kept) - len(core)
        digits = self._digits(core[drop:])
        replaced = iter("0" * lead + digits)
        shown, seen = [], 0
        for c in number:
            if not c.isdigit():
                shown.append(c)
                continue
            seen += 1
            if not lead < seen <= lead + drop:
                shown.append(next(replaced))
        text = "".join(shown)
        at = text.find("+")
        return text if at < 0 else f"{text[: at + 1]}{_CODE}{text[at + 1 :]}"

    def _digits(self, digits: str) -> str:
        """Replace every digit but the zeros by another one, so that ends that are alike stay alike."""
        shown = []
        for at in range(len(digits) - 1, -1, -1):
            digit = int(digits[at])
            turn = self._digest("digit", digits[at + 1 :])[0] % 8 + 1
            shown.append(str((digit - 1 + turn) % 9 + 1) if digit else "0")
        return "".join(reversed(shown))

    def _letters(self, kind: str, text: str, number: int) -> str:
        digest = self._digest(kind, text)
        return "".join(_LETTERS[byte % 16] for byte in digest[:number])

    def _digest(self, kind: str, text: str) -> bytes:
        return blake2b(f"{kind} {text}".encode("utf-8", "replace"), digest_size=16, key=self._key).digest()


def _decoded(number: str) -> str:
    """Return the plus and the digits of a number in an odd spelling: escapes, tags, digits of other scripts."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), _TAG.sub("", number))
    plain = unicodedata.normalize("NFKC", html.unescape(unquote(plain)))
    digits = "".join(str(unicodedata.decimal(c)) for c in plain if c.isdecimal())
    return f"+{digits}" if "+" in plain else digits
