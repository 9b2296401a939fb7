"""One Chromium and one server for all tests of the chat page; tabs in fresh profiles for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from chromium import FLAGS, Tabs, chromium
from running import Server, StartServer, running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with its file: while it is there an event loop runs in this process, and no other can."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    tabs = Tabs(browser)
    yield tabs
    tabs.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the `sim` engine whose answers take about a second."""
    with running(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture(scope="session")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose answers take long enough to be stopped."""
    with running(tmp_path_factory.mktemp("home"), model="sim", slow=250) as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server of the test's own, which it may kill."""
    with StartServer(tmp_path) as start:
        yield start
