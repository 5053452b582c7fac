"""A ladder as SVG: a file of its own, or a part of a page. It needs nothing from outside, and follows the reader's light or dark theme.

All texts are escaped, and all is plain ASCII, whatever the encoding of the pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from telstate.errors import printable
from telstate.views._columns import wrap_cells
from telstate.views._ladder import Ladder, LadderLane, LadderStep, LaneKind
from telstate.views._ladder_times import delta_in_words, has_fractions, step_label, time_of_day
from telstate.views._text import cut, utc_time

__all__ = ["LADDER_CSS", "ladder_svg"]

LADDER_CSS = """\
.call-ladder{--ink:#1f2328;--dim:#59636e;--line:#d1d9e0;--paper:#fff;--move:#0550ae;--odd:#9a6700;--bad:#cf222e;color-scheme:light dark}
@media (prefers-color-scheme:dark){.call-ladder{--ink:#e6edf3;--dim:#9198a1;--line:#3d444d;--paper:#0d1117;--move:#79c0ff;--odd:#e3b341;--bad:#ff7b72}}
.call-ladder text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:var(--ink);white-space:pre}
.call-ladder .paper{fill:var(--paper)}
.call-ladder .head{font-weight:600;text-anchor:middle}
.call-ladder .who{font-size:11px;fill:var(--dim);text-anchor:middle}
.call-ladder .lane{stroke:var(--line);stroke-width:1}
.call-ladder .time,.call-ladder .note{fill:var(--dim)}
.call-ladder .delta{fill:var(--dim);text-anchor:end}
.call-ladder .state{fill:var(--move);font-weight:600}
.call-ladder .arrow{stroke:var(--ink);stroke-width:1.5;fill:none}
.call-ladder .tip,.call-ladder .mark{fill:var(--ink)}
.call-ladder .moved .arrow{stroke:var(--move);stroke-width:2}
.call-ladder .moved .tip,.call-ladder .moved .mark{fill:var(--move)}
.call-ladder .ignored .arrow{stroke:var(--odd);stroke-dasharray:4 4}
.call-ladder .ignored .tip,.call-ladder .ignored .mark,.call-ladder .ignored .label{fill:var(--odd)}
.call-ladder .failed .arrow{stroke:var(--bad)}
.call-ladder .failed .tip,.call-ladder .failed .mark,.call-ladder .failed .label{fill:var(--bad)}
"""
"""The style of a ladder that is a part of a page. It has no other fonts than those of the reader."""

_CHARACTER = 7.85
"""Pixels of a character of the monospaced font; a little more than it needs."""
_ROW = 18
_GAP = 8
_MARGIN = 16
_TOP = 64
_SPACING = 96
_WORDS = 64
"""Characters of a line of words."""
_TIP = 7


def ladder_svg(ladder: Ladder, *, standalone: bool = True) -> str:
    """Draw a ladder as SVG.

    Args:
        ladder: of a call.
        standalone: with its own style, for a file; without, `LADDER_CSS` must be in the page's style.
    """
    return _Drawing(ladder).svg(standalone=standalone)


class _Drawing:
    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._fractions = has_fractions(ladder)
        has_time = any(step.at is not None for step in ladder.steps)
        clock = 12 if self._fractions else 10  # a date has ten characters
        self._delta_at = _MARGIN + (clock + 9) * _CHARACTER if has_time else 0
        first = self._delta_at + _SPACING / 2 + 4
        self._lanes = [first + _SPACING * at for at in range(len(ladder.lanes))]
        self._words_at = self._lanes[-1] + _SPACING / 2
        self._width = self._words_at + _WORDS * _CHARACTER + _MARGIN
        self._y: float = _TOP
        self._day = ""

    def svg(self, *, standalone: bool) -> str:
        steps = [shape for step in self._ladder.steps for shape in self._step(step)]
        height = self._y + _MARGIN
        title = f"The call {self._ladder.call}"
        namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
        size = f'width="{self._width:.0f}" height="{height:.0f}"'
        shapes = [
            f'<svg{namespace} class="call-ladder" role="img" {size} viewBox="0 0 {self._width:.0f} {height:.0f}">',
            f"<title>{_text(title)}</title>",
            *([f"<style>{LADDER_CSS}</style>"] if standalone else []),
            f'<rect class="paper" {size}/>',
            *(
                shape
                for x, lane in zip(self._lanes, self._ladder.lanes, strict=True)
                for shape in _lane(x, lane, height)
            ),
            *steps,
            "</svg>",
        ]
        return "\n".join(shapes)

    def _step(self, step: LadderStep) -> Iterator[str]:
        if (today := utc_time(step.at)[:10]) and today != self._day:
            self._day = today
            yield f'<text class="time" x="{_MARGIN}" y="{self._y + 13:g}">{today}</text>'
            self._y += _ROW + _GAP / 2
        middle = self._y + _ROW / 2
        kinds = [
            name
            for name, holds in (("moved", step.states), ("ignored", not step.counts), ("failed", step.failed))
            if holds
        ]
        yield f'<g class="{" ".join(["step", *kinds])}">'
        if step.at is not None:
            yield f'<text class="time" x="{_MARGIN}" y="{self._y + 13:g}">{time_of_day(step.at, fractions=self._fractions)}</text>'
        if step.delta is not None:
            yield f'<text class="delta" x="{self._delta_at:g}" y="{self._y + 13:g}">{delta_in_words(step.delta)}</text>'
        yield self._arrow(step, middle)
        for kind, text in _words(step):
            yield f'<text class="{kind}" x="{self._words_at:g}" y="{self._y + 13:g}">{_text(text)}</text>'
            self._y += _ROW
        self._y += _GAP
        yield "</g>"

    def _arrow(self, step: LadderStep, y: float) -> str:
        source, target = self._lanes[step.source], self._lanes[step.target]
        if source == target:
            return f'<circle class="mark" cx="{source:g}" cy="{y:g}" r="4.5"/>'
        line = f'<path class="arrow" d="M{source:g} {y:g}H{target:g}"/>'
        if not step.arrow:
            return line
        back = target - _TIP if target > source else target + _TIP
        return line + f'<path class="tip" d="M{target:g} {y:g}L{back:g} {y - 4:g}V{y + 4:g}Z"/>'


def _lane(x: float, lane: LadderLane, height: float) -> Iterator[str]:
    yield f'<path class="lane" d="M{x:g} {_TOP - 8}V{height - _MARGIN / 2:g}"/>'
    yield f'<text class="head" x="{x:g}" y="28">{_text(lane.name)}</text>'
    if lane.detail:
        who = lane.detail.removeprefix("sip:") if lane.kind is LaneKind.PHONE else lane.detail
        yield f'<text class="who" x="{x:g}" y="45"><title>{_text(lane.detail)}</title>{_text(cut(who, 14))}</text>'


def _words(step: LadderStep) -> Iterator[tuple[str, str]]:
    """Yield the lines beside a step, each with the name of its style."""
    label, states = step_label(step), " → ".join(step.states)
    yield from (("label", line) for line in wrap_cells(label, _WORDS, 2))
    if states:
        yield "state", states
    for note in step.notes:
        yield from (("note", line) for line in wrap_cells(note, _WORDS, 2))


def _text(text: str) -> str:
    """A text from anywhere, as XML can hold it, in plain ASCII."""
    return escape(printable(text)).encode("ascii", "xmlcharrefreplace").decode()
