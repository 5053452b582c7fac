"""Find the users of SIP URIs and of e-mail addresses in a text, and mask them, with their passwords and parameters."""

from __future__ import annotations

import re
from collections.abc import Callable

from telstate.events._phone_numbers import LIKE_A_NUMBER, dots

__all__ = ["is_known_user", "mask_users"]

_AT = re.compile(r"@|\uff20|%40|\\u0040")
_LONGEST = 256
_USER = re.compile(r"[^\s<>\"@\uff20]{1,256}\Z")
_OPENING = re.compile(r"(?i)(?:[\w.\-]{0,64}=)?[\\'(\[{,=]*(?:sips?:|sips?%3a|[a-z][a-z0-9+.\-]{1,15}://|mailto:)?")
"""What may stand before the user: a key, quotes, brackets, a scheme."""
_ROOM_HOST = re.compile(
    r"(?i)@(?:(?:[\w\-]{1,63}\.)?sip(?:-[a-z]{2,9})?\.daily\.co|daily-\d{1,20}-app\.dapp\.signalwire\.com)(?![\w\-]|\.\w)"
)
"""Where Daily keeps the endpoints of rooms. At `siptrunk.` users are numbers."""
_ID = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|(?i:sip|pinless)?_?(?i:call_?id)(?:\\?[\"'])?[:=](?:\\?[\"'])?[\w\-.:]+"
)
"""A SIP Call-ID has the form of an address: `<uuid>@<host>`."""
_HALF = re.compile(r"(?i)\b(sips?:)([^\s<>\"@•…]{1,256})(?=[\\'\"]{0,2}…)")
"""A user whose text was cut before the @."""
_TEL = re.compile(r"(?i)\b(tel:|tel%3a)([^\s<>\"',;&@•]{1,64}+(?:;(?:ext|isub)=[\w.\-]{1,32}+)?)(?!•)")


def mask_users(text: str, shown_as: Callable[[str], str] = dots) -> str:
    """Mask every user in `text`, but for the names of rooms.

    Args:
        text: any text.
        shown_as: returns what is shown of a user.
    """
    if "tel" in text.lower():
        text = _TEL.sub(lambda found: found[1] + shown_as(found[2]), text)
    if "…" in text:
        text = _HALF.sub(lambda found: found[1] + shown_as(found[2]), text)
    shown: list[str] = []
    end = 0
    for at in _AT.finditer(text):
        found = _USER.search(text, max(end, at.start() - _LONGEST), at.start())
        if found is None:
            continue
        start = found.start()
        opening = _OPENING.match(text, start, at.start())
        start = opening.end() if opening is not None else start
        user = text[start : at.start()]
        if not user or is_known_user(user, found[0], text, at.start()):
            continue
        shown += [text[end:start], shown_as(user)]
        end = at.start()
    return "".join([*shown, text[end:]]) if shown else text


def is_known_user(user: str, word: str, text: str, at: int) -> bool:
    """Return True for a room, an id, and a caller without a name."""
    if user.lower() == "anonymous":
        return True
    if _ID.fullmatch(user) or _ID.fullmatch(word.lstrip("'\\")):
        return True
    return (
        ":" not in user
        and ";" not in user
        and _ROOM_HOST.match(text, at) is not None
        and not LIKE_A_NUMBER.search(user)
    )
