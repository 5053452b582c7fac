"""Ladders as one page of HTML that needs nothing else: to attach to a ticket, and to open without a network.

Nothing of a log is ever markup: all texts are escaped, and the page's policy (CSP) forbids scripts, and whatever is not in the file.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from typing import Any

from telstate.errors import printable
from telstate.views._ladder import Ladder, LadderLeg
from telstate.views._ladder_svg import LADDER_CSS, ladder_svg

__all__ = ["LADDER_PAGE_CSS", "ladder_html_fragment", "ladder_page"]

LADDER_PAGE_CSS = (
    LADDER_CSS
    + """\
.ladder-call{margin:0 0 3rem}
.ladder-call h2{font-size:1.05rem;overflow-wrap:anywhere}
.ladder-call .leg{margin:.75rem 0;overflow-wrap:anywhere}
.ladder-call .leg p{margin:.15rem 0}
.ladder-call .leg p:first-child{font-weight:600}
.ladder-call .tag{display:inline-block;min-width:1.4em}
.ladder-call details{margin:.35rem 0}
.ladder-call summary{cursor:pointer}
.ladder-call table{border-collapse:collapse;font-size:.85rem;width:100%}
.ladder-call th{font-weight:400;text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0;opacity:.75;white-space:nowrap}
.ladder-call td{padding:.15rem 0;overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.ladder-call .picture{overflow-x:auto;border:1px solid #8886;border-radius:6px}
.ladder-call .picture svg{display:block}
"""
)
"""The style of what `ladder_html_fragment` returns."""

_PAGE_CSS = """\
:root{color-scheme:light dark}
body{margin:1.5rem;font:15px/1.45 system-ui,sans-serif;color:#1f2328;background:#fff}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}}
@media print{.ladder-call .picture{overflow:visible;border:0}.ladder-call .picture svg{max-width:100%;height:auto}}
"""


def ladder_page(ladders: Iterable[Ladder]) -> str:
    """Write ladders as one page of HTML.

    Args:
        ladders: the calls, in this order.
    """
    style = _PAGE_CSS + LADDER_PAGE_CSS
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    shown = list(ladders)
    title = f"Call {shown[0].call}" if len(shown) == 1 else f"{len(shown)} calls"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_text(title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *(ladder_html_fragment(ladder) for ladder in shown),
            "</body>",
            "</html>",
        ]
    )


def ladder_html_fragment(ladder: Ladder) -> str:
    """Write one ladder as a part of a page: what is known of each leg, and the picture. The page needs `LADDER_PAGE_CSS` in its style.

    Args:
        ladder: of a call.
    """
    return "\n".join(
        [
            '<section class="ladder-call">',
            f"<h2>Call {_text(ladder.call)}</h2>",
            *(line for leg in ladder.legs for line in _leg(leg)),
            f'<div class="picture">{ladder_svg(ladder, standalone=False)}</div>',
            "</section>",
        ]
    )


def _leg(leg: LadderLeg) -> Iterator[str]:
    yield '<div class="leg">'
    for at, fact in enumerate(leg.facts):
        tag = f'<span class="tag">{_text(leg.tag)}</span>' if leg.tag and at == 0 else ""
        yield f"<p>{tag}{_text(fact)}</p>"
    yield "<details><summary>The record</summary><table>"
    yield from (
        f"<tr><th>{_text(name)}</th><td>{_text(_value(value))}</td></tr>"
        for name, value in leg.record.items()
        if value not in (None, [], {}, "")
    )
    yield "</table></details></div>"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    """A text from anywhere, in plain ASCII."""
    return escape(printable(text)).encode("ascii", "xmlcharrefreplace").decode()
