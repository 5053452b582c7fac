"""Mask phone numbers, SIP users and display names in a text.

The first three characters and the last two stay of a number or a user, enough to recognise a known one; of a name the initials.
The user of a room's SIP endpoint at Daily is the name of the room, and stays, as do ids and times.

The steps: `_display_names.py`, `_sip_users.py`, `_phone_numbers.py`. What one step has masked, the next leaves alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from telstate.errors import cut_text
from telstate.events._display_names import initials, mask_known_names, mask_names_in
from telstate.events._phone_numbers import dots, is_e164, mask_numbers
from telstate.events._sip_users import mask_users

__all__ = ["mask", "mask_address", "mask_cut", "mask_name"]

_MAY_BE_PRIVATE = re.compile(r"[@\uff20\d<]|name|sip|tel:|cnam|headers", re.IGNORECASE).search
"""A number has digits, a SIP user an @, and a name stands before a < or behind a key. Most text has none of these, and this look is
cheaper than masking."""
_ADDRESS = re.compile(r"(?i)(?:sips?|tel):|@|%40|•")
_NOBODY = frozenset({"anonymous", "unknown", "restricted", "unavailable", "private"})


def mask(text: str, names: Iterable[str | None] = ()) -> str:
    """Mask every phone number of any country, every SIP user, and every display name that can be told from other text.

    A text that was cut before must end or begin with `…` there (see `cut_text`): then half a number is masked too.

    Args:
        text: any text.
        names: display names that are known, for example those of the session that the text is about.
    """
    if is_e164(text):  # nearly all numbers are written so, and no name is in one
        return dots(text)
    text = mask_known_names(text, names)
    if _MAY_BE_PRIVATE(text) is None:
        return text
    return mask_numbers(mask_users(mask_names_in(text)))


def mask_cut(text: str, limit: int, names: Iterable[str | None] = ()) -> str:
    """Mask the beginning and the end of a long text, and leave out the rest. The time it takes depends on `limit` alone.

    Args:
        text: any text.
        limit: how many characters stay, about.
        names: as for `mask`.
    """
    if len(text) <= limit:
        return mask(text, names)
    names = list(names)
    head, tail = cut_text(text, limit * 3 // 4), cut_text(text, limit // 4, end=True)
    left_out = len(text) - len(head) - len(tail) + 2
    return f"{mask(head, names)} ({left_out} characters left out) {mask(tail, names)}"


def mask_address(address: str) -> str:
    """Mask what is known to be a phone number or an address, however short or odd."""
    masked = mask(address)
    if not masked or masked.lower() in _NOBODY or _ADDRESS.search(masked):
        return masked
    name, bracket, bare = masked.partition("<")
    return f"{initials(name)}<{mask_address(bare.removesuffix('>'))}>" if bracket else dots(masked)


def mask_name(name: str) -> str:
    """A display name as initials; a phone number in it is masked as everywhere."""
    return initials(mask(name))
