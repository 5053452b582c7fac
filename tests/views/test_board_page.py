"""The live board in Chromium: what people see, by mouse, keyboard and screen reader, and what it costs with a thousand calls."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio
from playwright.async_api import Browser, CDPSession, Page, ViewportSize, expect

from telstate import Dispatcher, Router, SourceGap
from telstate.journals import SqliteJournal
from telstate.views import board_app
from tests.calls import joined, js
from tests.ports import free_port
from tests.views.board_scene import busy_afternoon, serving_board
from tests.views.browser import chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

TOKEN, FULL = "a-token-that-masks-numbers", "a-token-that-shows-numbers"
NUMBER = "+12025550101"
LOCAL: dict[str, Any] = {"allow_local": True}
HOSTILE = '<img src=x onerror="document.title=1">\u202e\u2066</span><script>document.title=2</script>\u0000'
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests, since it takes seconds to start; each test has a context of its own."""
    async with chromium() as started:
        yield started


class Watched:
    """A page, with everything that went wrong in it, and every request that it made."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda line: self.problems.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


@asynccontextmanager
async def opened(browser: Browser, url: str, **how: Any) -> AsyncIterator[Watched]:
    """Open a page; check at the end that nothing went wrong in it: no error, and nothing that its policy forbids."""
    context = await browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **how})
    try:
        watched = Watched(await context.new_page())
        await watched.page.goto(url)
        yield watched
        assert watched.problems == []
    finally:
        await context.close()


def row(page: Page, text: str, where: str = "#groups") -> Any:
    """The row of a call."""
    return page.locator(f"{where} button.row", has_text=text)


async def test_a_call_is_seen_through_every_state(browser: Browser, tmp_path: Path) -> None:
    """In the group of its state, with a clock that runs; then among those that ended; its ladder is there at any time, and follows it."""
    async with (
        Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls,
        serving_board(board_app(calls, **LOCAL)) as url,
        opened(browser, f"{url}/board") as watched,
    ):
        page = watched.page
        await expect(page.locator("#calls-none")).to_have_text(
            "Nobody is on the phone. A call stands here as soon as Daily reports it."
        )
        await calls.receive({"To": "+12025550100", "From": NUMBER, "callId": "held", "callDomain": "d"})
        await expect(row(page, "+12•••••••01", ".group-hold")).to_be_visible()
        await expect(page.locator(".figure.hold .value")).to_have_text("1")
        await calls.receive(js("dialin-ready", None, sipEndpoint="sip:1@lobby.sip.daily.example", room="lobby"))
        await calls.receive(
            js("dialin-connected", "in", sipFrom=f"sip:{NUMBER}@c.example", room="lobby", displayName="Ann")
        )
        connected = row(page, "+12•••••••01", ".group-connected")
        await expect(connected).to_be_visible()
        await expect(connected.locator(".time")).to_have_text(re.compile("0:[0-5][1-9]"))  # nothing but time passed
        await connected.click()
        await expect(page.locator("#panel-title")).to_be_focused()
        await expect(page.locator("#panel .call-ladder")).to_contain_text("dialin-connected")
        await calls.receive(joined("in"))
        await expect(page.locator("#panel .call-ladder")).to_contain_text("connected → answered")
        await page.keyboard.press("Escape")
        await expect(page.locator(".group-talking .count")).to_have_text("1")
        await calls.receive(js("dialout-connected", "out", destination="+12025550102"))
        await expect(row(page, "+12•••••••02", ".group-ringing")).to_be_visible()
        await calls.receive(SourceGap(reason="a test"))
        await expect(page.locator("#trouble-list .row").first).to_contain_text("Events may have been missed")
        await calls.receive(js("dialout-error", "out", errorMsg=f"no route to {NUMBER}"))
        await expect(
            page.locator("#trouble-list .row", has_text="The dial-out failed: no route to +12•••••••01")
        ).to_be_visible()
        await calls.receive(js("dialin-stopped", "in"))
        await expect(page.locator(".figure.attention .value")).to_have_text("1")
        await expect(page.locator(".figure.attention dt")).to_have_text("needs attention")
        await expect(page.locator("#groups button.row")).to_have_count(0)
        await expect(page.locator("#lately .row")).to_have_count(2)
        await expect(page.locator(".figure.answered .value")).to_have_text("50\u202f%")
        assert NUMBER not in await page.content()
        origin = url
        assert [one for one in watched.requests if not one.startswith(f"{origin}/")] == []


async def test_hostile_texts_stay_text(browser: Browser) -> None:
    """In rows, reasons, charts and ladders; a name of ten thousand characters is cut, and none turns the line around."""
    async with (
        Dispatcher(Router()) as calls,
        serving_board(board_app(calls, **LOCAL, numbers=True)) as url,
        opened(browser, f"{url}/board") as watched,
    ):
        page = watched.page
        await expect(page.locator("#calls-none")).to_be_visible()
        await calls.receive(
            js(
                "dialin-connected",
                HOSTILE,
                displayName=HOSTILE,
                sipFrom=HOSTILE,
                room=HOSTILE,
                sipHeaders={HOSTILE: HOSTILE},
            )
        )
        await calls.receive(js("dialin-connected", "long", displayName="x" * 10_000, room="r" * 10_000))
        await calls.receive(js("dialout-connected", "failed", destination=HOSTILE))
        await calls.receive(js("dialout-error", "failed", errorMsg=HOSTILE))
        await expect(page.locator("#groups .row")).to_have_count(2)
        await expect(page.locator("#trouble-list")).to_contain_text("<img src=x onerror")
        for place in range(2):
            await page.locator("#groups .row").nth(place).click()
            await expect(page.locator("#panel .call-ladder")).to_be_visible()
            await page.keyboard.press("Escape")
        assert await page.locator("img, main script, #panel script").count() == 0
        shown = await page.inner_text("body")
        assert not set(shown) & set("\u202e\u2066\u0000")
        assert "x" * 61 not in shown
        assert (await page.title()).endswith("Live calls")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_nothing_is_lost_when_the_connection_is(browser: Browser, tmp_path: Path) -> None:
    """The page says so, and what it shows is from; then it goes on where it was, or begins anew with the calls as they are now."""
    journal = tmp_path / "calls.db"
    port = free_port()
    async with Dispatcher(Router(), journal=SqliteJournal(journal)) as calls:
        app = board_app(calls, **LOCAL)
        async with serving_board(app, port) as url:
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(f"{url}/board")
            await calls.receive(js("dialout-connected", "a", destination="+12025550111"))
            await expect(row(page, "11", ".group-ringing")).to_be_visible()
        await expect(page.locator("#connection")).to_contain_text("Connection lost")
        await expect(page.locator("#connection")).to_contain_text("What you see is from")
        await expect(page.locator("#try-now")).to_be_visible()
        stands = await page.inner_text(".group-ringing .time")
        await calls.receive(js("dialout-answered", "a"))
        await calls.receive(js("dialout-connected", "b", destination="+12025550112"))
        await asyncio.sleep(1.2)
        assert await page.inner_text(".group-ringing .time") == stands
        async with serving_board(app, port):
            await page.evaluate("document.getElementById('try-now').click()")  # it may have connected by itself
            await expect(row(page, "11", ".group-talking")).to_be_visible()
            await expect(row(page, "12", ".group-ringing")).to_be_visible()
            await expect(page.locator("#connection")).to_be_hidden()
            await calls.receive(js("dialout-stopped", "a"))
            await expect(page.locator("#lately .row")).to_have_count(1)
    async with Dispatcher(Router(), journal=SqliteJournal(journal)) as calls:  # another process
        await calls.receive(js("dialout-stopped", "b"))
        await calls.receive(js("dialin-connected", "c", sipFrom="sip:+12025550113@c.example"))
        async with serving_board(board_app(calls, **LOCAL), port):
            await expect(row(page, "13")).to_be_visible()
            await expect(page.locator("#groups .row")).to_have_count(1)
            await expect(page.locator("#lately .row")).to_have_count(2)
    await context.close()


async def test_a_token_is_asked_for_and_not_kept(browser: Browser) -> None:
    """Neither in the page's storage nor in an address; a wrong one is refused in words; reloading does not ask again, signing out does."""
    async with (
        Dispatcher(Router()) as calls,
        serving_board(board_app(calls, token=TOKEN, numbers_token=FULL)) as url,
    ):
        await calls.receive(js("dialout-connected", destination=NUMBER))
        context = await browser.new_context()
        watched = Watched(await context.new_page())
        page = watched.page
        await page.goto(f"{url}/board")
        await expect(page.locator("#token")).to_be_focused()
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#sign-in-error")).to_have_text("This is not the token of this service.")
        await page.keyboard.type(TOKEN)
        await page.keyboard.press("Enter")
        await expect(row(page, "+12•••••••01")).to_be_visible()
        await page.reload()
        await expect(row(page, "+12•••••••01")).to_be_visible()
        kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert (TOKEN in kept, json.loads(kept)[2]) == (False, "")
        assert not [one for one in watched.requests if TOKEN in one]
        await page.click("#sign-out")
        await expect(page.locator("#token")).to_be_visible()
        await page.fill("#token", FULL)
        await page.keyboard.press("Enter")
        await expect(row(page, NUMBER)).to_be_visible()
        refused = [one for one in watched.problems if "401" not in one]
        assert refused == []
        await context.close()


