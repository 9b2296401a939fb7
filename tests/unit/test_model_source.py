"""What a person may type for a model, and what they are told when it isn't one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert
from freehold.model.gguf_write import Tensor, write_gguf
from freehold.model.source import Source, locate


def found(model: str, tmp_path: Path, **options: str) -> Source:
    return locate(model, home=tmp_path / "home", **options)


def test_the_starter_is_in_the_package(tmp_path: Path) -> None:
    source = found("starter", tmp_path)
    assert (source.kind, source.name, source.label) == ("safetensors", "starter", "the built-in starter")
    assert (Path(source.path) / "model.safetensors").is_file()


def test_simulations_and_urls(tmp_path: Path) -> None:
    assert (found("sim", tmp_path).kind, found("sim", tmp_path).path) == ("sim", "")
    assert found("sim:h100", tmp_path).path == "h100"
    assert found("starter", tmp_path, engine="sim").kind == "sim"
    remote = found("https://api.example.com/v1#big-model", tmp_path)
    assert (remote.kind, remote.path, remote.name) == ("remote", "https://api.example.com/v1#big-model", "big-model")
    assert found("http://localhost:9000/v1", tmp_path).name == "", "what it serves is asked when it is loaded"
    with pytest.raises(ModelError, match="FREEHOLD_ENGINE_REMOTE_KEY") as raised:
        found("http://me:secret@host/v1", tmp_path)
    assert "secret" not in str(raised.value)
    with pytest.raises(ModelError, match="names no host"):
        found("http:///v1", tmp_path)


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tiny-llama"
    made.write_checkpoint(folder)
    source = found(str(folder), tmp_path)
    assert (source.kind, source.path, source.name) == ("safetensors", str(folder), "tiny-llama")
    convert(folder, tmp_path / "tiny.Q8_0.gguf", "tiny", "q8_0")
    source = found(str(tmp_path / "tiny.Q8_0.gguf"), tmp_path)
    assert (source.kind, source.name) == ("gguf", "tiny.Q8_0")
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "openvino_model.xml").touch()
    with pytest.raises(ModelError, match=r"lacks openvino_model\.bin"):
        found(str(tmp_path / "ir"), tmp_path)
    (tmp_path / "ir" / "openvino_model.bin").touch()
    assert found(str(tmp_path / "ir"), tmp_path).kind == "ir"
    assert found(str(tmp_path / "ir" / "openvino_model.xml"), tmp_path).path == str(tmp_path / "ir")
    monkeypatch.chdir(tmp_path)
    assert found("tiny-llama", tmp_path).path == str(folder)


def test_folders_that_hold_no_model_say_what_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, message in [
        ("", "It is empty."),
        ("notes.txt", "It holds notes.txt."),
        ("config.json", "a config.json but no weights"),
        ("pytorch_model.bin", "Convert it to safetensors"),
        ("model.gguf", "a folder with 1 GGUF files"),
    ]:
        if name:
            (folder / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError) as raised:
            found(str(folder), tmp_path)
        assert message in str(raised.value)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").touch()
    with pytest.raises(ModelError, match=r"weights but no config\.json"):
        found(str(folder), tmp_path)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(ModelError, match="Name its folder instead"):
        found(str(tmp_path / "model.safetensors"), tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"GGUFxxxx")
    with pytest.raises(ModelError, match="The file is corrupt"):
        found(str(tmp_path / "x.gguf"), tmp_path)
    part = Tensor("a", (1, 4), "F32", lambda: [np.zeros((1, 4), np.float32)])
    write_gguf(tmp_path / "x-00001-of-00002.gguf", {"general.architecture": "llama", "split.count": 2}, [part])
    with pytest.raises(ModelError, match="one of 2 parts of a split GGUF"):
        found(str(tmp_path / "x-00001-of-00002.gguf"), tmp_path)


def test_names_that_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    with pytest.raises(ModelError, match=r"But there is .*tiny\.gguf"):
        found(str(tmp_path / "tinny.gguf"), tmp_path)
    with pytest.raises(ModelError, match="org/name:FILE"):
        found("org/name.GGUF", tmp_path)
    for model in ("", "nonsense", "a/b/c/d", "ftp://host/x", "org/name:file.bin"):
        with pytest.raises(ModelError, match="There is no "):
            found(model, tmp_path)


def test_a_mistyped_file_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"models has no nope\.gguf"):
        found("models/nope.gguf", tmp_path)
    (tmp_path / "models" / "note.gguf").touch()
    with pytest.raises(ModelError, match=r"But there is models/note\.gguf"):
        found("models/nope.gguf", tmp_path)
    assert not (tmp_path / "home").exists()


def test_an_engine_that_cannot_run_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run by openvino or llamacpp"):
        found("starter", tmp_path, engine="remote")
    with pytest.raises(ModelError, match="that is run by sim"):
        found("sim", tmp_path, engine="openvino")


def test_finding_the_starter_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from freehold.model.source import locate\n"
        "locate('starter', home=Path('.'))\n"
        "print([m for m in ('numpy', 'huggingface_hub', 'jinja2', 'tokenizers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
