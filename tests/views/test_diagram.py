"""Diagrams are drawn from the table, and the committed ones are what the command draws now."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from telstate import Direction
from telstate.calls._table import ROWS, SILENCE_PASSED, Row, State
from telstate.views import DiagramFormat, DiagramKind, draw_diagram, write_diagrams
from tests.cli.running import run_process, telstate

FOLDER = Path(__file__).parents[2] / "diagrams"


def test_no_committed_diagram_is_stale(tmp_path: Path) -> None:
    """`telstate diagram --write diagrams` draws them again."""
    tmp_path /= "a/new/folder"
    assert telstate("diagram", "--write", tmp_path).returncode == 0
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {
        path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix not in (".md", ".png")
    }  # pictures are of a browser
    assert drawn == committed, "run: telstate diagram --write diagrams"
    assert len(drawn) == 6
    assert {path.name for path in write_diagrams(tmp_path)} == set(committed)


@pytest.mark.parametrize("kind", [DiagramKind.DIALIN, DiagramKind.DIALOUT])
@pytest.mark.parametrize("file_format", DiagramFormat)
def test_every_moving_row_is_in_the_diagram(kind: DiagramKind, file_format: DiagramFormat) -> None:
    """And no other event is."""
    diagram = draw_diagram(kind, file_format)
    moving = {row.event for row in ROWS if row.target is not None and Direction(kind) in row.directions}
    other = {row.event for row in ROWS} - moving
    assert all(event in diagram for event in moving)
    assert not any(event in diagram for event in other)
    assert SILENCE_PASSED in diagram


@pytest.mark.parametrize("kind", DiagramKind)
def test_svg_is_well_formed(kind: DiagramKind) -> None:
    """And every box lies inside the picture."""
    root = ElementTree.fromstring(draw_diagram(kind, DiagramFormat.SVG))  # noqa: S314 - our own output
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(shape.get("x", 0)) + float(shape.attrib["width"]) <= width
        assert float(shape.get("y", 0)) + float(shape.attrib["height"]) <= height


@pytest.mark.parametrize("file_format", DiagramFormat)
@pytest.mark.parametrize("kind", DiagramKind)
def test_the_command_writes_a_diagram_to_standard_output(kind: DiagramKind, file_format: DiagramFormat) -> None:
    """For other tools to lay out."""
    run = telstate("diagram", kind, "--format", file_format)
    assert run.stdout.decode() == draw_diagram(kind, file_format)


def test_the_command_as_a_process() -> None:
    """Its default is Mermaid."""
    run = run_process("diagram", "dialin")
    assert (run.returncode, run.stdout.decode()) == (0, draw_diagram(DiagramKind.DIALIN))


def test_both_a_diagram_and_a_folder_are_misuse(tmp_path: Path) -> None:
    """As is neither."""
    assert telstate("diagram", "dialin", "--write", tmp_path).returncode == 2
    assert telstate("diagram").returncode == 2
    assert list(tmp_path.iterdir()) == []


DIRECTIONS = {("dialin",): "dial-in", ("dialout",): "dial-out", ("dialin", "dialout"): "both"}


def in_readme(row: Row) -> str:
    """A row of the table of transitions, as the README shows it."""
    direction = DIRECTIONS[tuple(map(str, row.directions))]
    if row.target is not None:
        return f"| `{row.event}` | {direction} | {', '.join(row.sources)} | {row.target} | {row.reason} |"
    states = "any" if set(row.sources) == set(State) else ", ".join(row.sources)
    return f"| {direction} | `{row.event}` | {states} | {row.reason} |"


def test_the_readme_has_the_whole_table() -> None:
    """Row for row; if it fails, it shows the rows."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    expected = [in_readme(row) for row in ROWS]
    assert [line for line in lines if line.count("|") > 4 and "`" in line] == expected, "\n".join(expected)
