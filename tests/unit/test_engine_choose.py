"""Which engine `auto` takes, in which words, and that choosing imports no inference library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from freehold.engine.choose import PACKAGES, choose, installed
from freehold.errors import ModelError
from freehold.model.source import Source, SourceKind

BOTH = {"openvino": "1", "llamacpp": "1", "remote": "", "sim": ""}


def source(kind: SourceKind, path: str = "somewhere") -> Source:
    return Source(kind=kind, path=path, label=f"a model of kind {kind}", name="m")


@pytest.mark.parametrize(
    ("kind", "missing", "engine"),
    [
        ("safetensors", "", "openvino"),
        ("safetensors", "openvino", "llamacpp"),
        ("ir", "", "openvino"),
        ("ir", "llamacpp", "openvino"),
        ("remote", "openvino", "remote"),
        ("sim", "", "sim"),
    ],
)
def test_auto(kind: SourceKind, missing: str, engine: str) -> None:
    choice = choose("auto", source(kind), {**BOTH, **({missing: None} if missing else {})})
    assert choice.engine == engine
    assert choice.reason.startswith(f"{engine}: ")
    assert choice.reason.endswith(".")


def test_auto_says_why_it_left_openvino() -> None:
    choice = choose("auto", source("safetensors"), {**BOTH, "openvino": None})
    assert choice.reason == "llamacpp: openvino-genai isn't installed."


@pytest.mark.parametrize("kind", ["ir", "safetensors"])
def test_nothing_can_run_it(kind: SourceKind) -> None:
    missing = {**BOTH, "openvino": None, "llamacpp": None if kind == "safetensors" else "1"}
    with pytest.raises(ModelError, match="No engine can run") as caught:
        choose("auto", source(kind), missing)
    assert "openvino-genai" in caught.value.why.lower()


def test_what_is_asked_for_is_taken() -> None:
    assert choose("llamacpp", source("safetensors"), BOTH).engine == "llamacpp"


@pytest.mark.parametrize(
    ("engine", "kind", "message"),
    [
        ("llamacpp", "ir", "can't run"),
        ("sim", "gguf", "can't run"),
        ("remote", "gguf", "can't run"),
        ("openvin", "gguf", "no engine"),
    ],
)
def test_what_cannot_be_is_refused(engine: str, kind: SourceKind, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        choose(engine, source(kind), BOTH)


def test_a_missing_library_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        choose("openvino", source("gguf"), {**BOTH, "openvino": None})
    assert "openvino-genai" in caught.value.next


def test_installed_names_every_engine() -> None:
    found = installed()
    assert found.keys() == PACKAGES.keys()
    assert found["sim"] == found["remote"] == ""


def test_choosing_imports_no_inference_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from freehold.engine.choose import choose, installed\n"
        "from freehold.model.source import Source\n"
        "installed(); choose('auto', Source(kind='sim', path='', label='x', name='x'))\n"
        "print(sorted({'openvino', 'openvino_genai', 'xllamacpp', 'numpy', 'tokenizers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == "[]"
