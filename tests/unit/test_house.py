"""The house itself: light commands, reference pages that agree with the code, errors that can be told apart."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from freehold import errors, machine
from freehold.core import Failure

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ("openvino", "xllamacpp", "torch", "transformers", "fastapi", "uvicorn", "huggingface_hub", "numpy", "gguf")


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, freehold.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_base_install_is_small() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [text.split(">")[0] for text in project["dependencies"]]
    assert len(names) <= 20
    assert not {"torch", "vllm", "transformers"} & set(names)


def test_the_reference_pages_agree_with_the_code() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import reference
    finally:
        sys.path.remove(str(ROOT / "tools"))
    for name, text in reference.pages().items():
        assert (reference.FOLDER / name).read_text() == text, f"docs/reference/{name} is behind: run `make docs`"


def all_errors(root: type[errors.FreeholdError] = errors.FreeholdError) -> list[type[errors.FreeholdError]]:
    """Those of the tree in `errors.py`; the gateway has one of its own that never leaves it."""
    children = (child for child in root.__subclasses__() if child.__module__ == errors.__name__)
    return [root, *(found for child in children for found in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_between_processes(kind: type[errors.FreeholdError]) -> None:
    told = errors.from_failure(kind("What.", "Why.", "Next.", param="n").failure())
    assert type(told) is kind
    assert (told.what, told.why, told.next, told.param) == ("What.", "Why.", "Next.", "n")
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_unknown_failure_is_still_an_error() -> None:
    assert isinstance(errors.from_failure(Failure(code="from the future", what="Oh.")), errors.EngineFailed)


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in all_errors()]
    own = [kind.code for kind in all_errors() if "code" in vars(kind)]
    assert len(set(own)) == len(own) == len(codes) - sum("code" not in vars(kind) for kind in all_errors())


def test_the_machine_describes_itself() -> None:
    told = machine.describe()
    assert 1 <= told.cores <= 4096
    assert 0 < told.memory_free_bytes <= told.memory_bytes
    assert machine.memory_bandwidth_gb_s(threads=1, seconds=0.01) > 0.1
    median, worst = machine.sync_ms(ROOT, times=3)
    assert 0 <= median <= worst
    assert not list(ROOT.glob(".sync-*"))
