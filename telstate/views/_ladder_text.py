"""A ladder as text for terminals: lanes and arrows on the left, words beside them. No line is wider than the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from telstate.views._columns import cells_of, wrap_cells
from telstate.views._ladder import Ladder, LadderStep, LaneKind, merge_lanes
from telstate.views._ladder_times import delta_in_words, has_fractions, step_label, time_of_day
from telstate.views._text import utc_time

__all__ = ["ladder_text"]

_WIDTH = 100
"""Of a file or a pipe."""
_NARROWEST = 20
_SPACING = (8, 16)
"""Columns between two lanes: at least, at most."""
_WORDS = 28
"""Columns for words, at least: more lanes than leave so many are merged."""
_HALF = 4
"""Columns of the name of a lane on either side of it, at most."""
_DELTA = 8

_BOX = "│─╌├┤┼►◄●•…→"
_ASCII: Mapping[str, str] = {
    "│": "|", "─": "-", "╌": ".", "├": "|", "┤": "|", "┼": "+", "►": ">", "◄": "<", "●": "o", "•": "*", "…": "...", "→": "->",
}  # fmt: skip


def ladder_text(ladder: Ladder, width: int | None = None, *, encoding: str = "utf-8") -> str:
    """Write a ladder as text.

    Args:
        ladder: of a call.
        width: of the terminal, in columns; None for a file or a pipe.
        encoding: of the terminal. If it has no characters to draw boxes with, plain ASCII takes their place.
    """
    return "\n".join(_TextLadder(ladder, max(width or _WIDTH, _NARROWEST), encoding).lines())


class _TextLadder:
    def __init__(self, ladder: Ladder, width: int, encoding: str) -> None:
        self._ladder = ladder
        self._width = width
        self._encoding = encoding
        self._plain = not _can_write(_BOX, encoding)
        self._clock = 12 if has_fractions(ladder) else 8
        self._has_time = any(step.at is not None for step in ladder.steps)
        self._left = self._clock + 1 + _DELTA + 1 if self._has_time else 0
        self._lay_out()

    def _lay_out(self) -> None:
        """Place the lanes as wide as there is room; else leave out something: fractions, lanes of one kind, deltas, all lanes."""
        self._shows_delta = self._has_time
        if self._room() < _WORDS:
            self._clock = 8
            self._left = self._clock + 1 + _DELTA + 1 if self._has_time else 0
        if self._room() < _WORDS:
            self._ladder = merge_lanes(self._ladder)
        if self._room() < _WORDS and self._has_time:
            self._shows_delta, self._left = False, self._clock + 1
        gaps = len(self._ladder.lanes) - 1
        self._lanes: list[int] | None = None
        if self._room() >= _WORDS:
            least, most = _SPACING
            spare = self._width - self._left - 2 * _HALF - 1 - max(_WORDS, self._width * 9 // 20)
            spacing = min(max(least, spare // max(gaps, 1)), most)
            self._lanes = [_HALF - 1 + spacing * at for at in range(gaps + 1)]
        self._area = 0 if self._lanes is None else self._lanes[-1] + _HALF + 1
        self._words = self._width - self._left - self._area

    def _room(self) -> int:
        """Return how many columns are left for words if the lanes stand as narrow as they can."""
        return self._width - self._left - 2 * _HALF - _SPACING[0] * (len(self._ladder.lanes) - 1)

    # --- the whole ------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """Yield the lines: the legs, the heads of the lanes, the steps."""
        yield from self._head()
        yield ""
        yield from self._heads()
        day = utc_time(self._ladder.started_at)[:10]
        for step in self._ladder.steps:
            today = utc_time(step.at)[:10]
            if today and today != day:
                day = today
                yield self._row(today, self._blank(), "")
            yield from self._step(step)

    def _head(self) -> Iterator[str]:
        tags = max((len(leg.tag) for leg in self._ladder.legs), default=0)
        margin = tags + 2 if tags else 0
        for leg in self._ladder.legs:
            for at, fact in enumerate(leg.facts):
                lead = (leg.tag if at == 0 else "").ljust(margin) + ("" if at == 0 else "  ")
                for part, text in enumerate(self._wrapped(fact, self._width - len(lead))):
                    yield (lead if part == 0 else " " * len(lead)) + text
        rooms = [f"{lane.name} is {lane.detail}" for lane in self._ladder.lanes if lane.kind is LaneKind.ROOM]
        if len(rooms) > 1:
            yield from self._wrapped(", ".join(rooms), self._width)

    def _heads(self) -> Iterator[str]:
        """Yield the names of the lanes, each in the middle above it."""
        day = utc_time(self._ladder.started_at)[:10]
        if self._lanes is None:
            yield day
            return
        cells = [" "] * self._area
        for x, lane in zip(self._lanes, self._ladder.lanes, strict=True):
            start = max(0, x - (len(lane.name) - 1) // 2)
            cells[start : start + len(lane.name)] = lane.name
        yield self._row(day, "".join(cells), "")

    # --- one step -------------------------------------------------------------------------------------------------

    def _step(self, step: LadderStep) -> Iterator[str]:
        label = step_label(step)
        states = f"[{' → '.join(step.states)}]" if step.states else ""
        together = f"{label} {states}" if states else label
        if cells_of(self._written(together)) <= self._words or not states:
            texts = self._wrapped(together, self._words)
        else:
            texts = [*self._wrapped(label, self._words), *self._wrapped(f"  {states}", self._words, indent=2)]
        for note in step.notes:
            texts += self._wrapped(f"  {note}", self._words, indent=4)
        delta = delta_in_words(step.delta) if self._shows_delta else ""
        for at, text in enumerate(texts):
            if at == 0:
                yield self._row(self._time(step.at), self._drawn(step), text, delta)
            else:
                yield self._row("", self._blank(), text)

    def _row(self, time: str, lanes: str, text: str, delta: str = "") -> str:
        if not self._has_time:
            return f"{self._written(lanes)}{text}".rstrip()
        if not self._shows_delta:
            return f"{time:<{self._clock}} {self._written(lanes)}{text}".rstrip()
        if len(time) > self._clock:  # a date is longer than a time without fractions
            return f"{time:<{self._left}}{self._written(lanes)}{text}".rstrip()
        return f"{time:<{self._clock}} {delta:>{_DELTA}} {self._written(lanes)}{text}".rstrip()

    def _time(self, at: float | None) -> str:
        return time_of_day(at, fractions=self._clock > 8)

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _blank(self) -> str:
        cells = [" "] * self._area
        for x in self._lanes or ():
            cells[x] = "│"
        return "".join(cells)

    def _drawn(self, step: LadderStep) -> str:
        """Draw the lanes with the arrow of a step; one that changed nothing is dashed."""
        if self._lanes is None:
            return ""
        cells = list(self._blank())
        source, target = self._lanes[step.source], self._lanes[step.target]
        if source == target:
            cells[source] = "●"
            return "".join(cells)
        low, high = sorted((source, target))
        line = "─" if step.counts else "╌"
        for x in range(low + 1, high):
            cells[x] = "┼" if cells[x] == "│" else line
        cells[low], cells[high] = "├", "┤"
        if step.arrow:
            cells[target] = "│"
            cells[target + (-1 if target > source else 1)] = "►" if target > source else "◄"
        return "".join(cells)

    # --- texts ----------------------------------------------------------------------------------------------------

    def _written(self, text: str) -> str:
        """Return a text as the terminal can show it."""
        if self._plain:
            text = "".join(_ASCII.get(c, c) for c in text)
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding, "replace")

    def _wrapped(self, text: str, width: int, indent: int = 0) -> list[str]:
        return list(wrap_cells(self._written(text), max(width, 8), indent))


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
