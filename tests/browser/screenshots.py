"""Draws the pictures of the chat page in docs/images/, from a real server with the starter: `python screenshots.py`.

What is said is fixed and asked at temperature 0, so the answers are the starter's own, the same each time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from chromium import FLAGS, Tabs, chromium
from running import Served

IMAGES = Path(__file__).parents[2] / "docs" / "images"
QUESTIONS = [
    "The cash machine ate my card. What now?",
    "I was billed twice for the same purchase at the shop.",
    "My top up was rejected, what happened?",
]
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def talk(browser: Browser, url: str, scheme: str, size: dict[str, Any], name: str) -> None:
    """One conversation, photographed with the figures of its last answer explained (on a wide screen)."""
    tabs = Tabs(browser)
    tab = tabs.new(url, color_scheme=scheme, reduced_motion="reduce", **size)
    page = tab.open()
    expect(page.locator(".welcome h2")).to_have_text("Your model is ready.")
    page.locator("#intent-toggle").click()
    for question in QUESTIONS:
        tab.ask(question)
    if size is WIDE:
        page.locator(".figures").last.click()
    picture(page, name)
    tabs.close()


def welcome(browser: Browser, url: str) -> None:
    tabs = Tabs(browser)
    page = tabs.new(url, color_scheme="light", reduced_motion="reduce", **WIDE).open()
    expect(page.locator(".welcome h2")).to_have_text("Your model is ready.")
    picture(page, "chat-welcome")
    tabs.close()


def picture(page: Page, name: str) -> None:
    expect(page.locator("#fleet-text")).to_have_text("1 worker ready", timeout=15_000)
    page.mouse.move(0, 0)
    page.evaluate("document.getElementById('main').scrollTop = 1e9")
    page.screenshot(path=IMAGES / f"{name}.png")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        with Served(Path(folder)) as server:
            welcome(browser, server.url)
            talk(browser, server.url, "light", WIDE, "chat-light")
            talk(browser, server.url, "dark", WIDE, "chat-dark")
            talk(browser, server.url, "light", PHONE, "chat-phone")
        browser.close()
    for image in sorted(IMAGES.glob("chat-*.png")):
        print(f"{image.name}: {image.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
