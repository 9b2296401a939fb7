"""axe-core finds nothing to complain about, in each state of the page, light and dark, wide and narrow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from chromium import Tab, Tabs
from running import Server

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WIDE: dict[str, object] = {"viewport": {"width": 1280, "height": 800}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_is_content(server: Server, tabs: Tabs, scheme: str, size: dict[str, object]) -> None:
    # The policy is for the page, not for the inspector, which builds elements of its own.
    tab = tabs.new(server.url, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True, **size)
    page = tab.open()
    expect(page.locator(".welcome h2")).to_have_text("Your model is ready.")
    _check(tab, "welcome")
    tab.ask("Tell me about the harbour.")
    page.locator(".figures").click()
    _check(tab, "conversation")
    page.locator("#fleet").click()
    _check(tab, "workers")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    _check(tab, "settings")
    page.get_by_role("button", name="Done").click()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    tab.watch.expected.append("Failed to load resource")
    tab.say("Now it fails.")
    page.locator(".problem").wait_for()
    _check(tab, "problem")


def _check(tab: Tab, state: str) -> None:
    results = Axe().run(tab.page)
    found = [f"{v['id']}: {node['html']}" for v in results.response["violations"] for node in v["nodes"]]
    assert not found, f"{state}: {found}"
