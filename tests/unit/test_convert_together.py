"""A conversion as real processes see it: two that start together make one, and a worker tells how far it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import model_checkpoints as made
from freehold.engine.base import EngineSpec
from freehold.ledger.sqlite import SqliteLedger
from freehold.model.convert import prepared
from freehold.model.lock import one_at_a_time
from freehold.model.source import Source
from freehold.worker.child import Child
from freehold.worker.restarts import Limits
from freehold.worker.tether import Report, WorkOrder

PATIENCE_S = 60.0
CONVERT = """
import json, sys
from pathlib import Path
from freehold.model.convert import prepared
from freehold.model.source import Source
folder, cache = sys.argv[1:]
source = Source(kind="safetensors", path=folder, label=folder, name="tiny")
told = []
print("begins", flush=True)
path, was_there = prepared(source, Path(cache), report=lambda what, done, total: told.append(done))
print(json.dumps({"path": str(path), "was_there": was_there, "wrote": max(told, default=0)}), flush=True)
"""


def source(folder: Path) -> Source:
    return Source(kind="safetensors", path=str(folder), label=str(folder), name="tiny")


def test_two_processes_make_one_conversion_and_both_have_it(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path / "model")
    path, _ = prepared(source(tmp_path / "model"), tmp_path / "cache")
    whole = path.read_bytes()
    path.unlink()
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "model"), str(tmp_path / "cache")]
    with one_at_a_time(path.with_suffix(".lock")):  # so that neither is through before the other has begun
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for each in both:
            assert each.stdout is not None
            assert each.stdout.readline() == "begins\n"
        assert not path.exists()
    told = [json.loads(each.communicate(timeout=PATIENCE_S)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert [each["path"] for each in told] == [str(path)] * 2
    assert sorted(each["was_there"] for each in told) == [False, True]
    assert sorted(each["wrote"] > 0 for each in told) == [False, True]
    assert path.read_bytes() == whole
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize("engine", ["openvino", "llamacpp"])
def test_a_worker_reports_how_far_its_conversion_is(tmp_path: Path, engine: str) -> None:
    pytest.importorskip({"openvino": "openvino_genai", "llamacpp": "xllamacpp"}[engine])
    made.write_checkpoint(tmp_path / "model")
    SqliteLedger(tmp_path / "ledger.sqlite").close()
    spec = EngineSpec(
        engine=engine, source=source(tmp_path / "model"), name="tiny", cache_dir=str(tmp_path / "cache"), threads=1
    )  # type: ignore[arg-type]
    order = WorkOrder(
        spec=spec, name="worker-1", store_path=str(tmp_path / "ledger.sqlite"), pipe_path=str(tmp_path / "pipe.sock")
    )
    child = Child("worker-1", "work", order, Limits())
    child.start((sys.executable, "-m", "freehold"), time.monotonic())
    reports: list[Report] = []
    try:
        while child.exit_code() is None and not any(each.state in ("ready", "failed") for each in reports):
            reports += child.reports(time.monotonic())
            time.sleep(0.01)
    finally:
        assert child.process is not None
        child.process.kill()
        child.process.wait(PATIENCE_S)
        child.bury()
    assert reports[-1].state == "ready", reports[-1]
    told = [each for each in reports if each.total_bytes]
    assert {(each.state, each.phase) for each in told} == {("loading", "convert")}
    assert told[-1].done_bytes == told[-1].total_bytes
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
