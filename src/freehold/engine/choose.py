"""Which engine runs a model, with the reason in one sentence; and the engine itself, its library imported only then."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from freehold.core import Record
from freehold.engine.base import Engine, EngineSpec
from freehold.errors import ModelError
from freehold.model.source import Source

PACKAGES = {"openvino": "openvino-genai", "llamacpp": "xllamacpp", "remote": "", "sim": ""}
"""What each engine needs installed beyond Freehold itself."""


class Choice(Record, frozen=True):
    """The engine taken, and why, as a sentence for people."""

    engine: str
    reason: str


def installed() -> dict[str, str | None]:
    """Engine name to the version of its library; None where it is missing, "" where none is needed."""
    return {engine: _version(package) if package else "" for engine, package in PACKAGES.items()}


def choose(
    requested: str, source: Source, found: dict[str, str | None] | None = None, quantization: str = "q8_0"
) -> Choice:
    """The engine for `source`. `requested` is an engine's name or `auto`; `found` is `installed()` unless given;
    `quantization` is what safetensors would be converted to.

    Raises `ModelError` when nothing installed can run it, or when what was asked for can't. For weights on
    disk that aren't GGUF yet, this looks only at what is cheap to see; `load` may still find a reason.
    """
    have = installed() if found is None else found
    if requested != "auto":
        return _requested(requested, source, have)
    if source.kind in ("remote", "sim"):
        return Choice(engine=source.kind, reason=f"{source.kind}: the only one for such a model.")
    why_not_openvino = _why_not_openvino(source, have, quantization)
    if not why_not_openvino:
        return Choice(
            engine="openvino", reason="openvino: it is the fastest here for several answers at once on a CPU."
        )
    if source.kind != "ir" and have.get("llamacpp") is not None:
        return Choice(engine="llamacpp", reason=f"llamacpp: {why_not_openvino}")
    raise ModelError(f"No engine can run {source.label}.", _sentence(why_not_openvino), _install(source))


def build(spec: EngineSpec) -> Engine:
    """The engine of `spec`, not loaded yet. Raises `ModelError` when its library is missing."""
    package = PACKAGES[spec.engine]
    if package and _version(package) is None:
        raise ModelError(f"The {spec.engine} engine isn't installed.", f"It needs {package}.", f"pip install {package}")
    match spec.engine:
        case "openvino":
            from freehold.engine.openvino.engine import OpenVinoEngine

            return OpenVinoEngine(spec)
        case "llamacpp":
            from freehold.engine.llamacpp.engine import LlamaCppEngine

            return LlamaCppEngine(spec)
        case "remote":
            from freehold.engine.remote.engine import RemoteEngine

            return RemoteEngine(spec)
        case "sim":
            from freehold.engine.sim.engine import SimEngine

            return SimEngine(spec)


def _requested(engine: str, source: Source, have: dict[str, str | None]) -> Choice:
    if engine not in PACKAGES:
        known = ", ".join(PACKAGES)
        raise ModelError(f"There is no engine {engine!r}.", f"Known are {known}.", "Or leave it to --engine auto.")
    if have.get(engine) is None:
        package = PACKAGES[engine]
        raise ModelError(f"The {engine} engine isn't installed.", f"It needs {package}.", f"pip install {package}")
    runs = {
        "openvino": ("gguf", "safetensors", "ir"),
        "llamacpp": ("gguf", "safetensors"),
        "remote": ("remote",),
        "sim": ("sim",),
    }[engine]
    if source.kind not in runs:
        raise ModelError(
            f"The {engine} engine can't run {source.label}.", f"It runs {', '.join(runs)}; this is {source.kind}.",
            "Leave the choice to --engine auto.",
        )  # fmt: skip
    return Choice(engine=engine, reason=f"{engine}: it was asked for.")


def _why_not_openvino(source: Source, have: dict[str, str | None], quantization: str) -> str:
    if have.get("openvino") is None:
        return "openvino-genai isn't installed."
    if source.kind == "ir":
        return ""
    from freehold.engine.openvino.fit import why_not, why_not_folder
    from freehold.model.gguf_read import describe

    return why_not(describe(source.path)) if source.kind == "gguf" else why_not_folder(Path(source.path), quantization)


def _install(source: Source) -> str:
    missing = ["openvino-genai"] if source.kind == "ir" else ["openvino-genai", "xllamacpp"]
    return "pip install " + " ".join(name for name in missing if _version(name) is None) if missing else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
