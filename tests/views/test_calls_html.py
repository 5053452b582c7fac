"""The HTML report: one file that needs nothing else, in which nothing from the log is markup."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from telstate import Engine
from telstate.views._call import WholeCall
from telstate.views._call_totals import CallTotals
from telstate.views._calls_html import CallsHtml, ListedCall
from tests.calls import feed, js
from tests.views.browser import chromium_path

HOSTILE = '</script><img src=x onerror=alert(1)><!--<script>&\u2028\u202e"'


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        """Of both, in their order."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note what stands in it."""
        if data.strip() and self.tags and self.tags[-1][0] in ("script", "style"):
            self.texts.append(data)
            (self.scripts if self.tags[-1][0] == "script" else self.styles).append(data)

    def packed(self, name: str) -> list[Any]:
        """What the page's script unpacks."""
        kinds = [attributes.get("class") for tag, attributes in self.tags if tag in ("script", "style")]
        texts = dict(enumerate(self.texts))
        return [
            value
            for place, kind in enumerate(kinds)
            if kind == name
            for value in json.loads(gzip.decompress(b64decode(texts[place])))
        ]

    def calls(self) -> list[dict[str, Any]]:
        """The records in the page, in the order of its list."""
        return [record for _, record in sorted(self.packed("calls"), key=lambda one: one[0])]


def report(*payloads: dict[str, Any], numbers: bool = False, ladder: str | None = None, most: int = 10) -> str:
    """The report of a log, whose file has a hostile name too."""
    engine, totals = Engine(), CallTotals()
    for place, payload in enumerate(payloads):
        feed(engine, payload, at=1_790_000_000.0 + place)
    html = CallsHtml([f"{HOSTILE}.jsonl"], numbers=numbers)
    calls = [WholeCall([(session, session.to_dict(legs=()))]) for session in engine.sessions()]
    for call in calls:
        totals.add(call)
    listed = [ListedCall(place, call, ladder) for place, call in enumerate(calls[:most])]
    parts = [html.head(), *(html.calls([one]) for one in reversed(listed))]
    return "\n".join([*parts, html.totals(totals, events=engine.received, invalid=0, listed=len(listed))]) + "\n"


def log(text: str) -> tuple[dict[str, Any], ...]:
    """The events of two calls, with this text wherever a sender can put one."""
    return (
        js("dialout-connected", sessionId=text, destination="+12025550100"),
        js("dialout-error", sessionId=text, errorMsg=text),
        js(
            "dialin-connected",
            sessionId="in",
            sipFrom='"Ann Miller" <sip:+12025550142@carrier.example>',
            sipHeaders={f"X-{text}": text},
        ),
        js("dialin-stopped", sessionId="in"),
    )


LOG = log(HOSTILE)
LADDER = '<svg class="call-ladder"><title>a &lt;b&gt;</title><path class="arrow" d="M0 0H9"/></svg>'


def test_nothing_from_the_log_is_markup() -> None:
    """Not by an id, an error, a header or the name of the file; the records say what the log says."""
    page, harmless = Page(report(*LOG)), Page(report(*log("text")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    shown = page.calls()
    assert [call["cause"] for call in shown] == ["failed", "completed"]
    assert shown[0]["call_id"] == HOSTILE.replace("\u2028", "\ufffd").replace("\u202e", "\ufffd")


def test_who_still_rings_is_not_drawn_as_not_answered() -> None:
    """Nor who is on hold: nothing is decided yet."""
    chart = Page(report(js("dialout-connected", sessionId="rings"), js("dialin-stopped", sessionId="over")))
    parts = ("yes", "no", "undecided")
    rects = [attributes for tag, attributes in chart.tags if tag == "rect" and "y" in attributes]
    heights = {str(one["class"]): float(one["height"] or 0) for one in rects if one.get("class") in parts}
    assert heights["undecided"] == heights["no"] > heights["yes"] == 0
    assert "1 not decided" in report(js("dialout-connected", sessionId="rings"))
    assert "still ringing" not in report(js("dialin-stopped", sessionId="over"))


def test_the_policy_allows_its_own_style_and_script_only() -> None:
    """By their hashes; nothing is loaded from anywhere."""
    text = report(*LOG)
    page = Page(text)
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy is not None
    script = next(one for one in page.scripts if "use strict" in one)
    for kind, content in (("style-src", page.styles[0]), ("script-src", script)):
        assert f"{kind} 'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\(", text.replace("// ", "")) == []
    assert not [tag for tag, attributes in page.tags if {"src", "href"} & set(attributes)]
    assert "innerHTML" not in text


def test_numbers_and_names_are_masked_unless_asked_for() -> None:
    """Everywhere in the file."""
    page = Page(report(*LOG))
    masked = report(*LOG) + json.dumps(page.calls())
    assert not [private for private in ("2025550100", "2025550142", "Miller") if private in masked]
    assert "2025550100" in json.dumps(Page(report(*LOG, numbers=True)).calls())


def test_each_call_has_its_ladder() -> None:
    """Packed, for the script to show above the details."""
    page = Page(report(*LOG, ladder=LADDER))
    assert page.packed("ladders") == [LADDER] * 2
    assert "<svg" not in "".join(page.texts)


def test_the_page_says_what_its_list_leaves_out() -> None:
    """Totals and charts have all calls."""
    text = report(*LOG, most=1)
    assert len(Page(text).calls()) == 1
    assert "<strong>The list has 1 of 2 calls</strong>; totals and charts count all of them." in text
    assert "<dd>2</dd>" in text
    assert 'class="left-out"' not in report(*LOG)


@pytest.mark.long
def test_chromium_shows_the_calls(tmp_path: Path) -> None:
    """Its script runs under its policy, lists the calls, and opens the one that the address names. No error, nothing hostile runs."""
    path = tmp_path / "report.html"
    path.write_text(report(*LOG, ladder=LADDER), encoding="utf-8")
    run = subprocess.run(
        [
            *(
                chromium_path(),
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
            ),
            *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", "--dump-dom", f"file://{path}#in"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout.count('<tr class="call">') == 2
    assert run.stdout.count('aria-expanded="true">') == 1
    assert "<h3>Dial-in in</h3>" in run.stdout
    assert "2 calls" in run.stdout
    assert run.stdout.count(LADDER.replace("/>", "></path>")) == 1
    assert "<img" not in run.stdout
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