async def test_the_keyboard_is_enough(browser: Browser, tmp_path: Path) -> None:
    """`/` searches, arrows move, Enter opens, Escape closes and goes back; the focus is seen, and is not lost when a call ends."""
    async with (
        Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls,
        serving_board(board_app(calls, **LOCAL)) as url,
        opened(browser, f"{url}/board") as watched,
    ):
        page = watched.page
        for place in range(3):
            await calls.receive(
                js("dialout-connected", f"s{place}", destination=f"+1202555012{place}", room=f"room-{place}")
            )
        await expect(page.locator("#groups .row")).to_have_count(3)
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#groups .row").nth(0)).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#groups .row").nth(1)).to_be_focused()
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await expect(page.locator("#panel")).to_be_visible()
        await expect(page.locator("#panel .call-ladder")).to_contain_text("dialout-connected")
        await page.keyboard.press("Escape")
        await expect(page.locator("#panel")).to_be_hidden()
        await expect(page.locator("#groups .row").nth(1)).to_be_focused()
        await calls.receive(js("dialout-answered", "s1"))  # its row moves to another group
        await expect(page.locator(".group-talking .row")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.locator("#search")).to_be_focused()
        await page.keyboard.type("001 202 555 0122")
        await expect(page.locator("#groups .row")).to_have_count(1)
        await expect(row(page, "room-2")).to_be_visible()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("ROOM-0")
        await expect(row(page, "room-0")).to_be_visible()
        await expect(page.locator("#groups .row")).to_have_count(1)
        await page.keyboard.press("Control+A")
        await page.keyboard.type("5550")
        await expect(page.locator("#search-hint")).to_have_text(
            "To find a number, type at least 8 of its digits: numbers are masked here."
        )
        await page.keyboard.press("Escape")
        await expect(page.locator("#groups .row")).to_have_count(3)
        await page.keyboard.press("Tab")  # from the top: the first stop leads past the bar
        assert await page.evaluate("document.activeElement !== document.body")


