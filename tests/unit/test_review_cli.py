"""`freehold review` over a history that was really written."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from freehold.cli import app as cli
from freehold.telemetry.history import History
from freehold.telemetry.row import Row
from freehold.telemetry.slot import Slot


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """An hour ago: 200 requests in 100 s, every tenth refused, on three workers."""
    begin = time.time() - 3600
    path = tmp_path / "history.sqlite"
    kept = History(path, days=7, most_bytes=1 << 24)
    rows = [
        Row(
            id=f"r{i}", route="/v1/completions", model="m", variant="m/sim", tenant="local",
            outcome="refused" if i % 10 == 0 else "ok", code="overloaded" if i % 10 == 0 else "",
            received_unix_s=begin + i / 2, accepted_ms=None if i % 10 == 0 else 1.0, claimed_ms=2.0, first_ms=20.0,
            last_ms=300.0, delivered_ms=301.0, prompt_tokens=20, completion_tokens=0 if i % 10 == 0 else 30,
        )
        for i in range(200)
    ]  # fmt: skip
    slots = [Slot(begin_unix_s=begin + 10 * k, workers={"ready": 3}, cost_usd=0.01) for k in range(10)]
    for slot in slots:
        kept.add([], slot)
    kept.add(rows)
    kept.close()
    return path


def run(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int | str | None:
    monkeypatch.setenv("FREEHOLD_HOME", str(home))
    monkeypatch.setattr(sys, "argv", ["freehold", "review", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_it_tells_what_would_have_sufficed(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ("--history", str(history), "--profile", "starter-openvino-2core", "--slo", "p99 e2e < 5s")
    assert not run(monkeypatch, tmp_path, *asked, "--out", str(out), "--json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["requests"], told["ran"], told["sufficed"]) == (200, 3, 1)
    assert told["failures"] == [{"outcome": "refused", "code": "overloaded", "count": 20}]
    assert told["objectives"][0]["missed"] == pytest.approx(0.1)
    assert "1 would have held; you ran 3" in (out / "review.html").read_text()


def test_no_history_and_nothing_in_it_are_said(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, "--history", str(tmp_path / "none.sqlite"))
    assert "There is no history" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, "--history", str(history), "--days", "0.001")
    assert "nothing to review" in capsys.readouterr().err
