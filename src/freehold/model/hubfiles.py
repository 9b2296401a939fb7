"""Which files of a hub repository make the model: a decision on names alone."""

from __future__ import annotations

from pathlib import PurePosixPath

from freehold.errors import ModelError

BESIDE_SAFETENSORS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def wanted_files(repo: str, names: list[str], file: str = "") -> list[str]:
    """The files to download: the GGUF `file`, else safetensors, else OpenVINO IR, else the one GGUF there is, or
    its Q8_0. A GGUF comes alone. Raises `ModelError` that lists the choice there is."""
    names = [name for name in names if _is_plain(name)]
    ggufs = [name for name in names if name.endswith(".gguf")]
    if file:
        return [_named(repo, ggufs, file)]
    top = [name for name in names if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    if weights and "config.json" in top:
        plain = [name for name in weights if name.startswith("model")] or weights
        return sorted([*plain, *(name for name in top if name in BESIDE_SAFETENSORS)])
    if "openvino_model.xml" in top:
        return sorted(name for name in top if name.endswith((".xml", ".bin", ".json", ".jinja")))
    if ggufs:
        return [_best(repo, ggufs)]
    raise _nothing(repo, names)


def _best(repo: str, ggufs: list[str]) -> str:
    whole = [name for name in ggufs if "-of-" not in name]
    eight = [name for name in whole if "q8_0" in name.lower()]
    if len(whole) == 1 or len(eight) == 1:
        return (eight or whole)[0]
    if not whole:
        raise ModelError(f"{repo} has only split GGUFs.", next="Download and join them: llama-gguf-split --merge.")
    raise ModelError(
        f"{repo} has {len(whole)} GGUF files and not just one in Q8_0.",
        f"They are {_list(whole)}.",
        f"Name one: {repo}:{whole[0]}.",
    )


def _named(repo: str, ggufs: list[str], file: str) -> str:
    if file in ggufs:
        return file
    there = f"It has {_list(ggufs)}." if ggufs else "It has no GGUF at all."
    raise ModelError(f"{repo} has no file {file}.", there, f"Name one of them: {repo}:FILE." if ggufs else "")


def _nothing(repo: str, names: list[str]) -> ModelError:
    if any(name.endswith(PICKLES) for name in names):
        return ModelError(
            f"{repo} has its weights only as pickles.",
            "Opening a pickle can run code; Freehold never loads one.",
            "Look for the same model in safetensors or GGUF.",
        )
    return ModelError(
        f"{repo} holds no model that can be served.",
        f"It has no safetensors with a config.json, no OpenVINO IR and no GGUF, only {_list(names) or 'nothing'}.",
        "Check the name on the hub.",
    )


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _list(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