async def test_axe_finds_nothing(browser: Browser, tmp_path: Path) -> None:
    """In light and dark, wide and narrow, with a call open and without, and on the page that asks for the token."""
    narrow = ViewportSize(width=390, height=844)
    async with busy_afternoon(tmp_path, number=300, **LOCAL) as (_, url):
        async with opened(browser, f"{url}/board", color_scheme="light") as watched:
            page = watched.page
            await expect(page.locator(".group-talking .row").first).to_be_visible()
            assert await faults(page) == []
            await page.click("#trouble-list .row")
            await expect(page.locator("#panel .call-ladder")).to_be_visible()
            assert await faults(page) == []
            await page.keyboard.press("Escape")
            await page.click("#theme")
            await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
            assert await faults(page) == []
        async with opened(browser, f"{url}/board", color_scheme="dark", viewport=narrow, has_touch=True) as watched:
            page = watched.page
            await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
            await expect(page.locator("#trouble-list .row").first).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await page.click("#trouble-list .row")
            await expect(page.locator("#panel-steps")).to_contain_text(
                "pinless-dialin from +12•••••••71"
            )  # the picture is too wide
            assert await faults(page) == []
    async with Dispatcher(Router()) as calls, serving_board(board_app(calls, token=TOKEN)) as url:
        context = await browser.new_context(viewport=narrow)
        page = await context.new_page()
        await page.goto(f"{url}/board")
        await expect(page.locator("#token")).to_be_visible()
        assert await faults(page) == []
        await context.close()


