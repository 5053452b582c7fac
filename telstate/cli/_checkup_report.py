"""What a checkup found, for people and for programs. Numbers, SIP users and names are masked, whatever a check says."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence

from telstate.cli._checkup import Health, Observation
from telstate.errors import printable
from telstate.events._masking import mask

__all__ = ["CheckupReport", "JsonCheckupReport", "TextCheckupReport"]

_NAMES = {
    Health.OK: ("ok", "ok"),
    Health.WARNING: ("warning", "warnings"),
    Health.FAULT: ("fault", "faults"),
    Health.UNCHECKED: ("not checked", "not checked"),
}
"""In the summary, for one and for several."""
_WIDTH = max(map(len, Health)) + 2


class TextCheckupReport:
    """For people: a line for each finding, and below it why it matters and what to do.

    Args:
        width: the terminal's width in characters; None for a file or pipe, where lines may have any length.
    """

    def __init__(self, width: int | None = None) -> None:
        self._width = width

    def findings(self, check: str, found: Sequence[Observation]) -> str:
        """What one check found."""
        return "\n".join(line for one in found for line in self._lines(check, one))

    def summary(self, counts: Counter[Health]) -> str:
        """The last line."""
        parts = [f"{counts[health]} {_NAMES[health][counts[health] != 1]}" for health in Health if counts[health]]
        return f"\n{', '.join(parts)}"

    def _lines(self, check: str, one: Observation) -> list[str]:
        head = f"{one.health:<{_WIDTH}}{check}: "
        lines = self._wrapped(head, one.found, " " * _WIDTH)
        for name, text in (("why", one.why), ("do", one.do)):
            if text:
                lines += self._wrapped(f"{' ' * _WIDTH}{name:<4}", text, " " * (_WIDTH + 4))
        return lines

    def _wrapped(self, head: str, text: str, indent: str) -> list[str]:
        text = _shown(text)
        if self._width is None:
            return [head + text]
        width = max(self._width, 50)
        return textwrap.wrap(
            text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )


class JsonCheckupReport:
    """JSON Lines: `{"finding": {…}}` for each, and last `{"summary": {…}}`."""

    def findings(self, check: str, found: Sequence[Observation]) -> str:
        """What one check found."""
        return "\n".join(self._line(check, one) for one in found)

    def summary(self, counts: Counter[Health]) -> str:
        """The last line."""
        return json.dumps({"summary": {health.replace(" ", "_"): counts[health] for health in Health}})

    def _line(self, check: str, one: Observation) -> str:
        texts = {"found": one.found, "why": one.why, "do": one.do}
        shown = {name: _shown(text) or None for name, text in texts.items()}
        return json.dumps({"finding": {"check": check, "health": one.health, **shown}})


CheckupReport = TextCheckupReport | JsonCheckupReport


def _shown(text: str) -> str:
    return printable(mask(text))
