"""How texts of one call are shown: masked, unless phone numbers and names were asked for; and never with control characters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from telstate.errors import cut_text, printable
from telstate.events._masking import mask, mask_address, mask_name
from telstate.views._masked import mask_record

__all__ = ["Shown"]

_LONGEST = 400
"""Characters of a text from outside: a step is a line, not a page."""


class Shown:
    """Shows what the events of a call say.

    Args:
        numbers: show phone numbers, SIP users and names in full.
        names: display names that are known of the call, to be masked wherever they stand.
    """

    def __init__(self, *, numbers: bool = False, names: Iterable[str] = ()) -> None:
        self._numbers = numbers
        self._names = list(dict.fromkeys(name for name in names if name))

    def text(self, text: str) -> str:
        """Any text."""
        text = cut_text(text, _LONGEST)
        return _on_a_line(text if self._numbers else mask(text, self._names))

    def address(self, address: str | None) -> str:
        """A phone number or a SIP address."""
        address = cut_text(address or "", _LONGEST)
        return _on_a_line(address if self._numbers else mask_address(address))

    def id(self, one: str) -> str:
        """An id, or the name of a room: never masked, as people search for them."""
        return _on_a_line(cut_text(one, _LONGEST))

    def name(self, name: str | None) -> str:
        """A display name."""
        name = cut_text(name or "", _LONGEST)
        return _on_a_line(name if self._numbers else mask_name(name))

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record, or any other JSON object."""
        return record if self._numbers else mask_record(record, self._names)

    def values(self, values: dict[str, Any]) -> str:
        """A JSON object as `name=value`, in one line."""
        shown = self.record(values)
        texts = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in shown.values())
        return _on_a_line(
            cut_text(", ".join(f"{name}={text}" for name, text in zip(shown, texts, strict=True)), _LONGEST)
        )


def _on_a_line(text: str) -> str:
    return printable(" ".join(text.split()) if "\n" in text or "\t" in text else text)
