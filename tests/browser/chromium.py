"""A real Chromium: found or installed, and tabs in it that are watched.

A request to another host, an error on the console or an exception in a script fails the test, unless the test said
beforehand that it provokes one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

sys.path.append(str(Path(__file__).parents[1]))
from debian import found_or_installed

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Path of a Chromium; on Debian as root it is installed when missing. Never skips in silence."""
    told = os.environ.get("FREEHOLD_TEST_CHROMIUM")
    if found := told or found_or_installed(NAMES, ("chromium", "fonts-noto-core")):
        return found
    pytest.fail(
        "The browser tests need Chromium. Install it (Debian: `apt-get install chromium`), "
        "or name one in FREEHOLD_TEST_CHROMIUM."
    )


@dataclass
class Watch:
    """What a page did that it should not have done."""

    host: str
    expected: list[str] = field(default_factory=list)
    """Parts of console messages that this test provokes."""
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.outside.append(request.url)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complain(message.text)

    def complain(self, text: str) -> None:
        if not any(part in text for part in self.expected):
            self.complaints.append(text)


@dataclass
class Tab:
    """One page in a profile of its own, with the few moves that every test makes."""

    page: Page
    context: BrowserContext
    watch: Watch
    url: str

    def open(self) -> Page:
        self.page.goto(self.url)
        return self.page

    def say(self, text: str) -> None:
        """Types a message and sends it with Enter."""
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")

    def ask(self, text: str) -> str:
        """Sends a message and waits for the end of the answer, which it returns."""
        before = self.page.locator(".answer").count()
        self.say(text)
        self.page.locator(".answer").nth(before).locator(".figures").wait_for()
        return self.page.locator(".answer .prose").nth(before).inner_text()


class Tabs:
    """Opens tabs on one server and checks at the end that none misbehaved."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.opened: list[Tab] = []

    def new(self, url: str, **context: object) -> Tab:
        options: dict[str, object] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", **context}
        made = self.browser.new_context(**options)  # type: ignore[arg-type]
        made.set_default_timeout(15_000)
        watch = Watch(host=urlsplit(url).netloc)
        page = made.new_page()
        page.on("request", watch.on_request)
        page.on("console", watch.on_console)
        page.on("pageerror", lambda error: watch.complain(f"exception: {error}"))
        tab = Tab(page, made, watch, url)
        self.opened.append(tab)
        return tab

    def close(self) -> None:
        for tab in self.opened:
            tab.context.close()
        outside = [url for tab in self.opened for url in tab.watch.outside]
        complaints = [text for tab in self.opened for text in tab.watch.complaints]
        assert not outside, f"the page asked another host: {outside}"
        assert not complaints, f"the page complained: {complaints}"
