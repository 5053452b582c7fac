"""A ladder as a Mermaid sequence diagram. Whatever an event says stays text: nothing of it is syntax, and all is plain ASCII."""

from __future__ import annotations

import re
from collections.abc import Iterator

from telstate.views._columns import wrap_cells
from telstate.views._ladder import Ladder, LadderLane, LadderStep
from telstate.views._ladder_times import delta_in_words, has_fractions, step_label, time_of_day
from telstate.views._text import utc_time

__all__ = ["ladder_mermaid"]

_LONGEST = 60
"""Columns of a line in the picture."""
_SYNTAX = re.compile(r"[^A-Za-z0-9 .,:()/+_*=!?'-]")
_PLAIN = str.maketrans({"•": "*", "→": "to", "…": "..."})
"""Our own characters: Mermaid makes its boxes as wide as their entities are long."""
_WRAP = re.compile(r"(?i)^((?:no)?wrap)")
"""At the beginning of a text they would be an instruction."""


def ladder_mermaid(ladder: Ladder) -> str:
    """Write a ladder as a Mermaid `sequenceDiagram`."""
    return "\n".join(_lines(ladder))


def _lines(ladder: Ladder) -> Iterator[str]:
    yield "sequenceDiagram"
    for at, lane in enumerate(ladder.lanes):
        yield f"    participant L{at} as {_text(_title(lane))}"
    last = len(ladder.lanes) - 1
    for leg in ladder.legs:
        words = [f"{leg.tag}: {leg.facts[0]}" if leg.tag else leg.facts[0], *leg.facts[1:]]
        yield f"    Note over L0{f',L{last}' if last else ''}: {_texts(words)}"
    fractions, day = has_fractions(ladder), ""
    for step in ladder.steps:
        today = utc_time(step.at)[:10]
        if today and today != day:
            day = today
            yield f"    Note over L0{f',L{last}' if last else ''}: {today} UTC"
        yield from _step(step, fractions=fractions)


def _step(step: LadderStep, *, fractions: bool) -> Iterator[str]:
    time = " ".join(filter(None, (time_of_day(step.at, fractions=fractions), delta_in_words(step.delta))))
    words = [f"{time} {step_label(step)}".strip()]
    more = [" → ".join(step.states)] if step.states else []
    more += step.notes
    if step.source == step.target:
        yield f"    Note over L{step.source}: {_texts([*words, *more])}"
        return
    line = ("->" if step.counts else "-->") + (">" if step.arrow else "")
    yield f"    L{step.source}{line}L{step.target}: {_texts(words)}"
    if more:
        low, high = sorted((step.source, step.target))
        yield f"    Note over L{low},L{high}: {_texts(more)}"


def _title(lane: LadderLane) -> str:
    return f"{lane.name} {lane.detail}".strip()


def _texts(texts: list[str]) -> str:
    """Several texts, each on lines of its own."""
    return "<br/>".join(_text(line) for text in texts for line in wrap_cells(text, _LONGEST))


def _text(text: str) -> str:
    """A text in which every character that may be syntax is an entity of Mermaid's."""
    escaped = _SYNTAX.sub(lambda found: f"#{ord(found[0])};", text.translate(_PLAIN))
    # Mermaid takes the last character of a line with an entity behind these words for the end of a style.
    escaped = escaped.replace("style", "st#121;le").replace("classDef", "class#68;ef")
    return _WRAP.sub(lambda found: f"#{ord(found[0][0])};{found[0][1:]}", escaped)
