"""Find phone numbers in a text, of any country and in any spelling, and mask them.

A library of the world's numbering plans would not do: it needs the country of a number without a `+`, takes a millisecond for a
kilobyte and 48 MB of disk, and knows no tags, escapes or letters around a number. So a number is what has seven digits or more with no
more than separators between them, unless it is known to be something else: an id, a time, a size, an IP address.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

__all__ = ["LIKE_A_NUMBER", "dots", "is_e164", "mask_numbers", "replace_numbers"]

_E164 = re.compile(r"\+\d{7,15}")
_FEWEST = 7
"""Digits. No country's international numbers are shorter."""

_ESCAPE = r"\\{1,2}"
_DIGIT = (
    rf"(?:\d|{_ESCAPE}u(?:(?:066|06[fF]|[fF]{{2}}1|0[eE]5|0[eE][dD]|104|17[eE])\d"
    r"|0(?:9[6eE]|[aA][6eE]|[bB][6eE]|[cC][6eE]|[dD]6)[6-9a-fA-F]))"
)
"""Any script's; those that are not ASCII also as JSON escapes them."""
_PLUS = r"(?:[+\uff0b\ufe62\u207a]|%2[bB]|\\{1,2}u002[bB]|&(?:\#43|\#x2[bB]|plus);)"
_GAP = (
    r"(?:\x1b\[[\d;]{0,10}[A-Za-z]|[\s\x00-\x1f\x7f-\x9f\ufffd\-\u2010-\u2015\u2212\uff0d.\uff0e·\u2027\u2219()\uff08\uff09\[\]{}/\uff0f\u2044_~+\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
    r"|%(?:20|09|28|29|2[dDeEfF]|[cC]2%[aA]0|[eE]2%80%[89aA][0-9a-fA-F])"
    rf"|{_ESCAPE}(?:u001[bB]|x1[bB]|033)\[[\d;]{{0,10}}[A-Za-z]"
    rf"|{_ESCAPE}(?:[tnr/]|x(?:[aA][0dD]|[01][0-9a-fA-F])"
    r"|u(?:00(?:[aA][0dD]|[01][0-9a-fA-F])|20[0-6][0-9a-fA-F]|2212|3000|[fF]{2}0[89dDeEfF]|[fF][eE][fF]{2}|[fF]{3}[dD]))"
    r"|&(?:nbsp|shy|thinsp|ensp|emsp|\#\d{1,5}|\#x[0-9a-fA-F]{1,5});"
    r"|</?[A-Za-z][^<>@]{0,60}>)"
)
"""What may stand between two digits: spaces, dashes, dots, brackets, slashes, marks that cannot be seen, each also in the escapes of
URLs, Python, JSON and HTML; control characters, colours of a terminal, and tags."""
_EXTENSION = r"(?:\s?(?:;?ext(?:ension|n)?\b|(?:;isub|\uff45\uff58\uff54|доб|durchwahl|poste|int|anexo)\b|(?<=\d)[xX\uff58#~;,*]{1,3}|[xX\uff58#~])[.:=\s]{0,3}\d{1,11}#?)?"
_NUMBER = re.compile(
    rf"(?:{_PLUS}{_GAP}{{0,2}}+)?+{_DIGIT}(?:{_GAP}{{0,4}}+{_DIGIT}){{{_FEWEST - 1},}}+{_EXTENSION}", re.IGNORECASE
)
_HALF = re.compile(
    rf"(?:{_PLUS}{_GAP}{{0,2}}+)?+{_DIGIT}(?:{_GAP}{{0,4}}+{_DIGIT}){{2,}}+(?={_GAP}{{0,2}}[\\'\"]{{0,2}}…)|(?<=…){_DIGIT}(?:{_GAP}{{0,4}}+{_DIGIT}){{2,}}+"
)
"""What may be half a number, because the text was cut there."""
LIKE_A_NUMBER = re.compile(rf"{_DIGIT}(?:{_GAP}{{0,4}}+{_DIGIT}){{{_FEWEST - 1}}}")

