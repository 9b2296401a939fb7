"""The report in a real browser: no outside address, nothing wider than a phone, paper, a tooltip, and axe content."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from typer.testing import CliRunner

from chromium import Tabs
from freehold.cli.app import app

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from report_folders import make, with_fleet

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WIDE: dict[str, object] = {"viewport": {"width": 1280, "height": 800}}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Addresses of the report of one run and of the comparison of two."""
    root = tmp_path_factory.mktemp("reports")
    one, two = with_fleet(make(root / "one")), make(root / "two", service_s=0.1, seed=2)
    prices = ["--set", "api_input_usd=0.4", "--set", "api_output_usd=1.6"]
    for words in (
        ["verdict", str(one), "--hardware", "rtx-4090", "-r", "3M", "--model", "8B@8", *prices],
        ["report", str(one)],
        ["report", str(one), str(two)],
    ):
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    return (one / "report.html").as_uri(), (two / "comparison.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_is_content_and_nothing_overflows(
    tabs: Tabs, pages: tuple[str, str], scheme: str, size: dict[str, object]
) -> None:
    for url in pages:
        tab = tabs.new(url, color_scheme=scheme, bypass_csp=True, **size)
        page = tab.open()
        for summary in page.locator("summary").all():
            summary.click()
        results = Axe().run(page)
        found = [f"{v['id']}: {node['html']}" for v in results.response["violations"] for node in v["nodes"]]
        assert not found, found
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_verdict_comes_first_and_the_pointer_tells_values(tabs: Tabs, pages: tuple[str, str]) -> None:
    page = tabs.new(pages[0]).open()
    assert "at 3M answers a month the API costs" in page.locator("h1").inner_text()
    figure = page.locator("figure").nth(1)
    expect(figure.locator("output")).to_be_hidden()
    figure.locator("svg").hover(position={"x": 300, "y": 100})
    expect(figure.locator("output")).to_contain_text("p99: ")
    page.locator("h1").hover()
    expect(figure.locator("output")).to_be_hidden()


def test_it_prints_and_reads_without_a_script(tabs: Tabs, pages: tuple[str, str]) -> None:
    tab = tabs.new(pages[0], java_script_enabled=False, color_scheme="dark")
    page = tab.open()
    expect(page.locator("svg")).to_have_count(7)
    page.emulate_media(media="print")
    assert page.pdf(format="A4").startswith(b"%PDF")
    expect(page.locator("details").first).to_be_hidden()
