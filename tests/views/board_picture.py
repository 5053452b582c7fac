"""Pictures of the live board, from a simulated busy afternoon: `python -m tests.views.board_picture [FOLDER]` writes them for the README.

They are taken in Chromium; see `browser.py`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.documents import ROOT
from tests.views.board_scene import busy_afternoon
from tests.views.browser import chromium


async def take(folder: Path, *, everything: bool) -> None:
    """Write the pictures: those of the README, or many more to look at."""
    with tempfile.TemporaryDirectory() as scratch:
        async with busy_afternoon(Path(scratch), allow_local=True) as (_, url), chromium() as browser:
            for scheme in ("light", "dark"):
                context = await browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
                page = await context.new_page()
                await page.goto(f"{url}/board")
                await page.wait_for_selector(".group .row")
                await page.wait_for_timeout(300)
                await page.screenshot(path=folder / f"board-{scheme}.png")
                if everything:
                    await page.set_viewport_size({"width": 1440, "height": 1700})
                    await page.wait_for_timeout(300)
                    await page.screenshot(path=folder / f"tall-{scheme}.png")
                    await page.set_viewport_size({"width": 1440, "height": 900})
                    await page.click("#trouble-list .row")
                    await page.wait_for_selector(".ladder svg")
                    await page.wait_for_timeout(200)
                    await page.screenshot(path=folder / f"panel-{scheme}.png")
                    await page.keyboard.press("Escape")
                    await page.set_viewport_size({"width": 390, "height": 844})
                    await page.wait_for_timeout(300)
                    await page.screenshot(path=folder / f"narrow-{scheme}.png")
                    await page.set_viewport_size({"width": 390, "height": 2000})
                    await page.wait_for_timeout(300)
                    await page.screenshot(path=folder / f"narrow-{scheme}-full.png")
                    await page.set_viewport_size({"width": 1440, "height": 900})
                    await page.route("**/board/live", lambda route: route.abort())
                    await page.evaluate("location.reload()")
                    await page.wait_for_timeout(1500)
                    await page.screenshot(path=folder / f"lost-{scheme}.png")
                await context.close()


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "diagrams", everything=len(sys.argv) > 1))
