"""Diagrams of the state machine, drawn from the machine itself, and of the path of an event through telstate.

Mermaid and DOT are text that other tools lay out. The SVG is laid out here: states only rise, so they stand in one column,
and every transition runs down a lane of its own beside it. (Graphviz is not a Python package, and its output changes with
its version, so its pictures could not be compared with the committed ones.)
"""

from __future__ import annotations

from enum import StrEnum
from html import escape
from pathlib import Path
from typing import NamedTuple

from telstate.calls._table import TERMINAL, State, machine
from telstate.events import Direction

__all__ = ["DiagramFormat", "DiagramKind", "draw_diagram", "write_diagrams"]


class DiagramKind(StrEnum):
    """What a diagram shows."""

    DIALIN = "dialin"
    """The state machine of dial-in sessions."""
    DIALOUT = "dialout"
    """The state machine of dial-out sessions."""
    EVENT = "event"
    """The path of an event from the wire to the handlers."""


class DiagramFormat(StrEnum):
    """The language a diagram is written in."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


_SUFFIX = {DiagramFormat.MERMAID: "mmd", DiagramFormat.DOT: "dot", DiagramFormat.SVG: "svg"}


def draw_diagram(kind: DiagramKind, file_format: DiagramFormat = DiagramFormat.MERMAID) -> str:
    """Draw one diagram; return it as text.

    Args:
        kind: what it shows.
        file_format: the language it is written in.
    """
    if kind is DiagramKind.EVENT:
        return {
            DiagramFormat.MERMAID: _path_mermaid,
            DiagramFormat.DOT: _path_dot,
            DiagramFormat.SVG: _path_svg,
        }[file_format]()
    arrows = _arrows(Direction(kind))
    return {DiagramFormat.MERMAID: _mermaid, DiagramFormat.DOT: _dot, DiagramFormat.SVG: _svg}[file_format](arrows)


def write_diagrams(folder: Path) -> list[Path]:
    """Write every diagram as Mermaid and as SVG into a folder, which is created if missing; return the files.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in DiagramKind:
        for file_format in (DiagramFormat.MERMAID, DiagramFormat.SVG):
            path = folder / f"{kind}.{_SUFFIX[file_format]}"
            path.write_text(draw_diagram(kind, file_format), encoding="utf-8", newline="\n")
            written.append(path)
    return written


# --- the state machine --------------------------------------------------------------------------------------------


class _Arrow(NamedTuple):
    source: State
    target: State
    label: str


def _arrows(direction: Direction) -> list[_Arrow]:
    """Read the transitions off the machine. Events with the same source and target share an arrow."""
    labels: dict[tuple[State, State], list[str]] = {}
    for trigger, event in machine(direction, model=None).events.items():
        for transitions in event.transitions.values():
            for transition in transitions:
                if transition.dest is not None:
                    pair = State[transition.source], State[transition.dest]
                    labels.setdefault(pair, []).append(trigger)
    order = list(State)
    pairs = sorted(labels, key=lambda pair: (order.index(pair[0]), order.index(pair[1])))
    return [_Arrow(source, target, ", ".join(labels[source, target])) for source, target in pairs]


def _mermaid(arrows: list[_Arrow]) -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {State.IDLE}"]
    lines += [f"    {arrow.source} --> {arrow.target}: {arrow.label}" for arrow in arrows]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines) + "\n"


def _dot(arrows: list[_Arrow]) -> str:
    lines = ["digraph session {", "    rankdir=TB;", "    node [shape=box, style=rounded];"]
    lines += [f"    {state}{' [peripheries=2]' if state in TERMINAL else ''};" for state in State]
    lines += [f'    {arrow.source} -> {arrow.target} [label="{arrow.label}"];' for arrow in arrows]
    return "\n".join([*lines, "}"]) + "\n"


_PORT = 24
_BOX = 120
_LEFT = 20
_LABEL = 7.2
"""Pixels per character of a label; a little more than the font needs."""


