"""Where a model comes from: turns what a person typed into files on disk, or says why it can't.

First stop of `freehold serve MODEL`; `model/hub.py` downloads, `model/convert.py` makes a GGUF of safetensors.
Weights are only ever read as safetensors, GGUF or OpenVINO IR: a pickle (`.bin`, `.pt`) is never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from freehold.core import Record
from freehold.errors import ModelError

SourceKind = Literal["gguf", "safetensors", "ir", "remote", "sim"]

Report = Callable[[str, int, int], None]
"""`report(what, done, total)`: progress in bytes; `total` 0 when unknown, both 0 for a mere remark."""

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<file>[^:]+\.gguf))?")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FORMS = "A model is a GGUF file, a folder of safetensors or OpenVINO IR, a hub id (org/name), a URL, or 'starter'."


def silent(what: str, done: int, total: int) -> None:
    """The `Report` that shows nothing."""


class Source(Record, frozen=True):
    """A model found. `path` is a file (gguf), a folder (safetensors, ir), a URL (remote) or a profile (sim)."""

    kind: SourceKind
    path: str
    label: str
    """Where it came from, for people: `the built-in starter`, `hub org/name at 1a2b3c4`."""
    name: str
    """Default name in the API; empty for a URL that names no model: the remote says what it serves."""
    revision: str = ""


def locate(model: str, *, revision: str = "", home: Path, engine: str = "auto", report: Report = silent) -> Source:
    """The files (or URL, or profile) that `model` names. Downloads from the hub into `home/models` when it must.

    In this order: `starter`; `sim` or `sim:PROFILE`; a URL, `http://host/v1` or `http://host/v1#upstream-model`
    (remote); an existing file or folder; `org/name` or `org/name:file.gguf` on the hub. Raises `ModelError`
    that says what was looked for, what lies there instead, and what to do.
    """
    source = _find(model, revision, home, engine, report)
    _check_engine(source, engine)
    return source


def _find(model: str, revision: str, home: Path, engine: str, report: Report) -> Source:
    if model == "sim" or model.startswith("sim:") or (engine == "sim" and model == "starter"):
        profile = model.partition(":")[2]
        label = f"simulated, {profile or 'the default'} profile"
        return Source(kind="sim", path=profile, label=label, name=profile or "sim")
    if model == "starter":
        folder = str(files("freehold") / "starter")
        return Source(kind="safetensors", path=folder, label="the built-in starter", name="starter")
    if model.lower().startswith(("http://", "https://")):
        return _remote(model)
    path = Path(model).expanduser()
    if model and path.exists():
        return from_path(path.absolute())
    if (match := HUB_ID.fullmatch(model)) and not _means_file(model):
        from freehold.model.hub import download  # pulls in an HTTP library: only who downloads pays for it

        return download(match["repo"], file=match["file"] or "", revision=revision, home=home, report=report)
    raise _not_found(model, path)


def _means_file(model: str) -> bool:
    """`folder/name.gguf` is a file here, mistyped; on the hub it would be `org/name:file.gguf`."""
    return ":" not in model and model.lower().endswith(".gguf")


def from_path(path: Path, *, label: str = "", name: str = "", revision: str = "") -> Source:
    """The model in an existing file or folder. Raises `ModelError` for anything that isn't one."""
    kind = _file_kind(path) if path.is_file() else _folder_kind(path)
    where = path.parent if path.suffix == ".xml" else path
    name = name or (where.name.removesuffix(".gguf") if kind == "gguf" else where.name)
    return Source(kind=kind, path=str(where), label=label or str(where), name=name, revision=revision)


def _file_kind(path: Path) -> SourceKind:
    if path.name == "openvino_model.xml":
        return "ir"
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        nearest = "Name its folder instead." if path.suffix in (".safetensors", ".json") else FORMS
        raise ModelError(f"{path} isn't a model file.", "It doesn't begin as a GGUF does.", nearest)
    from freehold.model.gguf_read import describe

    describe(path)  # a split or broken file is better refused here than inside an engine
    return "gguf"


def _folder_kind(path: Path) -> SourceKind:
    if (path / "openvino_model.xml").is_file():
        if not (path / "openvino_model.bin").is_file():
            raise ModelError(f"{path} lacks openvino_model.bin.", "IR is two files.", "Copy the whole folder.")
        return "ir"
    weights = list(path.glob("*.safetensors"))
    if weights and (path / "config.json").is_file():
        return "safetensors"
    raise _no_model_in(path, bool(weights))


def _no_model_in(path: Path, has_weights: bool) -> ModelError:
    if has_weights:
        return ModelError(f"{path} has weights but no config.json.", next="Copy the model's whole folder.")
    if ggufs := sorted(path.glob("*.gguf")):
        return ModelError(f"{path} is a folder with {len(ggufs)} GGUF files.", next=f"Name one, such as {ggufs[0]}.")
    if pickles := [file for pattern in PICKLES for file in path.glob(pattern)]:
        return ModelError(
            f"{path} has weights only as {pickles[0].name}.",
            "That is a pickle, which can run code when it is opened; Freehold never loads one.",
            "Convert it to safetensors (save_pretrained does) or take the model's safetensors.",
        )
    if (path / "config.json").is_file():
        return ModelError(f"{path} has a config.json but no weights.", next="Copy its *.safetensors there.")
    found = sorted(entry.name for entry in path.iterdir())
    what = f"It holds {', '.join(found[:3])}{' and more' if len(found) > 3 else ''}." if found else "It is empty."
    return ModelError(f"There is no model in {path}.", what, FORMS)


def _remote(model: str) -> Source:
    url = urlsplit(model)
    if not url.hostname:
        raise ModelError(f"{model} isn't a URL.", "It names no host.", "Write http://HOST:PORT/v1.")
    plain = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
    if "@" in url.netloc:
        raise ModelError(f"{plain} was given with a password in it.", next="Use FREEHOLD_ENGINE_REMOTE_KEY instead.")
    return Source(kind="remote", path=model, label=plain, name=url.fragment)


def _not_found(model: str, path: Path) -> ModelError:
    parent = path.parent
    if model and (_means_file(model) or not HUB_ID.fullmatch(model)) and parent.is_dir():
        import difflib

        names = [entry.name for entry in parent.iterdir()]
        if close := difflib.get_close_matches(path.name, names, n=1):
            return ModelError(f"There is no {path}.", f"But there is {parent / close[0]}.", "Did you mean that?")
    what = "It is neither a file or folder here nor a hub id."
    if _means_file(model):
        there = f"{parent} has no {path.name}" if parent.is_dir() else f"There is no folder {parent}"
        return ModelError(
            f"There is no file {model}.", f"{there}.", "Check the path; from the hub: org/name:FILE.gguf."
        )
    return ModelError(f"There is no model {model!r}.", what, FORMS)


def _check_engine(source: Source, engine: str) -> None:
    runs: dict[SourceKind, tuple[str, ...]] = {
        "gguf": ("openvino", "llamacpp"),
        "safetensors": ("openvino", "llamacpp"),
        "ir": ("openvino",),
        "remote": ("remote",),
        "sim": ("sim",),
    }
    if engine != "auto" and engine not in runs[source.kind]:
        form = {"ir": "OpenVINO IR", "remote": "a URL", "sim": "a simulation"}.get(source.kind, source.kind)
        raise ModelError(
            f"The engine {engine} can't run {source.label}.",
            f"It is {form}; that is run by {' or '.join(runs[source.kind])}.",
            "Leave out --engine, or name another model.",
        )
