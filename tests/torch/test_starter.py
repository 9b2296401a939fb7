"""The starter's training runs from data to a checkpoint that Freehold converts; and the one that is shipped scores."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.model.convert import prepared
from freehold.model.gguf_read import describe
from freehold.model.source import from_path

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.torch


def write_messages(path: Path) -> None:
    rows = [(f"my card number {i} has not arrived", "card_arrival") for i in range(20)]
    rows += [(f"please change pin number {i}", "change_pin") for i in range(20)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


def test_a_smoke_run_ends_in_a_checkpoint_that_converts(tmp_path: Path) -> None:
    write_messages(tmp_path / "train.csv")
    write_messages(tmp_path / "test.csv")
    turns = "user: I want a table for {0}.\nagent: At what time, for {0} people?\n\n"
    (tmp_path / "dialogues.txt").write_text("".join(turns.format(i) for i in range(200)))
    command = [sys.executable, "-m", "starter.train", "--smoke", "--banking", str(tmp_path), "--threads", "1"]
    command += ["--dialogues", str(tmp_path / "dialogues.txt"), "--out", str(tmp_path / "out")]
    command += ["--keep", str(tmp_path / "kept.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["scored_on"] == "test"
    assert told["n"] == 40
    assert told["tokens"] > 0
    gguf, cached = prepared(from_path(tmp_path / "out"), tmp_path / "cache", "f16")
    assert not cached
    assert describe(gguf).architecture == "llama"
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    assert json.loads(again.stdout.splitlines()[-1])["tokens"] == told["tokens"], (
        "every phase was kept: none runs again"
    )
