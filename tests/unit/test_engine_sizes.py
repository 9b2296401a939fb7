"""What an engine gives of memory and context, and that what it cuts is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import psutil
import pytest

import model_checkpoints as made
from freehold.engine.base import EngineSpec
from freehold.engine.facts import kv_budget_bytes
from freehold.engine.llamacpp.engine import _sizes
from freehold.engine.remarks import context_of, remarking
from freehold.errors import ModelError
from freehold.machine import memory_limit_bytes
from freehold.model.convert import convert
from freehold.model.gguf_read import GgufInfo, describe
from freehold.model.source import Source

CONTEXT = 128


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> GgufInfo:
    folder = tmp_path_factory.mktemp("sizes")
    made.write_checkpoint(folder / "model")
    convert(folder / "model", folder / "m.gguf", "m", "f16")
    return describe(folder / "m.gguf")


def spec(**fields: Any) -> EngineSpec:
    source = Source(kind="gguf", path="m.gguf", label="m", name="m")
    return EngineSpec(engine="llamacpp", source=source, name="m", cache_dir="", **fields)


def test_an_asked_context_stays_and_slots_go(info: GgufInfo, caplog: pytest.LogCaptureFixture) -> None:
    each = info.kv_bytes_per_token
    with caplog.at_level(logging.WARNING, "freehold"):
        assert _sizes(spec(context_tokens=100, max_batch=8, kv_cache_bytes=250 * each), info) == (2, 100)
    assert caplog.messages == ["model.batch_cut"]
    with pytest.raises(ModelError, match="room for 99 tokens"):
        _sizes(spec(context_tokens=100, kv_cache_bytes=99 * each), info)


def test_a_context_that_was_not_asked_for_is_cut(info: GgufInfo, caplog: pytest.LogCaptureFixture) -> None:
    each = info.kv_bytes_per_token
    with caplog.at_level(logging.WARNING, "freehold"):
        assert _sizes(spec(max_batch=2, kv_cache_bytes=2 * CONTEXT * each), info) == (2, CONTEXT)
        assert caplog.messages == []
        assert _sizes(spec(max_batch=4, kv_cache_bytes=200 * each), info) == (4, 50)
    assert caplog.messages == ["model.context_cut"]


def test_no_context_is_longer_than_the_model_s(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "freehold"):
        assert [context_of(spec(context_tokens=asked), CONTEXT) for asked in (0, 64, 128)] == [128, 64, 128]
        assert caplog.messages == []
        assert context_of(spec(context_tokens=4096), CONTEXT) == CONTEXT
        remarking(None)("converting", 1, 2)
        remarking(None)("rows stay f16", 0, 0)
    assert caplog.messages == ["model.context_cut", "model.remark"]


def test_memory_ends_where_the_container_does(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    groups, own = tmp_path / "cgroup", tmp_path / "own"
    (groups / "a" / "b").mkdir(parents=True)
    assert memory_limit_bytes(groups, own) == total
    own.write_text("1:name=systemd:/x\n0::/a/b\n")
    (groups / "a" / "b" / "memory.max").write_text("max\n")
    assert memory_limit_bytes(groups, own) == total
    (groups / "a" / "memory.max").write_text("1000000\n")
    assert memory_limit_bytes(groups, own) == 1_000_000
    own.write_text("0::/\n")
    (groups / "memory.max").write_text("2000\n")
    assert memory_limit_bytes(groups, own) == 2000
    assert kv_budget_bytes(spec(workers=2)) <= total // 8
