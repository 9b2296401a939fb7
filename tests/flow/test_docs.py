"""Every snippet that a page marks with `<!-- run -->` runs as it stands, against the server the page is about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import Served

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/quickstart.md", "docs/howto.md", "docs/models.md", "docs/observing.md", "docs/alerts.md")
SNIPPET = re.compile(r"<!-- run -->\n```(bash|python)\n(.*?)```", re.DOTALL)
SNIPPETS = [(page, kind, text) for page in PAGES for kind, text in SNIPPET.findall((ROOT / page).read_text())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("docs") / "home") as running:
        yield running


@pytest.mark.parametrize(("page", "kind", "text"), SNIPPETS, ids=[f"{s[0]}-{i}" for i, s in enumerate(SNIPPETS)])
def test_a_snippet_runs(server: Served, page: str, kind: str, text: str) -> None:
    address = server.url.removeprefix("http://")
    text = text.replace("localhost:8000", address).replace("127.0.0.1:8000", address)
    text = text.replace(".venv/bin/freehold chat", f".venv/bin/freehold chat {server.url}")
    text = text.replace(".venv/bin/freehold workers", f".venv/bin/freehold workers --url {server.url}")
    text = text.replace(".venv/bin/", f"{Path(sys.executable).parent}{os.sep}")
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=server.environ, cwd=server.home)
    assert done.returncode == 0, f"{page}:\n{text}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), f"{page}: the snippet printed nothing"


def test_the_readme_has_snippets_that_run() -> None:
    assert {page for page, _, _ in SNIPPETS} >= {"README.md", "docs/quickstart.md"}


def test_what_the_quickstart_says_the_intent_is(server: Served) -> None:
    text = (ROOT / "docs/quickstart.md").read_text()
    snippet = next(text for page, kind, text in SNIPPETS if page == "docs/quickstart.md" and kind == "python")
    promised = re.search(r"It prints `(\w+)`", text)
    assert promised
    snippet = snippet.replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == promised[1]
