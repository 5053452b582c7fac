"""Pictures: drawn from the table, and the committed ones are what the command draws now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from telstate import Direction
from telstate.calls._table import ROWS, SILENCE_PASSED
from telstate.views._diagram import DiagramKind, Style, draw, write_all

COMMITTED = Path(__file__).parents[2] / "diagrams"


def test_no_committed_picture_is_stale(tmp_path: Path) -> None:
    """`telstate diagram --write diagrams` makes them again."""
    subprocess.run([sys.executable, "-m", "telstate", "diagram", "--write", str(tmp_path)], check=True, timeout=60)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in COMMITTED.iterdir()}
    assert made == kept, "run: telstate diagram --write diagrams"
    assert len(made) == 6
    assert {path.name for path in write_all(tmp_path)} == set(kept)


@pytest.mark.parametrize("subject", [DiagramKind.DIALIN, DiagramKind.DIALOUT])
@pytest.mark.parametrize("style", Style)
def test_every_moving_row_is_in_the_picture(subject: DiagramKind, style: Style) -> None:
    """And no other event is."""
    picture = draw(subject, style)
    moving = {row.event for row in ROWS if row.target is not None and Direction(subject) in row.directions}
    other = {row.event for row in ROWS} - moving
    assert all(event in picture for event in moving)
    assert not any(event in picture for event in other)
    assert SILENCE_PASSED in picture


@pytest.mark.parametrize("subject", DiagramKind)
def test_svg_is_well_formed(subject: DiagramKind) -> None:
    """And every box and text lies inside the picture."""
    root = ElementTree.fromstring(draw(subject, Style.SVG))  # noqa: S314 - our own output
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(shape.get("x", 0)) + float(shape.attrib["width"]) <= width
        assert float(shape.get("y", 0)) + float(shape.attrib["height"]) <= height


@pytest.mark.parametrize(
    ("style", "head"), [(Style.MERMAID, "stateDiagram-v2"), (Style.DOT, "digraph"), (Style.SVG, "<svg")]
)
def test_the_command_writes_one_to_standard_output(style: Style, head: str) -> None:
    """For other tools to lay out."""
    run = subprocess.run(
        [sys.executable, "-m", "telstate", "diagram", "dialin", "--format", style],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.decode().startswith(head)