_CLOCK = r"\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\s?(?:Z\b|[+\-]\d\d:?\d\d\b))?"
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_SECONDS = r"1[5-9]\d{8}"
"""Unix seconds from 2017 to 2033."""
_BEFORE = r"(?<![\w+\uff0b.\-/])(?<!\d\s)"
_AFTER = r"(?![\w]|[.\-/()]{1,2}\d|\s\d)"
_NO_NUMBER = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?<![0-9A-Za-z])[0-9a-fA-F]{16,64}(?![0-9A-Za-z])"
    r"|\bdaily-\d{1,20}-app\.dapp\b"
    r"|\b0x[0-9a-fA-F]{4,16}\b"
    r"|\b(?:session|sip_?call|pinless_?call|call|event|participant|meeting|call_?client|domain|room)_?id(?:\\?[\"'])?\s?[:=]\s?(?:\\?[\"'])?[\w\-.:@]+"
    rf"|(?<![\d.\-/+])(?:{_YEAR}([\-/.]){_MONTH}\1{_DAY}|{_DAY}([\-/.]){_DAY}\2{_YEAR})(?!\d|[\-./]\d)(?:[T ]{_CLOCK})?"
    rf"|(?<![\w+]){_YEAR}{_MONTH}{_DAY}T\d{{4,6}}(?:\.\d{{1,9}})?Z?\b"
    rf"|(?<![\d:]){_CLOCK}(?!\d)"
    rf"|{_BEFORE}(?:{_OCTET}\.){{3}}{_OCTET}{_AFTER}"
    rf"|{_BEFORE}{_SECONDS}(?:\.\d{{1,9}}|\d{{3}}|\d{{6}}|\d{{9}}){_AFTER}"
    rf"|\b\w*(?:_at|ts|time|timestamp|since|until|now)\b(?:\\?[\"'])?\s?[:=]\s?{_SECONDS}(?:\.\d{{1,9}})?{_AFTER}"
    rf"|{_BEFORE}(?![17]\.\d{{10}}(?!\d))\d\.\d+{_AFTER}"
    rf"|{_BEFORE}\d{{1,9}}(?:\.\d{{1,9}})?\s?(?:bytes|bits|characters|chars|long|lines|events|ms|us|µs|ns|s|sec|seconds|[kKMG]i?B|%)(?!\w)",
    re.IGNORECASE,
)
"""UUIDs, hexadecimal ids and addresses in memory, a host of Daily's, ids by their keys, dates and times, IP addresses, Unix times, decimals, sizes."""
_AFTER_CODE = re.compile(rf"{_PLUS}[\d\s().\-]{{1,8}}\Z")
"""The beginning of an international number: what follows belongs to it, even if it looks like a date."""


def is_e164(text: str) -> bool:
    """Return True for a number as Daily writes it, and nearly everybody."""
    return text[:1] == "+" and _E164.fullmatch(text) is not None


def mask_numbers(text: str) -> str:
    """Mask every phone number in `text`."""
    if is_e164(text):
        return dots(text)
    masked = text if LIKE_A_NUMBER.search(text) is None else _mask(text)
    return _HALF.sub(_dotted, masked) if "…" in masked else masked


def replace_numbers(text: str, shown: Callable[[str], str]) -> str:
    """Replace every phone number in `text` by what `shown` makes of it."""
    if LIKE_A_NUMBER.search(text) is None:
        return text
    return _mask(text, lambda found: shown(found[0]))


def _mask(text: str, shown: Callable[[re.Match[str]], str] | None = None) -> str:
    shown = shown or _dotted
    kept: list[str] = []
    end = 0
    for found in _NO_NUMBER.finditer(text):
        if _is_no_number(found):
            kept += [_NUMBER.sub(shown, text[end : found.start()]), found[0]]
            end = found.end()
    return "".join([*kept, _NUMBER.sub(shown, text[end:])])


def dots(secret: str) -> str:
    """What is shown of a number or a user."""
    return f"{secret[:3]}{'•' * (len(secret) - 5)}{secret[-2:]}" if len(secret) > 6 else f"{secret[:1]}•••"


def _dotted(found: re.Match[str]) -> str:
    return dots(found[0])


def _is_no_number(found: re.Match[str]) -> bool:
    if (
        found[0].isalnum()
        and not found[0].lower().startswith("0x")
        and "T" not in found[0]
        and not found[0].isdecimal()
    ):
        return _changes(found[0]) >= 4
    return _AFTER_CODE.search(found.string, max(0, found.start() - 10), found.start()) is None


def _changes(word: str) -> int:
    """How often letters and digits alternate: seldom around a number, often in an id."""
    return sum(left.isdigit() is not right.isdigit() for left, right in pairwise(word))
