"""Chromium, driven by Playwright, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

__all__ = ["chromium", "chromium_path"]

expect.set_options(timeout=30_000)  # ms, instead of five seconds: only a failure takes the whole time


def chromium_path() -> str:
    """Find the system's Chromium. A test that needs it fails without it: nobody would miss a test that is skipped."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found is not None, "install Chromium, as by `apt-get install chromium`"
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run the system's Chromium; Playwright's own is not downloaded."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()