async def faults(page: Page) -> list[str]:
    """What axe-core finds. Playwright runs it beside the page's policy."""
    await page.evaluate(AXE)
    found: list[str] = await page.evaluate(
        "axe.run({resultTypes: ['violations']}).then(found => found.violations.map(one =>"
        " `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 200)} ${one.nodes[0].failureSummary}`))"
    )
    return found


FRAMES = """
seconds => new Promise(resolve => {
  const times = [];
  let last = performance.now();
  const end = last + seconds * 1000;
  const next = now => {
    times.push(now - last);
    last = now;
    if (now < end) requestAnimationFrame(next);
    else resolve(times);
  };
  requestAnimationFrame(next);
})
"""


def share(times: list[float], part: float) -> float:
    """The time within which so many of the frames come, in ms."""
    return sorted(times)[int(len(times) * part)]


@pytest.mark.timeout(180)
async def test_a_thousand_live_calls_do_not_make_it_slow(browser: Browser) -> None:
    """While fifty events come a second, 95 of 100 frames come within 50 ms; all calls are there.

    On a machine that does other things too, frames come late anyhow. So what counts first is the processor time of a frame, on the page's
    thread; when frames come is only judged where they come in time while the page rests, and by the best of such times: a page that is slow
    is so in each.
    """
    async with (
        Dispatcher(Router()) as calls,
        serving_board(board_app(calls, **LOCAL)) as url,
        opened(browser, f"{url}/board") as watched,
    ):
        page = watched.page
        await calls.receive_many([ringing(place) for place in range(1_000)])
        await expect(page.locator(".group-ringing .count")).to_have_text("1,000")
        running = anyio.Event()

        async def churn() -> None:
            for place in count():
                await running.wait()
                with anyio.CancelScope(shield=True):  # it ends with a thousand calls
                    await calls.receive(js("dialout-answered", f"s{place + 500}"))
                    await calls.receive(js("dialout-stopped", f"s{place}"))
                    await calls.receive(ringing(place + 1_000))
                await asyncio.sleep(0.06)

        frames, rest, in_calm = list[float](), list[float](), list[float]()
        tools = await page.context.new_cdp_session(page)
        await tools.send("Performance.enable", {"timeDomain": "threadTicks"})
        work = list[float]()
        async with anyio.create_task_group() as group:
            group.start_soon(churn)
            for _ in range(6):
                running = anyio.Event()
                resting = await page.evaluate(FRAMES, 1)
                rest += resting
                running.set()
                shown = list[float]()
                for _ in range(5):
                    before = await busy_seconds(tools)
                    shown_in_a_second = await page.evaluate(FRAMES, 1)
                    shown += shown_in_a_second
                    work.append((await busy_seconds(tools) - before) / len(shown_in_a_second) * 1000)
                frames += shown
                if share(resting, 0.95) <= 20:
                    in_calm.append(share(shown, 0.95))
            group.cancel_scope.cancel()
        p95, p95_at_rest, p95_of_work = share(frames, 0.95), share(rest, 0.95), share(work, 0.95)
        measured = (
            f"{len(frames)} frames in 30 s: median {share(frames, 0.5):.0f} ms, p95 {p95:.0f} ms; at rest p95 {p95_at_rest:.0f} ms;"
            f" processor time of a frame, by the second: median {share(work, 0.5):.1f} ms, p95 {p95_of_work:.1f} ms"
        )
        sys.stdout.write(f"{measured}\n")  # pytest -rP shows it
        assert p95_of_work < 25, measured
        assert not in_calm or min(in_calm) < 50, measured
        live = calls.live()
        assert len(live) == 1_000
        await expect(page.locator(".figure.live .value")).to_have_text("1,000")
        for kind, state in (("ringing", "connected"), ("talking", "answered")):
            number = sum(session.state == state for session in live)
            await expect(page.locator(f".group-{kind} .count")).to_have_text(f"{number:,}")
        await page.locator("footer").scroll_into_view_if_needed()
        last = page.locator(".group-talking li").last
        await expect(last).to_have_attribute("aria-posinset", await last.get_attribute("aria-setsize") or "")


async def busy_seconds(tools: CDPSession) -> float:
    """The processor time of the page's thread so far."""
    metrics = (await tools.send("Performance.getMetrics"))["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def ringing(place: int) -> dict[str, Any]:
    """A dial-out."""
    return js("dialout-connected", f"s{place}", destination=f"+1202555{place % 10_000:04}", room=f"room-{place}")
