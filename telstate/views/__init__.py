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
    from telstate.views._board import board_app
    from telstate.views._live import live_app
    from telstate.views._metrics import PrometheusMetrics
    from telstate.views._metrics_app import metrics_app
    from telstate.views._records_table import RecordsTable
    from telstate.views._tracing import trace_calls
else:
    __getattr__ = _lazy_exports(
        __name__,
        {
            "PrometheusMetrics": ("_metrics", "metrics"),
            "RecordsTable": ("_records_table", "records"),
            "board_app": ("_board", "serve"),
            "live_app": ("_live", "serve"),
            "metrics_app": ("_metrics_app", "metrics,serve"),
            "trace_calls": ("_tracing", "traces"),
        },
    )

__all__ = [
    "FIELDS",
    "Condition",
    "CsvReport",
    "DiagramFormat",
    "DiagramKind",
    "JsonReport",
    "Ordering",
    "PrometheusMetrics",
    "RecordsTable",
    "Selection",
    "TextReport",
    "board_app",
    "draw_diagram",
    "live_app",
    "metrics_app",
    "outcome_as_dict",
    "outcome_as_json",
    "outcome_as_text",
    "trace_calls",
    "write_diagrams",
]
