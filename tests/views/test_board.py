"""The live board over real HTTP: who may read, what the page is sent, searches, ladders, and its policy. What it looks like in a browser is in
`test_board_page.py`."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from telstate import Dispatcher, Router, SourceGap
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock
from telstate.views import _board_feed as board_feed
from telstate.views import board_app
from telstate.views._live_access import COOKIE, SIGNED_IN_FOR, LiveAccess
from telstate.views._live_search import LiveSearch, TooMany
from tests.calls import SESSION, joined, js, webhook
from tests.views.board_scene import serving_board
from tests.views.test_live import Message, Reader

pytestmark = pytest.mark.asyncio

TOKEN, FULL = "a-token-that-masks-numbers", "a-token-that-shows-numbers"
LOCAL: dict[str, Any] = {"allow_local": True}
NUMBER = "+12025550101"
FULL_WIDTH = "".join(chr(ord(digit) + 0xFEE0) for digit in "2025550101")
"""As some keyboards write digits."""


@asynccontextmanager
async def board(calls: Dispatcher, **how: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a board; give a client."""
    async with (
        serving_board(board_app(calls, **(how or LOCAL))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


@asynccontextmanager
async def watching(client: httpx.AsyncClient, **headers: str) -> AsyncIterator[Reader]:
    """Read the stream of the page."""
    async with client.stream("GET", "/board/live", headers=headers) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        yield Reader(answer)


async def snapshot(client: httpx.AsyncClient, **headers: str) -> list[Message]:
    """Return what a page gets at first."""
    async with watching(client, **headers) as reader:
        return await reader.until("live")


async def test_files_have_a_strict_policy_and_are_not_sent_twice() -> None:
    """Everything comes from the service; nothing stands in the page itself."""
    async with Dispatcher(Router()) as calls, board(calls) as client:
        page = await client.get("/board")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        files = re.findall(r'(?:src|href)="(board/[^"]+)"', page.text)
        assert {"board/app.js", "board/board.css", "board/ladder.css", "board/theme.js", "board/icon.svg"} == set(files)
        assert not re.search(r"<style|style=|\bon\w+=|<script>|https?://", page.text)
        for name in (*files, "board"):
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert (await client.post("/board")).status_code == 405
        assert (await client.get("/board/app.py")).status_code == 404
        assert (await client.get("/board/../_board.py")).status_code == 404


async def test_every_module_that_the_page_imports_is_served() -> None:
    """No file is left over, and none is missing."""
    async with Dispatcher(Router()) as calls, board(calls) as client:
        wanted, seen = ["app.js"], set[str]()
        while wanted:
            name = wanted.pop()
            seen.add(name)
            answer = await client.get(f"/board/{name}")
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8", name
            wanted += [one for one in re.findall(r'from "\./([\w.]+)"', answer.text) if one not in seen]
        folder = Path(board_feed.__file__).parent / "_board_page"
        assert {path.name for path in folder.glob("*.js")} == seen | {"theme.js"}


async def test_addresses_are_relative() -> None:
    """So the app can be mounted anywhere; the folder itself leads to the page."""
    async with Dispatcher(Router()) as calls:
        app = Starlette(routes=[Mount("/some/where", board_app(calls, allow_local=True))])
        async with serving_board(app) as url, httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            for path in ("/some/where/", "/some/where/board/", "/some/where/board"):
                assert str((await client.get(url + path)).url) == f"{url}/some/where/board"


@pytest.mark.long
async def test_without_a_token_only_this_machine_may_look() -> None:
    """Through no proxy, and by a loopback name; not at all if that was not allowed."""
    async with Dispatcher(Router()) as calls:
        for how, headers in (
            (LOCAL, {"Host": "evil.example"}),
            (LOCAL, {"X-Forwarded-For": "127.0.0.1"}),
            ({"allow_local": False}, {}),
        ):
            async with board(calls, **how) as client:
                for method, path in (
                    ("GET", "/board"),
                    ("GET", "/board/live"),
                    ("GET", "/live"),
                    ("POST", "/board/search"),
                    ("POST", "/board/ladder"),
                ):
                    answer = await client.request(method, path, headers=headers)
                    assert answer.status_code == 403, path
                    assert "TELSTATE_VIEW_TOKEN" in answer.json()["error"]
        async with board(calls) as client:
            assert (
                await client.get("/board", headers={"Sec-Fetch-Site": "cross-site"})
            ).status_code == 200  # a link leads there
            cross = await client.get("/board/live", headers={"Sec-Fetch-Site": "cross-site"})
            assert cross.status_code == 403


async def test_a_browser_signs_in_once() -> None:
    """With the token in the body; what it keeps is no token, belongs to the board alone, and no script can read it."""
    async with Dispatcher(Router()) as calls, board(calls, token=TOKEN, numbers_token=FULL) as client:
        assert (await client.get("/board")).status_code == 200
        assert (await client.get("/board/live")).status_code == 401
        wrong = await client.post("/board/sign-in", json={"token": f"{TOKEN}x"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        for path, origin in (("in", "https://evil.example"), ("in", "http://["), ("out", "https://evil.example")):
            foreign = await client.post(f"/board/sign-{path}", json={"token": TOKEN}, headers={"Origin": origin})
            assert (foreign.status_code, "set-cookie" in foreign.headers) == (403, False), (path, origin)
        for token, numbers in ((TOKEN, False), (FULL, True)):
            right = await client.post("/board/sign-in", json={"token": token})
            cookie = right.headers["set-cookie"]
            assert right.status_code == 204
            assert cookie.endswith(f"; Max-Age={SIGNED_IN_FOR}; HttpOnly; SameSite=Strict")
            assert token not in cookie
            assert [data["numbers"] for kind, _, data in await snapshot(client) if kind == "hello"] == [numbers]
        assert (await client.get("/live")).status_code == 401  # for programs, which send the token
        assert (await client.get("/board/live", headers={"Sec-Fetch-Site": "same-site"})).status_code == 401
        secure = await client.post(
            "/board/sign-in", json={"token": TOKEN}, headers={"Origin": f"https://{client.base_url.netloc.decode()}"}
        )
        assert secure.headers["set-cookie"].endswith("; Secure")
        renamed = {
            "Origin": "https://board.example",
            "Sec-Fetch-Site": "same-origin",
        }  # by a proxy that asks for another name
        assert (await client.post("/board/sign-in", json={"token": FULL}, headers=renamed)).status_code == 204
        out = await client.post("/board/sign-out")
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert (await client.get("/board/live")).status_code == 401
        bearer = {"Authorization": f"Bearer {FULL}"}
        assert [data["numbers"] for kind, _, data in await snapshot(client, **bearer) if kind == "hello"] == [True]


async def test_a_cookie_has_an_end_and_is_void_with_another_token() -> None:
    """And cannot be made without the token."""
    now = 1_000.0
    access = LiveAccess(TOKEN, clock=lambda: now)
    value = access.cookie(TOKEN)
    assert value is not None
    end, _, signature = value.partition(".")

    def admits(by: LiveAccess, cookie: str) -> bool:
        headers = [(b"host", b"x"), (b"cookie", f"{COOKIE}={cookie}".encode())]
        return by.admit({"type": "http", "headers": headers, "scheme": "http"}, signed_in=True).refusal is None

    assert admits(access, value)
    for beside in ('seen={"a": 1, "b": 2}', "a[b]=1", "flag", 'open="', "é=1"):  # of other programs on this host
        assert admits(access, f"; {beside}; {COOKIE}={value}"), beside
    assert not admits(LiveAccess("another-token-of-length", clock=lambda: now), value)
    for forged in (
        f"{int(end) + 1}.{signature}",
        f"{end}.{signature[:-1]}0" if signature[-1] != "0" else f"{end}.x",
        "",
        ".",
        f"{end}",
        f"é.{signature}",
    ):
        assert not admits(access, forged), forged
    now += SIGNED_IN_FOR + 1
    assert not admits(access, value)


async def test_misuse_raises() -> None:
    """Tokens that can be guessed, and two that are one."""
    calls = Dispatcher(Router())
    for how in ({"token": "short"}, {"numbers_token": "short"}):
        given: dict[str, Any] = how
        with pytest.raises(ValueError, match="openssl rand"):
            board_app(calls, **given)
    with pytest.raises(ValueError, match="another one"):
        board_app(calls, token=TOKEN, numbers_token=TOKEN)


def ended(session_id: str, at: float, *, answered: bool = True, error: str | None = None) -> list[dict[str, Any]]:
    """The events of a dial-out that ended."""
    facts: dict[str, Any] = {"destination": NUMBER, "timestamp": str(at)}
    end = webhook("dialout.stopped", session_id, **facts)
    if error is not None:
        end = webhook("dialout.error", session_id, **facts, error_msg=error)
    answer = [webhook("dialout.answered", session_id, **facts)] if answered else []
    return [webhook("dialout.connected", session_id, **facts), *answer, end]


async def test_a_page_gets_the_hour_before_and_what_ended_lately() -> None:
    """And what is wrong, as `lint` says it. Numbers are masked in all of it."""
    clock = FakeClock()
    now = clock.now()
    async with Dispatcher(Router(), clock=clock) as calls:
        await calls.receive_many(
            [
                *ended("old", now - 5_000),
                *ended("an hour ago", now - 3_000),
                *ended("lately", now - 100, answered=False),
                *ended("failed", now - 50, answered=False, error=f"no route to {NUMBER}"),
                js("dialin-connected"),
                js("dialout-connected", "live"),
            ]
        )
        await calls.receive(SourceGap(reason="a test"))
        async with board(calls) as client:
            found = await snapshot(client)
    assert NUMBER not in json.dumps(found)
    assert [data["session"]["session_id"] for kind, _, data in found if kind == "session"] == [
        SESSION,
        "live",
        "lately",
        "failed",
    ]
    (hour,) = (data for kind, _, data in found if kind == "hour")
    kinds = [tuple(kind) for _, minute in hour["minutes"] for kind in minute]
    assert sorted(kinds) == [
        ("out", False, "failed", 1),
        ("out", False, "unanswered", 1),
        ("out", True, "completed", 1),
    ]
    findings = {data["of"]: data["findings"] for kind, _, data in found if kind == "findings"}
    assert [one["code"] for one in findings["failed"]] == ["T203"]
    assert "The dial-out failed: no route to +12•••••••01." in findings["failed"][0]["text"]
    assert [one["code"] for one in findings["live"]] == ["T105"]
    assert "lately" not in findings  # that nobody answers is how telephony is


async def test_the_hour_and_the_findings_follow_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is amended is counted anew; what is put right is withdrawn."""
    monkeypatch.setattr(board_feed, "_HOUR_EVERY", 0.0)
    monkeypatch.setattr(board_feed.BoardFeed, "every", 0.02)
    async with Dispatcher(Router()) as calls, board(calls) as client, watching(client) as reader:
        await reader.until("live")
        await calls.receive(js("dialout-connected"))
        await calls.receive(SourceGap(reason="a test"))
        assert [one["code"] for one in (await reader.until("findings"))[-1][2]["findings"]] == ["T105"]
        await calls.receive(js("dialout-answered"))
        assert (await reader.until("findings"))[-1][2] == {"of": SESSION, "findings": []}
        await calls.receive(js("dialout-stopped"))
        (minute,) = (await reader.until("hour"))[-1][2]["minutes"]
        assert minute[1] == [["out", True, "completed", 1]]
        await calls.receive(js("dialout-error", errorMsg="late"))
        (minute,) = (await reader.until("hour"))[-1][2]["minutes"]
        assert minute[1] == [["out", True, "failed", 1]]


@pytest.mark.parametrize(
    "spelling",
    ["+12025550101", "001 202 555 0101", "(202) 555-0101", "sip:+12025550101@carrier.example", FULL_WIDTH],
)
async def test_a_masked_number_can_be_searched_for_in_any_spelling(spelling: str) -> None:
    """The answer has ids, and no number."""
    held = {"To": "+12025550100", "From": NUMBER, "callId": "held", "callDomain": "d"}
    async with Dispatcher(Router()) as calls, board(calls, token=TOKEN) as client:
        await calls.receive_many(
            [
                js("dialout-connected", "a", destination=NUMBER),
                js("dialout-connected", "b", destination="+12025550102"),
                held,
            ]
        )
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        answer = await client.post("/board/search", json={"text": spelling})
        assert answer.json() == {"sessions": ["a"], "callers": ["held"], "hint": None}
        assert answer.headers["cache-control"] == "no-store"


async def test_a_masked_number_cannot_be_guessed_digit_by_digit() -> None:
    """Few digits find nothing, unless the reader sees numbers anyway; and there are only so many searches a minute."""
    now = 0.0
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialout-connected", destination=NUMBER))
        searches = LiveSearch(calls, clock=lambda: now)
        for few in (
            "0101",
            "550101",
            "5550101",
            "550101@12345678",
            "550101;12345678",
            "550101 x12345678",
            "550101@a.example",
        ):
            found = await searches.find(few, numbers=False)
            assert (found.sessions, found.hint) == (
                [],
                "To find a number, type at least 8 of its digits: numbers are masked here.",
            ), few
        assert (await searches.find("550101", numbers=True)).sessions == [SESSION]
        for _ in range(30):
            assert (await searches.find("25550101", numbers=False)).sessions == [SESSION]
        with pytest.raises(TooMany, match="wait 2 seconds"):
            await searches.find("25550101", numbers=False)
        assert (await searches.find(NUMBER, numbers=True)).sessions == [SESSION]
        now = 2.1
        assert (await searches.find("25550101", numbers=False)).sessions == [SESSION]


@pytest.mark.parametrize("has_journal", [True, False], ids=["journal", "tape"])
async def test_the_ladder_of_a_call_has_its_events_and_legs(has_journal: bool, tmp_path: Path) -> None:
    """Of those before anybody looked too, where there is a journal; else it says that they are missing."""
    journal = SqliteJournal(tmp_path / "calls.db") if has_journal else None
    async with Dispatcher(Router(), journal=journal) as calls, board(calls) as client:
        await calls.receive(js("dialin-connected", "early", sipFrom=f"sip:{NUMBER}@a.example"))
        await snapshot(client)
        await calls.receive_many([joined("early"), js("dialin-connected", "other", sipFrom="sip:x@b.example")])
        await calls.receive_many([js("dialout-connected", "leg", destination=NUMBER), js("dialout-answered", "leg")])
        await calls.link("early", "leg")
        answer = (await client.post("/board/ladder", json={"id": "early"})).json()
        late = (await client.post("/board/ladder", json={"id": "other"})).json()
    assert "participant-joined" in answer["html"]
    assert "dialout-answered" in answer["html"]
    assert "connected &#8594; answered" in answer["html"]
    assert NUMBER not in answer["html"]
    assert ("dialin-connected</text>" in answer["html"], answer["lacks"] is None) == (has_journal, has_journal)
    assert [step["way"] for step in answer["steps"]][-1] == "program"
    assert "connected → answered" in [step["states"] for step in answer["steps"]]
    assert (late["lacks"], late["html"].count('class="step moved"')) == (None, 1)


async def test_what_cannot_be_answered_says_why() -> None:
    """A call that left memory, a body that is not what the page sends, and a service that is not running."""
    calls = Dispatcher(Router())
    async with board(calls) as client:
        assert (await client.get("/board/live")).status_code == 503
        async with calls:
            gone = await client.post("/board/ladder", json={"id": "nobody"})
            assert (gone.status_code, "telstate ladder" in gone.json()["error"]) == (404, True)
            for body in (
                b"",
                b"[]",
                b"{}",
                b'{"id": 5}',
                b'{"id": ""}',
                b"\xff",
                b'{"id": "' + b"x" * 20_000 + b'"}',
                b"[" * 10_000,
            ):
                assert (await client.post("/board/ladder", content=body)).status_code == 400, body[:20]
            assert (await client.post("/board/playback", json={"paused": True})).status_code == 404


async def test_while_nobody_looks_nothing_is_counted() -> None:
    """Some minutes after the last reader has left, the board follows no more."""
    now = 0.0
    async with Dispatcher(Router()) as calls:
        before = calls._sequencer._listener
        facts = board_feed.BoardFacts(calls, clock=lambda: now)
        feed = board_feed.BoardFeed(facts, numbers=False, signed_in=False)
        await feed.begin()
        now = 1_000.0
        await calls.receive(js("dialout-connected"))
        assert calls._sequencer._listener is not before
        feed.end()
        now = 1_400.0
        await calls.receive(js("dialout-stopped"))
        assert calls._sequencer._listener is before
        await feed.begin()
        assert facts.hour.to_dict(calls.clock.now())["minutes"][0][1] == [["out", False, "unanswered", 1]]
