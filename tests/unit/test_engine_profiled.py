"""Which kept profile gives the batch limit, and what is said of those that don't."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from freehold import profile as profiles
from freehold.engine.profiled import FOLDER, Key, batch_limit, key_of
from freehold.errors import ConfigError
from freehold.machine import Machine
from freehold.model.source import Source
from freehold.profile import Profile, StepLaw

KEY = Key(model="starter, q8_0", engine="openvino", machine="2 cores, A Fine CPU")
MINE = Profile(
    name="mine", model=KEY.model, engine=KEY.engine, machine=KEY.machine, date="2026-11-20", source="a command",
    step=StepLaw(base_ms=1.0), sweet_batch=21, max_batch=64, context_tokens=1024,
)  # fmt: skip


def keep(home: Path, file: str = "mine.json", **fields: object) -> Path:
    path = home / FOLDER / file
    profiles.save(msgspec.structs.replace(MINE, **fields), path)
    return path


def test_the_key_says_what_safetensors_become() -> None:
    here = Machine(
        system="Linux x86_64", cpu="A Fine CPU", cores=2, memory_bytes=1, memory_free_bytes=1, features=(), gpus=(),
        python="3.11",
    )  # fmt: skip
    source = Source(kind="safetensors", path="/x", label="x", name="starter")
    assert key_of(source, "openvino", "q8_0", here) == KEY
    gguf = msgspec.structs.replace(source, kind="gguf", name="starter-q8")
    assert key_of(gguf, "openvino", "q8_0", here).model == "starter-q8"


def test_a_fitting_one_is_found(tmp_path: Path) -> None:
    path = keep(tmp_path)
    found = batch_limit(0, "", KEY, tmp_path)
    assert (found.max_batch, found.remarks) == (21, ())
    assert str(path) in found.reason
    assert "2026-11-20" in found.reason


def test_settings_go_first(tmp_path: Path) -> None:
    keep(tmp_path)
    assert batch_limit(5, "", KEY, tmp_path).max_batch == 5
    assert batch_limit(5, "instant", KEY, tmp_path).max_batch == 5
    named = batch_limit(0, "llama-8b-vllm-h100", KEY, tmp_path)
    assert (named.max_batch, named.reason) == (192, "the sweet spot of the profile llama-8b-vllm-h100")


def test_a_named_one_that_is_missing_is_an_error(tmp_path: Path) -> None:
    keep(tmp_path)
    with pytest.raises(ConfigError):
        batch_limit(0, "nothing", KEY, tmp_path)


def test_the_newest_of_several_is_taken(tmp_path: Path) -> None:
    keep(tmp_path, "a.json", date="2026-11-21", sweet_batch=30)
    keep(tmp_path, "b.json", date="2026-11-20", sweet_batch=40)
    assert batch_limit(0, "", KEY, tmp_path).max_batch == 30


@pytest.mark.parametrize("field", ["model", "engine", "machine"])
def test_a_foreign_one_is_told_once_with_the_texts_that_would_fit(tmp_path: Path, field: str) -> None:
    keep(tmp_path, **{field: "another"})
    found = batch_limit(0, "", KEY, tmp_path)
    assert found.max_batch == 0
    assert len(found.remarks) == 1
    assert all(text in found.remarks[0] for text in (str(tmp_path), KEY.model, KEY.engine, KEY.machine))


def test_a_foreign_one_beside_a_fitting_one_is_no_news(tmp_path: Path) -> None:
    keep(tmp_path)
    keep(tmp_path, "other.json", machine="another")
    assert batch_limit(0, "", KEY, tmp_path).remarks == ()


def test_a_broken_one_is_told_and_left_out(tmp_path: Path) -> None:
    keep(tmp_path)
    for name, data in (("empty.json", b""), ("binary.json", b"\xff\xfe"), ("list.json", b"[1]"), ("old.json", b"{}")):
        (tmp_path / FOLDER / name).write_bytes(data)
    (tmp_path / FOLDER / "folder.json").mkdir()
    found = batch_limit(0, "", KEY, tmp_path)
    assert found.max_batch == 21
    assert [Path(remark.split(" ")[0]).name for remark in found.remarks] == [
        "binary.json", "empty.json", "folder.json", "list.json", "old.json"
    ]  # fmt: skip


def test_nothing_is_kept(tmp_path: Path) -> None:
    assert batch_limit(0, "", KEY, tmp_path) == batch_limit(0, "", KEY, tmp_path / "nowhere")
    assert batch_limit(0, "", KEY, tmp_path).max_batch == 0


@pytest.mark.parametrize("engine", ["remote", "sim"])
def test_engines_that_have_a_limit_of_their_own(tmp_path: Path, engine: str) -> None:
    keep(tmp_path, engine=engine)
    found = batch_limit(0, "", msgspec.structs.replace(KEY, engine=engine), tmp_path)
    assert (found.max_batch, found.remarks) == (0, ())
