"""Draws the pictures of the pages in docs/images/, from a real server with the starter: `python screenshots.py`.

What is said is fixed and asked at temperature 0, so the answers are the starter's own, the same each time.
"""

from __future__ import annotations

import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from chromium import FLAGS, Tabs, chromium
from running import Served

IMAGES = Path(__file__).parents[2] / "docs" / "images"
QUESTIONS = [
    "The cash machine ate my card. What now?",
    "I was billed twice for the same purchase at the shop.",
    "My top up was rejected, what happened?",
]
LOAD_S = 45.0
PROMISED = {"FREEHOLD_OBSERVE_SLO": "p99 e2e < 2s, p95 ttft < 500ms, error rate < 1%"}
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


def dashboard(browser: Browser, url: str) -> None:
    """After half a minute of a few users."""
    body = {"model": "starter", "max_tokens": 40, "messages": [{"role": "user", "content": QUESTIONS[0]}]}

    def user(until_s: float) -> None:
        while time.monotonic() < until_s:
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
            time.sleep(random.expovariate(2.0))

    with ThreadPoolExecutor(6) as users:
        list(users.map(user, [time.monotonic() + LOAD_S] * 6))
    tabs = Tabs(browser)
    tab = tabs.new(f"{url}/dashboard#window=5m", color_scheme="light", reduced_motion="reduce", **WIDE)
    page = tab.open()
    page.locator("#latency path").first.wait_for()
    page.screenshot(path=IMAGES / "dashboard.png")
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
        with Served(Path(folder), environ=PROMISED) as server:
            welcome(browser, server.url)
            talk(browser, server.url, "light", WIDE, "chat-light")
            talk(browser, server.url, "dark", WIDE, "chat-dark")
            talk(browser, server.url, "light", PHONE, "chat-phone")
            dashboard(browser, server.url.rstrip("/"))
        browser.close()
    for image in sorted(IMAGES.glob("*.png")):
        print(f"{image.name}: {image.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
