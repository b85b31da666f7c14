"""A real browser for pages: Debian's chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none, unless REQUIRE_CHROMIUM is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """A page that was opened from disk, with all that it asked for and complained of."""

    def __init__(self, browser: Browser, path: Path, *, dark: bool = False, width: int = 1280):
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.path = path
        self._session = self.page.context.new_cdp_session(self.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(path.as_uri())

    @property
    def seconds(self) -> float:
        """What the page's own thread has worked so far; what else the machine does while tests run
        does not count."""
        told = self._session.send("Performance.getMetrics")["metrics"]
        return float({row["name"]: row["value"] for row in told}["TaskDuration"])

    def drawn(self) -> None:
        """Wait until every picture that can be seen is drawn."""
        end = time.monotonic() + 30
        while self.page.locator(".chart:not([data-drawn=true]):visible").count():
            assert time.monotonic() < end, self.complaints
            self.page.wait_for_timeout(20)

    def close(self) -> None:
        """Asserts that nothing was fetched and nothing complained."""
        self.page.close()
        assert [url for url in self.requests if not url.startswith("data:")] == [self.path.as_uri()]
        assert self.complaints == []
