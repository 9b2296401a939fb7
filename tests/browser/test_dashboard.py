"""The dashboard in a real Chromium against a real server under a little load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from chromium import Tab, Tabs
from running import Server, running

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WIDE: dict[str, object] = {"viewport": {"width": 1280, "height": 900}}
LOOK_MS = 20_000
"""A slot of ten seconds must have closed before it is drawn."""


def ask(server: Server, count: int = 12, tokens: int = 20) -> None:
    """A few requests at once, answered."""
    headers = {"authorization": f"Bearer {server.api_key}"} if server.api_key else {}

    def one(number: int) -> None:
        body = {
            "model": server.model, "max_tokens": tokens, "stream": True,
            "messages": [{"role": "user", "content": f"Number {number}, please."}],
        }  # fmt: skip
        httpx.post(f"{server.url}v1/chat/completions", json=body, headers=headers, timeout=60).raise_for_status()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an objective and a price, which has answered something."""
    environ = {
        "FREEHOLD_OBSERVE_SLO": "p99 e2e < 30s, error rate < 5%",
        "FREEHOLD_OBSERVE_PRICE_PER_HOUR_USD": "1.2",
    }
    with running(tmp_path_factory.mktemp("home"), environ=environ) as server:
        ask(server)
        yield server


def look(tab: Tab) -> Page:
    tab.page.goto(f"{tab.url}dashboard")
    expect(tab.page.locator("#tiles .tile").first).to_be_visible()
    return tab.page


def test_says_first_whether_the_objectives_are_kept(watched: Server, tabs: Tabs) -> None:
    page = look(tabs.new(watched.url))
    expect(page.locator(".verdict strong")).to_have_text("All objectives are kept.")
    expect(page.locator(".objective")).to_have_count(2)
    tiles = page.locator("#tiles")
    expect(tiles).to_contain_text(re.compile(r"p99 end to end\s*[\d.,]+ m?s"))
    expect(tiles).to_contain_text(re.compile(r"Cost a success\s*\$[\d.,]+"), timeout=LOOK_MS)
    expect(page.locator("#workers tbody tr")).to_have_count(1)
    expect(page.locator("#phases")).to_contain_text("loaded in")


def test_draws_percentiles_and_where_the_time_of_the_slowest_went(watched: Server, tabs: Tabs) -> None:
    page = look(tabs.new(watched.url))
    expect(page.locator("#latency path, #latency circle").first).to_be_attached(timeout=LOOK_MS)
    rows = page.locator("#slowest tbody tr")
    expect(rows.first).to_be_visible(timeout=LOOK_MS)
    expect(rows.first.locator("rect title", has_text="writing")).to_have_count(1)
    plot = page.locator("#latency .plot")
    plot.focus()
    page.keyboard.press("End")
    expect(page.locator("#latency .legend")).to_contain_text(re.compile(r"\d\d:\d\d"))
    page.locator("#metric").select_option("ttft")
    expect(page).to_have_url(re.compile("metric=ttft"))


def test_the_window_is_chosen_by_keyboard_and_stays(watched: Server, tabs: Tabs) -> None:
    page = look(tabs.new(watched.url))
    page.get_by_role("radio", name="5 min").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="1 h")).to_be_checked()
    expect(page.get_by_role("radio", name="1 h")).to_be_focused()
    page.reload()
    expect(page.get_by_role("radio", name="1 h")).to_be_checked()


def test_a_rollout_that_cannot_be_says_why(watched: Server, tabs: Tabs) -> None:
    tab = tabs.new(watched.url)
    tab.watch.expected.append("Failed to load resource")
    page = look(tab)
    page.get_by_role("button", name="Roll out another model").click()
    expect(page.locator("#rollout-model")).to_be_focused()
    page.fill("#rollout-model", "/no/such/model.gguf")
    page.get_by_role("button", name="Roll out", exact=True).click()
    said = page.locator("#rollout .trouble, #rollout-state")
    expect(said.filter(has_text="no/such/model").first).to_be_visible(timeout=LOOK_MS)


def test_outlives_its_gateway_and_its_worker(start_server: object, tabs: Tabs) -> None:
    server: Server = start_server()  # type: ignore[operator]
    ask(server)
    tab = tabs.new(server.url)
    tab.watch.expected += ["Failed to load resource", "ERR_"]
    page = look(tab)
    expect(page.locator("#slowest tbody tr").first).to_be_visible(timeout=LOOK_MS)
    server.kill_gateway()
    page.wait_for_timeout(500)
    page.route("**/freehold/stats*", lambda route: route.abort())  # it is back sooner than the page looks again
    expect(page.locator("#away")).to_be_visible()
    page.unroute("**/freehold/stats*")
    expect(page.locator("#away")).to_be_hidden(timeout=LOOK_MS)
    expect(page.locator("#slowest tbody tr").first).to_be_visible()
    before = page.locator("#workers tbody th").first.inner_text()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Replace {before}").click()
    expect(page.locator("#workers tbody tr", has_text=before)).to_contain_text("has left", timeout=LOOK_MS)
    expect(page.locator("#workers .dot.ready")).to_have_count(1)


def test_works_behind_a_key(start_server: object, tabs: Tabs) -> None:
    server: Server = start_server(api_keys="on")  # type: ignore[operator]
    tab = tabs.new(server.url)
    tab.watch.expected.append("401")
    tab.page.goto(f"{tab.url}dashboard")
    tab.page.fill("#key", server.api_key)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#tiles .tile").first).to_be_visible()
    expect(tab.page.locator("#away")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_is_content_with_the_dashboard(watched: Server, tabs: Tabs, scheme: str, size: dict[str, object]) -> None:
    page = look(tabs.new(watched.url, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True, **size))
    expect(page.locator("#slowest tbody tr").first).to_be_visible(timeout=LOOK_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    results = Axe().run(page)
    found = [f"{v['id']}: {node['html']}" for v in results.response["violations"] for node in v["nodes"]]
    assert not found, found
