"""How to look at calls: reports, outcome lines and diagrams. Views format what they are given; they decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports
from telstate.views._condition import Condition
from telstate.views._csv_report import CsvReport
from telstate.views._diagram import DiagramFormat, DiagramKind, draw_diagram, write_diagrams
from telstate.views._ordering import Ordering
from telstate.views._outcome_line import outcome_as_dict, outcome_as_json, outcome_as_text
from telstate.views._report import JsonReport, TextReport
from telstate.views._selection import FIELDS, Selection

if TYPE_CHECKING:
    from telstate.views._live import live_app
else:
    __getattr__ = _lazy_exports(__name__, {"live_app": ("_live", "serve")})

__all__ = [
    "FIELDS",
    "Condition",
    "CsvReport",
    "DiagramFormat",
    "DiagramKind",
    "JsonReport",
    "Ordering",
    "Selection",
    "TextReport",
    "draw_diagram",
    "live_app",
    "outcome_as_dict",
    "outcome_as_json",
    "outcome_as_text",
    "write_diagrams",
]
