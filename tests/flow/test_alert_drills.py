"""The fire drill itself: each fault on one real server, its alert at a real receiver, and its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone
DRILL = Path(__file__).resolve().parent.parent.parent / "tools" / "drill.py"
FAULTS = {
    "slow-worker": ("slo-p99-e2e",),
    "flood": ("queue-long", "slo-burn-fast"),
    "stopped-worker": ("worker-hung",),
    "runaway": ("runaway",),
    "cost-jump": ("cost-up",),
    "broken-model": ("load-failed",),
    "kill-loop": ("restart-loop",),
    "stand-still": ("no-samples",),
}


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of every fault, by rule."""
    folder = tmp_path_factory.mktemp("drill") / "kept"
    command = [sys.executable, str(DRILL), "--json", "--keep", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    log = (folder / "serve.log").read_text()[-3000:]
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    return {each["rule"]: each for each in json.loads(done.stdout.splitlines()[-1])["drills"]}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_and_its_end_too(drilled: dict[str, dict[str, Any]], fault: str) -> None:
    for rule in FAULTS[fault]:
        told = drilled[rule]
        assert (told["fault"], told["fired"], told["resolved"]) == (fault, True, True)


def test_causes_are_named(drilled: dict[str, dict[str, Any]]) -> None:
    assert "One worker: the steps of worker-1 take" in drilled["slo-p99-e2e"]["cause"]
    assert "No worker makes a step" in drilled["no-samples"]["cause"]
    assert "Demand" in drilled["cost-up"]["cause"]
    assert "Wrong profile" in drilled["load-failed"]["what"]
    assert "worker-3" in drilled["worker-hung"]["what"]