def _svg(arrows: list[_Arrow]) -> str:
    """States in a column; each arrow leaves its source to the right, runs down its own lane and comes back in."""
    top, boxes, y = {}, [], 20
    for state in State:
        ports = sum(state in (arrow.source, arrow.target) for arrow in arrows)
        top[state] = y
        boxes.append((state, y, ports * _PORT + 8))
        y += ports * _PORT + 8 + 28
    edge = _LEFT + _BOX
    lanes_at = edge + 24 + max(len(arrow.label) for arrow in arrows) * _LABEL
    used = {state: sum(arrow.target is state for arrow in arrows) for state in State}
    entered = dict.fromkeys(State, 0)
    shapes = []
    # The longest arrows take the outer lanes, so that no two of them cross at a box.
    for lane, arrow in enumerate(
        sorted(arrows, key=lambda a: (list(State).index(a.target), -list(State).index(a.source)))
    ):
        x = lanes_at + 14 * lane
        out = top[arrow.source] + 4 + _PORT * (used[arrow.source] + 0.5)
        used[arrow.source] += 1
        into = top[arrow.target] + 4 + _PORT * (entered[arrow.target] + 0.5)
        entered[arrow.target] += 1
        shapes.append(f'<path d="M{edge} {out:g} H{x:g} V{into:g} H{edge + 2}" marker-end="url(#tip)"/>')
        shapes.append(f'<text x="{edge + 8}" y="{out - 5:g}">{escape(arrow.label)}</text>')
    width = lanes_at + 14 * len(arrows) + 10
    for state, box_y, height in boxes:
        style = "terminal" if state in TERMINAL else "state"
        shapes.append(f'<rect class="{style}" x="{_LEFT}" y="{box_y}" width="{_BOX}" height="{height}" rx="10"/>')
        shapes.append(f'<text class="name" x="{_LEFT + _BOX / 2:g}" y="{box_y + height / 2 + 5:g}">{state}</text>')
    return _page(width, y, shapes)


_LOOK = """
text { font: 12px ui-monospace, monospace; fill: #1f2937 }
.name { font-weight: bold; text-anchor: middle }
.small { text-anchor: middle }
path { fill: none; stroke: #6b7280 }
rect { stroke: #1f2937; fill: #e0f2fe }
rect.terminal { fill: #fee2e2; stroke-width: 2 }
rect.async { fill: #dcfce7 }
rect.durable { fill: #fef9c3 }
rect.page { fill: #fff; stroke: none }
"""
_TIP = (
    '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
    '<path d="M0 0L8 4L0 8z" style="fill:#6b7280"/></marker></defs>'
)


def _page(width: float, height: float, shapes: list[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{_LOOK}</style>", _TIP]
    page = f'<rect class="page" width="{width:g}" height="{height:g}"/>'
    return "\n".join([*head, page, *shapes, "</svg>", ""])


# --- the path of an event -----------------------------------------------------------------------------------------


class _Stage(NamedTuple):
    name: str
    where: str
    """The package that does it."""
    kind: str
    """`state`: pure. `durable`: written before anything else happens. `async`: runs the program's handlers."""


_PATH = (
    _Stage("decode", "events", "state"),
    _Stage("typed event", "events", "state"),
    _Stage("journal", "journals", "durable"),
    _Stage("correlate", "calls", "state"),
    _Stage("step", "calls", "state"),
    _Stage("outcome", "calls", "state"),
    _Stage("lane", "routing", "async"),
    _Stage("handlers", "yours", "async"),
)
_KINDS = {"state": "pure", "durable": "durable, gives a sequence number", "async": "async"}


def _path_mermaid() -> str:
    lines = ["flowchart LR", "    raw([raw payload]) --> s0"]
    lines += [f'    s{n}["{stage.name}<br/><i>{stage.where}</i>"]:::{stage.kind}' for n, stage in enumerate(_PATH)]
    lines.append("    " + " --> ".join(f"s{n}" for n in range(len(_PATH))))
    lines += ["    classDef state fill:#e0f2fe", "    classDef durable fill:#fef9c3", "    classDef async fill:#dcfce7"]
    return "\n".join(lines) + "\n"


def _path_dot() -> str:
    names = ["raw payload", *(stage.name for stage in _PATH)]
    return "digraph way {\n    rankdir=LR;\n    " + " -> ".join(f'"{name}"' for name in names) + ";\n}\n"


def _path_svg() -> str:
    step = 124
    shapes = ['<text x="20" y="58">raw</text>']
    for n, stage in enumerate(_PATH):
        x = 70 + n * step
        shapes.append(f'<path d="M{x - 22} 54 H{x - 2}" marker-end="url(#tip)"/>')
        shapes.append(f'<rect class="{stage.kind}" x="{x}" y="30" width="100" height="48" rx="10"/>')
        shapes.append(f'<text class="name" x="{x + 50}" y="52">{stage.name}</text>')
        shapes.append(f'<text class="small" x="{x + 50}" y="68">{stage.where}</text>')
    for n, (kind, meaning) in enumerate(_KINDS.items()):
        x = 70 + n * 260
        shapes.append(f'<rect class="{kind}" x="{x}" y="100" width="14" height="14"/>')
        shapes.append(f'<text x="{x + 22}" y="112">{meaning}</text>')
    return _page(70 + len(_PATH) * step, 130, shapes)
