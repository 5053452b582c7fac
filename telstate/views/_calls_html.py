"""The calls of a log as one HTML file: totals, charts, a table to search and sort, and each call's details on a click.

The file needs nothing else, neither a network nor a server: style and script stand in it, and its policy (CSP) allows only these two, by
their hashes. Nothing from the log is ever markup: calls are JSON, compressed, and the script shows them as text.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from telstate.views._call import WholeCall
from telstate.views._call_totals import CallStats, CallTotals
from telstate.views._ladder_svg import LADDER_CSS
from telstate.views._masked import mask_record
from telstate.views._session_text import counted
from telstate.views._text import printable, printable_lines
from telstate.views._words import duration

__all__ = ["CallsHtml", "ListedCall"]


class ListedCall(NamedTuple):
    """A call in the list."""

    place: int
    """From 0: the file may have the calls in another order."""
    call: WholeCall
    ladder: str | None
    """Markup (SVG) that stands above the call's details. It has to escape what comes from the log, and the policy allows it no `style`,
    only classes and attributes."""


class CallsHtml:
    """Writes the report in pieces, in the order of its methods, so that a long log takes no memory.

    Args:
        names: the logs, as they are shown.
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, names: Sequence[str], *, numbers: bool = False) -> None:
        self._names = ", ".join("standard input" if name == "-" else Path(name).name for name in names)
        self._numbers = numbers
        self._style, self._script = _file("css") + LADDER_CSS, _file("js")

    def head(self) -> str:
        """The beginning of the file."""
        policy = (
            f"default-src 'none'; style-src '{_hash(self._style)}'; script-src '{_hash(self._script)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Calls of {_text(self._names)}</title>
<style>{self._style}</style>
</head>
<body>"""

    def calls(self, calls: Iterable[ListedCall]) -> str:
        """Some calls of the list, each with its ladder: a few hundred at once, since they are compressed together.

        The script unpacks the calls when the page is opened, and the ladders when one of them is looked at.
        """
        calls = list(calls)
        records = [[one.place, self._shown(one.call.to_dict())] for one in calls]
        return _packed("calls", records) + _packed("ladders", [one.ladder for one in calls])

    def _shown(self, record: dict[str, Any]) -> Any:
        return _printable(record if self._numbers else mask_record(record))

    def totals(self, totals: CallTotals, *, events: int, invalid: int, listed: int) -> str:
        """The rest of the file: what is seen of it.

        Args:
            totals: of all calls.
            events: in the logs.
            invalid: lines that could not be read.
            listed: how many calls the list has.
        """
        masked = "" if self._numbers else " Phone numbers and names are masked."
        unread = f", {counted(invalid, 'line')} could not be read" if invalid else ""
        return f"""<header>
<h1>Calls</h1>
<p>{_text(self._names)}: {counted(events, "event")}{unread}.{masked}</p>{_left_out(totals.stats.calls, listed)}
</header>
<main>
<section><h2>Totals</h2><dl class="tiles">{_tiles(totals)}</dl></section>
<div class="charts">
<section>{_times_chart(totals)}</section>
<section><h2>Why calls ended</h2>{_causes_chart(totals)}</section>
</div>
<noscript><section>The list of calls needs JavaScript, which this page brings with it: allow it for this file.</section></noscript>
{_LIST.format(which="All" if listed >= totals.stats.calls else f"The first {listed:,}")}
</main>
<script>{self._script}</script>
</body>
</html>"""


def _left_out(calls: int, listed: int) -> str:
    if listed >= calls:
        return ""
    return (
        f'<p class="left-out"><strong>The list has {listed:,} of {calls:,} calls</strong>; totals and charts count all of them.'
        " To list others, select them: --number, --room, --since and --until, --where, or --sort and --limit.</p>"
    )


_LIST = """<p id="reading" class="hint" role="status" hidden>Unpacking the list of calls …</p>
<section id="list" hidden>
<h2>{which} calls</h2>
<div class="tools">
<label class="search">Search <input id="search" type="search" autocomplete="off" spellcheck="false" placeholder="number, room, id, error … ( / )"></label>
<label>End <select id="end"></select></label>
<label>Way <select id="way"><option value="">all</option><option value="dialin">in</option><option value="dialout">out</option></select></label>
<label class="narrow">Sort <select id="order"></select></label>
<span id="count" class="hint" role="status"></span>
</div>
<table class="calls"><thead><tr id="head"></tr></thead><tbody id="rows"></tbody></table>
<p id="none" class="hint" hidden>No call has all of that. Use fewer words.</p>
<button id="more" class="more" type="button" hidden></button>
</section>"""


_UNKNOWN = "&ndash;"


def _tiles(totals: CallTotals) -> str:
    stats = totals.stats
    tiles = [
        ("calls", f"{stats.calls:,}"),
        ("answered", _percent(stats)),
        ("rang on average", duration(stats.ring_s) or _UNKNOWN),
        ("talked on average", duration(stats.talk_s) or _UNKNOWN),
        ("held, no session", f"{totals.lost:,}"),
        ("with anomalies", f"{totals.with_anomalies:,}"),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)


def _percent(stats: CallStats) -> str:
    return _UNKNOWN if stats.answer_rate is None else f"{stats.answer_rate:.0%}"


def _causes_chart(totals: CallTotals) -> str:
    if not totals.causes:
        return '<p class="hint">There are no calls.</p>'
    most = max(totals.causes.values())
    rows = "".join(
        f'<tr><th scope="row">{_text(cause)}</th><td>{number:,}</td><td><svg viewBox="0 0 100 12" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect class="yes" width="{max(100 * number / most, 0.5):.2f}" height="12" rx="1"/></svg></td></tr>'
        for cause, number in totals.causes.most_common()
    )
    return f'<table class="causes">{rows}</table>'


_HEIGHT, _LEFT, _BOTTOM, _TOP = 200, 36, 24, 10


def _times_chart(totals: CallTotals) -> str:
    name, spans = totals.spans()
    if not spans:
        return '<h2>When calls started</h2><p class="hint">The log has no times.</p>'
    most = max(stats.calls for _, stats in spans)
    step = max(12.0, 640 / len(spans))
    width = _LEFT + step * len(spans) + 4
    ground = _HEIGHT - _BOTTOM
    scale = (ground - _TOP) / most
    every = max(1, round(76 / step))
    shapes = [
        f'<line class="axis" x1="{_LEFT}" x2="{width:.0f}" y1="{y}" y2="{y}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{number:,}</text>'
        for y, number in ((ground, 0), (_TOP, most))
    ]
    for place, (span, stats) in enumerate(spans):
        x = _LEFT + place * step
        undecided = stats.calls - stats.decided
        parts = {"yes": stats.answered, "no": stats.decided - stats.answered, "undecided": undecided}
        said = f", {undecided} not decided" if undecided else ""
        shapes.append(f"<g><title>{span}: {counted(stats.calls, 'call')}, {stats.answered} answered{said}</title>")
        top = float(ground)
        for part, number in parts.items():
            top -= number * scale
            shapes.append(
                f'<rect class="{part}" x="{x + 1:.1f}" y="{top:.1f}" width="{step - 2:.1f}" height="{number * scale:.1f}"/>'
            )
        shapes.append("</g>")
        if place % every == 0:
            shapes.append(f'<text x="{x + 1:.1f}" y="{_HEIGHT - 6}">{span}</text>')
    is_open = any(stats.decided < stats.calls for _, stats in spans)
    still = '<i class="undecided"></i>on hold, or still ringing' if is_open else ""
    untimed = f" ({counted(totals.untimed, 'call')} without a time are not in this chart)" if totals.untimed else ""
    return (
        f"<h2>Calls by {name}, UTC</h2>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Calls by {name}"><svg viewBox="0 0 {width:.0f} {_HEIGHT}" role="img"'
        f' aria-label="Calls by {name}: at most {most}">{"".join(shapes)}</svg></div>'
        f'<p class="legend"><i class="yes"></i>answered<i class="no"></i>not{still}{untimed}</p>'
    )


def _text(text: str) -> str:
    """Any text, as text in markup."""
    return escape(printable(text))


def _packed(name: str, values: list[Any]) -> str:
    """JSON, compressed: a tenth of the size, and letters and digits only, of which nothing can be markup."""
    text = json.dumps(values, separators=(",", ":"))
    packed = b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return f'<script type="application/gzip" class="{name}">{packed}</script>'


def _printable(value: Any) -> Any:
    """The same with harmless texts, without what is not known. JSON proper has no NaN, which notes may hold."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, dict):
        return {printable(key): _printable(one) for key, one in value.items() if one not in (None, [], {}, "")}
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return str(value) if isinstance(value, float) and not float("-inf") < value < float("inf") else value


def _file(ending: str) -> str:
    return Path(__file__).with_suffix(f".{ending}").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
