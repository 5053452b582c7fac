"""Mask phone numbers and SIP users in a text.

The first three characters and the last two digits stay, enough to recognise a known number. The user of a room's SIP endpoint at
Daily is the name of the room, and stays.
"""

from __future__ import annotations

import re

__all__ = ["mask"]

_NUMBER = re.compile(r"(?<![\w.\-])\+?\d[\d\-. ()]{5,20}\d(?![\w\-])")
_SIP_USER = re.compile(r"(?i)((?:sips?:)?)([^@\s:;?<>\"]{1,256})@")
_ROOM_HOST = re.compile(
    r"(?i)@(?:(?:[\w\-]{1,63}\.)?sip(?:-[a-z]{2,9})?\.daily\.co|daily-\d{1,20}-app\.dapp\.signalwire\.com)(?![\w\-]|\.\w)"
)
"""Where Daily keeps the endpoints of rooms. At `siptrunk.` users are numbers."""
_LIKE_A_NUMBER = re.compile(r"\d(?:[\-. ()]?\d){6}")
_KEPT = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b\d{4}-\d\d-\d\d\b(?:[T ]\d\d:\d\d(?::\d\d)?)?"
)
"""Ids and dates look like numbers; they are kept."""


def mask(text: str) -> str:
    """Mask every phone number of any country and every SIP user in `text`; ids (UUIDs) and dates stay readable."""
    kept: list[str] = []
    end = 0
    for found in _KEPT.finditer(text):
        kept += [_mask(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*kept, _mask(text[end:])])


def _mask(text: str) -> str:
    text = _SIP_USER.sub(_mask_user, text)
    return _NUMBER.sub(lambda found: _dots(found[0]) if sum(c.isdigit() for c in found[0]) >= 7 else found[0], text)


def _mask_user(found: re.Match[str]) -> str:
    if _ROOM_HOST.match(found.string, found.end() - 1) and not _LIKE_A_NUMBER.search(found[2]):
        return found[0]
    return f"{found[1]}{_dots(found[2])}@"


def _dots(secret: str) -> str:
    return f"{secret[:3]}{'•' * (len(secret) - 5)}{secret[-2:]}" if len(secret) > 6 else f"{secret[:1]}•••"
